"""Divisors of ``//`` and ``%`` that only extents and parameters decide: a call in which one is 0 has no meaning.

Law: a division is evaluated at the points of the ranks around it, its equation's and those of the reductions that hold it, and an index
only where its tensor has elements. Where one of those ranks has no coordinates nothing is divided.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from einsum_compiler.ir.build import conjuncts, ranks_of, reads_of
from einsum_compiler.ir.cascade import Cascade
from einsum_compiler.ir.errors import ShapeError
from einsum_compiler.ir.expression import (
    Binary,
    CascadeCall,
    Conditional,
    Constant,
    Expression,
    Extent,
    Parameter,
    Read,
    Reduction,
    Selection,
    children,
    walk,
)
from einsum_compiler.ir.extents import axis_ranks
from einsum_compiler.ir.scalar import evaluate_scalar


@dataclass(frozen=True, slots=True)
class Division:
    """A division, and the ranks that all need coordinates for it to be evaluated."""

    node: Binary
    around: frozenset[str]


def divisions(cascade: Cascade) -> tuple[Division, ...]:
    """The divisions whose divisor has neither ranks nor reads, but those that a condition may keep from being evaluated."""
    axes = axis_ranks(cascade)
    found: list[Division] = []
    for equation in cascade.equations:
        left = frozenset(r for t in equation.targets for r in t.ranks)
        # A rank that is summed without being named is around all that it may be summed with.
        found += _evaluated(equation.value, left | _free(equation.value), axes)
        for conjunct in conjuncts(equation.where)[:1]:  # those after it may be kept from being evaluated by it
            found += _evaluated(conjunct, left | frozenset(ranks_of(conjunct)), axes)
    return tuple(found)


def check_divisions(found: tuple[Division, ...], extents: Mapping[str, int], scalars: Mapping[str, Any]) -> None:
    """Raises ``ShapeError`` where a divisor is 0 for these extents (by rank) and parameters."""
    if not found:
        return
    names = {**{rank.upper(): size for rank, size in extents.items()}, **scalars}
    from einsum_compiler.ir.printer import print_expression

    for division in found:
        right = division.node.right
        if any(extents.get(rank) == 0 for rank in division.around) or evaluate_scalar(right, names) != 0:
            continue
        used = sorted(
            n.name if isinstance(n, Parameter) else n.rank.upper()
            for n in set(walk(right))
            if isinstance(n, Extent | Parameter)
        )
        values = ", ".join(f"{name} = {names[name]}" for name in used)
        raise ShapeError(
            f"division by zero: {print_expression(right)} is 0", division.node.span, (f"in this call {values}",)
        )


def _evaluated(
    node: Expression, around: frozenset[str], axes: Mapping[str, tuple[str | None, ...]]
) -> Iterator[Division]:
    """The decided divisions that every point of the ranks ``around`` evaluates, those inside of others first."""
    inside = around
    if isinstance(node, Reduction | Selection | CascadeCall):
        inside |= frozenset(node.ranks)
    elif isinstance(node, Read):
        inside |= frozenset(r for r in axes.get(node.tensor, ()) if r is not None)
    lazy = isinstance(node, Conditional) or (isinstance(node, Binary) and node.operator in ("and", "or"))
    for child in children(node)[: 1 if lazy else None]:
        yield from _evaluated(child, inside, axes)
    if _is_decided(node):
        yield Division(node, around)


def _free(node: Expression) -> frozenset[str]:
    """The ranks that occur and that no reduction inside binds."""
    found = frozenset[str](ranks_of(node)) if not children(node) else frozenset().union(*map(_free, children(node)))
    return found - frozenset(node.ranks) if isinstance(node, Reduction | Selection | CascadeCall) else found


def _is_decided(node: Expression) -> TypeGuard[Binary]:
    return (
        isinstance(node, Binary)
        and node.operator in ("//", "%")
        and not isinstance(node.right, Constant)
        and not ranks_of(node.right)
        and not reads_of(node.right)
    )
