"""Boxes of program and streamed ranks: which ranks make one, and its shape.

Law: where a filter relates program ranks with the ranks that the streamed one was merged from, a pair of tiles is visited if the filter holds
somewhere in it. A query sees keys over ``reach`` coordinates of an axis; a tile of ``q`` queries meets tiles of ``k`` keys over ``q + reach + k - 2`` coordinates on
average, whatever the alignment. The work of a query is the product of that over the axes, divided by the share of its tile that lies inside the
extents. A tile of keys is fetched once for the queries of a tile, and the statistics of a query are updated once for a tile of keys; each is worth
``STEP`` points. The shapes with the least work are taken; of equal ones those with the longest rows in memory. Where a back end computes of a tile only what
bounds on the first coordinate of its box leave, in vectors of ``lanes``, that axis counts by the coordinates of a vector, the others by those of the box.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, prod

from einsum_compiler.ir.build import conjuncts, ranks_of
from einsum_compiler.ir.cascade import Cascade
from einsum_compiler.ir.expression import Expression, Reduction, walk
from einsum_compiler.passes.box_order import is_in_memory
from einsum_compiler.passes.flatten import merged_group, row_major

REACH = 9  # coordinates of an axis, where nothing tells over how many a query sees
SIDES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 24, 32, 48, 64)
POWERS = (1, 2, 4, 8, 16, 32, 64)
LEAST_FILL = 0.5  # of the volume that a box may have
STEP = 16  # points of a product that cost as much as one row of overhead


@dataclass(frozen=True)
class Boxes:
    """The tiles of program ranks that share an axis, and those of the ranks that the streamed one was merged from."""

    rows: Mapping[str, int]
    columns: Mapping[str, int]


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
    reach: Mapping[str, int] | None = None,
    lanes: int = 0,
) -> Boxes | None:
    """Boxes of at most ``rows`` program and ``columns`` streamed points; None where no filter relates two axes or more.

    ``reused``: program ranks that gain from a tile. ``reach``: over how many keys a query sees along each axis, where that is known.
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
    seen = tuple(max(1, min(extents[r], (reach or {}).get(r, REACH))) for r in group)
    places = tuple(related.index(pairs[r]) if r in pairs else None for r in group)
    query, key = _shape(
        tuple(extents[r] for r in related),
        tuple(extents[r] for r in group),
        seen,
        places,
        rows,
        columns,
        powers_of_two,
        lanes,
    )
    return Boxes(dict(zip(related, query, strict=True)), dict(zip(group, key, strict=True)))


@lru_cache(maxsize=4096)
def _shape(
    queries: tuple[int, ...],
    keys: tuple[int, ...],
    seen: tuple[int, ...],
    places: tuple[int | None, ...],
    rows: int,
    columns: int,
    powers_of_two: bool,
    lanes: int,
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shapes of both boxes with the least work. ``places``: for each key axis the query axis that it is related with."""
    best: tuple[float, ...] | None = None
    found: tuple[tuple[int, ...], tuple[int, ...]] = (), ()
    rest = [i for i in range(len(queries)) if i not in places]
    for key in _shapes(keys, columns, True):
        # The work of an axis for every side of a query's box: coordinates met, and the share of the box beyond the extent.
        tables = [
            {q: min(q + w + k - 2, ceil(n / k) * k) * ceil(queries[place] / q) * q / queries[place] for q in SIDES}
            if place is not None
            else {1: float(ceil(n / k) * k)}
            for n, k, w, place in zip(keys, key, seen, places, strict=True)
        ]
        cut = min(key[0], ceil(lanes / prod(key[1:]))) if lanes and places[0] is not None else key[0]
        for query in _shapes(queries, rows, powers_of_two):
            work = 1 + STEP / prod(query)
            for table, place in zip(tables, places, strict=True):
                work *= table[1 if place is None else query[place]]
            first = 0 if places[0] is None else query[places[0]] + seen[0] - 2
            work *= (first + cut) / (first + key[0]) + STEP / prod(key)
            for i in rest:
                work *= ceil(queries[i] / query[i]) * query[i] / queries[i]
            cost = (work, -key[-1], -query[-1])
            if best is None or cost < best:
                best, found = cost, (query, key)
    return found


@lru_cache(maxsize=256)
def _shapes(extents: tuple[int, ...], volume: int, powers_of_two: bool) -> tuple[tuple[int, ...], ...]:
    """The boxes that fill most of a volume and are no longer than the extents need."""
    sides = POWERS if powers_of_two else SIDES
    options = [[s for s in sides if s == 1 or s < 2 * n] for n in extents]
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
