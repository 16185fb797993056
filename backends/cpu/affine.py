"""Index expressions and conditions as affine functions of a position on an axis."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from einsum_compiler.ir.build import add, multiply
from einsum_compiler.ir.expression import (
    Binary,
    Comparison,
    Constant,
    Expression,
    Extent,
    Parameter,
    Rank,
    Read,
    Unary,
    children,
    walk,
)

Affine = tuple[dict[str, int], Expression]

FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}  # with the operands exchanged


@dataclass(frozen=True, slots=True)
class Known:
    """The axes of every tile, and which tiles and scalars hold integers."""

    tiles: Mapping[str, tuple[str, ...]]
    integers: AbstractSet[str]


def depends(node: Expression, ranks: set[str], known: Known) -> bool:
    """Whether a value changes along one of the ranks, directly or through a tile with such an axis."""
    for n in walk(node):
        if isinstance(n, Rank) and n.name in ranks:
            return True
        if isinstance(n, Read) and ranks.intersection(known.tiles.get(n.tensor, ())):
            return True
    return False


def affine(node: Expression, ranks: set[str], known: Known) -> Affine | None:
    """Coefficients by rank and the rest, free of the ranks; None if the expression is not affine in them."""
    if not depends(node, ranks, known):
        return {}, node
    match node:
        case Rank(name=name):
            return {name: 1}, Constant(0)
        case Unary(operator="-", operand=operand):
            inner = affine(operand, ranks, known)
            return None if inner is None else _scaled(inner, -1)
        case Binary(operator="+" | "-" as operator, left=left, right=right):
            a, b = affine(left, ranks, known), affine(right, ranks, known)
            if a is None or b is None:
                return None
            sign = 1 if operator == "+" else -1
            terms = {r: a[0].get(r, 0) + sign * b[0].get(r, 0) for r in (*a[0], *b[0])}
            rest = add(a[1], b[1]) if sign > 0 else _difference(a[1], b[1])
            return {r: c for r, c in terms.items() if c}, rest
        case (
            Binary(operator="*", left=Constant(value=int(factor)), right=inner_node)
            | Binary(operator="*", left=inner_node, right=Constant(value=int(factor)))
        ):
            inner = affine(inner_node, ranks, known)
            return None if inner is None else _scaled(inner, factor)
    return None


def links(node: Expression) -> list[Comparison] | None:
    """A chain of comparisons as pairs."""
    if not isinstance(node, Comparison):
        return None
    return [Comparison((o,), (node.operands[i], node.operands[i + 1])) for i, o in enumerate(node.operators)]


def position_bound(node: Expression, rank: str, known: Known) -> tuple[str, Expression] | None:
    """A comparison of integers as ``rank operator bound``, the bound free of the rank; None if it has no such form.

    Computed outside of the lanes, in 64 bits.
    """
    if not isinstance(node, Comparison) or len(node.operators) != 1 or not integral(node, known):
        return None
    found = affine(Binary("-", node.operands[0], node.operands[1]), {rank}, known)
    if found is None or abs(found[0].get(rank, 0)) != 1:
        return None
    operator = node.operators[0]
    if found[0][rank] == 1:  # rank + rest <op> 0
        return operator, negated(found[1])
    flipped = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}.get(operator, operator)
    return flipped, found[1]


def upper_bound(node: Expression, rank: str, known: Known) -> Expression | None:
    """The expression ``b`` of a condition that is ``rank < b``."""
    found = position_bound(node, rank, known)
    if found is None or found[0] not in ("<", "<="):
        return None
    return found[1] if found[0] == "<" else add(found[1], Constant(1))


def lower_bound(node: Expression, rank: str, known: Known) -> Expression | None:
    """The expression ``b`` of a condition that is ``rank >= b``."""
    found = position_bound(node, rank, known)
    if found is None or found[0] not in (">", ">="):
        return None
    return found[1] if found[0] == ">=" else add(found[1], Constant(1))


def undivided(node: Comparison) -> tuple[Comparison, ...] | None:
    """``x // c <op> k`` without the division, for an integer c > 0: ``==`` is ``k*c <= x < k*c + c``, and likewise for an order."""
    operator, (quotient, k) = node.operators[0], node.operands
    match quotient:
        case Binary(operator="//", left=x, right=Constant(value=int() as c)) if c > 0 and not isinstance(c, bool):
            first = multiply(k, Constant(c))
            at_least, below = Comparison((">=",), (x, first)), Comparison(("<",), (x, first))
            behind = add(first, Constant(c))
            match operator:
                case "==":
                    return at_least, Comparison(("<",), (x, behind))
                case "<":
                    return (below,)
                case ">=":
                    return (at_least,)
                case "<=":
                    return (Comparison(("<",), (x, behind)),)
                case ">":
                    return (Comparison((">=",), (x, behind)),)
    return None


