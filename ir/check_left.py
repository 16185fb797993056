"""Checks of left sides and of the cases of a tensor."""

from __future__ import annotations

from dataclasses import replace

from einsum_compiler.ir.build import ranks_of
from einsum_compiler.ir.cascade import Equation, Target
from einsum_compiler.ir.errors import SpecError
from einsum_compiler.ir.expression import (
    Binary,
    Comparison,
    Constant,
    Expression,
    Extent,
    Rank,
    Read,
    Slice,
    Unary,
    transform,
)
from einsum_compiler.ir.extents import index_rank, is_step
from einsum_compiler.ir.facts import Facts
from einsum_compiler.ir.filters import left_conjuncts
from einsum_compiler.ir.printer import print_equation, print_expression

OPPOSITE = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}


def check_left(facts: Facts, equation: Equation) -> None:
    """The left side of one equation: computed tensors, with ranks, ``t + 1`` or constants of an iterative rank."""
    for target in equation.targets:
        if target.tensor in facts.inputs:
            raise SpecError(f"{target.tensor} is an input and cannot be defined", target.span)
        seen: set[str] = set()
        for axis, index in enumerate(target.indices):
            _check_index(facts, equation, target, axis, index)
            rank = index_rank(index)
            if rank in seen:
                raise SpecError(f"rank {rank} stands twice on the left", index.span or target.span)
            if rank is not None:
                seen.add(rank)


def _check_index(facts: Facts, equation: Equation, target: Target, axis: int, index: Expression) -> None:
    span = index.span or target.span
    match index:
        case Rank():
            return
        case Constant(value) if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            if not carried(facts, target.tensor, axis):
                raise SpecError(
                    f"a constant on the left is a position of an iterative rank, and no equation of {target.tensor} steps along this one",
                    span,
                    (f"write a rank, and a filter: where r == {value}",),
                )
            return
        case Extent(rank):
            named = facts.axes[target.tensor][axis]
            if named is None:
                raise SpecError(
                    f"{rank.upper()} on the left is the last position of an iterative rank, "
                    f"and no equation of {target.tensor} has that rank here",
                    span,
                    (f"a rank is lower-case: write {rank}",),
                )
            if named != rank:
                raise SpecError(f"{rank.upper()} is not the extent of this axis of {target.tensor}", span)
            return
        case Slice():
            raise SpecError("':' stands only in the collection of 'in'", span)
        case Binary("-", Rank(rank), Constant(1)):
            raise SpecError(
                f"a recurrence that descends writes {rank} and reads {rank} + 1",
                span,
                (f"write {print_equation(shifted(equation, target.tensor, rank))}",),
            )
    if is_step(index):
        return
    ranks = ranks_of(index)
    rank = next((r for r in ("r", "i", "j", "u") if r not in facts.ranks), "r.new")
    left = ",".join(rank if i is index else print_expression(i) for i in target.indices)
    reads = f"{target.tensor}[{left}] = sum[{','.join(ranks)}]({print_expression(equation.value)})"
    raise SpecError(
        "an index on the left is a rank, t + 1, or a constant of an iterative rank",
        span,
        (f"write {reads} where {rank} == {print_expression(index)}",) if ranks else (),
    )


def carried(facts: Facts, tensor: str, axis: int) -> bool:
    """Whether an equation steps along this axis: it writes ``t + 1``, or the last position is given."""
    return any(
        axis < len(t.indices) and (is_step(t.indices[axis]) or isinstance(t.indices[axis], Extent))
        for e in facts.cascade.equations_of(tensor)
        for t in e.targets
        if t.tensor == tensor
    )


def shifted(equation: Equation, tensor: str, rank: str) -> Equation:
    """The equation with every position of ``tensor`` along ``rank`` one higher."""

    def later(index: Expression) -> Expression:
        match index:
            case Rank(name) if name == rank:
                return Binary("+", Rank(rank), Constant(1))
            case Binary("-", Rank(name), Constant(1)) if name == rank:
                return Rank(rank)
            case Binary("-", Rank(name), Constant(int(n))) if name == rank:
                return Binary("-", Rank(rank), Constant(n - 1))
            case Binary("+", Rank(name), Constant(int(n))) if name == rank:
                return Binary("+", Rank(rank), Constant(n + 1))
        return index

    def read(node: Expression) -> Expression:
        if isinstance(node, Read) and node.tensor == tensor:
            return replace(node, indices=tuple(map(later, node.indices)))
        return node

    def target(t: Target) -> Target:
        return replace(t, indices=tuple(map(later, t.indices))) if t.tensor == tensor else t

    where = None if equation.where is None else transform(equation.where, read)
    return replace(
        equation, targets=tuple(map(target, equation.targets)), value=transform(equation.value, read), where=where
    )


def check_cases(facts: Facts, equations: tuple[Equation, ...]) -> None:
    """Several equations of one tensor are cases: each but the last has a filter of its own, ``else`` comes last.

    ``equations`` are those of the cascade with explicit sums.
    """
    groups: dict[tuple[str, tuple[Expression, ...]], list[tuple[Equation, Target]]] = {}
    for equation in equations:
        for target in equation.targets:
            fixed = tuple(i if isinstance(i, Constant | Extent) else Rank("_") for i in target.indices)
            groups.setdefault((target.tensor, fixed), []).append((equation, target))
    for (name, _), group in groups.items():
        for position, (equation, target) in enumerate(group):
            if equation.otherwise:
                if position == 0:
                    raise SpecError(f"'else' needs a case of {name} before it", target.span)
                if position != len(group) - 1:
                    raise SpecError(f"'else' must be the last case of {name}", target.span)
            elif len(group) > 1 and not left_conjuncts(equation):
                raise SpecError(
                    f"{name} is defined twice, and this equation defines all of it",
                    target.span,
                    ("several equations of one tensor have disjoint filters; the last may be 'else'",),
                )
        filters = [frozenset(left_conjuncts(e)) for e, _ in group if not e.otherwise]
        for position, found in enumerate(filters):
            if found in filters[:position]:
                raise SpecError(f"two cases of {name} have the same filter", group[position][1].span)


def covers(group: list[Equation]) -> bool:
    """Whether cases are seen to cover every point: one without a filter, an ``else``, or a condition and its opposite."""
    for equation in group:
        if equation.otherwise and not left_conjuncts(equation):
            return True
        if not equation.otherwise and not left_conjuncts(equation):
            return True
    filters = [left_conjuncts(e) for e in group]
    singles = {f[0] for f in filters if len(f) == 1}
    return any(_opposite(f) in singles for f in singles)


def _opposite(condition: Expression) -> Expression | None:
    match condition:
        case Comparison((operator,), operands):
            return Comparison((OPPOSITE[operator],), operands)
        case Unary("not", operand):
            return operand
    return Unary("not", condition)
