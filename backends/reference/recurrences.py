"""Recurrences: tensors that depend on themselves through one iterative rank, computed step by step.

``H[t+1] = ...`` ascends and ``H[t] = ... H[t+1] ...`` descends; several tensors may be mutually recursive. Inside a step the order
follows from the reads: what a step writes is computed before what reads it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import networkx as nx

from einsum_compiler.backends.reference.equations import assemble, covered, evaluate_cases
from einsum_compiler.backends.reference.reads import stack
from einsum_compiler.backends.reference.scope import Growing, Scope
from einsum_compiler.backends.reference.values import Stored
from einsum_compiler.ir.cascade import Equation, Target
from einsum_compiler.ir.errors import SpecError
from einsum_compiler.ir.expression import Binary, Constant, Expression, Extent, Rank, Read, Reduction, children, walk
from einsum_compiler.ir.extents import index_rank, is_step
from einsum_compiler.ir.hints import listed
from einsum_compiler.ir.printer import print_equation

Types = dict[str, str | None]


@dataclass(frozen=True)
class Recurrence:
    """Tensors computed together along ``rank``: the axis of each, its step equations in order, and the given positions."""

    rank: str
    axes: dict[str, int]
    offsets: dict[str, int]  # what a step at t writes: position t or t + 1
    steps: tuple[tuple[Equation, ...], ...]  # groups of cases, in the order inside a step
    given: tuple[Equation, ...]
    descending: bool


def is_iterative(equations: Sequence[Equation], recursive: bool) -> bool:
    """Whether equations of one component need steps: they read themselves, or write single positions."""
    indices = [i for e in equations for t in e.targets for i in t.indices]
    return recursive or any(not isinstance(i, Rank) for i in indices)


def plan_recurrence(names: Sequence[str], equations: Sequence[Equation]) -> Recurrence:
    """The iterative rank, direction and order of a component; ``SpecError`` if no rank orders it."""
    for rank in _candidates(names, equations):
        found = _along(rank, equations)
        if found is not None:
            return found
    raise SpecError(
        f"{listed(names)} depend on each other, and no rank on their left sides orders them",
        equations[0].span,
        ("a recurrence reads positions before the one it writes, as in H[t+1] = f(H[t])",),
    )


def run_recurrence(recurrence: Recurrence, types: Types, scope: Scope) -> dict[str, Stored]:
    """Every tensor of the component, whole."""
    tensors = dict(scope.tensors)
    inner = replace(scope, tensors=tensors)
    growing: dict[str, Growing] = {}
    equations = [e for group in recurrence.steps for e in group]
    for name, axis in recurrence.axes.items():
        target = next(t for e in equations for t in e.targets if t.tensor == name)
        shape = tuple(scope.sizes(_left_ranks(target, axis)))
        growing[name] = tensors[name] = Growing(axis, _size(name, recurrence, scope), shape, scope.device)
    for equation in recurrence.given:
        _write_given(equation, recurrence, growing, types, inner)
    for name, offset in recurrence.offsets.items():
        if offset == 1 and 0 not in growing[name].positions:
            growing[name].positions[0] = Stored(growing[name].zeros())
    steps = range(scope.extents[recurrence.rank])
    for step in reversed(steps) if recurrence.descending else steps:
        for group in recurrence.steps:
            _write_step(group, step, recurrence, growing, types, inner.at(recurrence.rank, step))
    return {name: stack(g) for name, g in growing.items()}


# ---- planning


def _candidates(names: Sequence[str], equations: Sequence[Equation]) -> list[str]:
    """The ranks on every left side, those with a ``t + 1`` or a given position first."""
    common: list[str] | None = None
    marked: set[str] = set()
    for name in names:
        ranks: dict[str, None] = {}
        for target in (t for e in equations for t in e.targets if t.tensor == name):
            ranks.update({r: None for i in target.indices if (r := index_rank(i))})
            marked.update(r for i in target.indices if is_step(i) and (r := index_rank(i)))
        common = list(ranks) if common is None else [r for r in common if r in ranks]
    # A constant index marks the rank that other equations have at that place.
    for target in (t for e in equations for t in e.targets):
        for axis, index in enumerate(target.indices):
            if index_rank(index) is None:
                others = (t.indices[axis] for e in equations for t in e.targets if t.tensor == target.tensor)
                marked.update(r for i in others if (r := index_rank(i)))
    common = common or []
    if marked:
        return [r for r in common if r in marked]
    return common


def _along(rank: str, equations: Sequence[Equation]) -> Recurrence | None:
    """The recurrence along one rank, if its reads allow an order."""
    axes: dict[str, int] = {}
    offsets: dict[str, int] = {}
    for target in (t for e in equations for t in e.targets):
        for axis, index in enumerate(target.indices):
            if index_rank(index) == rank:
                axes[target.tensor] = axis
                offsets[target.tensor] = max(offsets.get(target.tensor, 0), int(is_step(index)))
    steps = [e for e in equations if index_rank(e.target.indices[axes[e.target.tensor]]) == rank]
    given = tuple(e for e in equations if e not in steps)
    order: nx.DiGraph[str] = nx.DiGraph()
    order.add_nodes_from(offsets)
    later = earlier = False
    for equation in steps:
        for node in _component_reads(equation, axes, rank):
            distance = _offset(node.indices[axes[node.tensor]], rank)
            if distance is None:
                continue
            ahead = distance - offsets[node.tensor]
            later, earlier = later or ahead > 0, earlier or ahead < 0
            if ahead == 0:
                order.add_edges_from((node.tensor, t.tensor) for t in equation.targets)
    if later and (earlier or 1 in offsets.values()):
        where = equations[0]
        raise SpecError(
            f"the recurrence of {listed(offsets)} along {rank} reads both earlier and later positions", where.span
        )
    if not nx.is_directed_acyclic_graph(order):
        return None
    place = {name: i for i, name in enumerate(nx.lexicographical_topological_sort(order, key=list(offsets).index))}
    groups: dict[int, list[Equation]] = {}
    for equation in steps:
        groups.setdefault(max(place[t.tensor] for t in equation.targets), []).append(equation)
    ordered = tuple(tuple(groups[i]) for i in sorted(groups))
    return Recurrence(rank, axes, offsets, ordered, given, later)


def _component_reads(equation: Equation, axes: dict[str, int], rank: str) -> Iterator[Read]:
    """The reads of the component's own tensors outside of reductions that bind another rank of that name."""

    def visit(node: Expression) -> Iterator[Read]:
        if isinstance(node, Reduction) and rank in node.ranks:
            return
        if isinstance(node, Read) and node.tensor in axes:
            yield node
        for child in children(node):
            yield from visit(child)

    yield from visit(equation.value)
    if equation.where is not None:
        yield from visit(equation.where)


