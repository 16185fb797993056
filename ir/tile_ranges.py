"""The body of a loop as it stands in full ranges and in partial ranges."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from einsum_compiler.ir.build import conjunction
from einsum_compiler.ir.errors import VerifyError
from einsum_compiler.ir.expression import Expression, Read, transform, walk
from einsum_compiler.ir.tile import Dot, Load, Loop, Map, Range, Reduce, Select, Statement, Store


def loop_body(loop: Loop, partial: bool) -> tuple[Statement, ...]:
    """The statements of ``loop`` for one class of ranges, without partial marks and without dead tiles.

    In a full range a partial ``Select`` is its value and a ``partial_where`` is true; what only they needed is not computed.
    """
    aliases: dict[str, Expression] = {}
    found: list[Statement] = []
    for statement in loop.body:
        if isinstance(statement, Loop):
            raise VerifyError(
                f"the loop over {loop.rank} holds a loop over {statement.rank}; tile programs do not nest loops"
            )
        statement = renamed(statement, aliases)
        if isinstance(statement, Select) and statement.partial:
            if not partial:
                aliases[statement.target] = statement.value
                continue
            statement = replace(statement, partial=False)
        elif isinstance(statement, Load) and statement.partial_where is not None:
            where = conjunction([statement.where, statement.partial_where]) if partial else statement.where
            statement = replace(statement, where=where, partial_where=None)
        found.append(statement)
    # A carried value may itself be an alias in full ranges: it keeps its name through a copy.
    axes = {c.next: c.type for c in loop.carries}
    found.extend(Map(name, axes[name], value) for name, value in aliases.items() if name in axes)
    return needed(found, {c.next for c in loop.carries})


def needed(statements: Sequence[Statement], names: Collection[str] = ()) -> tuple[Statement, ...]:
    """The statements that a store, a loop or one of the tiles named needs."""
    live = set(names)
    kept: list[Statement] = []
    for statement in reversed(statements):
        if isinstance(statement, Store | Loop) or getattr(statement, "target", None) in live:
            kept.append(statement)
            live |= reads_in(statement)
    return tuple(reversed(kept))


def expressions_of(statement: Statement) -> tuple[Expression, ...]:
    """Every expression of a statement (a product's operands are names: see ``reads_in``)."""
    match statement:
        case Load():
            return (*statement.indices, *(w for w in (statement.where, statement.partial_where) if w))
        case Map():
            return (statement.value,)
        case Select():
            return (statement.condition, statement.value)
        case Dot():
            return (statement.accumulator,) if statement.accumulator else ()
        case Reduce():
            return (statement.value, *((statement.accumulator,) if statement.accumulator else ()))
        case Store():
            return (*statement.indices, statement.value, *((statement.where,) if statement.where else ()))
    return ()


def reads_in(statement: Statement) -> set[str]:
    """The names of the tiles a statement reads."""
    names = {n.tensor for e in expressions_of(statement) for n in walk(e) if isinstance(n, Read)}
    if isinstance(statement, Dot):
        names |= {statement.left, statement.right}
    if isinstance(statement, Loop):
        names |= {n.tensor for e in expressions_around(statement) for n in walk(e) if isinstance(n, Read)}
        for inner in statement.body:
            names |= reads_in(inner)
    return names


def expressions_around(loop: Loop) -> tuple[Expression, ...]:
    """Every expression of a loop but those of its body: initial values, its filter, and the bounds of its ranges."""
    where = (loop.where,) if loop.where is not None else ()
    bounds = (e for r in loop.ranges for e in ((r.lower, r.upper) if isinstance(r, Range) else (r.position,)))
    return (*(c.initial for c in loop.carries), *where, *bounds)


def renamed(statement: Statement, aliases: Mapping[str, Expression]) -> Statement:
    """The statement with expressions in place of some tiles; loops stay as they are, and so do operands of products that would be no tiles."""
    if not aliases:
        return statement

    def change(node: Expression) -> Expression:
        return aliases.get(node.tensor, node) if isinstance(node, Read) else node

    def of(node: Expression) -> Expression:
        return transform(node, change)

    def maybe(node: Expression | None) -> Expression | None:
        return None if node is None else of(node)

    match statement:
        case Load():
            return replace(
                statement,
                indices=tuple(map(of, statement.indices)),
                where=maybe(statement.where),
                partial_where=maybe(statement.partial_where),
            )
        case Map():
            return replace(statement, value=of(statement.value))
        case Select():
            return replace(statement, condition=of(statement.condition), value=of(statement.value))
        case Reduce():
            return replace(statement, value=of(statement.value), accumulator=maybe(statement.accumulator))
        case Store():
            return replace(
                statement,
                indices=tuple(map(of, statement.indices)),
                value=of(statement.value),
                where=maybe(statement.where),
            )
        case Dot():
            left, right = aliases.get(statement.left), aliases.get(statement.right)
            return replace(
                statement,
                left=left.tensor if isinstance(left, Read) else statement.left,
                right=right.tensor if isinstance(right, Read) else statement.right,
                accumulator=maybe(statement.accumulator),
            )
    return statement
