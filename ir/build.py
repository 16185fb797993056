"""Short builders for expressions, with the folding that keeps printed code readable."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from math import prod

from einsum_compiler.ir.expression import (
    Binary,
    Comparison,
    Constant,
    Expression,
    Extent,
    Parameter,
    Rank,
    Read,
    reads_in,
    transform,
    walk,
)

TRUE = Constant(True)
FALSE = Constant(False)


def number(value: float) -> Constant:
    return Constant(value)


def add(left: Expression, right: Expression) -> Expression:
    if isinstance(left, Constant) and isinstance(right, Constant):
        return Constant(left.value + right.value)
    if left == Constant(0):
        return right
    return left if right == Constant(0) else Binary("+", left, right)


def multiply(left: Expression, right: Expression) -> Expression:
    if isinstance(left, Constant) and isinstance(right, Constant):
        return Constant(left.value * right.value)
    if left == Constant(1):
        return right
    return left if right == Constant(1) else Binary("*", left, right)


def less(left: Expression, right: Expression) -> Expression:
    return Comparison(("<",), (left, right))


def nonnegative(value: Expression) -> Expression:
    return Comparison(("<=",), (Constant(0), value))


def ceil_divide(value: Expression, size: int) -> Expression:
    """``(value + size - 1) // size``."""
    if isinstance(value, Constant) and isinstance(value.value, int):
        return Constant(-(-value.value // size))
    return value if size == 1 else Binary("//", add(value, Constant(size - 1)), Constant(size))


def box_place(axis: int, sizes: tuple[int, ...], place: Expression) -> Expression:
    """The coordinate along one axis of a box, from a place among its points, the last axis fastest."""
    behind = prod(sizes[axis + 1 :])
    if behind > 1:
        place = Binary("//", place, Constant(behind))
    return place if axis == 0 else Binary("%", place, Constant(sizes[axis]))


def conjuncts(predicate: Expression | None) -> tuple[Expression, ...]:
    """The operands of the outermost ``and``; none for ``None`` and ``true``."""
    if predicate is None or predicate == TRUE:
        return ()
    if isinstance(predicate, Binary) and predicate.operator == "and":
        return conjuncts(predicate.left) + conjuncts(predicate.right)
    return (predicate,)


def conjunction(parts: Iterable[Expression | None]) -> Expression | None:
    """The conjunction of all parts, each conjunct once; None if nothing is left."""
    found: dict[Expression, None] = {}
    for part in parts:
        found.update(dict.fromkeys(conjuncts(part)))
    result: Expression | None = None
    for part in found:
        result = part if result is None else Binary("and", result, part)
    return result


def disjunction(parts: Iterable[Expression]) -> Expression:
    """The disjunction of all parts, each once; ``false`` of none."""
    result: Expression | None = None
    for part in dict.fromkeys(parts):
        result = part if result is None else Binary("or", result, part)
    return FALSE if result is None else result


def ranks_of(*nodes: Expression | None) -> tuple[str, ...]:
    """The rank variables that occur, in order of first occurrence."""
    found = (n.name for node in nodes if node is not None for n in walk(node) if isinstance(n, Rank))
    return tuple(dict.fromkeys(found))


def extents_of(*nodes: Expression | None) -> tuple[str, ...]:
    """The ranks whose extents occur."""
    found = (n.rank for node in nodes if node is not None for n in walk(node) if isinstance(n, Extent))
    return tuple(dict.fromkeys(found))


def parameters_of(*nodes: Expression | None) -> tuple[str, ...]:
    """The scalar parameters that occur."""
    found = (n.name for node in nodes if node is not None for n in walk(node) if isinstance(n, Parameter))
    return tuple(dict.fromkeys(found))


def reads_of(*nodes: Expression | None) -> tuple[Read, ...]:
    """The reads that occur, outer ones first."""
    return tuple(chain.from_iterable(reads_in(node) for node in nodes if node is not None))


def substitute_ranks(node: Expression, values: dict[str, Expression]) -> Expression:
    """The expression with rank variables replaced."""
    return transform(node, lambda n: values.get(n.name, n) if isinstance(n, Rank) else n)
