"""The values of scalar parameters in a call: numbers, tensors without axes, defaults, and extents among them.

A tensor on the device ``meta`` has no value: it is NaN while extents are found, and then any number of its kind.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from einsum_compiler.ir.cascade import Scalar
from einsum_compiler.ir.errors import ShapeError
from einsum_compiler.ir.scalar import Number, evaluate_scalar
from einsum_compiler.ir.torch_types import dtype_name
from einsum_compiler.ir.types import is_float, is_integer


def value_of(parameter: Scalar, given: Mapping[str, Any], names: Mapping[str, Any]) -> Number:
    """The value of a parameter: given, or its default, where ``names`` are what is known before it."""
    if parameter.name not in given:
        assert parameter.default is not None  # the arguments were matched
        value = evaluate_scalar(parameter.default, names)
        whole = parameter.dtype == "int" or (parameter.dtype is not None and is_integer(parameter.dtype))
        if whole and isinstance(value, float) and not (value.is_integer() or math.isnan(value)):
            raise ShapeError(
                f"{parameter.name}: expected an int, found the default {value}",
                parameter.span,
                ("'/' is real; the integer quotient is written //",),
            )
        return _converted(value, parameter.dtype) if parameter.dtype else value
    value = given[parameter.name]
    item = getattr(value, "item", None)
    if item is not None:
        shape = getattr(value, "shape", ())
        if len(shape) != 0:
            raise ShapeError(
                f"{parameter.name}: expected a number or a tensor without axes, found shape ({', '.join(map(str, shape))})",
                parameter.span,
            )
        if is_meta(value):
            kind = dtype_name(value.dtype) or ""
            example = False if kind == "bool" else 0.0 if is_float(kind) else 0
            _as_declared(parameter, example, f"a tensor of type {kind}")
            return math.nan
        value = item()
    if not isinstance(value, bool | int | float) and not is_symbol(value):
        raise ShapeError(f"{parameter.name}: expected a number, found {type(value).__name__}", parameter.span)
    return _as_declared(parameter, value, f"{type(value).__name__} {value}")


def extent_of(parameter: Scalar, value: Number) -> int:
    """The value of a parameter that is the extent of a rank."""
    if isinstance(value, float) and math.isnan(value):
        raise ShapeError(
            f"{parameter.name}: an extent is an integer from 0, found no value",
            parameter.span,
            ("a tensor on meta has none: give a number",),
        )
    if isinstance(value, bool) or (not is_symbol(value) and value != int(value)) or value < 0:
        raise ShapeError(f"{parameter.name}: an extent is an integer from 0, found {value}", parameter.span)
    return value if is_symbol(value) else int(value)  # type: ignore[return-value]


def stand_in(parameter: Scalar, tensor: Any, inputs: Mapping[str, Any]) -> Number:
    """Some number in place of a parameter without a value. Raises ``ShapeError`` beside inputs with values: what runs on those needs it."""
    for name, other in inputs.items():
        if not is_meta(other):
            raise ShapeError(
                f"{parameter.name} is on meta, where tensors have no values, and {name} is on {other.device}: give a number",
                parameter.span,
            )
    return _converted(1, parameter.dtype or dtype_name(tensor.dtype) or "float")


def is_meta(value: Any) -> bool:
    """Whether it is a tensor without values."""
    device = getattr(value, "device", None)
    return getattr(device, "type", None) == "meta"  # the device of a number of NumPy is a text


def is_symbol(value: Any) -> bool:
    """Whether a number is known by name only: ``torch.SymInt`` and its like, while PyTorch traces with dynamic sizes."""
    return hasattr(value, "node")


def _as_declared(parameter: Scalar, value: Number, shown: str) -> Number:
    """The number in the type that the text gives the parameter."""
    wanted = parameter.dtype
    whole = wanted == "int" or (wanted is not None and is_integer(wanted))
    if (wanted == "bool" and not isinstance(value, bool)) or (whole and (isinstance(value, bool | float))):
        raise ShapeError(f"{parameter.name}: expected {'an int' if whole else 'a bool'}, found {shown}", parameter.span)
    return _converted(value, wanted) if wanted else value


def _converted(value: Number, dtype: str) -> Number:
    if is_symbol(value):
        return value
    if dtype == "float" or is_float(dtype):
        return float(value)
    return bool(value) if dtype == "bool" else int(value)
