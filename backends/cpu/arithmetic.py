"""Operators, casts and functions as C++, for lanes and for single values."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

from einsum_compiler.backends.cpu.conditions import logical
from einsum_compiler.backends.cpu.coordinates import Bound, constant_bound
from einsum_compiler.backends.cpu.functions import FUNCTIONS
from einsum_compiler.backends.cpu.values import (
    LANE,
    REGISTER,
    Value,
    common,
    largest,
    literal,
    operand,
    scalar_type,
    to_type,
)
from einsum_compiler.backends.cpu.view import C_TYPES, c_type
from einsum_compiler.ir.errors import BackendError
from einsum_compiler.ir.expression import Expression
from einsum_compiler.ir.types import is_float

if TYPE_CHECKING:
    from einsum_compiler.backends.cpu.expressions import Expressions


def binary(printer: Expressions, operator: str, left_node: Expression, right_node: Expression) -> Value:
    """An operator between two numbers, or two truth values where it works on bits."""
    left, right = printer.number(left_node), printer.number(right_node)
    if operator in ("&", "|", "^") and printer.value(left_node).dtype == printer.value(right_node).dtype == "bool":
        a, b = printer.condition(left_node), printer.condition(right_node)
        if operator != "^":
            return logical(printer, operator, a, b)
        level, (a, b) = printer.combine(a, b)
        code = f"{operand(a, 'bool')} ^ {operand(b, 'bool')}" if level == LANE else f"{a.atom} != {b.atom}"
        return Value(code, "bool", level, simple=False)
    level, (left, right) = printer.combine(left, right)
    if operator == "/" and left.constant is not None and right.constant in (2, 4, 8):
        return literal(left.constant / right.constant, printer.real)  # exact: 1/2 as an exponent is a root
    dtype = printer.real if operator == "/" else common(left.dtype, right.dtype, printer.real)
    if dtype == "i32" or (dtype == "coord" and operator == "*" and left.constant is None and right.constant is None):
        dtype = "i64"  # 32 bits hold what was loaded and positions, not what is computed from them
    bound = None
    if dtype == "coord":
        bound = _bound(operator, left, right)
        # Without a bound it is no coordinate, and in lanes it is one only where the bound says so.
        dtype = "coord" if bound and (level < LANE or printer.names.coordinates.fit(bound)) else "i64"
    return replace(_operation(printer, operator, left, right, dtype, level), bound=bound)


def _bound(operator: str, left: Value, right: Value) -> Bound | None:
    """A bound on the result of an operator applied to coordinates."""
    a, b = left.bound, right.bound
    if a is None or b is None:
        return None
    match operator, left.constant, right.constant:
        case "+" | "-", _, _:
            return a + b
        case "*", int(factor), _:
            return b.times(factor)
        case "*", _, int(factor):
            return a.times(factor)
        case "//", _, int(divisor) if divisor:
            return a.times(Fraction(1, divisor)) + constant_bound(0 if left.nonnegative and divisor > 0 else 1)
        case "//", _, _:
            return a
        case "%", _, _:
            return b
        case "<<", _, int(places) if 0 <= places < 32:
            return a.times(2**places)
        case ">>", _, int(places) if 0 <= places < 32:
            return a
        case "&" | "|" | "^", _, _:
            return a + b + constant_bound(1)
    return None


def _operation(printer: Expressions, operator: str, left: Value, right: Value, dtype: str, level: int) -> Value:
    """The operator applied in a type, at a level."""
    positive = left.nonnegative and right.nonnegative and operator != "-"
    if operator in ("//", "%") and dtype not in ("f32", "f64"):
        return _integer_division(operator, left, right, dtype, level)
    if operator == "**":
        return _power(left, right, dtype, level, printer.real)
    if level < LANE:
        a, b = to_type(left, dtype), to_type(right, dtype)
        if operator in ("//", "%"):
            name = "floor_divide" if operator == "//" else "modulo"
            return Value(f"tile::{name}({a.code}, {b.code})", dtype, level)
        return Value(f"{a.atom} {operator} {b.atom}", dtype, level, simple=False, nonnegative=positive)
    a_code, b_code = operand(left, dtype), operand(right, dtype)
    if operator in ("//", "%"):
        name = "floor_divide" if operator == "//" else "modulo"
        return Value(f"tile::{name}({a_code}, {b_code})", dtype, LANE)
    return Value(f"{a_code} {operator} {b_code}", dtype, LANE, simple=False, nonnegative=positive)


def _integer_division(operator: str, left: Value, right: Value, dtype: str, level: int) -> Value:
    divisor = right.constant
    if divisor == 1 and operator == "//":
        return left
    positive = left.nonnegative and isinstance(divisor, int) and divisor > 0
    if isinstance(divisor, int) and divisor > 0 and divisor & (divisor - 1) == 0:
        # An arithmetic shift floors, and the low bits are the remainder, for negative numbers too.
        shift, mask = divisor.bit_length() - 1, divisor - 1
        code = f"{to_type(left, dtype).atom} {'>> ' + str(shift) if operator == '//' else '& ' + str(mask)}"
        return Value(code, dtype, level, simple=False, nonnegative=positive or operator == "%")
    if level < LANE and positive:
        plain = "/" if operator == "//" else "%"
        return Value(f"{left.atom} {plain} {right.atom}", dtype, level, simple=False, nonnegative=True)
    name = "floor_divide" if operator == "//" else "modulo"
    if level < LANE:
        code = f"tile::{name}<int64_t>({left.code}, {right.code})"
    else:
        code = f"tile::{name}({operand(left, dtype)}, {operand(right, dtype)})"
    return Value(code, dtype, level, nonnegative=positive)


def _power(base: Value, exponent: Value, dtype: str, level: int, real: str) -> Value:
    number = exponent.constant
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if isinstance(number, int) and (abs(number) <= 16 if base.is_float else 0 <= number <= 16):
        kind = real if base.is_float else "i64"
        code = operand(base, kind) if level == LANE else to_type(base, kind).code
        return Value(f"tile::power<{number}>({code})", kind, level)
    if isinstance(number, float) and abs(number) <= 4 and (2 * number).is_integer() and dtype in ("f32", "f64"):
        code = operand(base, dtype) if level == LANE else to_type(base, dtype).code
        return Value(f"tile::half_power<{int(2 * number)}>({code})", dtype, level)
    if dtype not in ("f32", "f64"):
        pair = [operand(v, "i64") if level == LANE else to_type(v, "i64").code for v in (base, exponent)]
        return Value(f"tile::integer_power({', '.join(pair)})", "i64", level)
    if level < LANE:
        return Value(f"tile::pow({to_type(base, dtype).code}, {to_type(exponent, dtype).code})", dtype, level)
    return Value(f"tile::pow({operand(base, dtype)}, {operand(exponent, dtype)})", dtype, LANE)


def cast(value: Value, dtype: str, real: str) -> Value:
    """The value rounded to an element type, in the type the statement computes with."""
    if dtype == "bool":
        return to_type(value, "bool")
    if is_float(dtype):
        wide = to_type(value, real)
        return (
            replace(wide, code=f"tile::round_to<{c_type(dtype, 'a cast')}>({wide.code})", simple=True, constant=None)
            if dtype != real
            else wide
        )
    if value.dtype == "bool":
        return to_type(value, "i32" if value.level == LANE else "i64")
    if dtype == "i64":
        return to_type(value, "i64")
    wide = to_type(value, "i64")
    code = (
        f"tile::round_to<{C_TYPES[dtype]}>({wide.code})"
        if wide.level == LANE
        else f"int64_t({C_TYPES[dtype]}({wide.code}))"
    )
    return replace(wide, code=code, dtype="i64", simple=True, constant=None, nonnegative=False)


def call(printer: Expressions, function: str, values: list[Value]) -> Value:
    """A function of values, computed at the highest of their levels."""
    if function == "uniform":
        return _uniform(printer, values)
    if printer.real == "f64":
        function = function.removesuffix(".nonpositive")  # the C library's functions have one form
    if function not in FUNCTIONS:
        raise BackendError(f"the CPU backend has no code for the function {function} in a tile program")
    template, kind = FUNCTIONS[function]
    level, found = printer.combine(*values)
    if kind == "real":
        dtype = printer.real
    else:
        dtype = found[0].dtype
        for v in found[1:]:
            dtype = common(dtype, v.dtype, printer.real)
        dtype = "i64" if dtype == "i32" else dtype
        if dtype not in ("f32", "f64") and function in ("floor", "ceil", "round"):
            return found[0]
    if level == LANE and template.count("{0}") > 1:
        found = tuple(printer.bind(to_type(v, dtype)) if v.level == LANE else v for v in found)
    codes = [
        operand(v, dtype)
        if level == LANE
        else f"{scalar_type(dtype)}({v.code})"
        if v.constant is not None and not v.is_float
        else to_type(v, dtype).code
        for v in found
    ]
    if template == "fold":
        code = codes[0]
        for other in codes[1:]:
            code = f"tile::{function}({code}, {other})"
        positive = (any if function == "max" else all)(v.nonnegative for v in found)
        return Value(code, dtype, level, nonnegative=positive and dtype not in ("f32", "f64"), bound=largest(*found))
    kind_name = REGISTER[dtype] if level == LANE else scalar_type(dtype)
    code = template.format(*codes, T=kind_name)
    simple = code.startswith("tile::")
    return Value(code, dtype, level, simple=simple, nonnegative=function == "abs", bound=largest(*found))


def _uniform(printer: Expressions, values: list[Value]) -> Value:
    level, found = printer.combine(*values)
    codes = ", ".join(v.code for v in found)
    kind = "float" if printer.real == "f32" else "double"
    if level == LANE:
        return Value(f"tile::uniform_lanes<{kind}>({codes})", printer.real, LANE)
    return Value(f"{kind}(tile::uniform({codes}))", printer.real, level)
