"""A map as a bounded part times factors that may be infinite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from einsum_compiler.ir.build import multiply
from einsum_compiler.ir.expression import Binary, Constant, Expression, Unary


@dataclass(frozen=True)
class Separated:
    """``bounded * product(factors) / product(divisors)``."""

    bounded: Expression
    factors: tuple[Expression, ...] = ()
    divisors: tuple[Expression, ...] = ()

    def applied(self, value: Expression) -> Expression:
        """A value with the factors and divisors."""
        for factor in self.factors:
            value = multiply(value, factor)
        for divisor in self.divisors:
            value = Binary("/", value, divisor)
        return value


def separated(
    node: Expression, bounded: Callable[[Expression], bool], movable: Callable[[Expression], bool]
) -> Separated | None:
    """A product as its ``bounded`` factors and the others, which must be ``movable``; None where some other is not, or nothing is bounded."""
    if bounded(node):
        return Separated(node)
    match node:
        case Unary(operator="-", operand=operand):
            inner = separated(operand, bounded, movable)
            return inner and Separated(Unary("-", inner.bounded), inner.factors, inner.divisors)
        case Binary(operator="/", left=left, right=right):
            inner = separated(left, bounded, movable)
            if inner is None:
                return None
            if bounded(Binary("/", Constant(1), right)):
                return Separated(Binary("/", inner.bounded, right), inner.factors, inner.divisors)
            return Separated(inner.bounded, inner.factors, (*inner.divisors, right)) if movable(right) else None
        case Binary(operator="*", left=left, right=right):
            one, two = (separated(side, bounded, movable) for side in (left, right))
            if one and two:
                whole = multiply(one.bounded, two.bounded)
                return Separated(whole, (*one.factors, *two.factors), (*one.divisors, *two.divisors))
            if one and movable(right):
                return Separated(one.bounded, (*one.factors, right), one.divisors)
            if two and movable(left):
                return Separated(two.bounded, (left, *two.factors), two.divisors)
    return None
