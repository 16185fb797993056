"""From tile programs to kernels that run, and back from the disk without their tile programs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from einsum_compiler import knobs, store
from einsum_compiler.executable import CompiledKernel, Executable
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.launch import Launch
from einsum_compiler.ir.tile import TileKernel


@dataclass(frozen=True)
class Built:
    """A kernel that runs, and what the next process needs to have it again."""

    header: TileKernel  # without its body
    run: CompiledKernel
    key: str
    launch: Launch

    def portable(self) -> Portable:
        describe = getattr(self.run, "describe", None)
        return Portable(self.header, describe() if describe else None, self.key, self.launch)


@dataclass(frozen=True)
class Portable:
    """A kernel on disk: its header, the compiled object where the backend keeps one, and the name of its tile program."""

    header: TileKernel
    artifact: Any
    key: str
    launch: Launch


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
            run = build(kernel, backend, "", part.launch, part.key) if kernel else None
        if run is None:
            return None
        BUILT[part.key] = Built(part.header, run, part.key, part.launch)
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


def build(kernel: TileKernel, backend: str, target: str, launch: Launch, key: str) -> CompiledKernel:
    """A tile program as something that runs. Raises ``PlanError`` for a launch on a CPU that only GPUs have."""
    if backend == "meta":
        return nothing
    folder = store.directory() / backend
    if backend == "cpu":
        if launch.persistent:
            raise PlanError(
                "the plan has persistent programs, which a launch on a GPU has; threads of the CPU take program after program anyway"
            )
        if launch.of_gpu:
            raise PlanError(
                "the plan says how tiles are copied, which programs of a GPU do; a CPU reads them through its caches"
            )
        return _built_cpu(kernel, target or "native", folder, key)
    from einsum_compiler.backends.triton.launch import compile_kernel

    return compile_kernel(kernel, launch, cache_directory=folder)


def _built_cpu(kernel: TileKernel, isa: str, folder: Path, key: str) -> CompiledKernel:
    from einsum_compiler.backends import cpu

    def artifact() -> cpu.CpuArtifact:
        return cpu.compile_artifact(kernel, isa=isa, cache_directory=folder, compiler=knobs.compiler(), key=key)

    return _from_artifact(artifact()) or cpu.load(artifact())


def emitted(kernel: TileKernel, backend: str, launch: Launch = Launch()) -> str:  # noqa: B008 (frozen)
    """The generated code of one kernel."""
    if backend == "cpu":
        from einsum_compiler.backends.cpu import emit_cpu

        return emit_cpu(kernel)  # type: ignore[no-any-return]
    from einsum_compiler.backends.triton import emit_triton

    return emit_triton(kernel, launch)


def nothing(tensors: Mapping[str, Any], scalars: Mapping[str, Any], extents: Mapping[str, int]) -> None:
    """A launch on tensors that have no values."""
