"""What a compiled candidate needs, read from what was compiled, and why some need not be run at all."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from einsum_compiler.executable import Executable
from einsum_compiler.ir.binding import Binding

if TYPE_CHECKING:
    from einsum_compiler.kernel import Kernel

# Bytes of stack per thread on NVIDIA, vector registers on AMD; beyond it a candidate is not timed. An assumption: no GPU has timed them.
MOST_SPILLS = {"cuda": 512, "hip": 64}
LAST_LEVEL = 32 * 2**20  # where the system does not tell the size of its last cache


@dataclass(frozen=True)
class Static:
    """The largest figures over the kernels of a plan; 0 for what a backend does not have.

    ``scratch``: bytes of tiles per thread of the CPU. ``registers`` and ``spills`` per thread of a GPU, ``shared`` in bytes per program.
    ``refusal``: why the plan need not be run, if so.
    """

    scratch: int = 0
    registers: int = 0
    spills: int = 0
    shared: int = 0
    refusal: str = ""

    def __str__(self) -> str:
        parts = [f"{self.scratch / 1024:.0f} KiB scratch"] if self.scratch else []
        if self.registers:
            parts += [f"{self.registers} registers", f"{self.spills} spills", f"{self.shared / 1024:.0f} KiB shared"]
        return ", ".join(parts)


@dataclass(frozen=True)
class Limits:
    """What a device has: bytes of the last cache that all threads share, bytes of shared memory of one program, spills that still pay."""

    threads: int = 1
    cache: int = 0
    shared: int = 0
    spills: int = 0


def refusal(figures: Static, limits: Limits) -> str:
    """Why kernels with these figures cannot run or lose for certain; empty if they may win."""
    if limits.shared and figures.shared > limits.shared:
        return f"needs {figures.shared // 1024} KiB of shared memory; the device has {limits.shared // 1024}"
    if limits.spills and figures.spills > limits.spills:
        return f"spills {figures.spills} (more than {limits.spills} is not tried)"
    if limits.cache and figures.scratch * limits.threads > limits.cache:
        return f"tiles of {figures.scratch * limits.threads // 1024} KiB exceed the last cache ({limits.cache // 1024} KiB)"
    return ""


def static_figures(kernel: Kernel, binding: Binding, executable: Executable, plan: str, backend: str) -> Static:
    """The figures of compiled kernels and whether they rule the plan out on this machine."""
    from dataclasses import replace

    if backend == "cpu":
        found = _of_cpu(executable)
        limits = Limits(threads=os.cpu_count() or 1, cache=_last_cache())
    else:
        found, limits = _of_gpu(kernel, binding, plan)
    return replace(found, refusal=refusal(found, limits))


def _of_cpu(executable: Executable) -> Static:
    from einsum_compiler.backends.cpu.static import scratch_bytes

    runs: list[Any] = [run for _, run in executable.kernels]
    return Static(scratch=max((scratch_bytes(r.describe()) for r in runs if hasattr(r, "describe")), default=0))


def _last_cache() -> int:
    for level in ("SC_LEVEL4_CACHE_SIZE", "SC_LEVEL3_CACHE_SIZE", "SC_LEVEL2_CACHE_SIZE"):
        try:
            if (size := os.sysconf(level)) > 0:
                return size
        except (ValueError, OSError):
            continue
    return LAST_LEVEL


def _of_gpu(kernel: Kernel, binding: Binding, plan: str) -> tuple[Static, Limits]:
    """Cross-compiled for the GPU of the tensors; nothing is known of one that is not among the targets."""
    import torch

    from einsum_compiler.backends.triton.cross import TARGETS

    properties: Any = torch.cuda.get_device_properties()
    target = (
        str(properties.gcnArchName).partition(":")[0]
        if torch.version.hip
        else f"sm_{properties.major}{properties.minor}"
    )
    if target not in TARGETS:
        return Static(), Limits()
    limits = Limits(shared=int(properties.shared_memory_per_block_optin), spills=MOST_SPILLS[TARGETS[target][0]])
    return of_target(kernel, binding, plan, target), limits


def of_target(kernel: Kernel, binding: Binding, plan: str, target: str) -> Static:
    """The figures of a plan's Triton kernels compiled for a GPU that need not be here."""
    from einsum_compiler.backends.triton.cross import cross_compile
    from einsum_compiler.ir.plan_parser import parse_plan
    from einsum_compiler.specialise import lower_planned, plan_of, request

    derivation = kernel.derivation
    wanted = request(derivation, binding, "triton")
    figures = [
        cross_compile(lower_planned(p, wanted), target, p.plan.launch)
        for p in plan_of(derivation, wanted, parse_plan(plan))
    ]
    return Static(
        registers=max(f.registers for f in figures),
        spills=max(f.spills for f in figures),
        shared=max(f.shared_memory for f in figures),
    )
