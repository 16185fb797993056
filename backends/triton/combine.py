"""Pieces of Triton code put together: operands in one type, blocks spread to the same axes, parentheses where they are needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from einsum_compiler.backends.triton.value import (
    AND,
    ATOM,
    COMPARISON,
    NEGATION,
    TRITON_TYPES,
    Dimensions,
    Value,
    cast,
    literal,
    spread,
    union,
)

# Functions of the file that ask their arguments for a type, which a literal does not have.
TYPED_ARGUMENTS = ("power", "integer_power_of", "uniform")


@dataclass(slots=True)
class Scope:
    """What names stand for at one place of the kernel, and the block the statement there computes over.

    ``real`` is the type of numbers, scalars and quotients of integers there: f64 where a tile of f64 takes part.
    """

    parameter: Callable[[str, str], Value]
    extent: Callable[[str], Value]
    rank: Callable[[str], Value]
    tile: Callable[[str], Value]
    dims: Dimensions = ()
    real: str = "f32"
    helpers: set[str] = field(default_factory=set)


def where(condition: Value, then: Value, otherwise: Value, scope: Scope) -> Value:
    """``condition ? then : otherwise``, element by element."""
    return applied("tl.where", (condition, then, otherwise), then.dtype, scope)


def conjunction(values: list[Value], scope: Scope) -> Value | None:
    """All of the conditions, or None if there are none."""
    return joined("&", AND, [boolean(v) for v in values], scope) if values else None


def computing_type(values: tuple[Value, ...]) -> str:
    """The type a map over the values computes in."""
    if any(v.is_float for v in values):
        return "f64" if any(v.dtype == "f64" for v in values) else "f32"
    if all(v.dtype == "bool" for v in values):
        return "bool"
    return "i64"


def as_computed(value: Value) -> Value:
    """The value in the type that maps compute in: narrow floats as f32."""
    return cast(value, computing_type((value,))) if value.is_float else value


def converted(value: Value, dtype: str, scope: Scope) -> Value:
    """The value in a type, with the rounding that type has."""
    value = cast(value, dtype)
    if value.code.startswith("round_bf16("):
        scope.helpers.add("round_bf16")
    return value


def floating(value: Value, scope: Scope) -> Value:
    return cast(value, computing_type((value,)) if value.is_float else scope.real)


def boolean(value: Value) -> Value:
    return cast(value, "bool")


def promoted(left: Value, right: Value) -> tuple[Value, Value]:
    """Both values in one type; coordinates stay as they are."""
    dtype = computing_type((left, right))
    if dtype == "i64" and left.coordinate and right.coordinate:
        return left, right
    return cast(left, dtype), cast(right, dtype)


def negated(value: Value) -> Value:
    value = as_computed(value)
    if value.constant is not None:
        return literal(-value.constant, value.dtype)
    if value.dtype == "bool" or not (value.is_float or value.coordinate):
        value = cast(value, "i64")
    return replace(value, code=f"-{value.at(NEGATION)}", level=NEGATION, nonnegative=False)


def joined(op: str, level: int, values: list[Value], scope: Scope) -> Value:
    """Booleans joined by ``&`` or ``|``."""
    if len(values) == 1:
        return values[0]
    dims = union(tuple(values), scope.dims)
    code = f" {op} ".join(spread(v, dims).at(level + 1) for v in values)
    if len({bool(v.dims) for v in values}) > 1:
        # Triton's interpreter gives integers for a block with a scalar and then refuses them as a mask.
        return Value(f"({code}) != 0", "bool", dims, COMPARISON)
    return Value(code, "bool", dims, level)


def infix(op: str, level: int, left: Value, right: Value, scope: Scope) -> Value:
    dims = union((left, right), scope.dims)
    code = f"{spread(left, dims).at(level)} {op} {spread(right, dims).at(level + 1)}"
    return replace(left, code=code, dims=dims, level=level, constant=None, nonnegative=False, coordinate=False)


def applied(name: str, values: tuple[Value, ...], dtype: str, scope: Scope, more: str = "") -> Value:
    dims = union(values, scope.dims)
    if name in TYPED_ARGUMENTS or all(v.constant is not None for v in values):
        values = tuple(_typed_scalar(v) for v in values)
    code = f"{name}({', '.join(spread(v, dims).code for v in values)}{more})"
    return Value(code, dtype, dims)


def _typed_scalar(value: Value) -> Value:
    """A literal as a scalar of its type; anything else as it is."""
    if value.constant is None:
        return value
    return replace(value, code=f"tl.full((), {value.code}, {TRITON_TYPES[value.dtype]})", level=ATOM)


def compared(op: str, left: Value, right: Value, scope: Scope) -> Value:
    if left.is_float or right.is_float or "bool" in (left.dtype, right.dtype):
        left, right = promoted(left, right)
    # Python chains comparisons, so an operand that is one itself needs parentheses on both sides.
    left = replace(left, code=f"({left.code})", level=ATOM) if left.level == COMPARISON else left
    return replace(infix(op, COMPARISON, left, right, scope), dtype="bool")


def wide(value: Value) -> Value:
    """An integer in 64 bits, coordinates included."""
    if value.constant is not None:
        return value
    return replace(cast(value, "i64"), coordinate=False)


def extreme(name: str, left: Value, right: Value, scope: Scope) -> Value:
    """The larger (``max``) or smaller of two values; NaN if either is NaN."""
    left, right = promoted(left, right)
    coordinate = left.coordinate and right.coordinate
    nan = ", propagate_nan=tl.PropagateNan.ALL" if left.is_float else ""
    value = applied("tl.maximum" if name == "max" else "tl.minimum", (left, right), left.dtype, scope, nan)
    some, every = left.nonnegative or right.nonnegative, left.nonnegative and right.nonnegative
    dtype = "i32" if coordinate else left.dtype
    return replace(value, dtype=dtype, nonnegative=some if name == "max" else every, coordinate=coordinate)
