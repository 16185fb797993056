"""Boxes of program and streamed ranks: which ranks make one, and its shape.

Law: where a filter relates program ranks with the ranks that the streamed one was merged from, a pair of tiles is visited if the filter holds
somewhere in it. Along an axis a tile of queries meets the tiles of keys that one of them sees (``Reach``): how many depends on where tiles start, and the
start with the fewest is taken. The work of a query is the product of the keys met over the axes, divided by the share of its tile that lies inside the
extents. A tile of keys is fetched once for the queries of a tile, and the statistics of a query are updated once for a tile of keys; each is worth
``STEP`` points. The shapes with the least work are taken; of equal ones those with the longest rows in memory. Where a back end computes of a tile only what
bounds on the first coordinate of its box leave, in vectors of ``lanes``, that axis counts by the coordinates of a vector, the others by those of the box.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, prod

import numpy as np
from numpy.typing import NDArray

from einsum_compiler.ir.build import conjuncts, ranks_of
from einsum_compiler.ir.cascade import Cascade
from einsum_compiler.ir.expression import Expression, Reduction, walk
from einsum_compiler.passes.box_order import is_in_memory
from einsum_compiler.passes.flatten import merged_group, row_major

NEAR = 4  # coordinates that a query sees to either side, where nothing tells how many
STRETCH = 256  # queries that are looked at along an axis
SIDES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 24, 32, 48, 64)
POWERS = (1, 2, 4, 8, 16, 32, 64)
LEAST_FILL = 0.5  # of the volume that a box may have
VECTOR = 8  # points that are computed together
STEP = 16  # points of a product that cost as much as one row of overhead
GAIN = 0.97  # of the keys met: where a start before 0 leaves more of them, tiles start at 0, with no bound below


@dataclass(frozen=True)
class Boxes:
    """The tiles of program ranks that share an axis, and those of the ranks that the streamed one was merged from; ``starts`` of the first tiles by rank."""

    rows: Mapping[str, int]
    columns: Mapping[str, int]
    starts: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class Reach:
    """The keys along an axis that successive queries see, from the query at ``first`` on: bool [queries, keys]."""

    first: int
    seen: NDArray[np.bool_]


@dataclass(frozen=True)
class Met:
    """Along an axis, on average over tiles of queries: the keys of the tiles that are met, and those from the first to the last that is seen.

    ``start``, ``rows``: where the first tile of keys and the first one of queries start.
    """

    keys: float
    span: float
    start: int
    rows: int


def related_ranks(cascade: Cascade, stream: str, program: Collection[str]) -> dict[str, str]:
    """Program ranks by the streamed coordinate that a condition of a filter relates them with; several by their order."""
    group = merged_group(cascade, stream)
    coordinates = row_major(stream, group)
    found: dict[str, str] = {}
    for condition in conditions(cascade):
        axes = [r for r in group if _holds(condition, coordinates[r])]
        ranks = [r for r in ranks_of(condition) if r in program]
        if len(axes) == len(ranks):
            found = {**dict(zip(axes, ranks, strict=True)), **found}
    return found


def choose_boxes(
    cascade: Cascade,
    stream: str | None,
    reused: Collection[str],
    extents: Mapping[str, int],
    rows: int,
    columns: int,
    powers_of_two: bool = False,
    reach: Mapping[str, Reach] | None = None,
    lanes: int = 0,
) -> Boxes | None:
    """Boxes of at most ``rows`` program and ``columns`` streamed points; None where no filter relates two axes or more.

    ``reused``: program ranks that gain from a tile. ``reach``: the keys that queries see along each axis, where that is known.
    ``lanes``: of a vector, where tiles are cut to what their rows see.
    """
    group = merged_group(cascade, stream)
    if stream is None or not group or is_in_memory(cascade, stream):
        return None
    pairs = related_ranks(cascade, stream, reused)
    related = tuple(dict.fromkeys(pairs[r] for r in group if r in pairs))
    if len(related) < 2:
        return None
    # An axis without coordinates has the shares of one.
    extents = {r: max(1, extents[r]) for r in (*related, *group)}
    seen = tuple((reach or {}).get(r) or _near(extents[pairs.get(r, r)], extents[r]) for r in group)
    places = tuple(related.index(pairs[r]) if r in pairs else None for r in group)
    query, key, starts, rows_starts = _shape(
        tuple(extents[r] for r in related),
        tuple(extents[r] for r in group),
        seen,
        places,
        rows,
        columns,
        powers_of_two,
        lanes,
    )
    starting = {**dict(zip(related, rows_starts, strict=True)), **dict(zip(group, starts, strict=True))}
    return Boxes(dict(zip(related, query, strict=True)), dict(zip(group, key, strict=True)), starting)


@lru_cache(maxsize=256)
def _near(queries: int, keys: int) -> Reach:
    """What queries see of a window of unknown size."""
    stretch = min(queries, STRETCH)
    return Reach(0, np.abs(np.arange(keys) - np.arange(stretch)[:, None] * keys // queries) <= NEAR)


@lru_cache(maxsize=8192)
def meeting(reach: Reach, query: int, key: int) -> Met:
    """What tiles of so many queries meet of tiles of so many keys, for the starts of both with the fewest."""
    found = [_meeting(reach, query, key, rows) for rows in _starts(reach, query)]
    return min(found, key=lambda met: met.keys / (GAIN if met.rows else 1))


@lru_cache(maxsize=256)
def natural_side(reach: Reach) -> int:
    """The number of keys that most queries see, if it is no more than the longest side; 1 otherwise. A cell of a partition is one tile."""
    counts = np.bincount(reach.seen.sum(axis=1))
    return int(most) if 0 < (most := counts.argmax()) <= SIDES[-1] else 1


def _starts(reach: Reach, query: int) -> tuple[int, ...]:
    """Where tiles of queries may start: at 0, or so that most boundaries of runs of queries that see the same keys are theirs."""
    changes = 1 + np.flatnonzero((reach.seen[1:] != reach.seen[:-1]).any(axis=1))
    if not 0 < len(changes) <= len(reach.seen) // 2:
        return (0,)
    places = np.bincount((reach.first + changes) % query)
    return tuple(dict.fromkeys((0, int(places.argmax()) - query if places.argmax() else 0)))


def _meeting(reach: Reach, query: int, key: int, rows: int) -> Met:
    """For tiles of queries whose first one starts at ``rows``."""
    count, keys = reach.seen.shape
    number = (reach.first - rows + np.arange(count)) // query
    bounds = np.flatnonzero(np.diff(number, prepend=-1))
    sizes = np.diff(bounds, append=count)
    seen = np.logical_or.reduceat(reach.seen, bounds, axis=0)
    # Of a stretch of queries the tiles that lie inside; all of them where it has less than a tile. Those that see nothing are not run.
    seen = seen[sizes == query] if (sizes == query).any() else seen
    seen = seen[seen.any(axis=1)]
    if not seen.size:
        return Met(key, 1, 0, rows)
    before = np.pad(np.cumsum(seen, axis=1), ((0, 0), (1, 0)))  # the keys that are seen before each coordinate
    met = np.empty(key)
    for start in range(key):
        ends = np.clip(np.arange(-start, keys + key, key), 0, keys)
        met[start] = (before[:, ends[1:]] > before[:, ends[:-1]]).sum() * key / len(seen)
    best = int(met.argmin())
    best = best if met[best] < GAIN * met[0] else 0
    span = (keys - seen[:, ::-1].argmax(axis=1) - seen.argmax(axis=1)).mean()
    return Met(float(met[best]), float(span), -best, rows)


@lru_cache(maxsize=4096)
def _shape(
    queries: tuple[int, ...],
    keys: tuple[int, ...],
    seen: tuple[Reach, ...],
    places: tuple[int | None, ...],
    rows: int,
    columns: int,
    powers_of_two: bool,
    lanes: int,
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """The shapes of both boxes with the least work, and the starts of the keys' and of the queries'.

    ``places``: for each key axis the query axis that it is related with.
    """
    of_queries = (POWERS if powers_of_two else SIDES,) * len(queries)
    boxes = _shapes(queries, rows, of_queries)
    sides = sorted({side for box in boxes for side in box})
    of_keys = tuple(POWERS if powers_of_two else tuple(sorted({*POWERS, natural_side(reach)})) for reach in seen)
    tiles = _shapes(keys, columns, of_keys)
    # Every pair of boxes at once: tiles of keys down, boxes of queries across.
    across, down = np.array(boxes), np.array(tiles)
    volume, points = across.prod(axis=1), down.prod(axis=1)[:, None]
    work = (1 + STEP / volume) * np.ceil(points / VECTOR) * VECTOR / points
    for axis, (extent, reach, place) in enumerate(zip(keys, seen, places, strict=True)):
        if place is None:
            work = work * (np.ceil(extent / down[:, axis, None]) * down[:, axis, None])
        else:
            table = _axis_work(reach, queries[place], down[:, axis], sides)
            work = work * table[:, np.searchsorted(sides, across[:, place])]
    computed: float | NDArray[np.float64] = 1.0
    if (along := places[0]) is not None:
        cut = np.minimum(down[:, 0], np.ceil(lanes / down[:, 1:].prod(axis=1))) if lanes else down[:, 0]
        table = _axis_share(seen[0], down[:, 0], cut, sides)
        computed = table[:, np.searchsorted(sides, across[:, along])]
    work = work * (computed + STEP / points)
    for i, extent in enumerate(queries):
        if i not in places:
            work = work * (np.ceil(extent / across[:, i]) * across[:, i] / extent)
    least = work == work.min()
    _, _, k, q = min((-tiles[k][-1], -boxes[q][-1], k, q) for k, q in np.argwhere(least).tolist())
    key, query = tiles[k], boxes[q]
    axes = [None if p is None else meeting(w, query[p], n) for p, w, n in zip(places, seen, key, strict=True)]
    starts = tuple(0 if met is None else met.start for met in axes)
    rows_starts = {p: met.rows for p, met in reversed(list(zip(places, axes, strict=True))) if met is not None}
    return query, key, starts, tuple(rows_starts.get(i, 0) for i in range(len(query)))


def _axis_work(reach: Reach, extent: int, keys: NDArray[np.int_], sides: Sequence[int]) -> NDArray[np.float64]:
    """The work of an axis by its side of the keys' box and that of the queries': keys met, and the share of the box beyond the extent."""

    def row(key: int) -> list[float]:
        found = [meeting(reach, q, key) for q in sides]
        return [at.keys * ceil((extent - at.rows) / q) * q / extent for at, q in zip(found, sides, strict=True)]

    return _by_side(row, keys)


def _axis_share(
    reach: Reach, keys: NDArray[np.int_], cut: NDArray[np.float64], sides: Sequence[int]
) -> NDArray[np.float64]:
    """The part of the keys met that is computed, where a tile is cut to so many coordinates."""
    spans = _by_side(lambda key: [meeting(reach, q, key).span for q in sides], keys)
    met = _by_side(lambda key: [meeting(reach, q, key).keys for q in sides], keys)
    share: NDArray[np.float64] = np.minimum(1.0, (spans - 1 + cut[:, None]) / met)
    return share


def _by_side(row: Callable[[int], list[float]], keys: NDArray[np.int_]) -> NDArray[np.float64]:
    """A row of a table for every key, computed once for equal ones."""
    rows = {key: row(key) for key in dict.fromkeys(keys.tolist())}
    return np.array([rows[key] for key in keys.tolist()])


@lru_cache(maxsize=256)
def _shapes(extents: tuple[int, ...], volume: int, sides: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
    """The boxes that fill most of a volume and are no longer than the extents need, of the sides that each axis may have."""
    options = [[s for s in of_axis if s == 1 or s < 2 * n] for n, of_axis in zip(extents, sides, strict=True)]
    fits = [s for s in itertools.product(*options) if prod(s) <= volume]
    largest = max(map(prod, fits), default=1)
    return tuple(s for s in fits if prod(s) >= LEAST_FILL * largest)


def conditions(cascade: Cascade) -> Iterable[Expression]:
    """The conjuncts of every filter."""
    for equation in cascade.equations:
        filters = [equation.where, *(n.where for n in walk(equation.value) if isinstance(n, Reduction))]
        for predicate in filters:
            yield from conjuncts(predicate)


def _holds(node: Expression, part: Expression) -> bool:
    """Whether an expression has another one as a part that is not inside a larger coordinate."""
    return any(n == part for n in walk(node))
