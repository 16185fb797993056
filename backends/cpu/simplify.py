"""Rewrites before emission: cheap maps move into what reads them, maps into the store they are for, and exponentials learn that their argument is not positive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from einsum_compiler.ir.expression import (
    Binary,
    Call,
    Comparison,
    Conditional,
    Constant,
    Expression,
    Parameter,
    Rank,
    Read,
    transform,
    walk,
)
from einsum_compiler.ir.tile import Dot, Load, Loop, Map, Reduce, Select, Statement, Store
from einsum_compiler.ir.tile_ranges import expressions_of, reads_in

CHEAP = ("+", "-", "*")


def simplify(body: Sequence[Statement], kept: set[str]) -> tuple[Statement, ...]:
    """The statements rewritten; tiles in ``kept`` keep a buffer."""
    return _store_computed(_inline_cheap_maps(_mark_nonpositive(body), kept), kept)


# Exponentials of x - max(x) -------------------------------------------------------------------------------------------------


def _mark_nonpositive(body: Sequence[Statement]) -> list[Statement]:
    """``exp(a - b)`` where b is a maximum that a takes part in: the argument is <= 0 or NaN, so no upper limit is tested."""
    made: dict[str, Statement] = {}
    found: list[Statement] = []
    for statement in body:

        def mark(node: Expression) -> Expression:
            if isinstance(node, Call) and node.function in ("exp", "exp2"):
                argument = node.arguments[0]
                if (
                    isinstance(argument, Binary)
                    and argument.operator == "-"
                    and _at_most(argument.left, argument.right, made)
                ):
                    return replace(node, function=node.function + ".nonpositive")
            return node

        found.append(map_expressions(statement, lambda e: transform(e, mark)))
        if not isinstance(statement, Store):
            made[getattr(statement, "target", "")] = statement
    return found


def _at_most(left: Expression, right: Expression, made: dict[str, Statement]) -> bool:
    """Whether ``left <= right`` wherever neither is NaN and ``left`` is -inf where ``right`` is."""
    bound = _unguarded(right, made)
    maximum = made.get(bound.tensor) if isinstance(bound, Read) else None
    if not isinstance(maximum, Reduce) or maximum.operator != "max":
        return False
    return left in (maximum.value, maximum.accumulator)


def _unguarded(node: Expression, made: dict[str, Statement]) -> Expression:
    """``M`` of ``if(M == -inf, 0, M)``, also through the name of a tile: where M is -inf, what it bounds is too."""
    if isinstance(node, Read):
        definition = made.get(node.tensor)
        if isinstance(definition, Map):
            inner = _unguarded(definition.value, made)
            return inner if inner is not definition.value or isinstance(inner, Read) else node
        return node
    match node:
        case Conditional(
            condition=Comparison(operators=("==",), operands=(tested, Constant(value=limit))),
            then=Constant(),
            otherwise=value,
        ) if tested == value and limit == -float("inf") and _is_zero(node.then):
            return value
    return node


def _is_zero(node: Expression) -> bool:
    return isinstance(node, Constant) and node.value == 0


# Cheap maps ------------------------------------------------------------------------------------------------------------------


def _inline_cheap_maps(body: Sequence[Statement], kept: set[str]) -> tuple[Statement, ...]:
    """A map of one addition or product that only element-wise statements read is computed where it is read.

    That costs an instruction beside the load of its operand and saves a store and a load of a whole tile. A product keeps the rounding of its
    tile: if one sweep stores scores and the next contracts ``q*k*scale - max`` into a multiply-add, probabilities near 1 differ by the rounding of the score.
    """
    values: dict[str, Expression] = {}
    found: list[Statement] = []
    operands = {n for s in body if isinstance(s, Dot) for n in (s.left, s.right)}
    indexing = {n for s in body if isinstance(s, Load) for n in reads_in(s)}
    for statement in body:

        def put(node: Expression) -> Expression:
            return values.get(node.tensor, node) if isinstance(node, Read) else node

        statement = map_expressions(statement, lambda e: transform(e, put))
        if isinstance(statement, Map) and statement.target not in kept | operands | indexing and _is_cheap(statement):
            value = statement.value
            multiplies = isinstance(value, Binary) and value.operator == "*"
            values[statement.target] = Call("rounded", (value,)) if multiplies else value
        else:
            found.append(statement)
    return tuple(found)


def _is_cheap(statement: Map) -> bool:
    if statement.type.dtype not in ("f32", "f64") or len(statement.type.axes) < 2:
        return False
    match statement.value:
        case Binary(operator=operator, left=left, right=right) if operator in CHEAP:
            reads = [n for n in walk(statement.value) if isinstance(n, Read)]
            return len(reads) == 1 and all(isinstance(x, Read | Parameter | Constant) for x in (left, right))
    return False


def _store_computed(body: Sequence[Statement], kept: set[str]) -> tuple[Statement, ...]:
    """A map that one store alone reads is computed where it is stored: its tile is not written and read in between.

    Not where the store scatters the elements of a row: it would compute them one by one.
    """
    reads = Counter(n.tensor for s in body for e in expressions_of(s) for n in walk(e) if isinstance(n, Read))
    reads.update(n for s in body if isinstance(s, Dot) for n in (s.left, s.right))
    reads.update(n for s in body if isinstance(s, Loop) for n in reads_in(s))
    alone = {s.target: s for s in body if isinstance(s, Map) and s.target not in kept and reads[s.target] == 1}
    stored: set[str] = set()
    found: list[Statement] = []
    for statement in body:
        if isinstance(statement, Store) and isinstance(statement.value, Read) and not statement.adds:
            made = alone.get(statement.value.tensor)
            fits = made is not None and made.type.axes == statement.axes and made.type.dtype in ("f32", "f64")
            if made is not None and fits and not _scatters(statement):
                stored.add(made.target)
                statement = replace(statement, value=made.value)
        found.append(statement)
    return tuple(s for s in found if not (isinstance(s, Map) and s.target in stored))


def _scatters(store: Store) -> bool:
    """Whether neighbours of a row lie apart: an index divides the last axis."""
    divided = [n for i in store.indices for n in walk(i) if isinstance(n, Binary) and n.operator in ("//", "%")]
    return any(n == Rank(store.axes[-1].rank) for d in divided for n in walk(d)) if store.axes else False


def map_expressions(statement: Statement, change: object) -> Statement:
    """The statement with a function applied to each of its expressions."""
    assert callable(change)

    def maybe(node: Expression | None) -> Expression | None:
        return None if node is None else change(node)

    match statement:
        case Load():
            return replace(
                statement, indices=tuple(change(i) for i in statement.indices), where=maybe(statement.where),
                partial_where=maybe(statement.partial_where),
            )  # fmt: skip
        case Map():
            return replace(statement, value=change(statement.value))
        case Select():
            return replace(statement, condition=change(statement.condition), value=change(statement.value))
        case Reduce():
            return replace(statement, value=change(statement.value), accumulator=maybe(statement.accumulator))
        case Dot():
            return replace(statement, accumulator=maybe(statement.accumulator))
        case Store():
            return replace(
                statement, indices=tuple(change(i) for i in statement.indices), value=change(statement.value),
                where=maybe(statement.where),
            )  # fmt: skip
    return statement
