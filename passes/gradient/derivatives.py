"""Partial derivatives of scalar expressions, by the chain rule, in forms that neither overflow nor cancel.

Every rule may use the value of the function itself (``tanh' = 1 - tanh^2``); where the expression is a whole right side, that value is a tensor which
exists, and nothing is computed twice. At kinks the derivative is PyTorch's: 0 for ``relu`` and ``abs`` at 0, shared evenly by equal operands of ``max``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from einsum_compiler.ir.build import conjunction
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.expression import (
    Binary,
    Call,
    Cast,
    Comparison,
    Conditional,
    Constant,
    Expression,
    Parameter,
    Read,
    Unary,
    walk,
)
from einsum_compiler.ir.types import is_integer
from einsum_compiler.passes.domains import Domains

ZERO, ONE = Constant(0), Constant(1)

# f'(x) from x and v = f(x). Functions that are constant almost everywhere have none.
_UNARY: dict[str, Callable[[Expression, Expression], Expression]] = {
    "exp": lambda x, v: v,
    "exp2": lambda x, v: _times(v, Constant(math.log(2))),
    "log": lambda x, v: Binary("/", ONE, x),
    "sqrt": lambda x, v: Binary("/", Constant(0.5), v),
    "rsqrt": lambda x, v: Binary("/", _times(Constant(-0.5), v), x),
    "tanh": lambda x, v: Binary("-", ONE, Binary("*", v, v)),
    "sigmoid": lambda x, v: Binary("*", v, Binary("-", ONE, v)),
    "silu": lambda x, v: Binary("+", _sigmoid(x), Binary("*", v, Binary("-", ONE, _sigmoid(x)))),
    "softplus": lambda x, v: _sigmoid(x),
    "erf": lambda x, v: _times(Constant(2 / math.sqrt(math.pi)), _bell(x, 1.0)),
    # Phi(x) + x phi(x) of the normal distribution.
    "gelu": lambda x, v: Binary(
        "+",
        _times(Constant(0.5), Binary("+", ONE, Call("erf", (_times(x, Constant(math.sqrt(0.5))),)))),
        Binary("*", _times(x, Constant(1 / math.sqrt(2 * math.pi))), _bell(x, 0.5)),
    ),
    "sin": lambda x, v: Call("cos", (x,)),
    "cos": lambda x, v: Unary("-", Call("sin", (x,))),
    "relu": lambda x, v: _indicator(Comparison((">",), (x, ZERO))),
    "abs": lambda x, v: Call("sign", (x,)),
}
_FLAT = ("sign", "floor", "ceil", "round", "stop_gradient", "uniform")


class Derivatives:
    """Partial derivatives of right sides; ``domains`` says where operands of ``default`` exist."""

    def __init__(self, domains: Domains) -> None:
        self._domains = domains

    def partial(self, node: Expression, variable: Expression, value: Expression | None = None) -> Expression | None:
        """The derivative along a read or a parameter, which counts as one variable; None where it is 0.

        ``value``: an expression equal to ``node`` that exists already. Raises ``PlanError`` where no derivative is known.
        """
        if node == variable:
            return ONE
        if not _depends(node, variable):
            return None
        value = node if value is None else value
        match node:
            case Unary(operator="-", operand=operand):
                return _negated(self.partial(operand, variable))
            case Binary():
                return self._binary(node, variable, value)
            case Conditional(condition=condition, then=then, otherwise=otherwise):
                parts = [self.partial(p, variable) or ZERO for p in (then, otherwise)]
                return None if parts == [ZERO, ZERO] else Conditional(condition, *parts)
            case Cast(dtype=dtype) if is_integer(dtype) or dtype == "bool":
                return None  # constant almost everywhere
            case Cast(operand=operand):
                return self.partial(operand, variable)  # a rounding moves a value by less than it is known
            case Call():
                return self._call(node, variable, value)
            case Comparison() | Read():
                return None  # an index is a whole number: constant almost everywhere
        raise PlanError(f"no derivative is known of {type(node).__name__.lower()}", node.span)

    def _binary(self, node: Binary, variable: Expression, value: Expression) -> Expression | None:
        left, right = self.partial(node.left, variable), self.partial(node.right, variable)
        match node.operator:
            case "+":
                return _sum(left, right)
            case "-":
                return _sum(left, _negated(right))
            case "*":
                return _sum(_product(left, node.right), _product(right, node.left))
            case "/":
                upper = None if left is None else _over(left, node.right)
                lower = None if right is None else _negated(_product(right, _over(value, node.right)))
                return _sum(upper, lower)
            case "**":
                return _sum(_product(left, _power_slope(node)), _product(right, _power_growth(node, value)))
        if left is None and right is None:
            return None
        raise PlanError(
            f"no derivative is known of '{node.operator}', which is for integers and truth values", node.span
        )

    def _call(self, node: Call, variable: Expression, value: Expression) -> Expression | None:
        name, arguments = node.function, node.arguments
        if name in _FLAT:
            return None
        if name in _UNARY:
            return _product(self.partial(arguments[0], variable), _UNARY[name](arguments[0], value))
        weights = self._weights(node, value)
        total: Expression | None = None
        for argument, weight in zip(arguments, weights, strict=True):
            total = _sum(total, _product(self.partial(argument, variable), weight))
        return total

    def _weights(self, node: Call, value: Expression) -> list[Expression]:
        """The derivative along each argument of a function that picks one of them."""
        arguments = node.arguments
        if node.function in ("max", "min"):
            chosen = [_indicator(Comparison(("==",), (a, value))) for a in arguments]
            ties: Expression = chosen[0]
            for other in chosen[1:]:
                ties = Binary("+", ties, other)
            return [Binary("/", one, ties) for one in chosen]
        if node.function == "clamp":
            x, low, high = arguments
            below, above = Comparison(("<",), (x, low)), Comparison((">",), (x, high))
            inside = _indicator(Comparison(("<=", "<="), (low, x, high)))
            return [inside, _indicator(below), _indicator(above)]
        if node.function == "default":
            conditions = self._domains.of(arguments[0])
            if conditions is None:
                raise PlanError("no derivative: no predicate says where the first operand of default exists", node.span)
            exists = conjunction(conditions)
            if exists is None:
                return [ONE, ZERO]
            return [_indicator(exists), Conditional(exists, ZERO, ONE)]
        raise PlanError(f"no derivative is known of '{node.function}'", node.span)


def _power_slope(node: Binary) -> Expression:
    """d(x^p)/dx = p x^(p-1)."""
    exponent = node.right
    if exponent == Constant(2):
        return _times(Constant(2), node.left)
    if isinstance(exponent, Constant):
        return _times(exponent, Binary("**", node.left, Constant(exponent.value - 1)))
    return _times(exponent, Binary("**", node.left, Binary("-", exponent, ONE)))


def _power_growth(node: Binary, value: Expression) -> Expression:
    """d(x^p)/dp = x^p log x, and 0 where x is 0."""
    return Conditional(Comparison(("==",), (node.left, ZERO)), ZERO, Binary("*", value, Call("log", (node.left,))))


def _depends(node: Expression, variable: Expression) -> bool:
    return any(n == variable for n in walk(node) if isinstance(n, (Read, Parameter)))


def _indicator(condition: Expression) -> Expression:
    return Conditional(condition, ONE, ZERO)


def _sigmoid(x: Expression) -> Expression:
    return Call("sigmoid", (x,))


def _bell(x: Expression, rate: float) -> Expression:
    """``exp(-rate x^2)``."""
    return Call("exp", (_times(Constant(-rate), Binary("*", x, x)),))


def _times(left: Expression, right: Expression) -> Expression:
    if left == ONE:
        return right
    return left if right == ONE else Binary("*", left, right)


def _over(left: Expression, right: Expression) -> Expression:
    return Binary("/", left, right)


def _product(left: Expression | None, right: Expression) -> Expression | None:
    if left is None or right == ZERO:
        return None
    if isinstance(left, Unary):
        return Unary("-", _times(left.operand, right))
    return Unary("-", _times(left, right.operand)) if isinstance(right, Unary) else _times(left, right)


def _negated(node: Expression | None) -> Expression | None:
    if node is None:
        return None
    return node.operand if isinstance(node, Unary) and node.operator == "-" else Unary("-", node)


def _sum(left: Expression | None, right: Expression | None) -> Expression | None:
    if left is None or right is None:
        return left if right is None else right
    if isinstance(right, Unary) and right.operator == "-":
        return Binary("-", left, right.operand)
    return Binary("+", left, right)


def scaled(gradient: Expression, slope: Expression) -> Expression:
    """``gradient * slope``, as a person would write it."""
    if slope == ONE:
        return gradient
    if slope == Constant(-1):
        return Unary("-", gradient)
    if isinstance(slope, Unary) and slope.operator == "-":
        return Unary("-", scaled(gradient, slope.operand))
    if isinstance(slope, Binary) and slope.operator == "/" and slope.left == ONE:
        return Binary("/", gradient, slope.right)
    return Binary("*", gradient, slope)
