"""Extents and parameters as SymPy symbols, and constants: what formulas are written in."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from fractions import Fraction
from math import floor, log10
from typing import Any

import sympy

from einsum_compiler.ir.errors import SpecError
from einsum_compiler.ir.expression import Binary, Call, Cast, Constant, Expression, Extent, Parameter, Unary
from einsum_compiler.ir.scalar import evaluate_scalar

Symbolic = Any


@functools.cache
def symbol(name: str) -> Symbolic:
    """A positive integer: an extent (``M`` of the rank ``m``), a parameter, or the capacity."""
    return sympy.Symbol(name, integer=True, positive=True)


CAPACITY = symbol("S")


def extent(rank: str) -> Symbolic:
    """The extent of a rank; a rank named ``s`` is ``S_s``, since ``S`` is the capacity."""
    upper = rank.upper().replace(".", "_")
    return symbol("S_s" if upper == "S" else upper)


def number(node: Expression, names: Mapping[str, Any]) -> Symbolic:
    """An integer expression over extents and parameters as a formula; divisions that come out even are quotients.

    Raises ``SpecError`` for what has no integer value.
    """
    value = evaluate_scalar(node, names)
    if isinstance(value, bool) or value != int(value):
        raise SpecError("no integer", node.span)
    match node:
        case Extent(rank=rank):
            return extent(rank)
        case Parameter(name=name):
            return symbol(name) if value > 0 and name != "S" else sympy.Integer(int(value))
        case Unary(operator="-", operand=operand):
            return -number(operand, names)
        case Binary(operator="+" | "-" | "*" as operator, left=left, right=right):
            a, b = number(left, names), number(right, names)
            return a + b if operator == "+" else a - b if operator == "-" else a * b
        case Binary(operator="//", left=left, right=right):
            if evaluate_scalar(left, names) % evaluate_scalar(right, names) == 0:
                return number(left, names) / number(right, names)
        case Cast(operand=operand):
            return number(operand, names)
        case Call(function="max" | "min", arguments=arguments):  # the argument that decides at these sizes
            return next(number(a, names) for a in arguments if evaluate_scalar(a, names) == value)
        case Constant():
            pass
    return sympy.Integer(int(value))


def at(formula: Symbolic, values: Mapping[str, float]) -> float:
    """The value of a formula with symbols replaced by name."""
    return float(formula.subs({s: values[s.name] for s in formula.free_symbols}))


def rational(x: Fraction) -> Symbolic:
    return sympy.Rational(x.numerator, x.denominator)


def plain_number(value: float) -> Symbolic:
    """A constant as a formula shows it: six digits, rounded down, so that a formula never says more than its bound."""
    scale = 10 ** (5 - floor(log10(value)))
    return sympy.Float(floor(value * scale) / scale, 6)


def exact_or_rounded(value: float) -> Symbolic:
    """The integer that a constant is but for rounding, else six digits of it."""
    return sympy.Integer(round(value)) if abs(value - round(value)) < 1e-9 * value else plain_number(value)
