"""Loops that visit no tile: what they carry keeps its first value, and what follows from that is known before the kernel runs.

Law: a loop without ranges is the assignment of the initial values. Constants are then put where they are read, conditions on them decided,
and what nobody reads any more is not loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from einsum_compiler.ir.expression import Comparison, Conditional, Constant, Expression, transform
from einsum_compiler.ir.fold import fold
from einsum_compiler.ir.tile import Loop, Map, Statement, Store
from einsum_compiler.ir.tile_ranges import needed, renamed

DECIDED = {
    "<": float.__lt__, "<=": float.__le__, ">": float.__gt__,
    ">=": float.__ge__, "==": float.__eq__, "!=": float.__ne__,
}  # fmt: skip


def without_unvisited(body: Sequence[Statement]) -> tuple[Statement, ...]:
    """The statements of a kernel without the loops that have no ranges; the same if there are none."""
    if not any(isinstance(s, Loop) and not s.ranges for s in body):
        return tuple(body)
    known: dict[str, Expression] = {}
    found: list[Statement] = []
    for loop in body:
        empty = isinstance(loop, Loop) and not loop.ranges
        for statement in [Map(c.name, c.type, c.initial) for c in loop.carries] if empty else [loop]:  # type: ignore[attr-defined]
            statement = renamed(statement, known)
            if isinstance(statement, Map | Store):
                statement = replace(statement, value=_decided(statement.value))
            if isinstance(statement, Map) and isinstance(statement.value, Constant):
                known[statement.target] = statement.value
            found.append(statement)
    return needed(found)


def _decided(node: Expression) -> Expression:
    """The expression with comparisons of constants decided, reals too: they are exact."""

    def change(n: Expression) -> Expression:
        match n:
            case Comparison(operators=(operator,), operands=(Constant(value=left), Constant(value=right))):
                return Constant(bool(DECIDED[operator](float(left), float(right))))
            case Conditional(condition=Constant(value=taken), then=then, otherwise=otherwise):
                return then if taken else otherwise
        return n

    return fold(transform(node, change))
