"""Running states and what corrects them when their contexts move.

    D.run[n.1+1] = D.run[n.1] * D.fix[n.1] + D.n[n.1]

with ``D.fix = if(C == C', 1, H(C') / H(C))``: a context that did not move multiplies by 1, also where it is still infinite. States of finite rank are
corrected together, by the matrix T of ``algebra.transport``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from einsum_compiler.ir.build import conjunction
from einsum_compiler.ir.cascade import Equation
from einsum_compiler.ir.expression import (
    Binary,
    Call,
    Comparison,
    Conditional,
    Constant,
    Expression,
    Extent,
    Rank,
    Read,
    Reduction,
)
from einsum_compiler.ir.operators import REDUCTIONS
from einsum_compiler.passes.algebra.decision import Running
from einsum_compiler.passes.running_contexts import RunningContext, guard
from einsum_compiler.passes.scope import free_ranks
from einsum_compiler.passes.streaming import Tiler, Version


@dataclass(frozen=True)
class State:
    """A running state: its name without ``.run``, the ranks it has, and what it sums; no body where it exists already."""

    name: str
    indices: tuple[Expression, ...]
    reduction: Reduction | None


class States:
    """Writes the states of one stream."""

    def __init__(self, tiler: Tiler, context: Callable[[str], RunningContext]) -> None:
        self._tiler = tiler
        self._rank = tiler.rank
        self._context = context
        self._fixes: dict[tuple[Expression, tuple[Expression, ...]], Read] = {}

    def write(
        self, states: tuple[State, ...], form: Running | None, version: Version, where: Expression | None
    ) -> None:
        """The local reduction, the corrections and the recurrence of each state; the first is the reduction itself.

        A state has a value everywhere: where ``where`` says that the left side is not defined, it reduces no points.
        """
        local = {s.name: self._local(s, version, where) for s in states if s.reduction is not None}
        for i, state in enumerate(states):
            if state.reduction is not None:
                self._run(state, local[state.name], self._before(states, i, form))

    def _local(self, state: State, version: Version, where: Expression | None) -> Read:
        """``R.n[..., n.1] = op[n.0](...)``."""
        reduction = state.reduction
        assert reduction is not None
        value = replace(
            reduction,
            ranks=tuple(self._rank.inner if r == self._rank.rank else r for r in reduction.ranks),
            body=self._tiler.tiled(reduction.body, version),
            where=conjunction(
                [
                    None if reduction.where is None else self._tiler.tiled(reduction.where, version),
                    where,
                    self._rank.inside,
                ]
            ),
        )
        name = self._tiler.fresh(f"{state.name}.{self._rank.rank}")
        return self._tiler.add(name, self._placed(state.indices), value)

    def _placed(self, indices: tuple[Expression, ...]) -> tuple[Expression, ...]:
        """The indices of a state's value for one tile."""
        return (*indices, self._rank.now)

    def _run(self, state: State, local: Read, before: Expression) -> None:
        """``R.run[..., 0] = identity`` and ``R.run[..., n.1+1] = combine(before, local)``."""
        assert state.reduction is not None
        monoid = REDUCTIONS[state.reduction.operator]
        name = f"{state.name}.run"
        joined: Expression
        if monoid.combine in ("max", "min"):
            joined = Call(monoid.combine, (before, local))
        else:
            joined = Binary(monoid.combine, before, local)
        self._tiler.add(name, (*state.indices, Constant(0)), Constant(monoid.identity))
        self._tiler.add(name, (*state.indices, self._rank.after), joined)

    def _before(self, states: tuple[State, ...], i: int, form: Running | None) -> Expression:
        """State i before this tile, moved to the contexts after it."""
        reads = [Read(f"{s.name}.run", (*s.indices, self._rank.now)) for s in states]
        if form is None:
            return reads[i]
        return self._row(form, i, reads, states, self._moving_factor)

    def finished(self, states: tuple[State, ...], form: Running | None) -> Expression:
        """The first state after the stream, moved to the finished contexts where the running ones end elsewhere."""
        reads = [Read(f"{s.name}.run", (*s.indices, Extent(self._rank.outer))) for s in states]
        if form is None or all(self._context(read.tensor).last is None for read in form.bridge.contexts):
            return reads[0]
        return self._row(form, 0, reads, states, self._last_factor)

    def _row(
        self,
        form: Running,
        i: int,
        reads: list[Read],
        states: tuple[State, ...],
        factor: Callable[[Running, Any, bool, State], Expression | None],
    ) -> Expression:
        result: Expression | None = None
        for j, entry in enumerate(form.matrix[i]):
            if entry == 0 and form.operator == "*":
                continue
            fix = factor(form, entry, i == j, states[0])
            part: Expression = reads[j] if fix is None else self._moved(form, reads[j], fix, states[j], entry)
            result = part if result is None else Binary("+", result, part)
        assert result is not None
        return result

    def _moved(self, form: Running, read: Read, fix: Expression, state: State, entry: Any) -> Expression:
        """A state times (or plus) its correction; where nothing was reduced yet the correction may be no number, and is not applied."""
        moved = Binary(form.operator, read, fix)
        operator = "sum" if state.reduction is None else state.reduction.operator
        if operator == "sum" and not self._may_overflow(form, entry):
            return moved
        identity = Constant(REDUCTIONS[operator].identity)
        return Conditional(Comparison(("==",), (read, identity)), identity, moved)

    def _may_overflow(self, form: Running, entry: Any) -> bool:
        """Whether a factor is an exponential of a context that starts at a number: it may jump far, while the states are still 0."""
        jumping = [s for read, s in form.bridge.contexts.items() if self._context(read.tensor).start is None]
        used = [s for s in jumping if entry.has(s, form.new[s])]
        return bool(used) and not entry.is_polynomial(*used, *(form.new[s] for s in used))

    def _moving_factor(self, form: Running, entry: Any, diagonal: bool, first: State) -> Expression | None:
        """An entry of the correction from before to after a tile, in an equation of its own; equal entries share one."""

        def move(read: Read) -> Move:
            context = self._context(read.tensor)
            return Move(context.before(read), context.after(read), context.current(read), context.start)

        return self._factor(form, entry, diagonal, first, move, (self._rank.now,))

    def _last_factor(self, form: Running, entry: Any, diagonal: bool, first: State) -> Expression | None:
        def move(read: Read) -> Move:
            context = self._context(read.tensor)
            old = read if context.last is None else context.last(read)
            return Move(old, read, read if context.start is None else guard(read, context.start), context.start)

        return self._factor(form, entry, diagonal, first, move, ())

    def _factor(
        self,
        form: Running,
        entry: Any,
        diagonal: bool,
        first: State,
        move: Callable[[Read], Move],
        position: tuple[Expression, ...],
    ) -> Expression | None:
        neutral = 1 if form.operator == "*" else 0
        if diagonal and entry == neutral:
            return None
        used = [(read, s) for read, s in form.bridge.contexts.items() if entry.has(s, form.new[s])]
        if not used:
            return form.bridge.out(entry)
        moves = [move(read) for read, _ in used]
        meaning = {s: m.old for (_, s), m in zip(used, moves, strict=True)}
        meaning |= {form.new[s]: m.current for (_, s), m in zip(used, moves, strict=True)}
        value = form.bridge.out(entry, meaning)
        test = _joined("and", [Comparison(("==",), (m.old, m.new)) for m in moves])
        if diagonal and len(form.matrix) > 1:
            # At its start a context is no number and the state is 0: circular functions have no limit at infinity, where an exponential is 0.
            for m in moves:
                if m.start is not None:
                    test = Binary("or", test, Comparison(("==",), (m.old, Constant(m.start))))
        if not diagonal:
            # Where the old context is still infinite or 0 the old states are 0, and the entry may be no number.
            for m in moves:
                start = (
                    m.start
                    if m.start is not None
                    else 0
                    if not entry.is_polynomial(*form.bridge.contexts.values())
                    else None
                )
                if start is not None:
                    test = Binary("or", test, Comparison(("==",), (m.old, Constant(start))))
        value = Conditional(test, Constant(neutral if diagonal else 0), value)
        ranks = tuple(i for i in first.indices if isinstance(i, Rank) and i.name in free_ranks(value))
        key = (value, ranks)
        if key not in self._fixes:
            name = self._tiler.fresh(f"{first.name}.{'fix' if position else 'end'}")
            self._fixes[key] = self._tiler.add(name, (*ranks, *position), value)
        return self._fixes[key]


@dataclass(frozen=True)
class Move:
    """A context that moves: old and new value, and the new one as maps see it."""

    old: Expression
    new: Expression
    current: Expression
    start: float | None


def _joined(operator: str, parts: list[Comparison]) -> Expression:
    result: Expression = parts[0]
    for part in parts[1:]:
        result = Binary(operator, result, part)
    return result


def target_indices(equation: Equation, *nodes: Expression | None) -> tuple[Expression, ...]:
    """The left indices of an equation that the given expressions need."""
    ranks = set(free_ranks(*nodes))
    return tuple(i for i in equation.target.indices if isinstance(i, Rank) and i.name in ranks)
