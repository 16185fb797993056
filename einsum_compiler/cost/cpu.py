"""The CPU found here: figures that ``calibration`` measured and kept, else an estimate from the processor's description."""

from __future__ import annotations

import hashlib
import os
import platform
from functools import cache
from pathlib import Path

from einsum_compiler import knobs, store
from einsum_compiler.cost.device import Device, Level

# Of the multiply-add peak, what register-blocked products reach on operands in the first caches (backends/cpu/runtime/product.hpp).
PRODUCT_SHARE = 0.85
# Bytes per cycle of one core from each cache: two vector loads from the first; the others as vendors' optimisation guides give them.
SECOND_LEVEL_BYTES, THIRD_LEVEL_BYTES = 32, 12
MEMORY_PER_CORE, MEMORY_OF_ALL = (
    15e9,
    160e9,
)  # bytes per second that one core keeps in flight, and that a processor delivers
# Vector instructions of one result of each function (backends/cpu/runtime), and cycles of a vector quotient or root.
INSTRUCTIONS = {"exp": 12, "log": 22, "tanh": 30, "sin": 30}
QUOTIENT_CYCLES = {"divide": 5, "sqrt": 6}
LAUNCH = 1.5e-5  # a call through ctypes and the start of waiting threads


def cpu_device() -> Device:
    """The machine this runs on: as measured, if it was; an estimate otherwise."""
    return _known() or estimate()


@cache
def _known() -> Device | None:
    return store.load("devices", device_key(), Device)


def keep(device: Device) -> None:
    """Make measured figures those of this machine, in this process and later ones."""
    store.save("devices", device_key(), device)
    _known.cache_clear()


def device_key() -> str:
    """The name under which figures are kept: processor, cores, instruction set, compiler and runtime headers, not the version of this package."""
    from einsum_compiler.backends.cpu.build import RUNTIME

    parts = [model_name(), str(cores()), isa(), knobs.compiler()]
    digest = hashlib.sha256("\0".join(parts).encode())
    for header in sorted(RUNTIME.glob("*.hpp")):
        digest.update(header.read_bytes())
    return digest.hexdigest()[:40]


def cores() -> int:
    """How many programs run at once."""
    return os.cpu_count() or 1


def isa() -> str:
    """The instruction set that kernels are compiled for."""
    from einsum_compiler.backends.cpu.build import instruction_set

    return instruction_set(knobs.instruction_set())


def vector_bytes(isa: str) -> int:
    """Bytes of a vector register."""
    return {"avx512bf16": 64, "avx512": 64, "avx2": 32}.get(isa, 16)


@cache
def estimate() -> Device:
    """Figures from the description of the processor: vector width, cores, clock, sizes of caches."""
    clock, processors, width = _clock(), cores(), vector_bytes(isa())
    per_second = clock * processors
    f32 = per_second * 2 * 2 * width / 4  # two vector units, two operations per multiply-add
    lanes = width // 4
    functions = {f: per_second * 2 * lanes / n for f, n in INSTRUCTIONS.items()}
    functions |= {f: per_second * lanes / n for f, n in QUOTIENT_CYCLES.items()}
    matrix = {
        "f32": f32 * PRODUCT_SHARE,
        "f64": f32 * PRODUCT_SHARE / 2,
        "bf16": f32 * PRODUCT_SHARE * 0.9,
        "f16": f32 * PRODUCT_SHARE * 0.8,
    }
    if isa() == "avx512bf16":
        matrix["bf16"] = f32 * PRODUCT_SHARE * 2
    sizes = _caches()
    levels = [
        Level("L1", sizes.get(1, 32 << 10), "processor", per_second * 2 * width),
        Level("L2", sizes.get(2, 512 << 10), "processor", per_second * SECOND_LEVEL_BYTES),
    ]
    if 3 in sizes:
        levels.append(Level("L3", sizes[3], "device", per_second * THIRD_LEVEL_BYTES))
    levels.append(Level("memory", _memory(), "device", min(MEMORY_PER_CORE * processors, MEMORY_OF_ALL)))
    return Device(
        "cpu", model_name(), "cpu", isa(), processors, clock, LAUNCH, matrix, {"f32": f32, "f64": f32 / 2}, functions, tuple(levels),
        sources=("estimated from /proc/cpuinfo and /sys/devices/system/cpu",),
    )  # fmt: skip


def model_name() -> str:
    """The processor as the system names it."""
    return _field("model name") or platform.processor() or platform.machine()


def _clock() -> float:
    """Cycles per second: the highest clock where the system says it, else the present one, else 2.5 GHz."""
    try:
        highest = Path("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq").read_text(encoding="ascii")
        return float(highest) * 1e3
    except (OSError, ValueError):
        return float(_field("cpu MHz") or 2500.0) * 1e6


@cache
def _field(name: str) -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                key, _, value = line.partition(":")
                if key.strip() == name:
                    return value.strip()
    except OSError:
        pass
    return ""


def _caches() -> dict[int, int]:
    """Bytes of the data caches by level; of the third, what its cores share."""
    found: dict[int, int] = {}
    for folder in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            kind, level, size = ((folder / name).read_text().strip() for name in ("type", "level", "size"))
            if kind != "Instruction":
                found[int(level)] = int(size.rstrip("KM")) << (20 if size.endswith("M") else 10)
        except (OSError, ValueError):
            continue
    return found


def _memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 8 << 30
