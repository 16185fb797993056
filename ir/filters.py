"""Where the conjuncts of a statement's filter act.

A conjunct that mentions a rank reduced in the statement acts inside every reduction or call over that rank; the others decide
where the left side is defined.
"""

from __future__ import annotations

from dataclasses import replace

from einsum_compiler.ir.build import conjunction, conjuncts, ranks_of
from einsum_compiler.ir.cascade import Equation
from einsum_compiler.ir.errors import SpecError
from einsum_compiler.ir.expression import (
    CascadeCall,
    Expression,
    Rank,
    Reduction,
    Selection,
    children,
    map_children,
    walk,
)
from einsum_compiler.ir.hints import listed

Binder = Reduction | Selection | CascadeCall


def distribute_filter(equation: Equation) -> Equation:
    """The equation with the conjuncts over reduced ranks moved into its reductions; its sums must be explicit.

    Raises ``SpecError`` for a conjunct with a rank that the equation lacks, and for one that no single place can evaluate.
    """
    left = frozenset(r for t in equation.targets for r in t.ranks)
    reduced = reduced_ranks(equation.value)
    value, kept = equation.value, []
    for conjunct in conjuncts(equation.where):
        ranks = free_ranks(conjunct)
        missing = [r for r in ranks if r not in left and r not in reduced]
        if missing:
            raise _lacks(equation, conjunct, missing[0])
        acting = ranks & reduced
        if acting:
            value = _push(value, conjunct, ranks, acting, left)
        else:
            kept.append(conjunct)
    if value is equation.value:
        return equation
    return replace(equation, value=value, where=conjunction(kept))


def left_conjuncts(equation: Equation) -> tuple[Expression, ...]:
    """The conjuncts that decide where the left side is defined; sums must be explicit."""
    reduced = reduced_ranks(equation.value)
    return tuple(c for c in conjuncts(equation.where) if not free_ranks(c) & reduced)


def reduced_ranks(value: Expression) -> frozenset[str]:
    """The ranks that reductions, selections and calls of a right side are over."""
    return frozenset(r for n in walk(value) if isinstance(n, Binder) for r in bound_ranks(n))


def bound_ranks(node: Binder) -> frozenset[str]:
    """The ranks a reduction binds; of a plain call, all ranks of its arguments, which it may use up."""
    if isinstance(node, CascadeCall) and not node.ranks:
        return frozenset(ranks_of(*node.arguments))
    return frozenset(node.ranks)


def free_ranks(node: Expression) -> frozenset[str]:
    """The ranks that occur and are not bound inside."""
    if isinstance(node, Rank):
        return frozenset((node.name,))
    found = frozenset(r for child in children(node) for r in free_ranks(child))
    return found - frozenset(node.ranks) if isinstance(node, Reduction | Selection) else found


def _push(
    node: Expression, conjunct: Expression, ranks: frozenset[str], acting: frozenset[str], scope: frozenset[str]
) -> Expression:
    """The node with the conjunct in every reduction over a rank of ``acting``; all of its ``ranks`` must be in scope there."""
    if not isinstance(node, Binder):
        return map_children(node, lambda child: _push(child, conjunct, ranks, acting, scope))
    bound = bound_ranks(node)
    inside = map_children(node, lambda child: _push(child, conjunct, ranks, acting, scope | bound))
    assert isinstance(inside, Binder)
    if not bound & acting:
        return inside
    if ranks <= scope | bound:
        return replace(inside, where=conjunction((node.where, conjunct)))
    if inside is node:
        absent = listed(sorted(ranks - scope - bound))
        raise SpecError(
            f"no single place can evaluate this condition: the reduction over {listed(sorted(bound & acting))} does not have {absent}",
            conjunct.span,
            ("compute one side first, as a tensor, or write the condition inside the reduction it belongs to",),
        )
    return inside


def _lacks(equation: Equation, conjunct: Expression, rank: str) -> SpecError:
    span = next((n.span for n in walk(conjunct) if isinstance(n, Rank) and n.name == rank), conjunct.span)
    names = sorted({r for t in equation.targets for r in t.ranks} | free_ranks(equation.value))
    return SpecError(
        f"the filter uses rank {rank}, which the equation lacks", span, (f"its ranks are {listed(names)}",)
    )
