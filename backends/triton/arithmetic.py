"""Operators with two operands as Triton code.

Integers compute in 64 bits, except coordinates and extents, whose sums stay in 32 (the launch refuses extents for which they would not).
"""

from __future__ import annotations

from dataclasses import replace

from einsum_compiler.backends.triton.combine import (
    Scope,
    applied,
    as_computed,
    boolean,
    floating,
    infix,
    joined,
    promoted,
    wide,
)
from einsum_compiler.backends.triton.value import AND, OR, PRODUCT, SHIFT, SUM, XOR, Value, cast, literal
from einsum_compiler.ir.errors import BackendError
from einsum_compiler.ir.expression import Binary, Constant, Rank

ARITHMETIC = {"+": SUM, "-": SUM, "*": PRODUCT}
BITS = {"&": AND, "|": OR, "^": XOR, "<<": SHIFT, ">>": SHIFT}


def binary_value(node: Binary, left: Value, right: Value, scope: Scope) -> Value:
    """The value of an operator applied to the values of its operands. Raises BackendError for what has no Triton form."""
    op = node.operator
    if op in ("and", "or"):
        return joined("&" if op == "and" else "|", AND if op == "and" else OR, [boolean(left), boolean(right)], scope)
    if op in ARITHMETIC:
        return _arithmetic(op, left, right, node, scope)
    if op in BITS:
        if left.is_float or right.is_float:
            raise BackendError(f"'{op}' takes integers", node.span)
        if left.dtype == right.dtype == "bool" and op in ("&", "|", "^"):
            return infix(op, BITS[op], left, right, scope)
        left, right = wide(left), wide(right)
        return infix(op, BITS[op], left, right, scope)
    if op == "/":
        left, right = promoted(floating(left, scope), floating(right, scope))
        return infix("/", PRODUCT, left, right, scope)
    if op in ("//", "%"):
        return _floor_division(op, left, right, scope)
    if op == "**":
        return _power(left, right, scope)
    raise BackendError(f"operator '{op}' has no Triton form", node.span)


def _arithmetic(op: str, left: Value, right: Value, node: Binary, scope: Scope) -> Value:
    nonnegative = op != "-" and left.nonnegative and right.nonnegative
    if left.is_float or right.is_float:
        left, right = promoted(left, right)
        if left.constant is not None and right.constant is not None:
            a, b = float(left.constant), float(right.constant)
            return literal({"+": a + b, "-": a - b, "*": a * b}[op], left.dtype)
        return replace(infix(op, ARITHMETIC[op], left, right, scope), nonnegative=nonnegative)
    stays = left.coordinate and right.coordinate and (op != "*" or _is_tile_product(node))
    if not stays:
        left, right = wide(left), wide(right)
    dtype = "i32" if stays else "i64"
    return replace(
        infix(op, ARITHMETIC[op], left, right, scope), dtype=dtype, nonnegative=nonnegative, coordinate=stays
    )


def _is_tile_product(node: Binary) -> bool:
    """A tile size times a tile index: a coordinate, so it stays below the extent."""
    pair = (node.left, node.right)
    return any(isinstance(n, Constant) for n in pair) and any(isinstance(n, Rank) and "." in n.name for n in pair)


def _floor_division(op: str, left: Value, right: Value, scope: Scope) -> Value:
    if left.is_float or right.is_float:
        left, right = promoted(floating(left, scope), floating(right, scope))
        if op == "//":
            return applied("tl.floor", (infix("/", PRODUCT, left, right, scope),), left.dtype, scope)
        scope.helpers.add("floor_mod_float")
        return applied("floor_mod_float", (left, right), left.dtype, scope)
    stays = left.coordinate and right.coordinate
    if not stays:
        left, right = wide(left), wide(right)
    dtype = "i32" if stays else "i64"
    if left.nonnegative and right.nonnegative:
        value = infix(op, PRODUCT, left, right, scope)
        return replace(value, dtype=dtype, nonnegative=True, coordinate=stays)
    name = "floor_div" if op == "//" else "floor_mod"
    scope.helpers.add(name)
    positive = right.nonnegative and op == "%"
    return replace(applied(name, (left, right), dtype, scope), nonnegative=positive, coordinate=stays)


def _power(left: Value, right: Value, scope: Scope) -> Value:
    if right.constant is not None and float(right.constant).is_integer() and 0 <= right.constant <= 16:
        exponent = int(right.constant)
        base = as_computed(left) if left.is_float else cast(left, scope.real if right.is_float else "i64")
        if exponent == 0:
            return literal(1, base.dtype)
        scope.helpers.add("integer_power")
        return applied("integer_power", (base,), base.dtype, scope, f", {exponent}") if exponent > 1 else base
    if not (left.is_float or right.is_float):
        scope.helpers.add("integer_power_of")
        return applied("integer_power_of", (cast(left, "i64"), cast(right, "i64")), "i64", scope)
    left, right = promoted(floating(left, scope), floating(right, scope))
    scope.helpers.add("power")
    return applied("power", (left, right), left.dtype, scope)
