"""Values of tensors over index boxes: extremes per tile, prefix sums of truth tables, memberships.

A box gives every axis of a tensor an interval of indices. Truth tables are answered exactly from prefix sums;
integers and reals from extremes over the tiles of an axis, or from a table of extremes over powers of two.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from einsum_compiler.box_values import Array, Interval, Truth


def count_true(table: Array, low: Sequence[Array], high: Sequence[Array]) -> Array:
    """How many entries of a truth table are true in each box ``low <= index <= high``; indices lie inside the table."""
    sums = np.zeros([size + 1 for size in table.shape], dtype=np.int64)
    sums[tuple(slice(1, None) for _ in table.shape)] = table
    for axis in range(table.ndim):
        np.cumsum(sums, axis=axis, out=sums)
    total: Any = 0
    for ends in product((False, True), repeat=table.ndim):
        index = tuple(h + 1 if end else lo for end, lo, h in zip(ends, low, high, strict=True))
        sign = -1 if ends.count(False) % 2 else 1
        total = total + sign * sums[index]
    return np.asarray(total)


def box_size(low: Sequence[Array], high: Sequence[Array]) -> Array:
    size: Any = 1
    for lo, h in zip(low, high, strict=True):
        size = size * (h - lo + 1)
    return np.asarray(size)


def extremes(table: Array, low: Sequence[Array], high: Sequence[Array]) -> tuple[Array, Array]:
    """The least and the greatest entry of each box. Exact if at most one axis has boxes of several indices."""
    wide = [axis for axis in range(table.ndim) if bool(np.any(low[axis] != high[axis]))]
    least, greatest = table, table
    for axis in wide[:-1]:  # all but one axis: the extremes over the whole axis
        least, greatest = least.min(axis=axis, keepdims=True), greatest.max(axis=axis, keepdims=True)
    index = [np.zeros_like(lo) if axis in wide[:-1] else lo for axis, lo in enumerate(low)]
    if not wide:
        return least[tuple(index)], greatest[tuple(index)]
    axis = wide[-1]
    return (
        _range_extreme(np.minimum, least, axis, index, high[axis]),
        _range_extreme(np.maximum, greatest, axis, index, high[axis]),
    )


def _range_extreme(combine: np.ufunc, table: Array, axis: int, index: list[Array], last: Array) -> Array:
    """The extreme over ``index[axis] .. last``: two overlapping powers of two cover every interval."""
    first = index[axis]
    levels = [np.moveaxis(table, axis, 0)]
    span = 1
    longest = int(np.max(last - first)) + 1
    while 2 * span <= longest:
        below = levels[-1]
        following = np.concatenate([below[span:], np.repeat(below[-1:], span, axis=0)])
        levels.append(combine(below, following))
        span *= 2
    stacked = np.stack(levels)
    level = np.floor(np.log2(np.maximum(last - first + 1, 1))).astype(np.int64)
    others = [i for a, i in enumerate(index) if a != axis]
    left = stacked[(level, first, *others)]
    right = stacked[(level, np.maximum(last - (1 << level) + 1, first), *others)]
    return np.asarray(combine(left, right))


def tile_extremes(table: Array, axis: int, size: int, count: int) -> tuple[Array, Array]:
    """The least and greatest entry of each of ``count`` tiles along an axis; tiles beyond the axis repeat the last."""
    length = table.shape[axis]
    if size == 1 and count == length:
        return table, table
    starts = np.minimum(np.arange(count) * size, length - 1)
    inside = np.flatnonzero(np.arange(count) * size < length)
    pick = np.minimum(np.arange(count), len(inside) - 1)
    least = np.minimum.reduceat(table, starts[inside], axis=axis).take(pick, axis=axis)
    greatest = np.maximum.reduceat(table, starts[inside], axis=axis).take(pick, axis=axis)
    return least, greatest


def members(collection: Array, values: int) -> Array:
    """A truth table with the last axis of ``collection`` replaced by ``value in ...`` for 0 <= value < values."""
    flat = collection.reshape(-1, collection.shape[-1]).astype(np.int64)
    table = np.zeros((flat.shape[0], values), dtype=bool)
    row, column = np.nonzero((flat >= 0) & (flat < values))
    table[row, flat[row, column]] = True
    return table.reshape(*collection.shape[:-1], values)


def inside(index: Interval, size: int) -> tuple[Array, Array, Array, Array]:
    """An interval of indices cut to an axis: low, high, whether some index is outside, whether all are."""
    outside = (index.low < 0) | (index.high >= size) | index.empty
    void = (index.high < 0) | (index.low >= size) | index.void
    top = max(size - 1, 0)
    return np.clip(index.low, 0, top), np.clip(index.high, 0, top), outside, void


def truth_of(table: Array, low: Sequence[Array], high: Sequence[Array], empty: Array, void: Array) -> Truth:
    count = count_true(table, low, high)
    return Truth((count > 0) & ~void, (count < box_size(low, high)) & ~void, empty)
