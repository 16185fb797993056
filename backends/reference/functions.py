"""The scalar functions and operators of the language on PyTorch tensors.

Floating operands arrive in one type, integers as int64, booleans as bool. ``/`` is real, ``//`` floors and
``%`` has the sign of the divisor (laws.md, D6).
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from einsum_compiler.backends.reference.philox import uniform

TORCH_TYPES = {
    "f64": torch.float64, "f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16,
    "f8e4m3": torch.float8_e4m3fn, "f8e5m2": torch.float8_e5m2,
    "i64": torch.int64, "i32": torch.int32, "i16": torch.int16, "i8": torch.int8, "u8": torch.uint8, "bool": torch.bool,
}  # fmt: skip


class _Round(torch.autograd.Function):
    """Round to a narrower float and back. The gradient passes unrounded, as in a kernel that keeps f32 adjoints."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, dtype: torch.dtype) -> Tensor:
        return value.to(dtype).to(value.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def cast(value: Tensor, dtype: str, real: torch.dtype) -> Tensor:
    """``cast(value, dtype)`` in the evaluator's storage: floats rounded but kept as ``real``, integers wrapped in int64."""
    target = TORCH_TYPES[dtype]
    if target == torch.bool:
        return value != 0
    if not target.is_floating_point:
        return value.detach().to(target).to(torch.int64)
    value = value.to(real)
    if torch.finfo(target).eps <= torch.finfo(real).eps:
        return value
    return _Round.apply(value, target)  # type: ignore[no-any-return, no-untyped-call]


def reals(*values: Tensor) -> list[Tensor]:
    """The operands of a real function: integers become f64, or the type of the floats beside them."""
    floating = next((v.dtype for v in values if v.is_floating_point()), torch.float64)
    return [v if v.is_floating_point() else v.to(floating) for v in values]


def _real(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *values: function(*reals(*values))


def _fold(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda *values: functools.reduce(function, values)


def _softplus(value: Tensor) -> Tensor:
    # torch's own softplus is the identity above 20, which is wrong by 2e-9 in float64.
    return torch.logaddexp(value, torch.zeros_like(value))


def _keep_integers(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda value: function(value) if value.is_floating_point() else value


FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "exp": _real(torch.exp),
    "exp2": _real(torch.exp2),
    "log": _real(torch.log),
    "sqrt": _real(torch.sqrt),
    "rsqrt": _real(torch.rsqrt),
    "tanh": _real(torch.tanh),
    "sigmoid": _real(torch.sigmoid),
    "silu": _real(torch.nn.functional.silu),
    "gelu": _real(torch.nn.functional.gelu),
    "erf": _real(torch.erf),
    "softplus": _real(_softplus),
    "sin": _real(torch.sin),
    "cos": _real(torch.cos),
    "relu": torch.relu,
    "abs": torch.abs,
    "sign": torch.sign,
    "floor": _keep_integers(torch.floor),
    "ceil": _keep_integers(torch.ceil),
    "round": _keep_integers(torch.round),
    "stop_gradient": torch.detach,
    "max": _fold(torch.maximum),
    "min": _fold(torch.minimum),
    "clamp": lambda value, low, high: torch.minimum(torch.maximum(value, low), high),
    "uniform": uniform,
}


def _divisor(value: Tensor) -> Tensor:
    """An integer 0 divides only where the quotient is not used: in a branch not taken, at a removed point."""
    return value if value.is_floating_point() else torch.where(value == 0, 1, value)


OPERATORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _real(operator.truediv),
    "//": lambda left, right: torch.div(left, _divisor(right), rounding_mode="floor"),
    "%": lambda left, right: torch.remainder(left, _divisor(right)),
    "**": torch.pow,
    "^": operator.xor,
    "&": operator.and_,
    "|": operator.or_,
    "<<": operator.lshift,
    ">>": operator.rshift,
    "and": torch.logical_and,
    "or": torch.logical_or,
}

COMPARISONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def identity(name: str, dtype: torch.dtype) -> bool | int | float:
    """What a reduction of no points gives: for max and min over integers the extreme value of the type."""
    from einsum_compiler.ir.operators import REDUCTIONS

    if name in ("max", "min") and not dtype.is_floating_point:
        if dtype == torch.bool:
            return name == "min"
        limits = torch.iinfo(dtype)
        return limits.min if name == "max" else limits.max
    return REDUCTIONS[name].identity


def _each(function: Callable[..., Tensor]) -> Callable[[Tensor, tuple[int, ...]], Tensor]:
    """A reduction that PyTorch has for one axis only, applied to several."""

    def reduce(data: Tensor, axes: tuple[int, ...]) -> Tensor:
        for axis in sorted(axes, reverse=True):
            data = function(data, dim=axis)
        return data

    return reduce


# Two partial results of a reduction joined.
COMBINE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sum": operator.add,
    "prod": operator.mul,
    "max": torch.maximum,
    "min": torch.minimum,
    "any": torch.logical_or,
    "all": torch.logical_and,
}

REDUCERS: dict[str, Callable[[Tensor, tuple[int, ...]], Tensor]] = {
    "sum": lambda data, axes: data.sum(dim=axes),
    "prod": _each(torch.prod),
    "max": lambda data, axes: data.amax(dim=axes),
    "min": lambda data, axes: data.amin(dim=axes),
    "any": lambda data, axes: (data != 0).any(dim=axes),
    "all": lambda data, axes: (data != 0).all(dim=axes),
}


def reduce(name: str, data: Tensor, axes: tuple[int, ...]) -> Tensor:
    """The reduction over ``axes``; over an axis of no coordinates its identity. Sums of integers are int64."""
    if not axes:
        return data
    if name in ("max", "min") and any(data.shape[a] == 0 for a in axes):
        rest = [size for axis, size in enumerate(data.shape) if axis not in axes]
        return data.new_full(rest, identity(name, data.dtype))
    return REDUCERS[name](data, axes)
