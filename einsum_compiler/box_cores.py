"""Where the rules for intervals are not exact, and on which smaller expression a condition depends (``box_expressions``)."""

from __future__ import annotations

import functools

from einsum_compiler.ir.build import ranks_of, reads_of
from einsum_compiler.ir.expression import Binary, Call, Comparison, Expression, Rank, Read, children, walk

BITWISE = ("&", "|", "^")


@functools.lru_cache(maxsize=1024)
def core_of(node: Expression) -> Expression | None:
    """The smallest subexpression that holds all ranks and reads of the node, or None if there are none."""
    if isinstance(node, (Rank, Read)):
        return node
    inner = [child for child in children(node) if depends(child)]
    if len(set(inner)) == 1:
        return core_of(inner[0])
    if not inner:
        return None
    # Several different operands: they may still be functions of one smaller expression, as in d & (d - 1).
    for candidate in sorted({n for c in inner for n in walk(c) if depends(n)}, key=lambda n: -sum(1 for _ in walk(n))):
        if not any(depends(n) for n in outside(node, candidate) if not children(n)):
            return candidate
    return node


@functools.lru_cache(maxsize=1024)
def jumps(node: Expression) -> bool:
    """Whether a number of one rank goes back and forth as its coordinate rises: a remainder or single bits."""
    inner = {n.operator for n in walk(node) if isinstance(n, Binary)}
    return bool(inner & {"%", "<<", ">>", *BITWISE}) and len(set(ranks_of(node))) == 1


def depends(node: Expression) -> bool:
    return bool(ranks_of(node)) or bool(reads_of(node))


def outside(node: Expression, core: Expression) -> list[Expression]:
    """The subexpressions of the node that do not lie inside a copy of the core."""
    if node == core:
        return []
    return [node, *(n for child in children(node) for n in outside(child, core))]


def is_simple(core: Expression, left: Expression, right: Expression) -> bool:
    """Whether interval rules are exact anyway: the core, or its distance from 0, is compared as it is."""
    exact = (core, Call("abs", (core,)))
    return left in exact or right in exact or isinstance(core, Comparison)
