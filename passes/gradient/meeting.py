"""Where the points of an index meet before it takes its value: at one place of a table, or at one whole number.

    sum[m,n](X[m,n]) where B[n - m + M - 1] == u        is     sum[r](sum[m](X[m, r + m - M + 1])) where B[r] == u
    sum[m,n](X[m,n]) where clamp(n - m, lo, hi) == u    is     the same, with clamp(r - M + 1, lo, hi) == u

What is read along several ranks at once only through their sum has as many values as that has, which are fewer than the points. A function that many places
share (a clamp, a distance, a quotient) is then asked at the places.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from einsum_compiler.ir.build import add, multiply
from einsum_compiler.ir.expression import Binary, Call, Constant, Expression, Extent, Rank, Read, transform, walk
from einsum_compiler.passes.analysis.affine import Affine, reopened
from einsum_compiler.passes.scope import free_ranks, replace_reads


@dataclass(frozen=True)
class Opened:
    """An index that depends on points through one place: that, from 0; how many there are; what the rank of places is called after; and the index as a function of it."""

    place: Expression
    extent: Expression
    along: str
    index: Callable[[Expression], Expression]


def opened_index(index: Expression, points: Sequence[str], axes: Mapping[str, Sequence[str]]) -> Opened | None:
    """An index whose points meet before it takes its value: where it depends on several ranks of ``points``, all inside of one axis of one read, or of one sum of
    them that a function takes."""
    wanted = set(free_ranks(index)) & set(points)
    if len(wanted) < 2:
        return None
    return _in_table(index, wanted, axes) or _in_function(index, wanted)


def _in_table(index: Expression, wanted: Collection[str], axes: Mapping[str, Sequence[str]]) -> Opened | None:
    for read in walk(index):
        if not isinstance(read, Read):
            continue
        used = [n for n, i in enumerate(read.indices) if set(free_ranks(i)) & set(wanted)]
        hidden = replace_reads(index, {read: Constant(0)})
        if len(used) == 1 and set(free_ranks(read)) >= set(wanted) and not set(free_ranks(hidden)) & set(wanted):
            along = axes[read.tensor][used[0]]
            return Opened(read.indices[used[0]], Extent(along), along, _with_place(index, read, used[0]))
    return None


def _with_place(index: Expression, read: Read, position: int) -> Callable[[Expression], Expression]:
    def at(place: Expression) -> Expression:
        indices = (*read.indices[:position], place, *read.indices[position + 1 :])
        return replace_reads(index, {read: replace(read, indices=indices)})

    return at


def _in_function(index: Expression, wanted: Collection[str]) -> Opened | None:
    """Where a function takes a sum of whole multiples of the ranks, and nothing else has them."""
    for node in walk(index):
        for inner in _arguments(node):
            form = reopened(inner)
            if not all(isinstance(t, Rank) or not set(free_ranks(t)) & set(wanted) for t, _ in form.terms):
                continue
            if {t.name for t, _ in form.terms if isinstance(t, Rank)} < set(wanted):
                continue
            if set(free_ranks(_with(index, inner, Constant(0)))) & set(wanted):
                continue
            varying = [(t, c) for t, c in form.terms if isinstance(t, Rank) and t.name in wanted]
            spans = [(multiply(Constant(abs(c)), _less_one(Extent(t.name))), c) for t, c in varying]
            least = _total(size for size, c in spans if c < 0)
            place = add(Affine(tuple(varying)).expression(), least)
            rest = form - Affine(tuple(varying))
            called = "_".join(t.name for t, _ in varying)
            return Opened(
                place, add(_total(size for size, _ in spans), Constant(1)), called, _with_sum(index, inner, rest, least)
            )
    return None


def _arguments(node: Expression) -> tuple[Expression, ...]:
    match node:
        case Call(arguments=arguments):
            return arguments
        case Binary(operator="//" | "%", left=left):
            return (left,)
    return ()


def _with_sum(
    index: Expression, inner: Expression, rest: Affine, least: Expression
) -> Callable[[Expression], Expression]:
    def at(place: Expression) -> Expression:
        return _with(index, inner, add(place if least == Constant(0) else Binary("-", place, least), rest.expression()))

    return at


def _with(node: Expression, part: Expression, value: Expression) -> Expression:
    return transform(node, lambda n: value if n == part else n)


def _total(parts: Iterable[Expression]) -> Expression:
    total: Expression = Constant(0)
    for part in parts:
        total = add(total, part)
    return total


def _less_one(extent: Expression) -> Expression:
    return Binary("-", extent, Constant(1))
