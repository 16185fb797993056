"""Checks of tensors that depend on themselves: one iterative rank, positions that are computed before they are read."""

from __future__ import annotations

from einsum_compiler.ir.cascade import Equation, Target
from einsum_compiler.ir.check_left import covers, shifted
from einsum_compiler.ir.dependences import components, cycle, dependences
from einsum_compiler.ir.errors import SpecError
from einsum_compiler.ir.expression import (
    Binary,
    Call,
    Cast,
    Conditional,
    Constant,
    Expression,
    Extent,
    Rank,
    Read,
    Reduction,
    Unary,
    children,
)
from einsum_compiler.ir.extents import expressions, is_step
from einsum_compiler.ir.facts import Facts
from einsum_compiler.ir.filters import left_conjuncts
from einsum_compiler.ir.hints import listed
from einsum_compiler.ir.printer import print_equation, print_expression

# Functions that are linear in their first argument.
LINEAR_CALLS = ("stop_gradient", "default")


def check_recurrences(facts: Facts, equations: tuple[Equation, ...]) -> None:
    """Every cycle between equations runs along one iterative rank. ``equations`` have explicit sums."""
    graph = dependences(facts.cascade)
    for members in components(graph):
        if len(members) > 1 or members[0] in graph[members[0]]:
            _Component(facts, equations, members, graph).check()
        else:
            _check_coverage(facts, equations, members[0])


class _Component:
    """Equations that need each other."""

    def __init__(
        self, facts: Facts, equations: tuple[Equation, ...], members: tuple[str, ...], graph: dict[str, tuple[str, ...]]
    ) -> None:
        self.facts, self.members, self.graph = facts, members, graph
        self.equations = [(e, t) for e in equations for t in e.targets if t.tensor in members]
        self.all_equations = equations

    def check(self) -> None:
        stepped = {t.tensor: axis for _, t in self.equations for axis, index in enumerate(t.indices) if is_step(index)}
        ranks = dict.fromkeys(self.facts.axes[name][axis] for name, axis in stepped.items())
        if len(ranks) > 1:
            raise SpecError(
                f"{listed(self.members)} need each other along several iterative ranks: {listed(str(r) for r in ranks)}",
                self.equations[0][1].span,
                ("a recurrence runs along one rank",),
            )
        if stepped:
            self.ascending(next(str(r) for r in ranks), stepped)
        else:
            self.descending()

    def ascending(self, rank: str, stepped: dict[str, int]) -> None:
        """``H[t+1] = ... H[t] ...``: reads at t + 1 at most, and at t + 1 only what the step has computed."""
        now: dict[str, dict[str, None]] = {name: {} for name in self.members}
        for equation, target in self.steps(rank):
            for read in self.reads(equation):
                offset = self.offset(read, rank)
                latest = 1 if read.tensor in stepped else 0
                if offset is None or offset > latest:
                    raise _later(read, rank, latest)
                if offset < 0 and read.tensor not in stepped:
                    raise _rewrite([e for e, _ in self.equations], read, rank)
                if offset == latest:
                    now[target.tensor][read.tensor] = None
        self.same_step(now, rank)
        for name, axis in stepped.items():
            _check_coverage(self.facts, self.all_equations, name)
            self.initial_value(name, axis)

    def descending(self) -> None:
        """``H[t] = ... H[t+1] ...`` with ``H[T]`` given."""
        given = {t.tensor: index.rank for _, t in self.equations for index in t.indices if isinstance(index, Extent)}
        if not given:
            raise self.unresolved()
        rank = next(iter(given.values()))
        now: dict[str, dict[str, None]] = {name: {} for name in self.members}
        for equation, target in self.steps(rank):
            for read in self.reads(equation):
                offset = self.offset(read, rank)
                if offset is None or offset < 0:
                    raise SpecError(
                        f"a recurrence that descends along {rank} reads {rank} and later positions, and this reads an earlier one",
                        read.span,
                    )
                if offset == 0:
                    now[target.tensor][read.tensor] = None
        self.same_step(now, rank)
        for name in given:
            _check_coverage(self.facts, self.all_equations, name)

    def unresolved(self) -> SpecError:
        """A cycle without a step: a ``t - 1`` to rewrite, a ``t + 1`` without a last value, or a plain cycle."""
        for equation, target in self.equations:
            for read in self.reads(equation):
                for index, rank in zip(read.indices, self.facts.axes[read.tensor], strict=False):
                    offset = position(index, rank) if rank is not None else None
                    if rank is None or offset is None or offset == 0:
                        continue
                    if offset < 0:
                        return _rewrite([e for e, _ in self.equations], read, rank)
                    left = ",".join(
                        rank.upper() if r == rank else print_expression(i)
                        for r, i in zip(self.facts.axes[target.tensor], target.indices, strict=False)
                    )
                    return SpecError(
                        f"{read.tensor} is read at a later position, {print_expression(index)}",
                        read.span,
                        (
                            f"a recurrence that descends along {rank} gives its last value: {target.tensor}[{left}] = ...",
                        ),
                    )
        found = cycle(self.graph, self.members)
        return SpecError(
            f"{found[0]} depends on itself: {' -> '.join(found)}",
            self.equations[0][1].span,
            ("a recurrence writes the next position of an iterative rank: H[t+1,...] = ... H[t,...] ...",),
        )

    def steps(self, rank: str) -> list[tuple[Equation, Target]]:
        """The equations of a step: those that write no fixed position."""
        return [(e, t) for e, t in self.equations if not any(isinstance(i, Constant | Extent) for i in t.indices)]

    def reads(self, equation: Equation) -> list[Read]:
        return [n for n in expressions(equation) if isinstance(n, Read) and n.tensor in self.members]

    def offset(self, read: Read, rank: str) -> int | None:
        """How far from ``t`` a read of the component is; ``None`` if that is no fixed number."""
        axes = self.facts.axes[read.tensor]
        if rank not in axes:
            raise SpecError(
                f"{read.tensor} takes part in the recurrence along {rank} and does not have this rank", read.span
            )
        index = read.indices[axes.index(rank)]
        if index == Constant(0):
            return -1  # the first position: before every step
        return position(index, rank)

    def same_step(self, now: dict[str, dict[str, None]], rank: str) -> None:
        """Inside one step, the equations have an order."""
        for members in components(now):
            if len(members) > 1 or members[0] in now[members[0]]:
                found = cycle(now, members)
                place = next(t for _, t in self.equations if t.tensor == found[0])
                raise SpecError(
                    f"{found[0]} depends on itself inside one step of {rank}: {' -> '.join(found)}", place.span
                )

    def initial_value(self, name: str, axis: int) -> None:
        """A state that starts at 0 without saying so belongs to a linear step."""
        written = any(t.tensor == name and isinstance(t.indices[axis], Constant) for _, t in self.equations)
        if written:
            return
        for equation, target in self.equations:
            state_filter = equation.where is not None and degree(equation.where, self.members) > 0
            if state_filter or degree(equation.value, self.members) > 1:
                shape = next(t for _, t in self.equations if t.tensor == name)
                left = ",".join("0" if i == axis else print_expression(x) for i, x in enumerate(shape.indices))
                raise SpecError(
                    f"the step of {target.tensor} is not linear in the state, so the initial value of {name} must be written",
                    equation.value.span,
                    (f"write {name}[{left}] = ...",),
                )


