"""Tiles that a predicate needs, found at run time: the list of a schedule (``ir.tile.Schedule``).

The predicate is evaluated in three values over all tile boxes at once (``box_expressions``), so the
cost is that of the tiles, not of their points. Imports numpy and nothing of the compiler but the IR: a warm call runs this.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from einsum_compiler.box_expressions import Boxes, Tabulated
from einsum_compiler.box_values import Array
from einsum_compiler.ir.build import conjuncts
from einsum_compiler.ir.expression import Binary, Call, Comparison, Constant, Expression, Extent, Rank
from einsum_compiler.ir.tile import Schedule
from einsum_compiler.kept_lists import Kept, kept_in_a_call

if TYPE_CHECKING:
    import torch

# Boxes looked at together: arrays of so many numbers stay in a cache.
BOXES_AT_ONCE = 1 << 17


def build_tile_list(
    schedule: Schedule,
    tensors: Mapping[str, Any],
    scalars: Mapping[str, float],
    extents: Mapping[str, int],
    kept: Kept | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The operands ``s.offsets`` (i32[2 P + 1]) and ``s.tiles`` (i32[count]) of a schedule, on the host.

    Program p runs ``tiles[offsets[2p] : offsets[2p+1]]`` as full tiles and ``tiles[offsets[2p+1] : offsets[2p+2]]`` as
    partial ones, both ascending. A tile with a point where the predicate holds is always listed; one listed as full
    consists of such points, inside the extents, only. ``tensors``: at least those the predicate reads; ``extents`` by rank.
    ``kept``: of earlier calls that differ in the values of tensors only.
    """
    import torch

    kept = kept or kept_in_a_call(schedule, scalars, extents)
    full, touched = _in_pieces(schedule, tensors, scalars, extents, kept)
    both = np.empty((full.shape[0], 2, full.shape[1]), dtype=bool)
    both[:, 0] = full
    np.greater(touched, full, out=both[:, 1])
    offsets = np.zeros(2 * both.shape[0] + 1, dtype=np.int32)
    np.cumsum(both.sum(axis=2).reshape(-1), out=offsets[1:])
    tiles = (np.flatnonzero(both) % max(both.shape[2], 1)).astype(np.int32)
    return torch.from_numpy(offsets), torch.from_numpy(tiles)


