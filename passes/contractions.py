"""The shape of a contraction: a sum of a product of two reads, everything else computed before or after it.

Matrix units and tile products take two operands. Whatever else multiplies inside the sum leaves it (if it lacks the reduced
ranks) or is computed beforehand in an equation of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from einsum_compiler.ir.build import multiply, ranks_of
from einsum_compiler.ir.cascade import Equation, Target
from einsum_compiler.ir.expression import Call, Constant, Expression, Extent, Parameter, Rank, Read, Reduction, walk
from einsum_compiler.passes.domains import Domains
from einsum_compiler.passes.products import Factor, factors, product
from einsum_compiler.passes.scope import free_ranks

Namer = Callable[[str], str]


def without_invariants(reduction: Reduction, domains: Domains) -> tuple[Reduction, tuple[Factor, ...]]:
    """A sum without the factors that lack its ranks, and those factors.

    ``sum[e](x[e] * c)`` is ``sum[e](x[e]) * c``. The factor must exist everywhere, because a sum over empty points is 0 where a product
    with an empty factor is empty; and where the fibre may be empty, the factor divides or is computed, it must be finite, or it would turn
    a 0 into NaN: ``rsqrt(sum / K)`` is infinite where K is 0 (``defer`` has the guarded form of this law).
    """
    if reduction.operator != "sum":
        return reduction, ()
    parts = factors(reduction.body)
    leaving = [p for p in parts if not set(free_ranks(p.value)) & set(reduction.ranks) and domains.of(p.value) == ()]
    leaving = [p for p in leaving if p.value != Constant(1)]  # the 1 of 1 / X stays: without it X has nothing to divide
    if len(leaving) == len(parts) or not leaving:
        return reduction, ()
    total = reduction.where is None and domains.of(reduction.body) == ()
    leaving = [p for p in leaving if _finite(p) or (total and not p.inverse and not _is_computed(p, domains))]
    if not leaving:
        return reduction, ()
    staying = [p for p in parts if p not in leaving]
    return replace(reduction, body=product(staying)), tuple(leaving)


def _is_computed(factor: Factor, domains: Domains) -> bool:
    return any(isinstance(n, Read) and domains.is_computed(n.tensor) for n in walk(factor.value))


def _finite(factor: Factor) -> bool:
    """Whether the factor is a number that the text or the caller gives: a literal, an extent, a parameter or their product."""
    return all(
        isinstance(n, (Constant, Parameter, Extent, Call)) or not isinstance(n, (Read, Rank))
        for n in walk(factor.value)
    )


def paired(equation: Equation, name: Namer, domains: Domains) -> tuple[Equation, ...]:
    """The equation of a contraction with two reads as operands, after the maps that compute them.

    A factor whose ranks another factor has too is multiplied into that one. Bodies that are no contraction (one factor, or all
    factors over the same ranks) stay as they are.
    """
    reduction = equation.value
    if not isinstance(reduction, Reduction) or reduction.operator != "sum":
        return (equation,)
    groups = _grouped(factors(reduction.body), computed=lambda read: domains.is_computed(read.tensor))
    if len(groups) < 2:
        return (equation,)
    made: list[Equation] = []
    operands: list[Expression] = []
    for group in groups:
        value = product(group)
        if not isinstance(value, Read) and set(free_ranks(value)) & set(reduction.ranks):
            ranks = _layout(value, (*equation.target.ranks, *reduction.ranks), set(reduction.ranks))
            target = Target(name(f"{equation.target.tensor}.factor"), tuple(Rank(r) for r in ranks))
            made.append(Equation((target,), value))
            value = Read(target.tensor, target.indices)
        operands.append(value)
    body = operands[0]
    for operand in operands[1:]:
        body = multiply(body, operand)
    return (*made, replace(equation, value=replace(reduction, body=body)))


def _layout(value: Expression, order: tuple[str, ...], reduced: set[str]) -> tuple[str, ...]:
    """The ranks of a map in the order in which its read of most ranks has them, so that it is computed along what lies side by side; others before, in the given order.

    Of ranks in one index (``X[h,n - i]``) those of the result come last: sums over a few neighbours are vectors of results.
    """
    widest = max(
        (n for n in walk(value) if isinstance(n, Read)), key=lambda n: len(set(ranks_of(*n.indices))), default=None
    )
    found: dict[str, None] = {}
    for index in widest.indices if widest else ():
        found.update(dict.fromkeys(sorted(ranks_of(index), key=lambda r: r not in reduced)))
    ranks = set(free_ranks(value))
    others = sorted(ranks - set(found), key=order.index)
    return (*others, *(r for r in found if r in ranks))


def _grouped(parts: tuple[Factor, ...], computed: Callable[[Read], bool]) -> list[list[Factor]]:
    groups: list[list[Factor]] = []

    # The factor with the most ranks comes first, computed ones before inputs: it takes in what fits, on chip.
    def weight(factor: Factor) -> tuple[int, int]:
        value = factor.value
        return (-len(set(free_ranks(value))), 0 if not isinstance(value, Read) or computed(value) else 1)

    for part in sorted(parts, key=weight):
        ranks = set(free_ranks(part.value))
        host = next((g for g in groups if ranks <= set(free_ranks(*(f.value for f in g)))), None)
        if host is None:
            groups.append([part])
        else:
            host.append(part)
    order = {id(p): i for i, p in enumerate(parts)}
    for group in groups:
        group.sort(key=lambda p: order[id(p)])
    return sorted(groups, key=lambda g: order[id(g[0])])
