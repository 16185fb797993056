"""Printed C++ expressions with what is known about them: type, where they change, sign."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from einsum_compiler.backends.cpu.coordinates import Bound, constant_bound

# Where a value changes: nowhere in the statement, from row to row, from lane to lane.
FIXED, ROW, LANE = range(3)

# ``coord``: an integer built of positions, extents and small constants. int64 outside of lanes; inside them 32 bits,
# which its bound says it does not leave (``coordinates``).
REGISTER = {"f32": "float", "f64": "double", "i64": "int64_t", "i32": "int32_t", "coord": "int32_t", "bool": "int32_t"}
SMALL = 2**20


@dataclass(frozen=True, slots=True)
class Value:
    """One expression. At level LANE it is a vector (bool: a mask of int32), else a scalar."""

    code: str
    dtype: str
    level: int = FIXED
    simple: bool = True
    nonnegative: bool = False
    constant: bool | float | None = None
    bound: Bound | None = None  # of a coordinate

    @property
    def is_float(self) -> bool:
        return self.dtype in ("f32", "f64")

    @property
    def atom(self) -> str:
        return self.code if self.simple else f"({self.code})"


def scalar_type(dtype: str) -> str:
    """The C++ type of a scalar of that value type."""
    return {"f32": "float", "f64": "double", "bool": "bool"}.get(dtype, "int64_t")


def literal(number: bool | float, real: str) -> Value:
    """A constant; floats in the statement's floating type."""
    if isinstance(number, bool):
        return Value("true" if number else "false", "bool", constant=number)
    if isinstance(number, int):
        dtype = "coord" if abs(number) < SMALL else "i64"
        bound = constant_bound(number)
        return Value(str(number), dtype, simple=number >= 0, nonnegative=number >= 0, constant=number, bound=bound)
    return Value(real_literal(number, real), real, simple=number >= 0, nonnegative=number >= 0, constant=number)


def real_literal(number: float, real: str) -> str:
    if math.isnan(number):
        return '__builtin_nanf("")' if real == "f32" else '__builtin_nan("")'
    if math.isinf(number):
        name = "__builtin_inff()" if real == "f32" else "__builtin_inf()"
        return name if number > 0 else f"-{name}"
    if number == int(number) and abs(number) < 1e6:
        return f"{number:.1f}" + ("f" if real == "f32" else "")
    return repr(float(number)) + ("f" if real == "f32" else "")


def to_type(value: Value, dtype: str) -> Value:
    """The value in another type. An integer of 64 bits never becomes a coordinate again."""
    if value.dtype == dtype or (dtype == "i64" and value.dtype in ("coord", "i32") and value.level < LANE):
        return replace(value, dtype=dtype)
    if value.constant is not None and not isinstance(value.constant, bool) and dtype in ("f32", "f64"):
        return replace(literal(float(value.constant), dtype), dtype=dtype)
    if dtype == "bool":
        code = f"{value.atom} != 0"
        return replace(value, code=f"tile::as_mask({code})" if value.level == LANE else code, dtype="bool",
                       simple=value.level == LANE, constant=None)  # fmt: skip
    if value.level < LANE:
        return replace(value, code=f"{scalar_type(dtype)}({value.code})", dtype=dtype, simple=True, constant=None)
    if value.dtype == "bool":
        inner = replace(value, code=f"-{value.atom}", dtype="i32", simple=False)
        return inner if dtype == "i32" else to_type(inner, dtype)
    return replace(
        value, code=f"tile::convert<{REGISTER[dtype]}>({value.code})", dtype=dtype, simple=True, constant=None
    )


def operand(value: Value, dtype: str) -> str:
    """The code as an operand beside a vector of ``dtype``: the element types must agree exactly, and a scalar broadcasts."""
    value = to_type(value, dtype)
    if value.level == LANE or value.is_float:
        return value.atom
    if dtype == "bool":
        return f"tile::as_mask({value.code})"
    return f"{REGISTER[dtype]}({value.code})"


def common(left: str, right: str, real: str) -> str:
    """The type two operands are computed in."""
    if "f64" in (left, right) or "f32" in (left, right):
        return real
    if left == right and left != "bool":
        return left
    if "i64" in (left, right):
        return "i64"
    return "coord" if {left, right} == {"coord", "bool"} else "i64"


def largest(*values: Value) -> Bound | None:
    """A bound on each of several coordinates; None if one has none."""
    found = constant_bound(1)  # a truth value among them is 0 or 1
    for value in values:
        if value.dtype != "bool" and value.bound is None:
            return None
        found = found | value.bound if value.bound else found
    return found
