"""Sizes to show a program at when no call has given any."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from einsum_compiler.ir.binding import Binding, bind
from einsum_compiler.ir.cascade import Cascade
from einsum_compiler.ir.errors import ShapeError
from einsum_compiler.ir.types import is_float

WIDTH, LENGTH, COUNT, PARAMETER = 64, 1024, 4, 16


def nominal_binding(
    cascade: Cascade,
    given: Mapping[str, float] | None = None,
    dtype: str = "f32",
    seed: int | None = None,
    dtypes: Mapping[str, str] | None = None,
) -> Binding:
    """A binding with inputs of a floating ``dtype``: last axes of 64, the axis before of 1024, outer ones of 4.

    ``dtypes`` gives other types to inputs by name; a type in the text comes before both. Where a rank is last in one
    tensor and inner in another, the first use counts. ``given`` overrides extents (by rank) and gives parameters (by
    name; others without default are 16, or true). Inputs have no storage, unless there is a ``seed``: then floats are
    normal and integers 0 or 1.
    """
    given = dict(given or {})
    sizes: dict[str, int] = {}
    for tensor in cascade.inputs:
        if tensor.ranks:
            sizes.setdefault(tensor.ranks[-1], WIDTH)
    for tensor in cascade.inputs:
        for position, rank in enumerate(tensor.ranks):
            sizes.setdefault(rank, LENGTH if position == len(tensor.ranks) - 2 else COUNT)
    sizes.update({r: int(n) for r, n in given.items() if r in sizes})
    tensors = {
        t.name: _tensor(tuple(sizes[r] for r in t.ranks), t.dtype or (dtypes or {}).get(t.name, dtype), seed, i)
        for i, t in enumerate(cascade.inputs)
    }
    scalars = {
        p.name: given.get(p.name, p.dtype == "bool" or PARAMETER)
        for p in cascade.parameters
        if p.default is None or p.name in given
    }
    unknown = sorted(set(given) - set(sizes) - {p.name for p in cascade.parameters})
    if unknown:
        known = f"extents are given by rank: {', '.join(sizes)}"
        if cascade.parameters:
            known += f"; parameters: {', '.join(p.name for p in cascade.parameters)}"
        raise ShapeError(f"no rank or parameter named {', '.join(unknown)} in {cascade.name}", None, (known,))
    return bind(cascade, (), {**tensors, **scalars})


def _tensor(shape: tuple[int, ...], dtype: str, seed: int | None, position: int) -> Any:
    import torch

    from einsum_compiler.ir.torch_types import torch_dtype

    if seed is None:
        return torch.empty(shape, dtype=torch_dtype(dtype), device="meta")
    generator = torch.Generator().manual_seed(seed * 1000 + position)
    if is_float(dtype):
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(torch_dtype(dtype))
    return torch.randint(0, 2, shape, generator=generator).to(torch_dtype(dtype))
