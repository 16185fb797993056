"""What reads of tensors and memberships give in every tile box (``box_expressions``), from the tables of ``box_reads``."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from einsum_compiler import box_reads, box_values
from einsum_compiler.box_values import Array, Interval, Truth
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.expression import Expression, Membership, Rank, Read, Slice

if TYPE_CHECKING:
    from einsum_compiler.box_expressions import Boxes


@dataclass(frozen=True, eq=False)
class ReadBoxes:
    """The entries of a tensor that a read may take in each box: low and high per axis, whether some index is outside, whether all are.

    Along the axes in ``sizes`` indices are numbers of tiles of that size.
    """

    low: list[Array]
    high: list[Array]
    empty: Array
    void: Array
    sizes: dict[int, int]


def _indices(
    boxes: Boxes, indices: tuple[Expression, ...], shape: tuple[int, ...]
) -> tuple[list[Array], list[Array], Array, Array]:
    """The index box of a read: low and high per axis, whether some index is outside, whether all are."""
    low: list[Array] = []
    high: list[Array] = []
    empty, void = box_values.NEVER, box_values.NEVER
    for index, size in zip(indices, shape, strict=True):
        first, last, outside, nothing = box_reads.inside(boxes.number(index), size)
        low.append(first)
        high.append(np.maximum(last, first))
        empty, void = empty | outside, void | nothing
    return low, high, empty, void


def _read_boxes(boxes: Boxes, node: Read) -> ReadBoxes:
    """Where a read looks: tiles along the axes that a bare rank indexes, indices along the others."""
    if boxes.kept is None or not node.indices:
        return _boxes_of(boxes, node)
    return boxes.kept.value(node, "boxes", functools.partial(_boxes_of, boxes), node.indices)


def _boxes_of(boxes: Boxes, node: Read) -> ReadBoxes:
    shape = boxes.tensors[node.tensor].shape
    low, high, empty, void = _indices(boxes, node.indices, shape)
    sizes: dict[int, int] = {}
    for axis, index in enumerate(node.indices):
        if not isinstance(index, Rank) or node.indices.count(index) > 1:
            continue
        along, size = boxes.split(index.name)
        if along is not None and boxes.extents.get(index.name, shape[axis]) == shape[axis]:
            sizes[axis] = size
            tiles = np.minimum(boxes.tiles(along), -(-shape[axis] // size) - 1)
            low[axis] = high[axis] = boxes.along(along, tiles)
    return ReadBoxes(low, high, empty, void, sizes)


def truth_of_read(boxes: Boxes, node: Read) -> Truth:
    table = boxes.tensors[node.tensor]
    if 0 in table.shape:
        return Truth(box_values.NEVER, box_values.NEVER, ~box_values.NEVER)
    at = _read_boxes(boxes, node)
    every, some = box_reads.tile_extremes(table, table, at.sizes)
    if some is every:
        return box_reads.truth_of(table, at.low, at.high, at.empty, at.void)
    true = box_reads.count_true(some, at.low, at.high) > 0
    false = box_reads.count_true(~every, at.low, at.high) > 0
    return Truth(true & ~at.void, false & ~at.void, at.empty)


def truth_of_membership(boxes: Boxes, node: Membership) -> Truth:
    """``item in T[i, :]``, from the table of the values that each fibre holds."""
    collection, item = boxes.tensors[node.collection.tensor], boxes.number(node.item)
    if not node.collection.indices or not isinstance(node.collection.indices[-1], Slice):
        raise PlanError("a schedule takes 'in' over the last axis of a tensor only")
    values = max(int(item.high.max()), int(collection.max(initial=-1)), 0) + 1
    table = box_reads.members(collection, values)
    low, high, outside, nowhere = _indices(boxes, node.collection.indices[:-1], collection.shape[:-1])
    first, last = np.clip(item.low, 0, values - 1), np.clip(item.high, 0, values - 1)
    found = box_reads.truth_of(table, [*low, first], [*high, np.maximum(first, last)], item.empty, item.void)
    # A coordinate outside the collection has no members, and no coordinate is negative.
    none = (outside | (item.low < 0)) & ~item.void
    truth = Truth(found.true & (item.high >= 0) & ~nowhere, found.false | none, found.empty)
    return box_values.negate(truth) if node.negated else truth


def interval_of_read(boxes: Boxes, node: Read) -> Interval:
    """Extremes of a tensor per tile for axes indexed by a bare rank, then over the boxes of the other indices."""
    least = boxes.tensors[node.tensor]
    if least.size == 0:
        return Interval(np.asarray(0), np.asarray(0), ~box_values.NEVER, ~box_values.NEVER)
    at = _read_boxes(boxes, node)
    least, greatest = box_reads.tile_extremes(least, least, at.sizes)
    smallest = box_reads.extremes(least, at.low, at.high)[0]
    largest = box_reads.extremes(greatest, at.low, at.high)[1]
    kind = float if least.dtype.kind == "f" else np.int64
    value = Interval(smallest.astype(kind), largest.astype(kind), at.empty, at.void)
    return box_values.without_nan(value)
