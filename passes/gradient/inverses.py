"""Where an index has one value: the inverse of an index expression along one of its ranks.

    sum[m,n](X[m,n]) where n - m + M - 1 == r     is     sum[m](X[m, r + m - M + 1])
    sum[m,k](X[m,k]) where 2*m + 2*k - 1 == n      is     sum[k](X[(n + 1 - 2*k) // 2, k]) where (n + 1 - 2*k) % 2 == 0
    sum[t](X[t]) where t // c == j                is     sum[r](X[c*j + r]) with r < c
    sum[t](X[t]) where t % c == j, B[t // c] == k  is     sum[r](X[c*r + j]) where B[r] == k
    windows that start some places apart           are    those that hold a coordinate (``gradient.windows``)

An equality that is asked at every pair of points costs as many as there are points of both; its inverse costs the points that meet. A coordinate outside of
its rank is a read that does not exist, as everywhere in the language.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType

from einsum_compiler.ir.build import ranks_of
from einsum_compiler.ir.expression import (
    Binary,
    Call,
    Comparison,
    Constant,
    Expression,
    Extent,
    Rank,
    transform,
)
from einsum_compiler.passes.analysis.affine import reopened, term
from einsum_compiler.passes.gradient.inverse import Inverse, Parts
from einsum_compiler.passes.gradient.windows import windows


def inverses(
    equal: Sequence[Expression],
    bound: Sequence[str],
    rows: Collection[str],
    reduced: Collection[str],
    declared: Mapping[str, Expression],
    part_of: Parts,
    alike: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Inverse, ...]:
    """Of equations ``index == axis`` those with an inverse along ranks of ``bound`` that no other equation names; the last such rank is taken.

    ``rows``: ranks of the left side; ``reduced``: ranks that reductions of the program are over; ``declared``: extents by rank that the program gives; ``alike``: by axis the rank that has its coordinates.
    """
    found: list[Inverse] = []
    for condition in equal:
        free = [r for r in bound if r not in ranks_of(*(c for c in equal if c is not condition))]
        if isinstance(condition, Comparison):
            pair = windows(condition, free, rows, reduced, declared, part_of)
            one = None if pair else _inverse(condition, free, part_of, alike)
            one = one or (None if pair else _remainder(condition, equal, bound, part_of))
            found += pair or ([one] if one else [])
    return tuple(found)


def _remainder(
    condition: Comparison, equal: Sequence[Expression], bound: Sequence[str], part_of: Parts
) -> Inverse | None:
    """``n % c == t`` where other equations have ``n`` as ``n // c`` only: n is ``c * r + t``, and ``n // c`` is r."""
    index, axis = condition.operands
    match index:
        case Binary(operator="%", left=Rank(name=name) as rank, right=Constant() | Extent() as divisor) if (
            name in bound
        ):
            quotient = Binary("//", rank, divisor)
            others = [_without(c, quotient) for c in equal if c is not condition]
            if name in ranks_of(*others) or not isinstance(axis, Rank):
                return None
            if isinstance(divisor, Constant) and not (isinstance(divisor.value, int) and divisor.value > 0):
                return None
            part = part_of(name, Call("ceil", (Binary("/", Extent(name), divisor),)))
            place = Binary("+", Binary("*", divisor, Rank(part)), axis)
            exists = None if divisor == Extent(axis.name) else Comparison(("<",), (axis, divisor))
            return Inverse(condition, name, place, part, exists=exists, quotient=quotient)
    return None


def _without(node: Expression, part: Expression) -> Expression:
    return transform(node, lambda n: Constant(0) if n == part else n)


def _inverse(condition: Comparison, free: Sequence[str], part_of: Parts, alike: Mapping[str, str]) -> Inverse | None:
    index, axis = condition.operands
    match index:
        case Binary(operator="//", left=Rank(name=name), right=divisor) if name in free and not ranks_of(divisor):
            part = part_of(name, divisor)
            return Inverse(condition, name, Binary("+", Binary("*", axis, divisor), Rank(part)), part)
    return next(_affine(condition, index, axis, free, alike), None)


def _affine(
    condition: Comparison, index: Expression, axis: Expression, free: Sequence[str], alike: Mapping[str, str]
) -> Iterator[Inverse]:
    """Along a rank whose coefficient is one: that with the coordinates of the axis itself, for what is added to them are offsets, of which there are few; or the
    last one, for coordinates of the last rank of a left side lie side by side in memory. Where no coefficient is one, along a rank with another, at the
    places where what is left is a multiple of it."""
    form = reopened(index)
    own = alike.get(axis.name) if isinstance(axis, Rank) else None
    coefficients = {t.name: c for t, c in form.terms if isinstance(t, Rank) and t.name in free}
    order = [r for r in reversed(free) if r in coefficients]
    for name in sorted(order, key=lambda r: (abs(coefficients[r]) != 1, r != own)):
        coefficient = coefficients[name]
        rest = form - term(Rank(name)) * coefficient
        if name in ranks_of(rest.expression()):
            continue
        size = Constant(abs(coefficient))
        place = ((reopened(axis) - rest) * (1 if coefficient > 0 else -1)).expression()
        if size != Constant(1):
            whole = Comparison(("==",), (Binary("%", place, size), Constant(0)))
            yield Inverse(condition, name, Binary("//", place, size), exists=whole)
        else:
            # A bare rank would say that both extents are one.
            yield Inverse(condition, name, Binary("+", place, Constant(0)) if isinstance(place, Rank) else place)
