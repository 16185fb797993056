"""Expressions of a tile program as Triton code.

Types follow the tile program: maps compute in f32, in f64 where an operand is f64; integers as ``arithmetic`` says.
Comparisons of integers take them as they are stored.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from einsum_compiler.backends.triton.arithmetic import binary_value
from einsum_compiler.backends.triton.combine import (
    Scope,
    applied,
    as_computed,
    boolean,
    compared,
    computing_type,
    converted,
    extreme,
    floating,
    joined,
    negated,
    promoted,
    where,
    wide,
)
from einsum_compiler.backends.triton.exponential import exp_calls_as_exp2
from einsum_compiler.backends.triton.value import AND, COMPARISON, SUM, Value, cast, literal
from einsum_compiler.ir.errors import BackendError
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
)

PLAIN_FUNCTIONS = {
    "exp2": "tl.exp2",
    "exp": "tl.exp",
    "log": "tl.log",
    "rsqrt": "tl.rsqrt",
    "sin": "tl.sin",
    "cos": "tl.cos",
}
# Functions whose text the file defines (templates/triton/kernel.py.tmpl).
DEFINED_FUNCTIONS = ("tanh", "sigmoid", "silu", "softplus", "gelu")
UNIFORM_COORDINATES = 4


def print_value(node: Expression, scope: Scope) -> Value:
    """The code of an expression. Raises BackendError for what has no Triton form."""
    go = partial(print_value, scope=scope)
    match node:
        case Constant(value=bool() as value):
            return literal(value, "bool")
        case Constant(value=value):
            return literal(value, "i64" if isinstance(value, int) else scope.real)
        case Parameter(name=name):
            return scope.parameter(name, scope.real)
        case Extent(rank=rank):
            return scope.extent(rank)
        case Rank(name=name):
            return scope.rank(name)
        case Read(tensor=name, indices=()):
            return scope.tile(name)
        case Unary(operator="-", operand=operand):
            return negated(go(operand))
        case Unary(operator="not", operand=operand):
            truth = boolean(go(operand))
            return replace(truth, code=f"{truth.at(SUM)} == 0", level=COMPARISON)
        case Binary():
            return binary_value(node, go(node.left), go(node.right), scope)
        case Comparison(operators=operators, operands=operands):
            values = [go(o) for o in operands]
            links = [compared(op, a, b, scope) for op, a, b in zip(operators, values, values[1:], strict=False)]
            return joined("&", AND, links, scope)
        case Conditional(condition=condition, then=then, otherwise=otherwise):
            first, second = promoted(go(then), go(otherwise))
            return where(boolean(go(condition)), first, second, scope)
        case Call():
            return _call(node, scope)
        case Cast(operand=operand, dtype=dtype):
            return converted(go(operand), dtype, scope)
    raise BackendError(f"{type(node).__name__} has no Triton form in a tile program", node.span)


def _call(node: Call, scope: Scope) -> Value:
    name = node.function
    if name == "exp":
        probe = print_value(node.arguments[0], scope)
        if computing_type((probe,)) != "f64":
            return print_value(exp_calls_as_exp2(node, lambda e: len(print_value(e, scope).dims)), scope)
    if name in ("ceil", "floor") and (quotient := _integer_quotient(node, scope)):
        return quotient
    values = tuple(print_value(a, scope) for a in node.arguments)
    first = values[0]
    if name in PLAIN_FUNCTIONS:
        first = floating(first, scope)
        return applied(PLAIN_FUNCTIONS[name], (first,), first.dtype, scope)
    if name == "sqrt":
        first = floating(first, scope)
        return applied("tl.sqrt_rn" if first.dtype == "f32" else "tl.sqrt", (first,), first.dtype, scope)
    if name == "erf":
        first = floating(first, scope)
        return applied("tl.math.erf", (first,), first.dtype, scope)
    if name in DEFINED_FUNCTIONS:
        first = floating(first, scope)
        scope.helpers.add(name)
        return applied(name, (first,), first.dtype, scope)
    if name in ("floor", "ceil", "round"):
        if not first.is_float:
            return first
        first = floating(first, scope)
        if name == "round":
            scope.helpers.add("round_even")
        code = {"floor": "tl.floor", "ceil": "tl.ceil", "round": "round_even"}[name]
        return applied(code, (first,), first.dtype, scope)
    if name in ("relu", "abs", "sign"):
        return _signed(name, as_computed(first) if first.is_float else first, scope)
    if name in ("max", "min"):
        result = values[0]
        for other in values[1:]:
            result = extreme(name, result, other, scope)
        return result
    if name == "clamp":
        return extreme("min", extreme("max", first, values[1], scope), values[2], scope)
    if name == "stop_gradient":
        return first
    if name == "uniform":
        return _uniform(values, node, scope)
    raise BackendError(f"function '{name}' has no Triton form in a tile program", node.span)


def _signed(name: str, value: Value, scope: Scope) -> Value:
    if value.dtype == "bool":
        value = cast(value, "i64")
    zero = literal(0, value.dtype)
    if name == "relu":
        return extreme("max", value, zero, scope)
    if name == "abs":
        return replace(applied("tl.abs", (value,), value.dtype, scope), nonnegative=True, coordinate=value.coordinate)
    scope.helpers.add("sign")
    return applied("sign", (value,), value.dtype, scope)


def _integer_quotient(node: Call, scope: Scope) -> Value | None:
    """``ceil(a / b)`` and ``floor(a / b)`` of integers without a detour through floats."""
    inner = node.arguments[0]
    if not (isinstance(inner, Binary) and inner.operator == "/"):
        return None
    if print_value(inner.left, scope).is_float or print_value(inner.right, scope).is_float:
        return None
    if node.function == "floor":
        return print_value(Binary("//", inner.left, inner.right), scope)
    # ceil(a / b) == floor((a + b - 1) / b) for b > 0; for a divisor of unknown sign -floor(-a / b).
    if print_value(inner.right, scope).nonnegative:
        above = Binary("+", inner.left, Binary("-", inner.right, Constant(1)))
        if isinstance(inner.right, Constant):
            above = Binary("+", inner.left, Constant(int(inner.right.value) - 1))
        return print_value(Binary("//", above, inner.right), scope)
    return negated(print_value(Binary("//", Unary("-", inner.left), inner.right), scope))


def _uniform(values: tuple[Value, ...], node: Call, scope: Scope) -> Value:
    if len(values) > 1 + UNIFORM_COORDINATES:
        raise BackendError(f"uniform takes at most {UNIFORM_COORDINATES} coordinates after the seed", node.span)
    scope.helpers.add("uniform")
    words = tuple(wide(v) for v in values)
    words += (literal(0, "i64"),) * (1 + UNIFORM_COORDINATES - len(words))
    return replace(applied("uniform", words, "f32", scope), nonnegative=True)
