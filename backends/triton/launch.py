"""Kernels that run: the arguments of a launch from tensors, scalars and extents by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from einsum_compiler.backends.triton.emit import TritonKernel, print_triton, settings_of
from einsum_compiler.backends.triton.frame import Settings
from einsum_compiler.backends.triton.module import load_function
from einsum_compiler.backends.triton.warps import warps_for
from einsum_compiler.ir.errors import BackendError, ShapeError
from einsum_compiler.ir.launch import Launch
from einsum_compiler.ir.scalar import evaluate_scalar
from einsum_compiler.ir.tile import TileKernel
from einsum_compiler.ir.torch_types import dtype_name

if TYPE_CHECKING:
    import torch

LARGEST_EXTENT = 2**28  # sums of a few coordinates stay in 32 bits
LARGEST_OFFSET = 2**31
LARGEST_GRID = 2**31 - 1
ALIGNMENT = 16  # bytes, of what a tensor descriptor describes
INTERPRETED_PROCESSORS = 2  # that the interpreter stands for where programs are persistent


@dataclass(slots=True)
class CompiledKernel:
    """A tile program as a Triton launch. Calling it writes the output tensors in place.

    Tensors on a GPU run the compiled kernel there, tensors on the CPU Triton's interpreter. They are read and
    written through their strides.
    """

    kernel: TileKernel
    launch: Launch = field(default_factory=lambda: Launch(warps=4))
    tf32: bool = False
    cache_directory: Path | None = None
    _printed: dict[Settings, tuple[TritonKernel, Any]] = field(default_factory=dict, repr=False)

    def __call__(
        self,
        tensors: Mapping[str, torch.Tensor],
        scalars: Mapping[str, float | int | bool],
        extents: Mapping[str, int],
    ) -> None:
        """Run once. ``tensors`` hold every operand by name, schedule operands (``s.offsets``, ``s.tiles``) included.

        Raises ShapeError for tensors that do not fit the kernel and BackendError for sizes beyond its integers.
        """
        for rank, extent in extents.items():
            if extent > LARGEST_EXTENT:
                raise BackendError(
                    f"extent {rank.upper()} = {extent} exceeds {LARGEST_EXTENT}, the largest of the Triton backend"
                )
        interpreted = self._interpreted(tensors)
        printed, function = self._function(self._settings(False, interpreted))
        operands = self._operands(printed, tensors)
        described = all(_describable(operands[t]) for t in printed.described)
        wide = any(span * abs(operands[t].stride(a)) >= LARGEST_OFFSET for t, a, span in printed.spans)
        if wide or not described:
            printed, function = self._function(self._settings(wide, interpreted, described))
            operands = self._operands(printed, tensors)
        numbers: dict[str, float | int | bool] = {**scalars, **{r.upper(): n for r, n in extents.items()}}
        counts = {rank: int(evaluate_scalar(count, numbers)) for rank, count in printed.program}
        grid = 1
        for count in counts.values():
            grid *= count
        if grid == 0:
            return
        if grid > LARGEST_GRID:
            raise BackendError(f"kernel '{self.kernel.name}' would run {grid} programs; a launch holds {LARGEST_GRID}")
        arguments = [operands[t] for t in printed.tensors]
        values = [
            *(convert(scalars[s]) for s, convert in zip(printed.scalars, self._conversions(printed), strict=True)),
            *(extents[e] for e in printed.extents),
            *(counts[c] for c in printed.counts),
            *(operands[t].stride(a) for t, a in printed.strides),
        ]
        if interpreted:
            function[(self._launched(grid, INTERPRETED_PROCESSORS),)](*arguments, *values)
            return
        import torch

        device = arguments[0].device
        if self.launch.persistent:
            grid = self._launched(grid, torch.cuda.get_device_properties(device).multi_processor_count)
        if printed.described:
            import triton

            # Descriptors lie in memory of the launch, which the caller provides.
            triton.set_allocator(lambda size, _alignment, _stream: torch.empty(size, device=device, dtype=torch.int8))
        with torch.cuda.device(device):
            function[(grid,)](
                *arguments, *values, num_warps=self.launch.warps, num_stages=self.launch.stages, enable_fp_fusion=True
            )

    def _launched(self, programs: int, processors: int) -> int:
        """Programs of a launch for that many of the kernel."""
        most = self.launch.persistent * processors
        return min(programs, most) if most else programs

    def _conversions(self, printed: TritonKernel) -> list[type[float | int]]:
        declared = {s.name: s.dtype for s in self.kernel.scalars}
        return [int if declared[s] in ("i64", "bool") else float for s in printed.scalars]

    def source(self, *, interpreted: bool = False) -> str:
        """The generated file."""
        return print_triton(self.kernel, self._settings(False, interpreted)).source

    def _settings(self, wide: bool, interpreted: bool, described: bool = True) -> Settings:
        return settings_of(self.launch, wide=wide, interpreted=interpreted, tf32=self.tf32, described=described)

    def _function(self, settings: Settings) -> tuple[TritonKernel, Any]:
        if settings not in self._printed:
            printed = print_triton(self.kernel, settings)
            function = load_function(
                printed.source, interpreted=settings.interpreted, cache_directory=self.cache_directory
            )
            self._printed[settings] = printed, function
        return self._printed[settings]

    def _interpreted(self, tensors: Mapping[str, torch.Tensor]) -> bool:
        devices = {tensors[o.name].device for o in (*self.kernel.inputs, *self.kernel.outputs) if o.name in tensors}
        if len(devices) > 1:
            raise ShapeError(
                f"kernel '{self.kernel.name}' got tensors on several devices: {', '.join(sorted(map(str, devices)))}"
            )
        kind = next(iter(devices)).type if devices else "cpu"
        if kind not in ("cuda", "cpu"):
            raise BackendError(
                f"the Triton backend runs on GPUs, and on CPU tensors by its interpreter, not on '{kind}'"
            )
        return kind == "cpu"

    def _operands(self, printed: TritonKernel, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        ranks = {o.name: len(o.extents) for o in (*self.kernel.inputs, *self.kernel.outputs)}
        found: dict[str, torch.Tensor] = {}
        for name, dtype in zip(printed.tensors, printed.dtypes, strict=True):
            if name not in tensors:
                raise ShapeError(f"kernel '{self.kernel.name}' needs the tensor '{name}'")
            tensor = tensors[name]
            if dtype_name(tensor.dtype) != dtype:
                raise ShapeError(f"'{name}' is {dtype_name(tensor.dtype)}; kernel '{self.kernel.name}' takes {dtype}")
            if tensor.dim() != ranks.get(name, 1):
                raise ShapeError(
                    f"'{name}' has {tensor.dim()} axes; kernel '{self.kernel.name}' takes {ranks.get(name, 1)}"
                )
            if name not in ranks and not tensor.is_contiguous():
                raise ShapeError(f"the schedule operand '{name}' must be contiguous")
            found[name] = tensor
        return found


def _describable(tensor: torch.Tensor) -> bool:
    """Whether a tensor descriptor can describe it: aligned to 16 bytes, rows too, and elements of a row side by side."""
    *others, last = tensor.stride()
    aligned = all(stride * tensor.element_size() % ALIGNMENT == 0 for stride in others)
    return last == 1 and aligned and tensor.data_ptr() % ALIGNMENT == 0


def compile_kernel(
    kernel: TileKernel,
    launch: Launch = Launch(),  # noqa: B008 (frozen)
    *,
    tf32: bool = False,
    cache_directory: Path | None = None,
) -> CompiledKernel:
    """The kernel as a Triton launch (with ``warps_for`` where that does not say how many warps).

    The source is generated here, so that what has no Triton form is refused now; Triton compiles at the first launch.
    ``tf32`` lets products of f32 round to tf32; ``cache_directory`` is the folder of generated files. Tensors that a descriptor cannot describe
    (``_describable``) take the form of the kernel without descriptors.
    """
    print_triton(kernel, settings_of(launch, tf32=tf32))
    return CompiledKernel(kernel, replace(launch, warps=launch.warps or warps_for(kernel)), tf32, cache_directory)
