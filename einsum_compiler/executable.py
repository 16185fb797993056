"""Kernels that are ready to run: buffers, tile lists and launches of one plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from einsum_compiler.ir.scalar import evaluate_scalar
from einsum_compiler.ir.tile import TileKernel
from einsum_compiler.ir.torch_types import torch_dtype

Number = int | float | bool


class CompiledKernel(Protocol):
    """A kernel that writes its outputs in place."""

    def __call__(self, tensors: Mapping[str, Any], scalars: Mapping[str, Number], extents: Mapping[str, int]) -> None: ...


@dataclass(frozen=True)
class Executable:
    """The kernels of a plan in the order they run, and the names of the program's outputs.

    ``introduced``: for each kernel the extents of ranks that the plan made, such as chunks; empty if it made none.
    """

    kernels: tuple[tuple[TileKernel, CompiledKernel], ...]
    outputs: tuple[str, ...]
    introduced: tuple[Mapping[str, int], ...] = ()

    def run(self, tensors: Mapping[str, Any], scalars: Mapping[str, Number], extents: Mapping[str, int]) -> dict[str, Any]:
        """The outputs, newly allocated on the inputs' device."""
        import torch

        device = next(iter(tensors.values())).device if tensors else torch.device("cpu")
        held = dict(tensors)
        given = extents
        for (kernel, compiled), made in zip(self.kernels, self.introduced or [{}] * len(self.kernels), strict=True):
            extents = {**given, **made}
            names = {**scalars, **{rank.upper(): extent for rank, extent in extents.items()}}
            for operand in kernel.outputs:
                shape = [int(evaluate_scalar(e, names)) for e in operand.extents]
                held[operand.name] = torch.empty(shape, dtype=torch_dtype(operand.dtype), device=device)
            operands = held
            if kernel.schedules:
                from einsum_compiler.tile_lists import build_tile_list

                operands = dict(held)
                for schedule in kernel.schedules:
                    offsets, tiles = build_tile_list(schedule, held, scalars, extents)
                    operands[f"{schedule.name}.offsets"] = offsets.to(device)
                    operands[f"{schedule.name}.tiles"] = tiles.to(device)
            if all(held[o.name].numel() == 0 for o in kernel.outputs):
                continue
            compiled(operands, scalars, extents)
        return {name: held[name] for name in self.outputs}