def position(index: Expression, rank: str) -> int | None:
    """``c`` for an index ``t + c`` or ``t - c``; ``None`` for anything else."""
    match index:
        case Rank(name) if name == rank:
            return 0
        case Binary("+", Rank(name), Constant(int(n))) if name == rank:
            return n
        case Binary("-", Rank(name), Constant(int(n))) if name == rank:
            return -n
    return None


def degree(node: Expression, states: tuple[str, ...]) -> int:
    """0 if the value does not read the states, 1 if it is linear in them (plus what does not read them), else 2."""
    below = [degree(child, states) for child in children(node)]
    most = max(below, default=0)
    match node:
        case Read(tensor):
            return 2 if most else int(tensor in states)
        case Unary("-") | Binary("+" | "-") | Cast():
            return most
        case Binary("*"):
            return min(2, sum(below))
        case Binary("/"):
            return below[0] if below[1] == 0 else 2
        case Reduction("sum" | "mean", _, body, where):
            return 2 if where is not None and degree(where, states) else degree(body, states)
        case Conditional():
            return 2 if below[0] else most
        case Call(function) if function in LINEAR_CALLS:
            return most
    return 2 if most else 0


def _check_coverage(facts: Facts, equations: tuple[Equation, ...], name: str) -> None:
    """The cases of a carried tensor cover every point."""
    cases = [
        e
        for e in equations
        for t in e.targets
        if t.tensor == name and not any(isinstance(i, Constant | Extent) for i in t.indices)
    ]
    targets = [t for e in equations for t in e.targets if t.tensor == name]
    ascends = any(is_step(i) for t in targets for i in t.indices)
    descends = any(isinstance(i, Extent) for t in targets for i in t.indices)
    if not (ascends or descends) or covers(cases):
        return
    target = next(t for t in cases[-1].targets if t.tensor == name)
    axis = next(
        a
        for a, i in enumerate(target.indices)
        if is_step(i) or any(a < len(t.indices) and isinstance(t.indices[a], Extent) for t in targets)
    )
    rank = facts.axes[name][axis]
    before: Expression = Rank(str(rank)) if ascends else Binary("+", Rank(str(rank)), Constant(1))
    carry = Equation(
        (target,), Read(name, tuple(before if a == axis else i for a, i in enumerate(target.indices))), None, True
    )
    conjuncts = left_conjuncts(cases[-1])
    raise SpecError(
        f"{name} is carried along {rank}, and its cases do not cover every point",
        conjuncts[0].span if conjuncts else target.span,
        (f"carry the state where no case holds: {print_equation(carry)}",),
    )


def _later(read: Read, rank: str, latest: int) -> SpecError:
    newest = f"{rank} + 1" if latest else rank
    return SpecError(
        f"{read.tensor} is read at a later position, or at one that is not fixed: a step along {rank} may read {newest} and earlier",
        read.span,
    )


def _rewrite(equations: list[Equation], read: Read, rank: str) -> SpecError:
    """``O[t] = ... O[t - 1]``: every position of the tensor read is one higher, in every equation that has it."""
    changed = [shifted(e, read.tensor, rank) for e in equations]
    written = [f"write {print_equation(c)}" for c, e in zip(changed, equations, strict=True) if c != e]
    return SpecError(
        f"a recurrence writes {rank} + 1 and reads {rank}; this reads {print_expression(read)}",
        read.span,
        (*written, f"what reads {read.tensor} at {rank} elsewhere reads it at {rank} + 1"),
    )
