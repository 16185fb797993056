"""Equations to tensors: the filter of the left side, cases, casts, and the layout of the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from einsum_compiler.backends.reference import calls
from einsum_compiler.backends.reference.functions import cast
from einsum_compiler.backends.reference.named import Named, both, everywhere, pointwise, union
from einsum_compiler.backends.reference.scope import Scope
from einsum_compiler.backends.reference.selection import select
from einsum_compiler.backends.reference.values import Stored, Value, negation
from einsum_compiler.ir.cascade import Equation
from einsum_compiler.ir.errors import SpecError
from einsum_compiler.ir.expression import CascadeCall, Read, Reduction, Selection
from einsum_compiler.ir.filters import distribute_filter


@dataclass(frozen=True, eq=False)
class Case:
    """One equation evaluated: where its filter puts it (None: everywhere), and a value for each target."""

    equation: Equation
    region: Named | None
    values: tuple[Value, ...]


def evaluate_cases(equations: Sequence[Equation], scope: Scope) -> list[Case]:
    """The cases of a tensor, ``else`` last. Raises ``SpecError`` if two of them overlap."""
    cases: list[Case] = []
    taken: Named | None = None
    for equation in sorted(equations, key=lambda e: e.otherwise):
        placed = distribute_filter(equation)
        region = None if placed.where is None else scope.value(placed.where).truth()
        if equation.otherwise:
            rest = None if taken is None else negation(Value(taken)).data
            region = both(region, rest) if taken is not None else _nowhere(scope)
        elif cases:
            _disjoint(equation, region, taken, scope)
        cases.append(Case(equation, region, _results(placed, scope.within(region))))
        if not equation.otherwise:
            taken = _either(taken, region, scope)
    return cases


def assemble(cases: Sequence[Case], index: int, ranks: tuple[str, ...], dtype: str | None, scope: Scope) -> Stored:
    """The tensor of target ``index`` of the cases, an axis for each of ``ranks``; ``dtype`` rounds it."""
    result: Value | None = None
    for case in cases:
        value = case.values[index]
        value = Value(value.data, both(value.present, case.region))
        result = value if result is None else _merged(result, value)
    assert result is not None
    extra = [r for r in result.ranks if r not in ranks]
    if extra:
        target = cases[0].equation.targets[index]
        raise SpecError(f"rank {extra[0]} of the right side is not on the left and not summed", target.span)
    present = everywhere(result.present)
    data = result.data
    if dtype is not None:
        data = Named(data.ranks, cast(data.data, dtype, scope.real))
    mask = None if present is None else present.expanded(ranks, scope.extents)
    spread = data.expanded(ranks, scope.extents)
    if mask is not None:
        # What is empty may hold a NaN, which no gradient shall meet.
        spread = torch.where(mask, spread, torch.ones((), dtype=spread.dtype, device=spread.device))
    return Stored(spread, mask, all(_is_coordinate(c.equation, scope) for c in cases))


def covered(cases: Sequence[Case], scope: Scope) -> bool:
    """Whether the filters of the cases leave no point out."""
    taken: Named | None = None
    for i, case in enumerate(cases):
        taken = case.region if i == 0 else _either(taken, case.region, scope)
    return everywhere(taken) is None


def _results(equation: Equation, scope: Scope) -> tuple[Value, ...]:
    value = equation.value
    if isinstance(value, Selection):
        return (select(value, equation.target, scope),)
    if isinstance(value, CascadeCall) and len(equation.targets) > 1:
        return calls.results(value, len(equation.targets), scope)
    return (scope.value(value),)


def _merged(left: Value, right: Value) -> Value:
    """Two cases in one: their points are disjoint."""
    if right.present is None:
        return right
    data = pointwise(torch.where, right.present, right.data, left.data)
    present = None if left.present is None else pointwise(torch.logical_or, left.present, right.present)
    return Value(data, present)


def _nowhere(scope: Scope) -> Named:
    return Named((), torch.zeros((), dtype=torch.bool, device=scope.device))


def _either(left: Named | None, right: Named | None, scope: Scope) -> Named:
    """The union of two regions; before the first case ``left`` is None, an unfiltered case is everywhere."""
    right = right or negation(Value(_nowhere(scope))).data
    return right if left is None else pointwise(torch.logical_or, left, right)


def _disjoint(equation: Equation, region: Named | None, taken: Named | None, scope: Scope) -> None:
    assert taken is not None
    overlap = taken if region is None else pointwise(torch.logical_and, taken, region)
    if bool(overlap.data.any()) and all(scope.extents[r] > 0 for r in union(overlap)):
        place = ", ".join(f"{r} = {int(i)}" for r, i in zip(overlap.ranks, overlap.data.nonzero()[0], strict=True))
        raise SpecError(
            f"the cases of {equation.target.tensor} overlap{' at ' + place if place else ''}",
            equation.span,
            ("make the filters disjoint, or mark the last case with else",),
        )


def _is_coordinate(equation: Equation, scope: Scope) -> bool:
    """Whether the equation gives coordinates: an empty one is -1 in an output."""
    match equation.value:
        case Selection() | Reduction(operator="argmax"):
            return True
        case Read(tensor=tensor):
            source = scope.tensors[tensor]
            return isinstance(source, Stored) and source.coordinate
    return False
