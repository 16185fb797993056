"""Sums of products as one ``torch.einsum``, which never forms the product."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import torch

from einsum_compiler.backends.reference.functions import reals
from einsum_compiler.backends.reference.named import Named, union
from einsum_compiler.backends.reference.scope import Scope
from einsum_compiler.backends.reference.values import Value, chosen, strict
from einsum_compiler.ir.expression import Binary, Constant, Expression, Reduction, Unary


def contract(node: Reduction, scope: Scope, kept: Named | None) -> Named | None:
    """The sum over ``node.ranks`` of the product ``node.body``, taken where ``kept`` (None: everywhere).

    An empty factor becomes 0, which removes the point, but only if no other factor is infinite or NaN there. If one is
    (anywhere), the answer is None, and the caller forms the product point by point.
    """
    factors = _with_filter([_factor(e, inverse, scope) for inverse, e in _factors(node.body)], kept)
    if len(factors) > 1:
        if any(f.data.is_floating_point() and not bool(f.data.isfinite().all()) for f in factors):
            return None
        if not any(f.data.is_floating_point() for f in factors) and scope.device.type != "cpu":
            return None  # integer products exist on the CPU only
        factors = [Named(f.ranks, d) for f, d in zip(factors, _one_type(factors), strict=True)]
    ranks = union(*factors)
    rest = tuple(r for r in ranks if r not in node.ranks)
    while len(factors) > 2:
        factors = _one_fewer(factors, rest, scope.extents)
    result = _einsum(factors, rest).data
    # A rank that no factor has counts its coordinates.
    times = math.prod(scope.extents[r] for r in node.ranks if r not in ranks)
    return Named(rest, result if times == 1 else result * times)


def _einsum(factors: Sequence[Named], rest: tuple[str, ...]) -> Named:
    letters = {rank: i for i, rank in enumerate(union(*factors))}
    operands = [x for f in factors for x in (f.data, [letters[r] for r in f.ranks])]
    return Named(rest, torch.einsum(*operands, [letters[r] for r in rest]))


def _one_fewer(factors: Sequence[Named], rest: tuple[str, ...], extents: Mapping[str, int]) -> list[Named]:
    """The two factors whose product is the smallest, joined: from left to right a product may be larger than any factor."""

    def kept(pair: tuple[int, int]) -> tuple[str, ...]:
        others = union(*(f for i, f in enumerate(factors) if i not in pair))
        return tuple(r for r in union(*(factors[i] for i in pair)) if r in others or r in rest)

    pairs = itertools.combinations(range(len(factors)), 2)
    best = min(pairs, key=lambda pair: math.prod(extents[r] for r in kept(pair)))
    joined = _einsum([factors[i] for i in best], kept(best))
    return [joined, *(f for i, f in enumerate(factors) if i not in best)]


def _factors(node: Expression) -> Iterator[tuple[bool, Expression]]:
    """The factors of a product or quotient; True for those below the line."""
    match node:
        case Binary(operator="*" | "/" as operator, left=left, right=right):
            yield from _factors(left)
            yield from ((inverse != (operator == "/"), factor) for inverse, factor in _factors(right))
        case Unary(operator="-", operand=operand):
            yield False, Constant(-1)
            yield from _factors(operand)
        case _:
            yield False, node


def _factor(node: Expression, inverse: bool, scope: Scope) -> Named:
    """A factor, 0 where it is empty. Integers are int64."""
    value = scope.value(node)
    if not value.data.data.is_floating_point():
        value = Value(Named(value.data.ranks, value.data.data.to(torch.int64)), value.present)
    if inverse:
        value = strict(lambda data: torch.reciprocal(*reals(data)).to(scope.real), (value,), scope.domain)
    return value.filled(0)


def _with_filter(factors: list[Named], kept: Named | None) -> list[Named]:
    """The filter laid on a factor that has all its ranks, else as a factor of its own."""
    if kept is None:
        return factors
    for i, factor in enumerate(factors):
        if set(kept.ranks) <= set(factor.ranks):
            return [*factors[:i], chosen(kept, factor, 0), *factors[i + 1 :]]
    return [*factors, Named(kept.ranks, kept.data.to(torch.int64))]


def _one_type(factors: list[Named]) -> list[torch.Tensor]:
    floating = next((f.data.dtype for f in factors if f.data.is_floating_point()), None)
    return [f.data if floating is None else f.data.to(floating) for f in factors]
