"""What every code generator gives for a tile program."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch

Number = float | int | bool


class CompiledKernel(Protocol):
    """One launch of a tile program."""

    def __call__(
        self, tensors: Mapping[str, torch.Tensor], scalars: Mapping[str, Number], extents: Mapping[str, int]
    ) -> None:
        """Run once and write every output tensor whole.

        ``tensors`` holds every operand by name, allocated outputs and the tile lists of schedules (``s.offsets``, ``s.tiles``)
        included; tensors are read and written through their strides. Raises ``ShapeError`` for operands that do not fit.
        """
