"""The figures of this CPU, measured once with the runtime that kernels use and kept on disk: about two seconds, the compiler included.

A first call never waits for this: ``einsumc tune``, ``einsumc bench`` and ``calibrate()`` do it; until then ``cost.cpu.estimate`` stands in.
"""

from __future__ import annotations

import ctypes
from dataclasses import replace
from pathlib import Path

from einsum_compiler import knobs, store
from einsum_compiler.cost import cpu
from einsum_compiler.cost.device import Device, Level

SOURCE = Path(__file__).resolve().parent / "calibration.cpp"
ELEMENTS = {"transpose": 8192, "convert": 8192}
FUNCTIONS = ("exp", "log", "tanh", "sin", "sqrt", "divide", "transpose", "convert")
SECONDS = 0.02  # of one measurement
# A call that returns at once, from Python through ctypes: arguments are looked up and checked, an output is made.
CALL = 1.2e-5


def calibrate(again: bool = False) -> Device:
    """The CPU as measured: from the disk, or measured now. ``again`` measures in any case. Raises ``ToolchainError`` without a C++ compiler."""
    known = cpu.cpu_device()
    if known.measured and not again:
        return known
    found = _measured()
    cpu.keep(found)
    return found


def _measured() -> Device:
    from einsum_compiler.backends.cpu.build import Toolchain, shared_object

    isa = cpu.isa()
    path = shared_object(
        SOURCE.read_text(encoding="utf-8"), Toolchain(knobs.compiler(), isa), store.directory() / "cpu", "calibration"
    )
    import torch  # noqa: F401  brings its OpenMP runtime

    library = ctypes.CDLL(str(path))
    threads = cpu.cores()

    def rate(name: str, amount: float) -> float:
        """``amount`` per second on all threads, of work that runs long enough to be timed."""
        function = getattr(library, name)
        function.restype, function.argtypes = ctypes.c_double, (ctypes.c_int, ctypes.c_int)
        times = 4
        while (seconds := function(threads, times)) < SECONDS / 8:
            times *= 8
        return float(threads * amount * times / seconds)

    estimate = cpu.estimate()
    operations = 2.0 * 96 * 128 * 64
    matrix = {"f32": rate("product_f32", operations), "f64": rate("product_f64", operations)}
    functions = {f: rate(f"function_{f}", ELEMENTS.get(f, 2048)) for f in FUNCTIONS}
    levels = tuple(replace(level, bandwidth=_bandwidth(library, level, threads)) for level in estimate.levels)
    share = matrix["f32"] / estimate.matrix["f32"]
    for dtype in ("bf16", "f16"):
        matrix[dtype] = estimate.matrix[dtype] * share
    library.starting.restype = ctypes.c_double
    launch = CALL + library.starting(threads, 1000) / 1000
    from einsum_compiler.cost.register_blocks import product_share

    # The clock that the cores run at under load follows from what the product reaches.
    lanes = cpu.vector_bytes(isa) // 4
    peak = matrix["f32"] / product_share(lanes, 96, 128, 64)
    clock = peak / (threads * 4 * lanes)
    return replace(
        estimate, clock=clock, launch=launch, matrix=matrix, vector={"f32": peak, "f64": peak / 2}, functions=functions, levels=levels,
        sources=("measured here with the runtime of the kernels",), measured=True,
    )  # fmt: skip


def _bandwidth(library: ctypes.CDLL, level: Level, threads: int) -> float:
    """Bytes per second that all threads read from a level: each from an array that fills half of its share of it."""
    share = level.bytes if level.per == "processor" else level.bytes // threads
    size = min(share // 2, 48 << 20) if level.name == "memory" else share // 2
    library.reading_of.restype = ctypes.c_double
    library.reading_of.argtypes = (ctypes.c_int, ctypes.c_long, ctypes.c_int)
    times = max(1, (64 << 20) // size)
    seconds = library.reading_of(threads, size, times)
    return float(threads * size * times / seconds)
