"""Values of tensors over index boxes: extremes per tile, prefix sums of truth tables, memberships.

A box gives every axis of a tensor an interval of indices. Truth tables are answered exactly from prefix sums;
integers and reals from extremes over the tiles of an axis, or from a table of extremes over powers of two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any

import numpy as np

from einsum_compiler.box_values import Array, Interval, Truth

PIECE = 1 << 15  # columns of a table that are reduced together: a row of them stays in a cache
SHARED = 1 << 24  # bytes of a table from which on threads share it


def count_true(table: Array, low: Sequence[Array], high: Sequence[Array]) -> Array:
    """How many entries of a truth table are true in each box ``low <= index <= high``; indices lie inside the table.

    Prefix sums run along the axes in which some box has several indices; the others are indexed.
    """
    wide = _wide(low, high)
    if not wide:
        return np.asarray(table[tuple(low)], dtype=np.int64)
    sums = np.zeros(
        [size + (axis in wide) for axis, size in enumerate(table.shape)],
        dtype=np.int32 if table.size < 1 << 31 else np.int64,
    )
    sums[tuple(slice(axis in wide, None) for axis in range(table.ndim))] = table
    for axis in wide:
        np.cumsum(sums, axis=axis, out=sums)
    total: Any = 0
    for ends in product((False, True), repeat=len(wide)):
        index = list(low)
        for axis, end in zip(wide, ends, strict=True):
            index[axis] = high[axis] + 1 if end else low[axis]
        sign = -1 if ends.count(False) % 2 else 1
        total = total + sign * sums[tuple(index)]
    return np.asarray(total)


def _wide(low: Sequence[Array], high: Sequence[Array]) -> list[int]:
    """The axes in which some box has several indices."""
    return [axis for axis, (lo, h) in enumerate(zip(low, high, strict=True)) if lo is not h and bool((lo != h).any())]


def box_size(low: Sequence[Array], high: Sequence[Array]) -> Array:
    size: Any = 1
    for lo, h in zip(low, high, strict=True):
        size = size * (h - lo + 1)
    return np.asarray(size)


def extremes(table: Array, low: Sequence[Array], high: Sequence[Array]) -> tuple[Array, Array]:
    """The least and the greatest entry of each box. Exact if at most one axis has boxes of several indices."""
    wide = _wide(low, high)
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


def tile_extremes(least: Array, greatest: Array, sizes: Mapping[int, int]) -> tuple[Array, Array]:
    """The least entry of ``least`` and the greatest of ``greatest`` in each tile; ``sizes`` gives how long tiles are along some axes."""
    last = least.ndim - 1
    sizes = {axis: size for axis, size in sizes.items() if size > 1}
    across = sizes.pop(last, 1)
    for axis, size in sizes.items():
        least, greatest = _along(least, greatest, axis, size, across)
        across = 1  # with the first axis, while what is left of a tile of rows is in a cache
    return _across(least, greatest, across) if across > 1 else (least, greatest)


def _along(least: Array, greatest: Array, axis: int, size: int, across: int) -> tuple[Array, Array]:
    """Extremes of tiles of ``size`` along an axis and ``across`` along the last one."""
    shape = [-(-n // size) if a == axis else n for a, n in enumerate(least.shape)]
    columns = shape[-1]
    shape[-1] = -(-columns // across)
    low, high = np.empty(shape, least.dtype), np.empty(shape, greatest.dtype)
    if least is greatest and least.nbytes >= SHARED and _compiled(least, low, high, axis, (size, across)):
        return low, high
    # reduceat has vector code along the last axis only, so each tile is reduced by itself.
    width = max(PIECE // across, 1) * across
    pieces = [(t, c) for t in range(shape[axis]) for c in range(0, columns, width)]

    def reduce(piece: tuple[int, int]) -> None:
        tile, column = piece
        before, behind = (slice(None),) * axis, (slice(None),) * (least.ndim - axis - 2)
        source: tuple[slice | int, ...] = (
            *before,
            slice(tile * size, (tile + 1) * size),
            *behind,
            slice(column, column + width),
        )
        target: tuple[slice | int, ...] = (*before, tile, *behind, slice(column // across, (column + width) // across))
        if least is greatest and least.dtype == np.bool_:
            count, number = _number_true(least[source], axis)
            fewest, most = _across(number, number, across) if across > 1 else (number, number)
            low[target], high[target] = fewest == count, most > 0
        else:
            ends = least[source].min(axis=axis), greatest[source].max(axis=axis)
            low[target], high[target] = _across(*ends, across) if across > 1 else ends

    if least.nbytes < SHARED:
        for piece in pieces:
            reduce(piece)
    else:
        with ThreadPoolExecutor(threads := _threads()) as pool:
            list(pool.map(lambda part: list(map(reduce, pieces[part :: 4 * threads])), range(4 * threads)))
    return low, high


def _compiled(table: Array, low: Array, high: Array, axis: int, sizes: tuple[int, int]) -> bool:
    """Whether compiled code has filled ``low`` and ``high``: not on a machine without a compiler, which has another kind of device."""
    from einsum_compiler import knobs, store
    from einsum_compiler.backends.cpu import tables
    from einsum_compiler.ir.errors import BackendError

    if not tables.serves(table):
        return False
    folder, compiler = store.directory() / "cpu", knobs.compiler()
    try:
        tables.fill_tile_extremes(table, low, high, axis, sizes, folder=folder, compiler=compiler, threads=_threads())
    except BackendError:
        return False
    return True


def _across(least: Array, greatest: Array, size: int) -> tuple[Array, Array]:
    """Extremes of tiles along the last axis."""
    starts = np.arange(0, least.shape[-1], size)
    # numpy has no vector code for booleans.
    low, high = (t.view(np.uint8) if t.dtype == np.bool_ else t for t in (least, greatest))
    low, high = np.minimum.reduceat(low, starts, axis=-1), np.maximum.reduceat(high, starts, axis=-1)
    return low.astype(least.dtype, copy=False), high.astype(greatest.dtype, copy=False)


def _number_true(truths: Array, axis: int) -> tuple[int, Array]:
    """How many truth values there are along an axis, and how many are true, so that they are read once."""
    count = truths.shape[axis]
    if count < 256 and truths.shape[-1] % 8 == 0 and truths.strides[-1] == 1:
        words: Array = np.add.reduce(truths.view(np.uint64), axis=axis)  # eight bytes at once: none overflows
        return count, words.view(np.uint8)
    return count, np.add.reduce(truths.view(np.uint8), axis=axis, dtype=np.uint8 if count < 256 else np.int32)


def _threads() -> int:
    """As many threads as PyTorch uses."""
    import torch

    return torch.get_num_threads()


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
