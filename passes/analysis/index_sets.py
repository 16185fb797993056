"""Closed forms of the tiles that a predicate needs: which are empty, full or partial.

Whole tiles are classified. For each conjunction of the predicate the inner coordinates are eliminated from every
inequality, which leaves one interval of tiles that may hold a point and one of tiles that are full; extents are one
more bound. Intervals of several conjunctions are clipped against each other. A predicate without such a form is
``NotAffine``: its tiles are listed at run time (``ir.tile.Schedule``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from einsum_compiler.ir.build import TRUE, ranks_of
from einsum_compiler.ir.expression import (
    Binary,
    Comparison,
    Conditional,
    Constant,
    Expression,
    Extent,
    Rank,
    Read,
    Unary,
    transform,
)
from einsum_compiler.ir.scalar import evaluate_scalar
from einsum_compiler.ir.tile import Range
from einsum_compiler.passes.analysis.affine import Affine, ceil_divide, is_nonnegative, term
from einsum_compiler.passes.analysis.constraints import (
    Conjunction,
    Guard,
    Linear,
    Periodic,
    conjunctions,
    negation,
)
from einsum_compiler.passes.analysis.integer_sets import has_points, reaches_every_tile
from einsum_compiler.passes.analysis.tile_box import Box, NotAffine, Opaque, Split, bound
from einsum_compiler.passes.analysis.tile_intervals import Interval, disjoint_ranges

__all__ = ["NotAffine", "Split", "TileRanges", "count_tiles", "projection", "tile_ranges"]


@dataclass(frozen=True, slots=True)
class TileRanges:
    """Disjoint ranges of tiles of the stream, full ones first; bounds are closed expressions over outer indices."""

    ranges: tuple[Range, ...]


def tile_ranges(
    predicate: Expression | None,
    stream: Split,
    others: tuple[Split, ...],
    dtypes: Mapping[str, str] | None = None,
) -> TileRanges | NotAffine:
    """The tiles of the stream rank that hold a point of the predicate, as ranges over the other outer indices.

    Every tile with a point is in exactly one range. In a full range the predicate holds at every point, and the
    stream's coordinates lie below its extent; points of other ranks beyond their extents may count either way. Ranks
    that no split names are program indices. ``dtypes`` gives the types of the parameters and tensors that are not integers.
    """
    box = Box(stream, others, tuple((dtypes or {}).items()))
    extent = term(Extent(stream.rank))
    try:
        every = conjunctions(TRUE if predicate is None else predicate, box)
        parts = [part for part in every if _has_points(part, box)]
        touched = [_interval(part, True, ceil_divide(extent, stream.size), box) for part in parts]
        full = [_interval(part, False, extent // stream.size, box) for part in parts]
        return TileRanges(disjoint_ranges([f for f in full if f], [t for t in touched if t]))
    except Opaque as refused:
        return NotAffine(str(refused))


def projection(predicate: Expression | None, onto: tuple[str, ...]) -> Expression | None:
    """The weakest consequence of the predicate's parts that names only the ranks ``onto``; None if that is *true*.

    ``n <= m and n < NL[b]`` onto (b, n) is ``n < NL[b]``: what masks a load of the keys.
    """
    kept = _projected(TRUE if predicate is None else predicate, True, frozenset(onto))
    return None if kept == TRUE else kept


def count_tiles(
    found: TileRanges, names: Mapping[str, float], tensors: Mapping[str, Any] | None = None
) -> tuple[int, int]:
    """How many full and how many partial tiles one program visits.

    ``names`` gives its outer indices, the parameters and the extents (by the name ``N``), ``tensors`` the tensors that
    bounds read.
    """

    def numbers(node: Expression) -> Expression:
        if not isinstance(node, Read):
            return node
        entry = (tensors or {})[node.tensor][tuple(int(evaluate_scalar(i, names)) for i in node.indices)]
        return Constant(entry.item())

    counts = [0, 0]
    for r in found.ranges:
        lower, upper = (int(evaluate_scalar(transform(e, numbers), names)) for e in (r.lower, r.upper))
        counts[r.partial] += max(upper - lower, 0)
    return counts[0], counts[1]


def _interval(part: Conjunction, touch: bool, tiles: Affine, box: Box) -> Interval | None:
    """The tiles that may hold a point of the conjunction (``touch``), or that consist of its points only.

    The first is exact if the inequalities can be met at one point whenever each can; the second always is.
    """
    size = box.stream.size
    lower, upper, conditions = [Affine()], [], []
    periodic = [atom for atom in part if isinstance(atom, Periodic)]
    if periodic:
        if not reaches_every_tile(tuple(atom.form for atom in periodic), box):
            raise Opaque(_skips(periodic[0]))
        if not touch:
            return None
    for atom in part:
        match atom:
            case Guard(condition=condition):
                conditions.append(condition)
            case Linear(coefficient=0, rest=rest):
                value = bound(rest, touch, box)
                if is_nonnegative(value):
                    continue
                conditions.append(_nonnegative(value))
            case Linear(coefficient=c, rest=rest) if c > 0:
                last = c * (size - 1) if touch else 0
                lower.append(ceil_divide(-(bound(rest, touch, box) + last), c * size))
            case Linear(coefficient=c, rest=rest):
                last = 0 if touch else c * (size - 1)
                upper.append((bound(rest, touch, box) + last) // (-c * size) + 1)
    return Interval(tuple(lower), (_guarded(tiles, conditions), *upper))


def _has_points(part: Conjunction, box: Box) -> bool:
    """Whether a conjunction can hold at all; bounds of tiles are found inequality by inequality, and do not say so."""
    stream = term(Rank(box.stream.rank))
    forms = tuple(
        a.form if isinstance(a, Periodic) else stream * a.coefficient + a.rest for a in part if not isinstance(a, Guard)
    )
    return len(forms) < 2 or has_points(forms, box)


def _guarded(tiles: Affine, conditions: list[Expression]) -> Affine:
    """The number of tiles, 0 unless all conditions hold."""
    if not conditions:
        return tiles
    condition = conditions[0]
    for other in conditions[1:]:
        condition = Binary("and", condition, other)
    return term(Conditional(condition, tiles.expression(), Constant(0)))


def _nonnegative(value: Affine) -> Expression:
    """``value >= 0`` with positive terms on either side."""
    left = Affine(tuple((t, c) for t, c in value.terms if c > 0), max(value.constant, 0))
    return Comparison((">=",), (left.expression(), (left - value).expression()))


def _skips(atom: Periodic) -> str:
    from einsum_compiler.ir.printer import print_expression

    return f"'{print_expression(atom.node)}' skips tiles between the first and the last"


def _projected(node: Expression, wanted: bool, onto: frozenset[str]) -> Expression:
    match node:
        case Unary(operator="not", operand=operand):
            return _projected(operand, not wanted, onto)
        case Binary(operator="and" | "or" as operator, left=left, right=right):
            parts = _projected(left, wanted, onto), _projected(right, wanted, onto)
            return (_and if (operator == "and") == wanted else _or)(*parts)
        case Comparison(operators=operators, operands=operands) if len(operators) > 1:
            join: Callable[[Expression, Expression], Expression] = _and if wanted else _or
            first = _projected(Comparison(operators[:1], operands[:2]), wanted, onto)
            return join(first, _projected(Comparison(operators[1:], operands[1:]), wanted, onto))
    if not set(ranks_of(node)) <= onto:
        return TRUE
    return node if wanted else negation(node)


def _and(left: Expression, right: Expression) -> Expression:
    if left == TRUE:
        return right
    return left if right in (TRUE, left) else Binary("and", left, right)


def _or(left: Expression, right: Expression) -> Expression:
    if TRUE in (left, right):
        return TRUE
    return left if left == right else Binary("or", left, right)
