"""Expressions over numbers, evaluated in Python: defaults of parameters, extents, bounds of loops."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

from einsum_compiler.ir.errors import SpecError
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
    Unary,
)
from einsum_compiler.ir.types import is_float, is_integer

Number = bool | int | float

COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def _divide(a: Number, b: Number) -> Number:
    """``/`` is real and follows IEEE: a division by zero gives an infinity or NaN."""
    if b == 0:
        if a == 0 or math.isnan(a):
            return math.nan
        return math.copysign(math.inf, a) * math.copysign(1.0, b)
    return a / b


ARITHMETIC: dict[str, Callable[[Any, Any], Number]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": _divide,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "**": lambda a, b: a**b,
    "^": lambda a, b: a ^ b,
    "&": lambda a, b: a & b,
    "|": lambda a, b: a | b,
    "<<": lambda a, b: a << b,
    ">>": lambda a, b: a >> b,
}


def _integer(function: Callable[[float], int]) -> Callable[[Number], Number]:
    """``floor``, ``ceil``, ``round``: an integer, as Python has it; infinities stay what they are."""
    return lambda x: x if isinstance(x, float) and not math.isfinite(x) else function(x)


def _guarded(function: Callable[[float], float], otherwise: Callable[[float], float]) -> Callable[[Number], Number]:
    """A function of ``math`` with IEEE results where Python raises."""

    def apply(x: Number) -> Number:
        try:
            return function(x)
        except (ValueError, OverflowError):
            return otherwise(x)

    return apply


def _sigmoid(x: Number) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _softplus(x: Number) -> float:
    return max(x, 0) + math.log1p(math.exp(-abs(x)))


def _log(x: Number) -> float:
    return -math.inf if x == 0 else math.log(x)


FUNCTIONS: dict[str, Callable[..., Number]] = {
    "exp": _guarded(math.exp, lambda _: math.inf),
    "exp2": _guarded(math.exp2, lambda _: math.inf),
    "log": _guarded(_log, lambda _: math.nan),
    "sqrt": _guarded(math.sqrt, lambda _: math.nan),
    "rsqrt": _guarded(lambda x: _divide(1.0, math.sqrt(x)), lambda _: math.nan),
    "tanh": math.tanh,
    "sigmoid": _sigmoid,
    "silu": lambda x: x * _sigmoid(x),
    "gelu": lambda x: 0.5 * x * (1 + math.erf(x / math.sqrt(2))),
    "erf": math.erf,
    "softplus": _softplus,
    "sin": _guarded(math.sin, lambda _: math.nan),
    "cos": _guarded(math.cos, lambda _: math.nan),
    "relu": lambda x: max(x, 0),
    "abs": abs,
    "sign": lambda x: (x > 0) - (x < 0),
    "floor": _integer(math.floor),
    "ceil": _integer(math.ceil),
    "round": _integer(round),
    "max": max,
    "min": min,
    "clamp": lambda x, low, high: min(max(x, low), high),
    "default": lambda x, _: x,
    "stop_gradient": lambda x: x,
}


def evaluate_scalar(expression: Expression, names: Mapping[str, Any]) -> Number:
    """The value of an expression over parameters, extents (by the name ``N``), ranks and constants.

    ``//`` and ``%`` floor, ``/`` is real. Raises ``SpecError`` for a name without a value, a division of integers by
    zero, and for what is no number (a read, a reduction).
    """
    evaluate = functools.partial(evaluate_scalar, names=names)
    match expression:
        case Constant(value):
            return value
        case Parameter(name) | Rank(name):
            return _value(name, names, expression)
        case Extent(rank):
            return _value(rank.upper(), names, expression)
        case Unary("-", operand):
            return -evaluate(operand)
        case Unary("not", operand):
            return not evaluate(operand)
        case Binary("and", left, right):
            return bool(evaluate(left)) and bool(evaluate(right))
        case Binary("or", left, right):
            return bool(evaluate(left)) or bool(evaluate(right))
        case Binary(operator, left, right):
            try:
                return ARITHMETIC[operator](evaluate(left), evaluate(right))
            except (ZeroDivisionError, OverflowError, TypeError, ValueError) as error:
                raise SpecError(f"cannot compute this: {error}", expression.span) from None
        case Comparison(operators, operands):
            values = [evaluate(o) for o in operands]
            return all(COMPARE[o](a, b) for o, a, b in zip(operators, values, values[1:], strict=False))
        case Conditional(condition, then, otherwise):
            return evaluate(then) if evaluate(condition) else evaluate(otherwise)
        case Cast(operand, dtype):
            value = evaluate(operand)
            return float(value) if is_float(dtype) else int(value) if is_integer(dtype) else bool(value)
        case Call(function, arguments) if function in FUNCTIONS:
            return FUNCTIONS[function](*map(evaluate, arguments))
    raise SpecError("expected an expression over numbers only: parameters, extents, constants", expression.span)


def _value(name: str, names: Mapping[str, Any], node: Expression) -> Number:
    if name not in names:
        raise SpecError(f"{name!r} has no value here", node.span)
    value = names[name]
    item = getattr(value, "item", None)
    number: Number = item() if item is not None else value
    return number