def position_bounds(node: Expression, rank: str, known: Known) -> list[tuple[str, Expression]]:
    """A comparison of integers as bounds on the rank, also through floor divisions by numbers; none if it has no such form.

    So a bound on the first coordinate of a box, ``n // 8``, is one on the place in the box.
    """
    direct = position_bound(node, rank, known)
    if direct is not None:
        return [direct]
    if not isinstance(node, Comparison) or len(node.operators) != 1 or not integral(node, known):
        return []
    column, rest = separate(Binary("-", node.operands[0], node.operands[1]), {rank}, known)
    operator, limit = node.operators[0], negated(rest)
    if isinstance(column, Unary):
        column, operator, limit = column.operand, FLIPPED[operator], rest
    bounds = undivided(Comparison((operator,), (column, limit)))
    return [b for part in bounds or () for b in position_bounds(part, rank, known)]


def separate(node: Expression, ranks: set[str], known: Known) -> tuple[Expression, Expression]:
    """A sum as the terms that change along some ranks and those that do not."""
    changing: Expression = Constant(0)
    rest: Expression = Constant(0)
    for negative, term in _terms(node, False):
        if depends(term, ranks, known):
            changing = _plus(changing, term, negative)
        else:
            rest = _plus(rest, term, negative)
    return changing, rest


def _terms(node: Expression, negative: bool) -> list[tuple[bool, Expression]]:
    match node:
        case Binary(operator="+", left=left, right=right):
            return _terms(left, negative) + _terms(right, negative)
        case Binary(operator="-", left=left, right=right):
            return _terms(left, negative) + _terms(right, not negative)
        case Unary(operator="-", operand=operand):
            return _terms(operand, not negative)
    return [(negative, node)]


def _plus(total: Expression, term: Expression, negative: bool) -> Expression:
    if not negative:
        return add(total, term)
    return Unary("-", term) if total == Constant(0) else Binary("-", total, term)


def integral(node: Expression, known: Known) -> bool:
    """Whether everything in it is an integer for sure."""
    match node:
        case Rank() | Extent():
            return True
        case Constant(value=value):
            return isinstance(value, int) and not isinstance(value, bool)
        case Parameter(name=name) | Read(tensor=name, indices=()):
            return name in known.integers
        case Binary(operator="+" | "-" | "*" | "//" | "%") | Unary(operator="-") | Comparison():
            return all(integral(c, known) for c in children(node))
    return False


def _scaled(value: Affine, factor: int) -> Affine:
    return {r: c * factor for r, c in value[0].items()}, multiply(Constant(factor), value[1])


def negated(node: Expression) -> Expression:
    match node:
        case Constant(value=value):
            return Constant(-value)
        case Binary(operator="-", left=left, right=right):
            return Binary("-", right, left)
    return Unary("-", node)


def _difference(left: Expression, right: Expression) -> Expression:
    if right == Constant(0):
        return left
    if isinstance(left, Constant) and isinstance(right, Constant):
        return Constant(left.value - right.value)
    return Binary("-", left, right)
