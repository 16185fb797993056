"""From tile programs to kernels that run, and back from the disk without their tile programs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from einsum_compiler import knobs, store
from einsum_compiler.executable import CompiledKernel, Executable
from einsum_compiler.ir.tile import TileKernel


@dataclass(frozen=True)
class Built:
    """A kernel that runs, and what the next process needs to have it again."""

    header: TileKernel  # without its body
    run: CompiledKernel
    key: str
    warps: int
    stages: int

    def portable(self) -> Portable:
        describe = getattr(self.run, "describe", None)
        return Portable(self.header, describe() if describe else None, self.key, self.warps, self.stages)


@dataclass(frozen=True)
class Portable:
    """A kernel on disk: its header, the compiled object where the backend keeps one, and the name of its tile program."""

    header: TileKernel
    artifact: Any
    key: str
    warps: int
    stages: int


@dataclass(frozen=True)
class Entry:
    """The kernels of a call as a later process loads them, without planning."""

    kernels: tuple[Portable, ...]
    outputs: tuple[str, ...]
    introduced: tuple[Mapping[str, int], ...]
    fixed: frozenset[str]
    compared: frozenset[str]


# Kernels of this process, by key.
BUILT: dict[str, Built] = {}


def load_entry(entry: Entry, backend: str) -> Executable | None:
    """The kernels of an entry, or None where a file that it names is gone."""
    pairs = []
    for part in entry.kernels:
        run = BUILT[part.key].run if part.key in BUILT else None
        if run is None and part.artifact is not None:
            run = _from_artifact(part.artifact)
        elif run is None:
            kernel = store.load("kernels", part.key, TileKernel)
            run = build(kernel, backend, "", part.warps, part.stages, part.key) if kernel else None
        if run is None:
            return None
        BUILT[part.key] = Built(part.header, run, part.key, part.warps, part.stages)
        pairs.append((part.header, run))
    return Executable(tuple(pairs), entry.outputs, entry.introduced, entry.fixed, entry.compared)


def _from_artifact(artifact: Any) -> CompiledKernel | None:
    from einsum_compiler.backends import cpu

    if not artifact.path.exists():
        return None
    try:
        return cpu.load(artifact)
    except OSError:  # a damaged object: built anew below
        with suppress(OSError):
            artifact.path.unlink()
        return None


def build(kernel: TileKernel, backend: str, target: str, warps: int, stages: int, key: str) -> CompiledKernel:
    """A tile program as something that runs."""
    if backend == "meta":
        return nothing
    folder = store.directory() / backend
    if backend == "cpu":
        return _built_cpu(kernel, target or "native", folder, key)
    from einsum_compiler.backends.triton.launch import compile_kernel

    return compile_kernel(kernel, warps=warps or None, stages=stages, cache_directory=folder)


def _built_cpu(kernel: TileKernel, isa: str, folder: Path, key: str) -> CompiledKernel:
    from einsum_compiler.backends import cpu

    def artifact() -> cpu.CpuArtifact:
        return cpu.compile_artifact(kernel, isa=isa, cache_directory=folder, compiler=knobs.compiler(), key=key)

    return _from_artifact(artifact()) or cpu.load(artifact())


def emitted(kernel: TileKernel, backend: str) -> str:
    """The generated code of one kernel."""
    if backend == "cpu":
        from einsum_compiler.backends.cpu import emit_cpu

        return emit_cpu(kernel)  # type: ignore[no-any-return]
    from einsum_compiler.backends.triton import emit_triton

    return emit_triton(kernel)


def nothing(tensors: Mapping[str, Any], scalars: Mapping[str, Any], extents: Mapping[str, int]) -> None:
    """A launch on tensors that have no values."""
