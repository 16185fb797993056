"""Sizes to show a program at when no call has given any."""

from __future__ import annotations

from typing import Any

from einsum_compiler.ir.binding import Binding, bind
from einsum_compiler.ir.cascade import Cascade

WIDTH, LENGTH, COUNT = 64, 1024, 4


def nominal_binding(cascade: Cascade) -> Binding:
    """A binding with f32 inputs: last axes of 64, the axis before of 1024, outer ones of 4. No memory is used.

    Where a rank is last in one tensor and inner in another, the first use counts. Parameters without default are 16.
    """
    sizes: dict[str, int] = {}
    for tensor in cascade.inputs:
        if tensor.ranks:
            sizes.setdefault(tensor.ranks[-1], WIDTH)
    for tensor in cascade.inputs:
        for position, rank in enumerate(tensor.ranks):
            sizes.setdefault(rank, LENGTH if position == len(tensor.ranks) - 2 else COUNT)
    import torch

    def stand_in(shape: tuple[int, ...], dtype: str | None) -> Any:
        from einsum_compiler.ir.torch_types import torch_dtype

        return torch.empty(shape, dtype=torch_dtype(dtype or "f32"), device="meta")

    tensors = {t.name: stand_in(tuple(sizes[r] for r in t.ranks), t.dtype) for t in cascade.inputs}
    scalars = {p.name: 16 for p in cascade.parameters if p.default is None}
    return bind(cascade, (), {**tensors, **scalars})


