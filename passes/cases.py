"""cases: several equations of one tensor as one equation with a condition.

    S[m,n] = A[m,n] where n <= m                 S[m,n] = if(n <= m, A[m,n], B[m,n])
    S[m,n] = B[m,n] else                   ->

Law: the filters of cases are disjoint, so the order of the tests does not matter, and a branch that is not taken makes nothing empty. The tensor is
defined where some filter holds; a filter that is itself empty does not hold, which ``default`` says.
"""

from __future__ import annotations

from dataclasses import replace

from einsum_compiler.ir.build import FALSE, disjunction, substitute_ranks
from einsum_compiler.ir.cascade import Cascade, Equation
from einsum_compiler.ir.expression import (
    Binary,
    Call,
    CascadeCall,
    Conditional,
    Expression,
    Rank,
    Read,
    Reduction,
    Selection,
    walk,
)
from einsum_compiler.passes.scope import reads_in


def joined_cases(cascade: Cascade) -> Cascade:
    """The cascade with one equation for each tensor that cases over plain ranks define; sums must be explicit."""
    found: list[Equation] = []
    done: set[str] = set()
    for equation in cascade.equations:
        name = equation.targets[0].tensor
        group = cascade.equations_of(name)
        if len(group) == 1 or not all(_is_joinable(e, group[0]) for e in group) or _reads_itself(name, group):
            found.append(equation)
        elif name not in done:
            done.add(name)
            found.append(_joined(group))
    return replace(cascade, equations=tuple(found))


def _is_joinable(equation: Equation, first: Equation) -> bool:
    """Whether the value can be one branch: over ranks of its own that the first case does not bind otherwise, and no whole right side."""
    bare = [i.name for i in equation.target.indices if isinstance(i, Rank)]
    whole = isinstance(equation.value, (Selection, CascadeCall)) or (
        isinstance(equation.value, Reduction) and equation.value.operator == "argmax"
    )
    renamed = set(first.target.ranks) - set(bare)
    bound = {r for n in walk(equation.value) if isinstance(n, Reduction) for r in n.ranks}
    plain = len(equation.targets) == 1 and len(set(bare)) == len(equation.target.indices)
    return plain and not whole and not renamed & bound


def _reads_itself(name: str, group: tuple[Equation, ...]) -> bool:
    return any(read.tensor == name for equation in group for read in reads_in(equation))


def _joined(group: tuple[Equation, ...]) -> Equation:
    first = group[0]
    cases = [_with_ranks_of(first, e) for e in sorted(group, key=lambda e: e.otherwise)]
    last = cases[-1]
    value = last.value
    for case in reversed(cases[:-1]):
        assert case.where is not None
        value = Conditional(_holds(case.where), case.value, value)
    everywhere = last.otherwise and last.where is None
    where = None if everywhere else disjunction(_holds(c.where) for c in cases if c.where is not None)
    dtype = next((e.target.dtype for e in group if e.target.dtype is not None), None)
    return replace(first, targets=(replace(first.target, dtype=dtype),), value=value, where=where, otherwise=False)


def _with_ranks_of(first: Equation, equation: Equation) -> Equation:
    """The equation over the ranks that the first case names."""
    names: dict[str, Expression] = {
        old: Rank(new) for old, new in zip(equation.target.ranks, first.target.ranks, strict=True) if old != new
    }
    where = None if equation.where is None else substitute_ranks(equation.where, names)
    return replace(equation, targets=first.targets, value=substitute_ranks(equation.value, names), where=where)


def _holds(predicate: Expression) -> Expression:
    """The predicate as a condition: false where it is empty."""
    if isinstance(predicate, Binary) and predicate.operator in ("and", "or"):
        return replace(predicate, left=_holds(predicate.left), right=_holds(predicate.right))
    return Call("default", (predicate, FALSE)) if any(isinstance(n, Read) for n in walk(predicate)) else predicate
