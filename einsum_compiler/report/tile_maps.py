"""Which tiles a loop visits: empty, partial or full, for every program of a kernel."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from einsum_compiler.box_values import Array
from einsum_compiler.compilation import Compilation, CompiledPart
from einsum_compiler.ir.build import reads_of
from einsum_compiler.ir.tile import Loop, Range, TileList
from einsum_compiler.tile_lists import classify
from einsum_compiler.work import Counting

EMPTY, PARTIAL, FULL = 0, 1, 2
MOST_MAPS = 4  # of one loop: what differs between heads or batch entries is shown for the first few
MOST_ROWS = 512  # beyond that, rows are merged for the picture


@dataclass(frozen=True)
class TileMap:
    """The tiles of one loop. ``cells[r, c]`` is EMPTY, PARTIAL or FULL; rows are tiles of ``row_rank`` (one row if None), columns of ``column_rank``.

    ``at``: the other indices that the picture is for; ``same_for``: those that make no difference. ``merged``: tiles per row.
    """

    kernel: int
    sweep: int
    row_rank: str | None
    column_rank: str
    cells: Array
    at: tuple[tuple[str, int], ...] = ()
    same_for: tuple[str, ...] = ()
    merged: int = 1

    def count(self, kind: int) -> int:
        return int((self.cells == kind).sum())


@dataclass(frozen=True)
class Unknown:
    """A loop whose tiles depend on the values of tensors that are not there."""

    kernel: int
    sweep: int
    reads: tuple[str, ...]


def tile_maps(compiled: Compilation) -> list[TileMap | Unknown]:
    """The pictures of every loop of every kernel; loops of one kernel that visit the same tiles are shown once."""
    found: list[TileMap | Unknown] = []
    for number, part in enumerate(compiled.parts, 1):
        shown: list[object] = []
        for sweep, loop in enumerate((s for s in part.tile.body if isinstance(s, Loop)), 1):
            if loop.ranges not in shown:
                shown.append(loop.ranges)
                found += _of_loop(compiled, part, loop, number, sweep)
    return found


def _of_loop(
    compiled: Compilation, part: CompiledPart, loop: Loop, number: int, sweep: int
) -> Iterable[TileMap | Unknown]:
    extents = {**compiled.binding.extents, **part.planned.extents}
    counting = Counting(part.tile, compiled.binding.tensors, compiled.binding.scalars, extents)
    listed = [r for r in loop.ranges if isinstance(r, TileList)]
    if listed:
        return _listed(compiled, part, listed[0].schedule, extents, number, sweep)
    ranges = [r for r in loop.ranges if isinstance(r, Range)]
    needed = counting.needed(ranges)
    if needed is None:
        reads = {r.tensor for b in ranges for r in reads_of(b.lower, b.upper)}
        sources = tuple(sorted({counting.loads[r].tensor for r in reads if r in counting.loads}))
        return [Unknown(number, sweep, sources)]
    columns = counting.tiles(loop)
    row_rank = max(needed, key=lambda r: counting.counts[r], default=None)
    others = [r for r in needed if r != row_rank]
    rows = counting.counts[row_rank] if row_rank else 1
    same = tuple(r for r, n in counting.counts.items() if r not in needed and n > 1)
    maps = []
    for at in _first_points(others, [counting.counts[r] for r in others]):
        cells = np.zeros((rows, columns), dtype=np.uint8)
        for row in range(rows):
            indices = dict(at) | ({row_rank: row} if row_rank else {})
            for lower, upper, partial in counting.bounds(ranges, indices):
                cells[row, max(0, lower) : max(0, upper)] = PARTIAL if partial else FULL
        maps.append(_map(number, sweep, row_rank, loop.rank, cells, at, same))
    return maps


def _map(
    number: int,
    sweep: int,
    row_rank: str | None,
    column_rank: str,
    cells: Array,
    at: tuple[tuple[str, int], ...],
    same: tuple[str, ...],
) -> TileMap:
    """With at most so many rows: a merged cell is full or empty if all its tiles are."""
    merged = -(-cells.shape[0] // MOST_ROWS) or 1
    if merged > 1:
        starts = np.arange(0, cells.shape[0], merged)
        least = np.minimum.reduceat(cells, starts, axis=0)
        most = np.maximum.reduceat(cells, starts, axis=0)
        cells = np.where(least == most, least, PARTIAL).astype(np.uint8)
    return TileMap(number, sweep, row_rank, column_rank, cells, at, same, merged)


def _listed(
    compiled: Compilation, part: CompiledPart, name: str, extents: dict[str, int], number: int, sweep: int
) -> Iterable[TileMap | Unknown]:
    """Tiles of a run-time list, from the values of the tensors it reads."""
    schedule = next(s for s in part.tile.schedules if s.name == name)
    tensors, scalars = compiled.binding.tensors, compiled.binding.scalars
    reads = tuple(dict.fromkeys(r.tensor for r in reads_of(schedule.predicate)))
    if any(r not in tensors or tensors[r].device.type == "meta" for r in reads):
        return [Unknown(number, sweep, reads)]
    counting = Counting(part.tile, tensors, scalars, extents)
    full, touched = classify(schedule, {name: tensors[name] for name in reads}, scalars, extents)
    counts = [counting.number(p.count) for p in schedule.program]
    cells = np.where(full, FULL, np.where(touched, PARTIAL, EMPTY)).astype(np.uint8)
    shaped = cells.reshape(*counts, cells.shape[-1])
    ranks = [p.rank for p in schedule.program]
    row = max(range(len(ranks)), key=lambda i: counts[i], default=None)
    same = tuple(r for r, n in counting.counts.items() if r not in ranks and n > 1)
    if row is None:
        return [_map(number, sweep, None, schedule.stream.rank, cells, (), same)]
    shaped = np.moveaxis(shaped, row, -2)
    others = [i for i in range(len(ranks)) if i != row]
    points = _first_points([ranks[i] for i in others], [counts[i] for i in others])
    return [
        _map(number, sweep, ranks[row], schedule.stream.rank, shaped[tuple(v for _, v in at)], at, same)
        for at in points
    ]


def _first_points(ranks: list[str], counts: list[int]) -> list[tuple[tuple[str, int], ...]]:
    """The first few coordinates of some ranks, in row-major order."""
    points: list[tuple[tuple[str, int], ...]] = []
    for index in range(min(MOST_MAPS, int(np.prod(counts, dtype=np.int64)))):
        place = np.unravel_index(index, counts) if counts else ()
        points.append(tuple((r, int(p)) for r, p in zip(ranks, place, strict=True)))
    return points
