"""The element types of the language and the rules that combine them."""

from __future__ import annotations

FLOATS = ("f64", "f32", "f16", "bf16", "f8e4m3", "f8e5m2")
INTEGERS = ("i64", "i32", "i16", "i8", "u8")
DTYPES = (*FLOATS, *INTEGERS, "bool")

BITS = {
    "f64": 64, "f32": 32, "f16": 16, "bf16": 16, "f8e4m3": 8, "f8e5m2": 8,
    "i64": 64, "i32": 32, "i16": 16, "i8": 8, "u8": 8, "bool": 8,
}  # fmt: skip

# Mantissa bits decide which of two floating types is the lower in precision.
PRECISION = {"f64": 52, "f32": 23, "f16": 10, "bf16": 7, "f8e4m3": 3, "f8e5m2": 2}


def is_float(dtype: str) -> bool:
    return dtype in FLOATS


def is_integer(dtype: str) -> bool:
    return dtype in INTEGERS


def bytes_of(dtype: str) -> int:
    """Bytes of one element in memory."""
    return BITS[dtype] // 8


def accumulator(dtype: str) -> str:
    """The type a sum over ``dtype`` accumulates in: f64 for f64, f32 for other floats, i64 for integers."""
    if dtype == "f64":
        return "f64"
    return "f32" if is_float(dtype) else "i64"


def promote(left: str, right: str) -> str:
    """The type of ``left + right``, by PyTorch's rules for tensors of one dimension count."""
    if left == right:
        return left
    if is_float(left) and is_float(right):
        if BITS[left] != BITS[right]:
            return left if BITS[left] > BITS[right] else right
        return "f32"  # f16 with bf16: neither holds the other
    if is_float(left) or right == "bool":
        return left
    if is_float(right) or left == "bool":
        return right
    if "u8" in (left, right) and "i8" in (left, right):
        return "i16"
    return left if BITS[left] >= BITS[right] else right
