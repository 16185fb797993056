"""Kernels that run: arguments from tensors, scalars and extents by name, and what another process needs to load them."""

from __future__ import annotations

import ctypes
import os
import pickle
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from einsum_compiler.backends.cpu.build import Toolchain, instruction_set, load_function, runs_here, shared_object
from einsum_compiler.backends.cpu.coordinates import LARGEST_EXTENT, Bound, Coordinates, fits
from einsum_compiler.ir.errors import BackendError, ShapeError
from einsum_compiler.ir.expression import Expression
from einsum_compiler.ir.tile import TileKernel
from einsum_compiler.ir.torch_types import dtype_name, torch_dtype

if TYPE_CHECKING:
    import torch

Number = float | int | bool
Arguments = tuple[Any, Any, Any, Any]  # the function, strides, integers, reals


@dataclass(frozen=True)
class Operand:
    """A tensor a kernel takes: extents are expressions over names of the call, None for lists whose length is free."""

    name: str
    dtype: str
    rank: int
    extents: tuple[Expression, ...] | None


@dataclass(frozen=True)
class Wider:
    """What the same kernel is made from whose coordinates have 64 bits where calls beyond some size need them."""

    kernel: TileKernel
    compiler: str


@dataclass(frozen=True)
class CpuArtifact:
    """A compiled kernel as data: where it is and how to call it. Pickles; ``load`` makes it callable.

    ``limits``: bounds of integers that have 32 bits; a call beyond them takes the kernel made of ``wider``, compiled at the first such call.
    """

    name: str
    path: Path
    entry: str
    isa: str
    operands: tuple[Operand, ...]
    extents: tuple[str, ...]
    integers: tuple[str, ...]
    reals: tuple[str, ...]
    limits: tuple[Bound, ...] = ()
    wider: Wider | None = None


class CpuKernel:
    """A loaded kernel. Calling it runs the kernel once and writes its outputs in place."""

    def __init__(self, artifact: CpuArtifact, threads: int | None = None) -> None:
        self.artifact = artifact
        self.threads = threads
        if not runs_here(artifact.isa):
            raise BackendError(
                f"this processor does not execute {artifact.isa}, for which kernel '{artifact.name}' was compiled"
            )
        self._function = load_function(artifact.path, artifact.entry)
        operands = artifact.operands
        self._names = tuple(o.name for o in operands)
        self._dtypes = tuple(torch_dtype(o.dtype) for o in operands)
        self._pointers = ctypes.c_void_p * max(1, len(operands))
        self._strides = ctypes.c_int64 * max(1, sum(o.rank for o in operands))
        self._integers = ctypes.c_int64 * max(1, len(artifact.extents) + len(artifact.integers))
        self._reals = ctypes.c_double * max(1, len(artifact.reals))
        self._wide: Any = None  # the function for calls beyond the limits
        self._ready: tuple[Any, ...] | None = None  # what the last call was checked for, and its arguments

    def describe(self) -> CpuArtifact:
        """What ``load`` needs to make this kernel again, in this process or another."""
        return self.artifact

    def __call__(
        self, tensors: Mapping[str, torch.Tensor], scalars: Mapping[str, Number], extents: Mapping[str, int]
    ) -> None:
        """Run once; see ``backends.interface``. Raises ShapeError for operands that do not fit."""
        self._launch(tensors, self._arguments(tensors, scalars, extents))

    def like(
        self, tensors: Mapping[str, torch.Tensor], scalars: Mapping[str, Number], extents: Mapping[str, int]
    ) -> Callable[[Mapping[str, torch.Tensor]], None]:
        """The kernel for operands of the types, shapes and strides of these, which are checked now and not at its calls."""
        arguments = self._arguments(tensors, scalars, extents)
        return lambda operands: self._launch(operands, arguments)

    def _arguments(
        self, tensors: Mapping[str, torch.Tensor], scalars: Mapping[str, Number], extents: Mapping[str, int]
    ) -> Arguments:
        artifact = self.artifact
        try:
            operands = [tensors[n] for n in self._names]
            sizes = [extents[e] for e in artifact.extents]
            integers = [int(scalars[s]) for s in artifact.integers]
            reals = [float(scalars[s]) for s in artifact.reals]
        except KeyError as missing:
            raise ShapeError(f"kernel '{artifact.name}' needs the operand {missing}") from None
        # Types are compared at every call, shapes only when they change: their expressions are evaluated in Python.
        for tensor, dtype, name in zip(operands, self._dtypes, self._names, strict=True):
            if tensor.dtype is not dtype or not tensor.is_cpu:
                self._refuse(tensor, name)
        signature = ([(t.shape, t.stride()) for t in operands], sizes, integers)
        ready = self._ready
        if ready is None or signature != ready[0]:
            self._check(operands, scalars, extents, sizes)
            strides = [step for _, steps in signature[0] for step in steps]
            function = self._function_for(sizes)
            ready = self._ready = signature, function, self._strides(*strides), self._integers(*sizes, *integers)
        return ready[1], ready[2], ready[3], self._reals(*reals)

    def _function_for(self, sizes: list[int]) -> Any:
        """The compiled function whose integers hold what a call of these sizes computes."""
        artifact = self.artifact
        if artifact.wider is None or fits(artifact.limits, dict(zip(artifact.extents, sizes, strict=True))):
            return self._function
        if self._wide is None:
            kernel, compiler = artifact.wider.kernel, artifact.wider.compiler
            path, _ = _object(kernel, Toolchain(compiler, artifact.isa), artifact.path.parent, wide=True)
            self._wide = load_function(path, artifact.entry)
        return self._wide

    def _launch(self, tensors: Mapping[str, torch.Tensor], arguments: Arguments) -> None:
        if self.threads is None:
            import torch

            threads = torch.get_num_threads()
        else:
            threads = self.threads
        function, *numbers = arguments
        function(self._pointers(*[tensors[n].data_ptr() for n in self._names]), *numbers, threads)

    def _refuse(self, tensor: torch.Tensor, name: str) -> None:
        wanted = next(o.dtype for o in self.artifact.operands if o.name == name)
        if not tensor.is_cpu:
            raise ShapeError(f"'{name}' is on {tensor.device}; kernel '{self.artifact.name}' runs on the CPU")
        raise ShapeError(
            f"'{name}' is {dtype_name(tensor.dtype) or tensor.dtype}; kernel '{self.artifact.name}' takes {wanted}"
        )

    def _check(
        self, operands: list[torch.Tensor], scalars: Mapping[str, Number], extents: Mapping[str, int], sizes: list[int]
    ) -> None:
        from einsum_compiler.ir.scalar import evaluate_scalar

        for rank, size in zip(self.artifact.extents, sizes, strict=True):
            if size > LARGEST_EXTENT:
                raise BackendError(
                    f"extent {rank.upper()} = {size} exceeds {LARGEST_EXTENT}, the largest of the CPU backend"
                )
        names = {**scalars, **{r.upper(): n for r, n in extents.items()}}
        for operand, tensor in zip(self.artifact.operands, operands, strict=True):
            where = f"'{operand.name}' of kernel '{self.artifact.name}'"
            if tensor.dim() != operand.rank:
                raise ShapeError(f"{where} has {tensor.dim()} axes, expected {operand.rank}")
            if operand.extents is None:
                if not tensor.is_contiguous():
                    raise ShapeError(f"{where} is a list of tiles and must be contiguous")
                continue
            expected = tuple(int(evaluate_scalar(e, names)) for e in operand.extents)
            if tuple(tensor.shape) != expected:
                raise ShapeError(f"{where} has shape {list(tensor.shape)}, expected {list(expected)}")


