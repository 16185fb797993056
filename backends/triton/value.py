"""Printed Triton expressions with what is known about them: block dimensions, type, sign, precedence."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from einsum_compiler.backends.triton.layout import MOST_ELEMENTS, Dimension
from einsum_compiler.ir.errors import PlanError

# Python's precedence, loosest first; a subscript or a call binds tightest.
COMPARISON, OR, XOR, AND, SHIFT, SUM, PRODUCT, NEGATION, ATOM = range(9)

TRITON_TYPES = {
    "f64": "tl.float64", "f32": "tl.float32", "f16": "tl.float16", "bf16": "tl.bfloat16",
    "f8e4m3": "tl.float8e4nv", "f8e5m2": "tl.float8e5",
    "i64": "tl.int64", "i32": "tl.int32", "i16": "tl.int16", "i8": "tl.int8", "u8": "tl.uint8", "bool": "tl.int1",
}  # fmt: skip

Dimensions = tuple[Dimension, ...]


@dataclass(frozen=True, slots=True)
class Value:
    """An expression in Triton's Python.

    ``dims`` are the dimensions of its block, none for a scalar. ``coordinate`` marks 32-bit integers that stay in
    range whatever is added to them a few times: positions and extents. ``constant`` is the number of a literal.
    Raises ``PlanError`` for a block that is larger than Triton takes, which it says itself only after minutes.
    """

    code: str
    dtype: str
    dims: Dimensions = ()
    level: int = ATOM
    nonnegative: bool = False
    coordinate: bool = False
    constant: bool | float | None = None

    def __post_init__(self) -> None:
        if math.prod(d.padded for d in self.dims) > MOST_ELEMENTS:
            shape = " x ".join(f"{'.'.join(a.rank for a in d.axes)}:{d.padded}" for d in self.dims)
            raise PlanError(f"this plan needs a tile of {shape} elements; Triton takes at most {MOST_ELEMENTS:,}")

    def at(self, level: int) -> str:
        """The code as an operand of an operator of that precedence."""
        return self.code if self.level >= level else f"({self.code})"

    @property
    def is_float(self) -> bool:
        return self.dtype in ("f64", "f32", "f16", "bf16", "f8e4m3", "f8e5m2")


def cast(value: Value, dtype: str) -> Value:
    """The value in another type; a float becomes an integer towards zero, as in PyTorch."""
    if value.dtype == dtype:
        return value
    if value.constant is not None:
        return literal(value.constant, dtype)
    if dtype == "bool":
        return replace(value, code=f"{value.at(SUM)} != 0", dtype=dtype, level=COMPARISON, coordinate=False)
    if dtype == "bf16":
        # Defined by the generated file: see expressions.converted.
        call = f"round_bf16({value.code})"
    else:
        call = f"tl.cast({value.code}, {TRITON_TYPES[dtype]})"
    return replace(value, code=call, dtype=dtype, level=ATOM, coordinate=False)


def literal(number: bool | float, dtype: str) -> Value:
    """A number as a constant of a type."""
    if dtype == "bool":
        return Value(str(bool(number)), "bool", constant=bool(number))
    if dtype in ("i64", "i32", "i16", "i8", "u8"):
        whole = int(number)
        return Value(
            str(whole), dtype, level=ATOM if whole >= 0 else NEGATION, nonnegative=whole >= 0, constant=whole,
            coordinate=abs(whole) < 2**20,
        )  # fmt: skip
    real = float(number)
    if math.isnan(real):
        return Value('float("nan")', dtype, constant=real)
    if math.isinf(real):
        return Value("INFINITY" if real > 0 else "NEGATIVE_INFINITY", dtype, constant=real)
    return Value(repr(real), dtype, level=ATOM if real >= 0 else NEGATION, nonnegative=real >= 0, constant=real)


def spread(value: Value, dims: Dimensions) -> Value:
    """The value with an axis for every dimension of ``dims``; those it lacks have one lane, which broadcasts.

    A scalar stays a scalar.
    """
    if not value.dims or value.dims == dims:
        return value
    missing = [d for d in value.dims if d not in dims]
    assert not missing, f"a block over {missing} cannot be spread over {dims}"
    order = tuple(d for d in dims if d in value.dims)
    value = permuted(value, order)
    if order == dims:
        return value
    subscript = ", ".join(":" if d in order else "None" for d in dims)
    return replace(value, code=f"{value.at(ATOM)}[{subscript}]", dims=dims, level=ATOM)


def permuted(value: Value, order: Dimensions) -> Value:
    """The block with its dimensions in another order."""
    if value.dims == order:
        return value
    places = [value.dims.index(d) for d in order]
    code = f"tl.trans({value.code})" if places == [1, 0] else f"tl.permute({value.code}, {places})"
    return replace(value, code=code, dims=order, level=ATOM)


def filled(value: Value, dims: Dimensions) -> Value:
    """The value as a whole block over ``dims``: every lane its own copy."""
    shape = f"[{', '.join(str(d.padded) for d in dims)}]"
    if not value.dims:
        return replace(
            value, code=f"tl.full({shape}, {value.code}, {TRITON_TYPES[value.dtype]})", dims=dims, level=ATOM
        )
    if all(d in value.dims for d in dims):
        return permuted(value, dims)
    return replace(value, code=f"tl.broadcast_to({spread(value, dims).code}, {shape})", dims=dims, level=ATOM)


def union(values: tuple[Value, ...], order: Dimensions) -> Dimensions:
    """The dimensions of any of the values, as they stand in ``order``."""
    needed = {d for v in values for d in v.dims}
    return tuple(d for d in order if d in needed)
