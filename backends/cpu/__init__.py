"""Tile programs as C++: source, compiled kernels, and kernels as data for other processes.

The emitter is imported when a kernel is compiled: a warm call needs none of it.
"""

from __future__ import annotations

from typing import Any

from einsum_compiler.backends.cpu.launch import CpuArtifact, CpuKernel, compile_artifact, compile_kernel, load

__all__ = ["CpuArtifact", "CpuKernel", "compile_artifact", "compile_kernel", "emit_cpu", "load"]


def __getattr__(name: str) -> Any:
    if name == "emit_cpu":
        from einsum_compiler.backends.cpu.emit import emit_cpu

        return emit_cpu
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
