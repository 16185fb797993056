"""Comparisons and conjunctions as C++: what lanes share is compared once, and bounds of positions take 32 bits."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import TYPE_CHECKING

from einsum_compiler.backends.cpu.affine import FLIPPED, depends, integral, links, negated, position_bound, undivided
from einsum_compiler.backends.cpu.columns import columns_of
from einsum_compiler.backends.cpu.values import LANE, Value, common, operand, to_type
from einsum_compiler.ir.build import add, conjunction, conjuncts
from einsum_compiler.ir.expression import Binary, Call, Comparison, Constant, Expression, Parameter, Read, Unary, walk

if TYPE_CHECKING:
    from einsum_compiler.backends.cpu.expressions import Expressions

COMPARED = {"<": "less", "<=": "less_equal", ">": "greater", ">=": "greater_equal", "==": "equal", "!=": "unequal"}


def logical(printer: Expressions, operator: str, left: Value, right: Value) -> Value:
    """``&`` or ``|`` of two truth values; a constant one decides or drops out."""
    for a, b in ((left, right), (right, left)):
        if isinstance(a.constant, bool):
            return b if a.constant == (operator == "&") else a
    level, (left, right) = printer.combine(left, right)
    if level == LANE:
        return Value(f"{operand(left, 'bool')} {operator} {operand(right, 'bool')}", "bool", LANE, simple=False)
    return Value(f"{left.atom} {operator * 2} {right.atom}", "bool", level, simple=False)


def _without_quotient(printer: Expressions, node: Comparison) -> tuple[Comparison, ...] | None:
    """A comparison of a quotient over lanes as bounds, so that no lane divides.

    Not where a shift of 32 bits does it: for a power of two and a sum of coordinates.
    """
    lanes, known = {printer.lane or ""}, printer.names.known
    if not integral(node, known):
        return None
    for operands, operator in (
        (node.operands, node.operators[0]),
        (node.operands[::-1], FLIPPED[node.operators[0]]),
    ):
        quotient, k = operands
        if depends(k, lanes, known) or not depends(quotient, lanes, known) or not isinstance(quotient, Binary):
            continue
        c = quotient.right.value if isinstance(quotient.right, Constant) else 0
        short = not any(isinstance(n, Parameter | Read) for n in walk(quotient.left))
        if isinstance(c, int) and c > 1 and not (short and c & (c - 1) == 0):
            return undivided(Comparison((operator,), operands))
    return None


def _apart(printer: Expressions, node: Comparison) -> Comparison | None:
    """A comparison of integers with all that changes along lanes on the left, where that is a column."""
    if printer.columns is None or printer.lane is None or not integral(node, printer.names.known):
        return None
    difference = Binary("-", node.operands[0], node.operands[1])
    parts = columns_of(difference, {printer.lane}, set(printer.positions) - {printer.lane}, printer.names.known)
    if parts is None or not printer.is_column(parts[0]):
        return None
    column, rest = parts
    if isinstance(column, Unary):
        return Comparison((FLIPPED[node.operators[0]],), (column.operand, rest))
    return Comparison(node.operators, (column, negated(rest)))


def intervals(printer: Expressions, node: Expression) -> Value | None:
    """A conjunction where several bounds on one column are one: ``c < a and c < b`` is ``c < min(a, b)``."""
    if printer.columns is None:
        return None
    limits: dict[tuple[Expression, bool], list[Expression]] = {}
    others: list[Expression] = []
    parts: list[Expression] = []
    for whole in conjuncts(node):
        for link in links(whole) or (whole,):
            parts.extend((isinstance(link, Comparison) and _without_quotient(printer, link)) or (link,))
    for part in parts:
        moved = _apart(printer, part) if isinstance(part, Comparison) else None
        if moved is None or moved.operators[0] in ("==", "!="):
            others.append(part)
            continue
        operator, (column, bound) = moved.operators[0], moved.operands
        above = operator in (">", ">=")
        limits.setdefault((column, above), []).append(add(bound, Constant(int(operator in (">", "<=")))))
    if all(len(found) == 1 for found in limits.values()):
        return None
    for (column, above), found in limits.items():
        bound = found[0] if len(found) == 1 else Call("max" if above else "min", tuple(found))
        others.append(Comparison((">=" if above else "<",), (column, bound)))
    return all_of(printer, others)


def all_of(printer: Expressions, parts: Sequence[Expression]) -> Value:
    """A conjunction: what a row decides together, and what the lanes alone decide in one column."""
    by_row: list[Value] = []
    shared: list[Expression] = []
    others: list[Expression] = []
    for part in parts:
        made_here = any(isinstance(n, Read) and n.tensor in printer.locals for n in walk(part))
        if printer.columns is None or printer.lane is None or not printer.positions or made_here:
            others.append(part)
        elif not depends(part, {printer.lane}, printer.names.known):
            by_row.append(printer.condition(part))
        elif depends(part, set(printer.positions) - {printer.lane}, printer.names.known):
            others.append(part)
        else:
            shared.append(part)
    column = None
    if len(shared) > 1:
        node = conjunction(shared)
        assert node is not None
        column = printer.filled(node)
    values = [*by_row, *([column] if column else [printer.condition(p) for p in shared])]
    return reduce(lambda a, b: logical(printer, "&", a, b), [*values, *(printer.condition(p) for p in others)])


def compared(printer: Expressions, node: Comparison) -> Value:
    """A comparison of two operands."""
    if printer.lane is not None and (bounds := _without_quotient(printer, node)) is not None:
        found_bounds = [compared(printer, b) for b in bounds]
        return logical(printer, "&", *found_bounds) if len(bounds) == 2 else found_bounds[0]
    moved = _apart(printer, node)
    if moved is not None:
        node = moved
    elif printer.lane is not None:
        found = position_bound(node, printer.lane, printer.names.known)
        if found is not None:
            bound = printer.bind(printer.value(found[1]), "bound")
            if bound.level < LANE:
                near = printer.bind(Value(f"tile::near({bound.code})", "i32", bound.level), "bound")
                return Value(f"tile::columns(j) {found[0]} int32_t({near.code})", "bool", LANE, simple=False)
    level, (left, right) = printer.combine(printer.value(node.operands[0]), printer.value(node.operands[1]))
    operator = node.operators[0]
    if left.dtype == right.dtype == "bool":
        left, right = (to_type(v, "i32" if v.level == LANE else "i64") for v in (left, right))
    dtype = common(left.dtype, right.dtype, printer.real)
    if {left.dtype, right.dtype} == {"i32", "coord"}:
        dtype = "i32"
    if level < LANE:
        return Value(
            f"{to_type(left, dtype).atom} {operator} {to_type(right, dtype).atom}", "bool", level, simple=False
        )
    if left.level < LANE:  # a vector stands on the left of an operator
        left, right, operator = right, left, FLIPPED[operator]
    if left.dtype == "coord" and right.level < LANE and right.dtype == "i64":
        # A coordinate lies strictly within 32 bits, so a bound beyond them may be cut to them.
        right, dtype = printer.bind(Value(f"tile::saturated({right.code})", "coord", right.level), "bound"), "coord"
    if dtype in ("f64", "i64"):  # Note [Wide vectors] in vector.hpp
        code = f"tile::compared(tile::{COMPARED[operator]}(), {operand(left, dtype)}, {operand(right, dtype)})"
        return Value(f"tile::as_mask({code})", "bool", LANE)
    return Value(f"{operand(left, dtype)} {operator} {operand(right, dtype)}", "bool", LANE, simple=False)
