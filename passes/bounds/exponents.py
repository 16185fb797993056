"""The linear program behind Hölder-Brascamp-Lieb bounds, in exact rationals.

A set ``V`` of points with projections ``A_j`` has ``|V| <= prod |A_j|^s_j`` if ``rank(H) <= sum s_j rank(phi_j(H))`` for all subgroups ``H``
(Christ, Demmel, Knight, Scanlon, Yelick 2013). For projections on coordinates one condition per coordinate is enough: ``sum of s_j over the j that
contain i >= 1``. For other integer maps the conditions for the lattice of subspaces that the kernels generate are enough (Valdimarsson 2010).
Programs are small (at most 7 arrays), so the vertices are enumerated.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import combinations
from math import log

MOST_ARRAYS = 7
MOST_SUBSPACES = 60

Row = tuple[Fraction, ...]
Space = tuple[Row, ...]
Exponents = tuple[Fraction, ...]


def covering(
    ranks: Iterable[str], arrays: Sequence[frozenset[str]], weights: Sequence[float] | None = None
) -> Exponents | None:
    """The optimal exponents for projections on coordinates; None if some coordinate is in no array.

    Ties are broken by the smallest ``sum s_j log(s_j / w_j)``, which gives the largest bound.
    """
    return _best(_least(coverings(frozenset(ranks), tuple(arrays))), weights)


@functools.lru_cache(maxsize=4096)
def coverings(ranks: frozenset[str], arrays: tuple[frozenset[str], ...]) -> tuple[Exponents, ...]:
    """The vertices of all exponents that cover the coordinates; none if some coordinate is in no array."""
    needed = {frozenset(j for j, a in enumerate(arrays) if r in a) for r in ranks}
    if frozenset() in needed or len(arrays) > MOST_ARRAYS:
        return ()
    minimal = [c for c in needed if not any(o < c for o in needed)]
    rows = tuple(sorted((1, tuple(int(j in c) for j in range(len(arrays)))) for c in minimal))
    return _vertices(len(arrays), rows)


def general(
    dimension: int, maps: Sequence[Sequence[Sequence[int]]], weights: Sequence[float] | None = None
) -> Exponents | None:
    """The optimal exponents for integer maps, each a matrix of rows; None where the lattice of kernels is too large or nothing covers."""
    if len(maps) > MOST_ARRAYS:
        return None
    kernels = [_kernel([tuple(map(Fraction, r)) for r in m], dimension) for m in maps]
    lattice = _lattice([*kernels, _span(_unit(dimension))])
    if lattice is None:
        return None
    rows = set()
    for space in lattice:
        if space:
            ranks = tuple(len(space) - len(_meet(space, k, dimension)) for k in kernels)
            rows.add((len(space), ranks))
    if any(not any(r) for _, r in rows):
        return None
    return _best(_least(_vertices(len(maps), tuple(sorted(rows)))), weights)


def _best(vertices: tuple[Exponents, ...], weights: Sequence[float] | None) -> Exponents | None:
    """Of the optimal face: a vertex or the centre, whichever gives the larger constant."""
    if not vertices:
        return None
    count = len(vertices[0])
    centre = tuple(sum((v[j] for v in vertices), Fraction(0)) / len(vertices) for j in range(count))
    w = weights or [1.0] * count

    def cost(s: Exponents) -> float:
        return sum(float(x) * log(float(x) / w[j]) for j, x in enumerate(s) if x)

    return min((centre, *vertices), key=lambda s: (round(cost(s), 9), s))


def _least(vertices: tuple[Exponents, ...]) -> tuple[Exponents, ...]:
    least = min((sum(v, Fraction(0)) for v in vertices), default=Fraction(0))
    return tuple(v for v in vertices if sum(v, Fraction(0)) == least)


@functools.lru_cache(maxsize=4096)
def _vertices(count: int, rows: tuple[tuple[int, tuple[int, ...]], ...]) -> tuple[Exponents, ...]:
    """All vertices of ``{s >= 0 : rows}``."""
    conditions = [*((Fraction(b), tuple(map(Fraction, a))) for b, a in rows)]
    conditions += [(Fraction(0), tuple(Fraction(int(i == j)) for i in range(count))) for j in range(count)]
    found: dict[Exponents, None] = {}
    for chosen in combinations(conditions, count):
        s = _solve([a for _, a in chosen], [b for b, _ in chosen])
        if s is not None and all(
            sum((x * y for x, y in zip(a, s, strict=True)), Fraction(0)) >= b for b, a in conditions
        ):
            found[s] = None
    return tuple(found)


def _solve(matrix: Sequence[Row], right: Sequence[Fraction]) -> Exponents | None:
    """The solution of a square system, None if it is singular."""
    size = len(matrix)
    rows = [[*r, b] for r, b in zip(matrix, right, strict=True)]
    for column in range(size):
        pivot = next((r for r in range(column, size) if rows[r][column]), None)
        if pivot is None:
            return None
        rows[column], rows[pivot] = rows[pivot], rows[column]
        scale = rows[column][column]
        rows[column] = [x / scale for x in rows[column]]
        for r in range(size):
            if r != column and rows[r][column]:
                factor = rows[r][column]
                rows[r] = [x - factor * y for x, y in zip(rows[r], rows[column], strict=True)]
    return tuple(r[-1] for r in rows)


# -- subspaces of the rationals, as the rows of their reduced echelon forms ---------------------------------------------------


def _unit(dimension: int) -> list[Row]:
    return [tuple(Fraction(int(i == j)) for j in range(dimension)) for i in range(dimension)]


def _span(rows: Iterable[Row]) -> Space:
    found = [list(r) for r in rows]
    if not found:
        return ()
    lead = 0
    for column in range(len(found[0])):
        pivot = next((r for r in range(lead, len(found)) if found[r][column]), None)
        if pivot is None:
            continue
        found[lead], found[pivot] = found[pivot], found[lead]
        scale = found[lead][column]
        found[lead] = [x / scale for x in found[lead]]
        for r in range(len(found)):
            if r != lead and found[r][column]:
                factor = found[r][column]
                found[r] = [x - factor * y for x, y in zip(found[r], found[lead], strict=True)]
        lead += 1
    return tuple(tuple(r) for r in found[:lead])


def _kernel(rows: Sequence[Row], dimension: int) -> Space:
    """The vectors that every row maps to 0."""
    reduced = _span(rows)
    pivots = [next(i for i, x in enumerate(r) if x) for r in reduced]
    free = [i for i in range(dimension) if i not in pivots]
    found = []
    for f in free:
        vector = [Fraction(0)] * dimension
        vector[f] = Fraction(1)
        for row, p in zip(reduced, pivots, strict=True):
            vector[p] = -row[f]
        found.append(tuple(vector))
    return _span(found)


def _meet(one: Space, other: Space, dimension: int) -> Space:
    """The intersection: what is orthogonal to both complements."""
    return _kernel([*_kernel(one, dimension), *_kernel(other, dimension)], dimension)


def _lattice(generators: Sequence[Space]) -> set[Space] | None:
    """Everything that sums and intersections of the generators reach; None if that is too much."""
    dimension = len(generators[-1])
    found = set(generators)
    frontier = list(found)
    while frontier:
        one = frontier.pop()
        for other in list(found):
            for made in (_span([*one, *other]), _meet(one, other, dimension)):
                if made not in found:
                    found.add(made)
                    frontier.append(made)
                    if len(found) > MOST_SUBSPACES:
                        return None
    return found