def load(artifact: CpuArtifact, *, threads: int | None = None) -> CpuKernel:
    """The kernel of an artifact. ``threads``: PyTorch's number at each call if None."""
    return CpuKernel(artifact, threads)


def compile_kernel(
    kernel: TileKernel,
    *,
    isa: str = "native",
    threads: int | None = None,
    cache_directory: str | os.PathLike[str] | None = None,
    compiler: str = "g++",
    key: str | None = None,
) -> CpuKernel:
    """The kernel as a C++ function, compiled where the cache does not have it.

    ``isa``: native, avx512, avx2 or portable. ``key`` names everything the tile program and this compiler depend on:
    a second process with the same key neither emits nor looks for a compiler. Raises ``BackendError`` for what has no CPU form or a machine
    without a compiler, ``ToolchainError`` if the compiler refuses the code.
    """
    return load(
        compile_artifact(kernel, isa=isa, cache_directory=cache_directory, compiler=compiler, key=key), threads=threads
    )


def compile_artifact(
    kernel: TileKernel,
    *,
    isa: str = "native",
    cache_directory: str | os.PathLike[str] | None = None,
    compiler: str = "g++",
    key: str | None = None,
) -> CpuArtifact:
    """The compiled kernel, not loaded: it may be for another machine."""
    folder = Path(cache_directory) if cache_directory is not None else _default_folder()
    toolchain = Toolchain(compiler, instruction_set(isa))
    entry = folder / f"{key}-{toolchain.isa}.pickle" if key is not None else None
    if entry is not None:
        known = _read(entry)
        if known is not None and known.path.exists():
            return known
    from einsum_compiler.backends.cpu.emit import signature_of

    path, limits = _object(kernel, toolchain, folder, wide=False)
    signature = signature_of(kernel)
    lists = {f"{s.name}.{part}" for s in kernel.schedules for part in ("offsets", "tiles")}
    operands = tuple(
        Operand(t.name, t.dtype, len(t.extents), None if t.name in lists else t.extents) for t in signature.tensors
    )
    artifact = CpuArtifact(
        kernel.name,
        path,
        signature.entry,
        toolchain.isa,
        operands,
        signature.extents,
        signature.integers,
        signature.reals,
        limits,
        Wider(kernel, compiler) if limits else None,
    )
    if entry is not None:
        _write(entry, artifact)
    return artifact


def _object(kernel: TileKernel, toolchain: Toolchain, folder: Path, wide: bool) -> tuple[Path, tuple[Bound, ...]]:
    """The shared object of a kernel, and the bounds of what has 32 bits in it."""
    from einsum_compiler.backends.cpu.emit import emit_cpu

    coordinates = Coordinates(kernel, wide)
    source = emit_cpu(kernel, coordinates)
    name = "".join(c if c.isalnum() else "_" for c in kernel.name)[:40]
    return shared_object(source, toolchain, folder, name), coordinates.limits


def _default_folder() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("einsum-compiler") / "cpu"


def _read(path: Path) -> CpuArtifact | None:
    try:
        with open(path, "rb") as file:
            found = pickle.load(file)
    except (OSError, EOFError, pickle.UnpicklingError, AttributeError, ImportError, TypeError):
        return None
    return found if isinstance(found, CpuArtifact) else None


def _write(path: Path, artifact: CpuArtifact) -> None:
    handle, partial = tempfile.mkstemp(dir=path.parent, suffix=".partial")
    with os.fdopen(handle, "wb") as file:
        pickle.dump(artifact, file)
    os.replace(partial, path)
