"""What an expression becomes where a filter removed the point, if its operands are filled with known values.

Law: a fill moves back through a map if the map sends it to the identity of the reduction for all finite other operands. So
scores filled with -inf make weights of 0 and no second select is needed; ``0 * v`` needs v finite.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from einsum_compiler.ir.expression import (
    Binary,
    Call,
    Cast,
    Comparison,
    Conditional,
    Constant,
    Expression,
    Extent,
    Parameter,
    Rank,
    Read,
    Unary,
    walk,
)

FINITE = "finite"
Filled = float | str | None  # a known value, FINITE (some finite number), or None (anything)

_AT_MINUS_INFINITY = {"exp": 0.0, "exp2": 0.0, "sigmoid": 0.0, "relu": 0.0, "softplus": 0.0, "tanh": -1.0, "erf": -1.0}
_AT_ZERO = {"exp": 1.0, "exp2": 1.0, "relu": 0.0, "tanh": 0.0, "erf": 0.0, "sin": 0.0, "abs": 0.0, "sqrt": 0.0, "silu": 0.0,
            "gelu": 0.0, "sign": 0.0, "floor": 0.0, "ceil": 0.0, "round": 0.0, "sigmoid": 0.5, "cos": 1.0}  # fmt: skip
# Functions that give a finite number for every finite argument (exp may overflow; its argument is then not a filled point).
_FINITE_FOR_FINITE = frozenset(
    (
        "exp",
        "exp2",
        "tanh",
        "sigmoid",
        "erf",
        "relu",
        "abs",
        "sin",
        "cos",
        "softplus",
        "silu",
        "gelu",
        "floor",
        "ceil",
        "round",
        "sign",
    )
)

_FINITE_WHEREVER = _FINITE_FOR_FINITE - {"exp", "exp2"} | {"max", "min", "clamp"}


def stays_finite(node: Expression, finite: Callable[[str], bool], steady: Callable[[Expression], bool]) -> bool:
    """Whether ``node`` is finite at removed points too, ``finite`` telling this of tiles.

    There a divisor may be 0, a logarithm's argument too, and an exponent is bounded by nothing. A ``steady`` expression has one value
    for points removed and not, so it is as finite as the result.
    """
    if steady(node):
        return True

    def inner(part: Expression) -> bool:
        return stays_finite(part, finite, steady)

    match node:
        case Constant() | Parameter() | Extent() | Rank() | Comparison():
            return True
        case Read(tensor=tensor):
            return finite(tensor)
        case Cast(operand=operand) | Unary(operand=operand):
            return inner(operand)
        case Binary(operator="+" | "-" | "*", left=left, right=right):
            return inner(left) and inner(right)
        case Binary(operator="/", left=left, right=right):
            return inner(left) and (steady(right) or (isinstance(right, Constant) and right.value != 0))
        case Binary(operator="**", left=left, right=Constant(value=exponent)):
            return exponent >= 0 and float(exponent).is_integer() and inner(left)
        case Call(function=function, arguments=arguments):
            return function in _FINITE_WHEREVER and all(map(inner, arguments))
        case Conditional(then=then, otherwise=otherwise):
            return inner(then) and inner(otherwise)
        case _:
            return False


def filled_value(
    node: Expression, operand: Callable[[str], Filled], varies: Callable[[str], bool] = lambda rank: False
) -> Filled:
    """The value of ``node`` at a removed point, ``operand`` telling what each tile holds there.

    ``varies`` tells of a coordinate whether removed points have others than those that are left. A power of such a one is bounded by nothing
    there: ``exp(n - m)`` where ``n <= m``.
    """

    def inner(part: Expression) -> Filled:
        return filled_value(part, operand, varies)

    match node:
        case Constant(value=value):
            return float(value)
        case Read(tensor=tensor):
            return operand(tensor)
        case Parameter() | Extent() | Rank():
            return FINITE
        case Cast(operand=value):
            return inner(value)
        case Unary(operator="-", operand=value):
            negated = inner(value)
            return -negated if isinstance(negated, float) else negated
        case Binary(operator=op, left=left, right=right):
            return _binary(op, inner(left), inner(right))
        case Call(function=function, arguments=arguments):
            found = _call(function, [inner(a) for a in arguments])
            unbounded = found == FINITE and function in ("exp", "exp2")
            return None if unbounded and any(isinstance(n, Rank) and varies(n.name) for n in walk(node)) else found
        case Conditional(
            condition=Comparison(operators=("==",), operands=(left, right)), then=then, otherwise=otherwise
        ) if (equal := _equal(inner(left), inner(right))) is not None:
            return inner(then if equal else otherwise)
        case Conditional(then=then, otherwise=otherwise):
            a, b = inner(then), inner(otherwise)
            if a is None or b is None:
                return None
            return a if a == b else (FINITE if is_finite(a) and is_finite(b) else None)
        case _:
            return None


def _equal(left: Filled, right: Filled) -> bool | None:
    """Whether two values are equal, where that is known."""
    if isinstance(left, float) and isinstance(right, float):
        return left == right
    unequal = (left, right) in ((FINITE, math.inf), (FINITE, -math.inf), (math.inf, FINITE), (-math.inf, FINITE))
    return False if unequal else None


def is_finite(value: Filled) -> bool:
    """Whether a value is certainly finite."""
    return value == FINITE or (isinstance(value, float) and math.isfinite(value))


def _binary(op: str, left: Filled, right: Filled) -> Filled:
    if left is None or right is None:
        return None
    if isinstance(left, float) and isinstance(right, float):
        numbers: dict[str, float] = {"+": left + right, "-": left - right, "*": left * right}
        return None if op not in numbers or math.isnan(numbers[op]) else numbers[op]
    if op in ("+", "-"):
        if isinstance(left, float) and math.isinf(left):
            return left
        if isinstance(right, float) and math.isinf(right):
            return right if op == "+" else -right
        return FINITE
    if op == "*":
        if 0.0 in (left, right) and is_finite(left) and is_finite(right):
            return 0.0
        return FINITE if is_finite(left) and is_finite(right) else None
    if op == "/" and isinstance(right, float) and right not in (0.0, math.inf, -math.inf):
        return left / right if isinstance(left, float) else left
    return None  # a divisor that may be 0


def _call(function: str, values: list[Filled]) -> Filled:
    if any(v is None for v in values):
        return None
    if function in ("max", "min"):
        absorbing = math.inf if function == "max" else -math.inf
        if absorbing in values:
            return absorbing
        if all(isinstance(v, float) for v in values):
            return (
                max(v for v in values if isinstance(v, float))
                if function == "max"
                else min(v for v in values if isinstance(v, float))
            )
        return FINITE
    (value, *_) = values
    if len(values) == 1 and value == -math.inf:
        return _AT_MINUS_INFINITY.get(function)
    if len(values) == 1 and value == 0.0:
        return _AT_ZERO.get(function)
    return FINITE if function in _FINITE_FOR_FINITE and all(map(is_finite, values)) else None