def _in_pieces(
    schedule: Schedule,
    tensors: Mapping[str, Any],
    scalars: Mapping[str, float],
    extents: Mapping[str, int],
    kept: Kept,
) -> tuple[Array, Array]:
    """``classify`` for some tiles of the longest index at a time, so that what it computes with stays in a cache."""
    counts = kept.counts
    axis = max(range(len(counts) - 1), key=counts.__getitem__, default=None)
    boxes = math.prod(counts)
    if axis is None or boxes <= BOXES_AT_ONCE:
        return classify(schedule, tensors, scalars, extents, kept=kept)
    step = max(counts[axis] * BOXES_AT_ONCE // boxes, 1)
    tensors = {name: _host(tensors[name]) for name in kept.reads}
    tabulated: dict[int, Tabulated] = {}
    coarse = np.ones((*counts[:axis], -(-counts[axis] // step), *counts[axis + 1 :]), dtype=bool)
    if all(tensor.size < boxes for tensor in tensors.values()):
        # A tile is touched only if the union of the tiles of its piece is: one look more, where it does not read more than it saves.
        coarse = classify(_coarse(schedule, axis, step), tensors, scalars, extents, None, tabulated)[1].reshape(
            coarse.shape
        )
    full, touched = (np.zeros(counts, dtype=bool) for _ in range(2))
    for number, first in enumerate(range(0, counts[axis], step)):
        last = min(first + step, counts[axis])
        seen = np.flatnonzero(coarse.take(number, axis).reshape(-1, counts[-1]).any(axis=0))
        if not seen.size:
            continue
        piece, sampled = schedule, {}
        for at, tiles in ((axis, np.arange(first, last, dtype=np.int64)), (len(counts) - 1, seen)):
            piece, rank = _with_count(piece, at, len(tiles))
            sampled[rank] = tiles
        found = classify(piece, tensors, scalars, extents, sampled, tabulated)
        place = (slice(None),) * axis + (slice(first, last),) + (slice(None),) * (len(counts) - axis - 2) + (seen,)
        for whole, part in zip((full, touched), found, strict=True):
            whole[place] = part.reshape(*counts[:axis], last - first, *counts[axis + 1 : -1], len(seen))
    return full.reshape(-1, counts[-1]), touched.reshape(-1, counts[-1])


def _coarse(schedule: Schedule, axis: int, step: int) -> Schedule:
    """The schedule with ``step`` tiles in one along an index of the program."""
    outer = schedule.program[axis]
    merged = replace(outer, count=Call("ceil", (Binary("/", outer.count, Constant(step)),)))
    ranks = tuple((r, o, size * step if o == outer.rank else size) for r, o, size in schedule.ranks)
    if outer.rank not in (o for _, o, _ in ranks):
        ranks = (*ranks, (outer.rank, outer.rank, step))
    program = (*schedule.program[:axis], merged, *schedule.program[axis + 1 :])
    return replace(schedule, program=program, ranks=ranks)


def _with_count(schedule: Schedule, axis: int, count: int) -> tuple[Schedule, str]:
    """The schedule with another number of tiles along an index, the last one being the stream's; and the rank of that index."""
    indices = [*schedule.program, schedule.stream]
    indices[axis] = replace(indices[axis], count=Constant(count))
    return replace(schedule, program=tuple(indices[:-1]), stream=indices[-1]), indices[axis].rank


def count_tiles(offsets: torch.Tensor) -> tuple[int, int]:
    """How many full and how many partial tiles all programs of a list visit."""
    lengths = (offsets[1:] - offsets[:-1]).tolist()
    return sum(lengths[0::2]), sum(lengths[1::2])


def classify(
    schedule: Schedule,
    tensors: Mapping[str, Any],
    scalars: Mapping[str, float],
    extents: Mapping[str, int],
    sampled: Mapping[str, Array] | None = None,
    tabulated: dict[int, Tabulated] | None = None,
    kept: Kept | None = None,
) -> tuple[Array, Array]:
    """Which tiles are full and which have a point at all: two arrays of shape (programs, tiles of the stream).

    ``sampled``: the tiles to look at along an index, in place of the first ones; the count of the index is their number.
    ``tabulated``: what is known of expressions of one rank, kept from one call to the next; ``kept``: see ``build_tile_list``.
    """
    names = {**{rank.upper(): size for rank, size in extents.items()}, **scalars}
    kept = kept or kept_in_a_call(schedule, scalars, extents)
    shape = kept.counts
    programs = math.prod(shape[:-1])
    if 0 in shape:
        nothing = np.zeros((programs, shape[-1]), dtype=bool)
        return nothing, nothing
    read = {name: _host(tensors[name]) for name in kept.reads}
    known = {} if tabulated is None else tabulated
    boxes = Boxes(schedule, shape, read, names, extents, sampled or {}, {}, known, kept=kept)
    truth = boxes.truth(schedule.predicate)
    if kept.inside is None:
        kept.inside = _inside(schedule, boxes)
    exists, whole = kept.inside
    touched, full = np.empty(shape, dtype=bool), np.empty(shape, dtype=bool)
    np.logical_and(truth.true, exists, out=touched)
    np.logical_and(truth.certain, whole, out=full)
    full &= touched
    return full.reshape(programs, shape[-1]), touched.reshape(programs, shape[-1])


def _inside(schedule: Schedule, boxes: Boxes) -> tuple[Array, Array]:
    """Which tiles have a point inside the extents, and which of them are whole along the ranks that the loop must not leave.

    These are the stream, and those of the program with their bound in the predicate, in which a kernel sums: results at other coordinates
    beyond an extent are not stored. (A box ends at the extent, so there the bound itself always holds.)
    """
    bounds = {node.operands for node in conjuncts(schedule.predicate) if _is_bound(node)}
    exists: Array = np.ones((), dtype=bool)
    whole: Array = np.ones((), dtype=bool)
    for rank, outer, size in schedule.ranks:
        box = boxes.rank(rank)
        exists = exists & (box.low <= box.high)
        extents = (Extent(rank), Constant(boxes.extents.get(rank, 0)))
        if outer == schedule.stream.rank or any((Rank(rank), extent) in bounds for extent in extents):
            whole = whole & (box.high - box.low + 1 == size)
    return exists, exists & whole


def _is_bound(node: Expression) -> TypeGuard[Comparison]:
    return isinstance(node, Comparison) and node.operators == ("<",)


def _host(tensor: Any) -> Array:
    """The values of a tensor as an array; narrow floats, which numpy lacks, become f32."""
    if isinstance(tensor, np.ndarray):
        return tensor
    host = tensor.detach().cpu()
    return np.asarray((host.float() if host.is_floating_point() and host.element_size() < 4 else host).numpy())
