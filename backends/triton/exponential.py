"""exp as exp2 with log2(e) folded into what stands in the exponent: the hardware has exp2 only.

Law: ``exp(x) == exp2(x * log2(e))``, and the factor distributes over sums and joins the constants of products.
``exp(s - m)`` with a block ``s`` and a vector ``m`` becomes ``exp2(s * L - m * L)``: one fused multiply-add per element.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from einsum_compiler.ir.expression import Binary, Call, Constant, Expression, Unary

LOG2_E = math.log2(math.e)


def exponent_of_two(x: Expression, axes: Callable[[Expression], int]) -> Expression:
    """``x * log2(e)`` with the factor where it costs least; ``axes`` says how many dimensions an expression has."""

    def is_number(node: Expression) -> bool:
        return isinstance(node, Constant) and not isinstance(node.value, bool)

    def scaled(node: Expression) -> Expression:
        match node:
            case Constant(value=value) if not math.isinf(value):
                return Constant(float(value) * LOG2_E)
            case Unary(operator="-", operand=operand):
                return Unary("-", scaled(operand))
            case Binary(operator="+" | "-" as op, left=left, right=right) if axes(left) != axes(right):
                return Binary(op, scaled(left), scaled(right))
            case Binary(operator="*", left=left, right=right) if is_number(left) or is_number(right):
                return Binary("*", scaled(left), right) if is_number(left) else Binary("*", left, scaled(right))
            case Binary(operator="*", left=left, right=right) if axes(left) != axes(right):
                if axes(left) < axes(right):
                    return Binary("*", right, scaled(left))
                return Binary("*", left, scaled(right))
        return Binary("*", node, Constant(LOG2_E))

    return scaled(x)


def exp_calls_as_exp2(node: Call, axes: Callable[[Expression], int]) -> Call:
    """``exp(x)`` as ``exp2``."""
    return Call("exp2", (exponent_of_two(node.arguments[0], axes),))
