"""Reads of tensors: views where the indices are bare ranks, gathers where they are expressions, and ``in``."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from einsum_compiler.backends.reference.named import Named, both, everywhere, pointwise, union
from einsum_compiler.backends.reference.scope import Growing, Scope
from einsum_compiler.backends.reference.values import Stored, Value
from einsum_compiler.ir.errors import ShapeError, SpecError
from einsum_compiler.ir.expression import Expression, Membership, Rank, Read, Slice

FIBRE = "in.{}"  # the ranks of slices in a membership; no cascade can name them


def read(node: Read, scope: Scope) -> Value:
    """``T[i, j]``: empty where an index is empty or outside, or where the tensor is."""
    store, indices = scope.tensors[node.tensor], list(node.indices)
    if isinstance(store, Growing):
        position = scope.value(indices[store.axis])
        if not position.ranks:
            del indices[store.axis]
            outside, only = _position(node, store, position)
            value = _gather(node, only, indices, scope)
            return Value(value.data, _nowhere(scope)) if outside else value
        store = _stacked(node, store, position, scope)
    return _gather(node, store, indices, scope)


def member(node: Membership, scope: Scope) -> Value:
    """``x in T[i, :]``: whether some entry of the fibre that is not empty equals x."""
    item = scope.value(node.item)
    collection = node.collection
    fibres: dict[str, int] = {}
    indices: list[Expression] = []
    shape = _shape(scope.tensors[collection.tensor])
    for axis, index in enumerate(collection.indices):
        if isinstance(index, Slice):
            rank = FIBRE.format(axis)
            fibres[rank], index = shape[axis], Rank(rank)
        indices.append(index)
    inner = replace(scope, extents={**scope.extents, **fibres})
    entries = read(replace(collection, indices=tuple(indices)), inner)
    equal = pointwise(torch.eq, item.data, entries.data)
    found = both(equal, entries.present)
    assert found is not None
    found = found.without(fibres, lambda data, axes: data.any(dim=axes))
    return Value(pointwise(torch.logical_not, found) if node.negated else found, item.present)


def _shape(store: Stored | Growing) -> tuple[int, ...]:
    if isinstance(store, Stored):
        return tuple(store.data.shape)
    return (*store.shape[: store.axis], store.size, *store.shape[store.axis :])


def _nowhere(scope: Scope) -> Named:
    return Named((), torch.zeros((), dtype=torch.bool, device=scope.device))


def _position(node: Read, store: Growing, position: Value) -> tuple[bool, Stored]:
    """The slice at one position of a recurrence, and whether the position is outside (then the read is empty)."""
    place = int(position.data.data)
    known = position.present is None or bool(position.present.data)
    if known and place in store.positions:
        return False, store.positions[place]
    if known and 0 <= place < store.size:
        raise SpecError(f"{node.tensor} is read at position {place} of its recurrence before it is computed", node.span)
    return True, store.empty()


def _stacked(node: Read, store: Growing, position: Value, scope: Scope) -> Stored:
    """All positions so far as one tensor, those to come empty; it is an error to look at one of those."""
    inside = pointwise(lambda p: (p >= 0) & (p < store.size), position.data)
    seen = both(both(inside, position.present), scope.domain)
    assert seen is not None
    done = torch.tensor([p in store.positions for p in range(store.size)], device=scope.device)
    late = pointwise(lambda p, s: s & ~done[p.clamp(0, store.size - 1)], position.data, seen)
    if bool(late.data.any()):
        raise SpecError(f"{node.tensor} is read at positions of its recurrence that are not computed yet", node.span)
    return stack(store)


def stack(store: Growing) -> Stored:
    """The positions side by side; missing ones are empty."""
    slices = [store.positions.get(p) or store.empty() for p in range(store.size)]
    if not slices:
        shape = (*store.shape[: store.axis], 0, *store.shape[store.axis :])
        return Stored(store.zeros().new_zeros(shape))
    # A state may start as an integer zero and go on as floats.
    kinds = [s.data.dtype for s in slices]
    dtype = next((k for k in kinds if k.is_floating_point), kinds[-1])
    data = torch.stack([s.data.to(dtype) for s in slices], store.axis)
    coordinate = any(s.coordinate for s in slices)
    if all(s.present is None for s in slices):
        return Stored(data, None, coordinate)
    masks = [torch.ones_like(s.data, dtype=torch.bool) if s.present is None else s.present for s in slices]
    return Stored(data, torch.stack(masks, store.axis), coordinate)


def _gather(node: Read, store: Stored, indices: list[Expression], scope: Scope) -> Value:
    """The elements at the indices. Axes of bare ranks stay views; the others are gathered together."""
    data, present = store.data, store.present
    if data.ndim != len(indices):
        raise SpecError(f"{node.tensor} has {data.ndim} axes and is read with {len(indices)} indices", node.span)
    bare = [i.name if isinstance(i, Rank) and i.name not in scope.fixed else None for i in indices]
    computed = {a: _index(node, indices[a], scope) for a, rank in enumerate(bare) if rank is None}
    gathered_ranks = union(*(v.data for v in computed.values()))
    for axis, rank in enumerate(bare):
        # A rank that is also part of another index, or that stands twice, takes part in the gather.
        if rank is not None and (rank in gathered_ranks or bare.count(rank) > 1):
            computed[axis] = Value(scope.coordinate(rank))
    gathered_ranks = union(*(v.data for v in computed.values()))
    views = [a for a in range(data.ndim) if a not in computed]
    for axis in views:
        rank = bare[axis]
        assert rank is not None
        data = _fitted(node, data, axis, rank, scope.extents[rank])
        present = None if present is None else _fitted(node, present, axis, rank, scope.extents[rank])
    ranks = tuple(r for a in views if (r := bare[a]) is not None)
    if not computed:
        return Value(Named(ranks, data), None if present is None else Named(ranks, present))
    order = [*sorted(computed), *views]
    places, inside = _places([computed[a] for a in sorted(computed)], [data.shape[a] for a in sorted(computed)])
    ranks = gathered_ranks + ranks
    if 0 in (data.shape[a] for a in computed):
        shape = scope.sizes(ranks)
        return Value(Named(ranks, data.new_ones(shape)), _nowhere(scope))
    index = tuple(p.aligned(gathered_ranks) for p in places)
    found = Named(ranks, data.permute(order)[index])
    mask = None if present is None else Named(ranks, present.permute(order)[index])
    return Value(found, both(mask, inside))


def _index(node: Read, index: Expression, scope: Scope) -> Value:
    value = scope.value(index)
    dtype = value.data.data.dtype
    if dtype.is_floating_point or dtype == torch.bool:
        raise SpecError(f"an index of {node.tensor} is no integer", index.span, ("use cast(floor(...), i32)",))
    return value


def _places(indices: list[Value], sizes: list[int]) -> tuple[list[Named], Named | None]:
    """Coordinates moved into the tensor, and where they were inside (None: everywhere)."""
    inside: Named | None = None
    places = []
    for value, size in zip(indices, sizes, strict=True):
        within = pointwise(lambda p, size=size: (p >= 0) & (p < size), value.data)
        inside = both(inside, both(everywhere(within), value.present))
        places.append(pointwise(lambda p, size=size: p.to(torch.int64).clamp(0, max(size - 1, 0)), value.data))
    return places, inside


def _fitted(node: Read, data: Tensor, axis: int, rank: str, extent: int) -> Tensor:
    """The axis under a bare rank; a carried axis of T + 1 positions counts as T."""
    if data.shape[axis] == extent:
        return data
    if data.shape[axis] == extent + 1:
        return data.narrow(axis, 0, extent)
    raise ShapeError(
        f"rank {rank} of extent {extent} reads axis {axis} of {node.tensor}, which has {data.shape[axis]} coordinates",
        node.span,
    )