def _offset(index: Expression, rank: str) -> int | None:
    """c of an index ``t + c``; None for any other, whose reads are checked while the steps run."""
    match index:
        case Rank(name=name) if name == rank:
            return 0
        case Binary(operator="+" | "-" as sign, left=Rank(name=name), right=Constant(value=int(value))) if name == rank:
            return value if sign == "+" else -value
        case Binary(operator="+", left=Constant(value=int(value)), right=Rank(name=name)) if name == rank:
            return value
    return None


# ---- running


def _size(name: str, recurrence: Recurrence, scope: Scope) -> int:
    """T positions; T + 1 where a step writes t + 1 or where position T is given."""
    last = any(
        isinstance(n, Extent) and n.rank == recurrence.rank
        for e in recurrence.given
        for t in e.targets
        if t.tensor == name
        for n in walk(t.indices[recurrence.axes[name]])
    )
    return scope.extents[recurrence.rank] + int(last or recurrence.offsets[name] == 1)


def _left_ranks(target: Target, axis: int) -> tuple[str, ...]:
    return tuple(r for a, i in enumerate(target.indices) if a != axis and (r := index_rank(i)))


def _carry(target: Target, recurrence: Recurrence) -> str:
    """The case that hands the state on: ``H[t + 1,e] = H[t,e] else``."""
    axis = recurrence.axes[target.tensor]
    before: Expression = Rank(recurrence.rank)
    if recurrence.descending:
        before = Binary("+", before, Constant(1))
    source = Read(target.tensor, (*target.indices[:axis], before, *target.indices[axis + 1 :]))
    return print_equation(Equation((replace(target, dtype=None),), source, otherwise=True))


def _write_given(
    equation: Equation, recurrence: Recurrence, growing: dict[str, Growing], types: Types, scope: Scope
) -> None:
    axis = recurrence.axes[equation.target.tensor]
    place = int(scope.value(equation.target.indices[axis]).data.data)
    store = growing[equation.target.tensor]
    if not 0 <= place < store.size:
        raise SpecError(f"{equation.target.tensor} has no position {place}", equation.target.span)
    if place in store.positions:
        raise SpecError(f"position {place} of {equation.target.tensor} is given twice", equation.target.span)
    cases = evaluate_cases([equation], scope)
    for i, target in enumerate(equation.targets):
        ranks = _left_ranks(target, recurrence.axes[target.tensor])
        growing[target.tensor].positions[place] = assemble(cases, i, ranks, types[target.tensor], scope)


def _write_step(
    group: tuple[Equation, ...],
    step: int,
    recurrence: Recurrence,
    growing: dict[str, Growing],
    types: Types,
    scope: Scope,
) -> None:
    cases = evaluate_cases(group, scope)
    for i, target in enumerate(group[0].targets):
        name = target.tensor
        carried = recurrence.offsets[name] == 1 or recurrence.descending
        if carried and not covered(cases, scope):
            raise SpecError(
                f"the cases of the carried tensor {name} do not cover every point",
                group[0].span,
                (f"carry the state where no case holds: {_carry(target, recurrence)}",),
            )
        ranks = _left_ranks(target, recurrence.axes[name])
        place = step + recurrence.offsets[name]
        if place in growing[name].positions:
            raise SpecError(f"position {place} of {name} is both given and computed by a step", target.span)
        growing[name].positions[place] = assemble(cases, i, ranks, types[name], scope)
