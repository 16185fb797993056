"""The derivative of a product along one factor: the product of the others, also where factors are 0.

    P = prod[n](x[n])    ->    Z = sum[n](if(x[n] == 0, 1, 0))
                               R = prod[n](if(x[n] == 0, 1, x[n]))
                               x[n].grad = if(Z == if(x[n] == 0, 1, 0), P.grad * R / if(x[n] == 0, 1, x[n]), 0)

Law: the product of the others is R divided by x[n] without its zero, where all zeros (none, or one) are x[n] itself; it is 0 where another is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from einsum_compiler.ir.cascade import Equation, Target
from einsum_compiler.ir.expression import Binary, Comparison, Conditional, Constant, Expression, Read, Reduction

ZERO, ONE = Constant(0), Constant(1)


@dataclass(frozen=True)
class OtherFactors:
    """``equations`` compute Z and R; ``share`` is what a factor's slope is multiplied by where ``alone`` holds."""

    equations: tuple[Equation, ...]
    share: Expression
    alone: Expression


def other_factors(equation: Equation, value: Reduction, gradient: Read, name: Callable[[str], str]) -> OtherFactors:
    """For a product ``value``, the right side of ``equation``."""
    target = equation.target
    is_zero = Comparison(("==",), (value.body, ZERO))
    zero, other = Conditional(is_zero, ONE, ZERO), Conditional(is_zero, ONE, value.body)
    zeros, rest = (
        Target(name(f"{target.tensor}.zeros"), target.indices),
        Target(name(f"{target.tensor}.rest"), target.indices),
    )
    equations = (
        Equation((zeros,), Reduction("sum", value.ranks, zero, value.where), equation.where),
        Equation((rest,), Reduction("prod", value.ranks, other, value.where), equation.where),
    )
    share = Binary("*", gradient, Binary("/", Read(rest.tensor, target.indices), other))
    return OtherFactors(equations, share, Comparison(("==",), (Read(zeros.tensor, target.indices), zero)))
