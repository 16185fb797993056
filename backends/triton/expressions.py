"""Expressions of a tile program as Triton code.

Types follow the tile program: maps compute in f32, in f64 where an operand is f64; integers in 64 bits, except
coordinates and extents, whose sums stay in 32 (the launch refuses extents for which they would not).
Comparisons of integers take them as they are stored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from einsum_compiler.backends.triton.exponential import exp_calls_as_exp2
from einsum_compiler.backends.triton.value import (
    AND,
    ATOM,
    COMPARISON,
    NEGATION,
    OR,
    PRODUCT,
    SHIFT,
    SUM,
    TRITON_TYPES,
    XOR,
    Dimensions,
    Value,
    cast,
    literal,
    spread,
    union,
)
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

ARITHMETIC = {"+": SUM, "-": SUM, "*": PRODUCT}
BITS = {"&": AND, "|": OR, "^": XOR, "<<": SHIFT, ">>": SHIFT}
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
# Functions of the file that ask their arguments for a type, which a literal does not have.
TYPED_ARGUMENTS = ("power", "uniform")
UNIFORM_COORDINATES = 4


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
            return _negated(go(operand))
        case Unary(operator="not", operand=operand):
            truth = _boolean(go(operand))
            return replace(truth, code=f"{truth.at(SUM)} == 0", level=COMPARISON)
        case Binary():
            return _binary(node, scope)
        case Comparison(operators=operators, operands=operands):
            values = [go(o) for o in operands]
            links = [_compared(op, a, b, scope) for op, a, b in zip(operators, values, values[1:], strict=False)]
            return _joined("&", AND, links, scope)
        case Conditional(condition=condition, then=then, otherwise=otherwise):
            first, second = _promoted(go(then), go(otherwise))
            return where(_boolean(go(condition)), first, second, scope)
        case Call():
            return _call(node, scope)
        case Cast(operand=operand, dtype=dtype):
            return converted(go(operand), dtype, scope)
    raise BackendError(f"{type(node).__name__} has no Triton form in a tile program", node.span)


def where(condition: Value, then: Value, otherwise: Value, scope: Scope) -> Value:
    """``condition ? then : otherwise``, element by element."""
    return _function("tl.where", (condition, then, otherwise), then.dtype, scope)


def conjunction(values: list[Value], scope: Scope) -> Value | None:
    """All of the conditions, or None if there are none."""
    return _joined("&", AND, [_boolean(v) for v in values], scope) if values else None


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


def _floating(value: Value, scope: Scope) -> Value:
    return cast(value, computing_type((value,)) if value.is_float else scope.real)


def _boolean(value: Value) -> Value:
    return cast(value, "bool")


def _promoted(left: Value, right: Value) -> tuple[Value, Value]:
    """Both values in one type; coordinates stay as they are."""
    dtype = computing_type((left, right))
    if dtype == "i64" and left.coordinate and right.coordinate:
        return left, right
    return cast(left, dtype), cast(right, dtype)


def _negated(value: Value) -> Value:
    value = as_computed(value)
    if value.constant is not None:
        return literal(-value.constant, value.dtype)
    if value.dtype == "bool" or not (value.is_float or value.coordinate):
        value = cast(value, "i64")
    return replace(value, code=f"-{value.at(NEGATION)}", level=NEGATION, nonnegative=False)


def _joined(op: str, level: int, values: list[Value], scope: Scope) -> Value:
    """Booleans joined by ``&`` or ``|``."""
    if len(values) == 1:
        return values[0]
    dims = union(tuple(values), scope.dims)
    code = f" {op} ".join(spread(v, dims).at(level + 1) for v in values)
    if len({bool(v.dims) for v in values}) > 1:
        # Triton's interpreter gives integers for a block with a scalar and then refuses them as a mask.
        return Value(f"({code}) != 0", "bool", dims, COMPARISON)
    return Value(code, "bool", dims, level)


def _infix(op: str, level: int, left: Value, right: Value, scope: Scope) -> Value:
    dims = union((left, right), scope.dims)
    code = f"{spread(left, dims).at(level)} {op} {spread(right, dims).at(level + 1)}"
    return replace(left, code=code, dims=dims, level=level, constant=None, nonnegative=False, coordinate=False)


def _function(name: str, values: tuple[Value, ...], dtype: str, scope: Scope, more: str = "") -> Value:
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


def _compared(op: str, left: Value, right: Value, scope: Scope) -> Value:
    if left.is_float or right.is_float or "bool" in (left.dtype, right.dtype):
        left, right = _promoted(left, right)
    # Python chains comparisons, so an operand that is one itself needs parentheses on both sides.
    left = replace(left, code=f"({left.code})", level=ATOM) if left.level == COMPARISON else left
    return replace(_infix(op, COMPARISON, left, right, scope), dtype="bool")


def _binary(node: Binary, scope: Scope) -> Value:
    left, right = print_value(node.left, scope), print_value(node.right, scope)
    op = node.operator
    if op in ("and", "or"):
        return _joined(
            "&" if op == "and" else "|", AND if op == "and" else OR, [_boolean(left), _boolean(right)], scope
        )
    if op in ARITHMETIC:
        return _arithmetic(op, left, right, node, scope)
    if op in BITS:
        if left.is_float or right.is_float:
            raise BackendError(f"'{op}' takes integers", node.span)
        if left.dtype == right.dtype == "bool" and op in ("&", "|", "^"):
            return _infix(op, BITS[op], left, right, scope)
        left, right = _wide(left), _wide(right)
        return _infix(op, BITS[op], left, right, scope)
    if op == "/":
        left, right = _promoted(_floating(left, scope), _floating(right, scope))
        return _infix("/", PRODUCT, left, right, scope)
    if op in ("//", "%"):
        return _floor_division(op, left, right, scope)
    if op == "**":
        return _power(left, right, node, scope)
    raise BackendError(f"operator '{op}' has no Triton form", node.span)


def _wide(value: Value) -> Value:
    """An integer in 64 bits, coordinates included."""
    if value.constant is not None:
        return value
    return replace(cast(value, "i64"), coordinate=False)


def _arithmetic(op: str, left: Value, right: Value, node: Binary, scope: Scope) -> Value:
    nonnegative = op != "-" and left.nonnegative and right.nonnegative
    if left.is_float or right.is_float:
        left, right = _promoted(left, right)
        if left.constant is not None and right.constant is not None:
            a, b = float(left.constant), float(right.constant)
            return literal({"+": a + b, "-": a - b, "*": a * b}[op], left.dtype)
        return replace(_infix(op, ARITHMETIC[op], left, right, scope), nonnegative=nonnegative)
    stays = left.coordinate and right.coordinate and (op != "*" or _is_tile_product(node))
    if not stays:
        left, right = _wide(left), _wide(right)
    dtype = "i32" if stays else "i64"
    return replace(
        _infix(op, ARITHMETIC[op], left, right, scope), dtype=dtype, nonnegative=nonnegative, coordinate=stays
    )


def _is_tile_product(node: Binary) -> bool:
    """A tile size times a tile index: a coordinate, so it stays below the extent."""
    pair = (node.left, node.right)
    return any(isinstance(n, Constant) for n in pair) and any(isinstance(n, Rank) and "." in n.name for n in pair)


def _floor_division(op: str, left: Value, right: Value, scope: Scope) -> Value:
    if left.is_float or right.is_float:
        left, right = _promoted(_floating(left, scope), _floating(right, scope))
        if op == "//":
            return _function("tl.floor", (_infix("/", PRODUCT, left, right, scope),), left.dtype, scope)
        scope.helpers.add("floor_mod_float")
        return _function("floor_mod_float", (left, right), left.dtype, scope)
    stays = left.coordinate and right.coordinate
    if not stays:
        left, right = _wide(left), _wide(right)
    dtype = "i32" if stays else "i64"
    if left.nonnegative and right.nonnegative:
        value = _infix(op, PRODUCT, left, right, scope)
        return replace(value, dtype=dtype, nonnegative=True, coordinate=stays)
    name = "floor_div" if op == "//" else "floor_mod"
    scope.helpers.add(name)
    positive = right.nonnegative and op == "%"
    return replace(_function(name, (left, right), dtype, scope), nonnegative=positive, coordinate=stays)


def _power(left: Value, right: Value, node: Binary, scope: Scope) -> Value:
    if right.constant is not None and float(right.constant).is_integer() and 0 <= right.constant <= 16:
        exponent = int(right.constant)
        base = as_computed(left) if left.is_float else cast(left, scope.real if right.is_float else "i64")
        if exponent == 0:
            return literal(1, base.dtype)
        scope.helpers.add("integer_power")
        return _function("integer_power", (base,), base.dtype, scope, f", {exponent}") if exponent > 1 else base
    if not (left.is_float or right.is_float):
        raise BackendError("an integer power needs a constant exponent from 0 to 16", node.span)
    left, right = _promoted(_floating(left, scope), _floating(right, scope))
    scope.helpers.add("power")
    return _function("power", (left, right), left.dtype, scope)


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
        first = _floating(first, scope)
        return _function(PLAIN_FUNCTIONS[name], (first,), first.dtype, scope)
    if name == "sqrt":
        first = _floating(first, scope)
        return _function("tl.sqrt_rn" if first.dtype == "f32" else "tl.sqrt", (first,), first.dtype, scope)
    if name == "erf":
        first = _floating(first, scope)
        return _function("tl.math.erf", (first,), first.dtype, scope)
    if name in DEFINED_FUNCTIONS:
        first = _floating(first, scope)
        scope.helpers.add(name)
        return _function(name, (first,), first.dtype, scope)
    if name in ("floor", "ceil", "round"):
        if not first.is_float:
            return first
        first = _floating(first, scope)
        if name == "round":
            scope.helpers.add("round_even")
        code = {"floor": "tl.floor", "ceil": "tl.ceil", "round": "round_even"}[name]
        return _function(code, (first,), first.dtype, scope)
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


def extreme(name: str, left: Value, right: Value, scope: Scope) -> Value:
    """The larger (``max``) or smaller of two values; NaN if either is NaN."""
    left, right = _promoted(left, right)
    coordinate = left.coordinate and right.coordinate
    nan = ", propagate_nan=tl.PropagateNan.ALL" if left.is_float else ""
    value = _function("tl.maximum" if name == "max" else "tl.minimum", (left, right), left.dtype, scope, nan)
    some, every = left.nonnegative or right.nonnegative, left.nonnegative and right.nonnegative
    dtype = "i32" if coordinate else left.dtype
    return replace(value, dtype=dtype, nonnegative=some if name == "max" else every, coordinate=coordinate)


def _signed(name: str, value: Value, scope: Scope) -> Value:
    if value.dtype == "bool":
        value = cast(value, "i64")
    zero = literal(0, value.dtype)
    if name == "relu":
        return extreme("max", value, zero, scope)
    if name == "abs":
        return replace(_function("tl.abs", (value,), value.dtype, scope), nonnegative=True, coordinate=value.coordinate)
    scope.helpers.add("sign")
    return _function("sign", (value,), value.dtype, scope)


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
    return _negated(print_value(Binary("//", Unary("-", inner.left), inner.right), scope))


def _uniform(values: tuple[Value, ...], node: Call, scope: Scope) -> Value:
    if len(values) > 1 + UNIFORM_COORDINATES:
        raise BackendError(f"uniform takes at most {UNIFORM_COORDINATES} coordinates after the seed", node.span)
    scope.helpers.add("uniform")
    words = tuple(_wide(v) for v in values)
    words += (literal(0, "i64"),) * (1 + UNIFORM_COORDINATES - len(words))
    return replace(_function("uniform", words, "f32", scope), nonnegative=True)
