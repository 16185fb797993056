"""Partial states of chunks, the contexts each chunk sees, and the merge that moves them to the finished contexts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from einsum_compiler.ir.build import reads_of
from einsum_compiler.ir.cascade import Equation
from einsum_compiler.ir.expression import Constant, Expression, Read, Reduction
from einsum_compiler.ir.operators import REDUCTIONS
from einsum_compiler.passes.algebra.decision import Running
from einsum_compiler.passes.running_contexts import RunningContext, RunningContexts, guard
from einsum_compiler.passes.states import Move, State, States
from einsum_compiler.passes.streaming import Tiler, Version


class PartialContexts(RunningContexts):
    """The contexts of one chunk: reductions over its points alone, and the same functions of them.

    ``partials`` holds the partial state of every reduction by the name of its finished value. In the terms of a running context the chunk's
    is the one *before* the merge, the finished one that *after* it, and maps inside the chunk see the guarded value of the chunk.
    """

    def __init__(
        self,
        tiler: Tiler,
        equations: Callable[[str], Equation],
        foreign: Mapping[str, Constant],
        partials: dict[str, Read],
    ) -> None:
        super().__init__(tiler, equations, partials.__contains__, foreign)
        self._partials = partials

    def _state(self, tensor: str) -> RunningContext:
        equation, partial = self._equation(tensor), self._partials[tensor]
        assert isinstance(equation.value, Reduction)
        identity = float(REDUCTIONS[equation.value.operator].identity)
        start = identity if math.isinf(identity) else None

        def before(read: Read) -> Expression:
            return Read(partial.tensor, (self._tiler.rank.now, *read.indices))

        return RunningContext(before, _finished, self._guarded(tensor, before, start), start)

    def _function(self, tensor: str, runs: Callable[[str], bool]) -> RunningContext:
        equation = self._equation(tensor)
        inner = [self.of(r.tensor, runs) for r in reads_of(equation.value) if runs(r.tensor)]
        start = next((c.start for c in inner if c.start is not None), None)
        indices = (*equation.target.indices, self._tiler.rank.now)
        before = self._written(
            f"{tensor}.{self._tiler.rank.rank}", indices, self._running(equation.value, runs, "old"), equation
        )
        return RunningContext(before, _finished, self._guarded(tensor, before, start), start)

    def _points(self, part: str) -> Expression:
        """How many points the chunk has."""
        if self._count is None:
            rank = self._tiler.rank
            name = self._tiler.fresh(f"{rank.rank}.count")
            self._count = self._tiler.add(name, (rank.now,), Reduction("sum", (rank.inner,), Constant(1), rank.inside))
            self._partials[name] = self._count
        return self._count

    @property
    def count(self) -> str | None:
        """The name of the count of points, once something needed it."""
        return None if self._count is None else self._count.tensor


class Merges(States):
    """Writes the partial states of the chunks and their merge. ``partials``: see ``PartialContexts``."""

    def __init__(self, tiler: Tiler, context: Callable[[str], RunningContext], partials: dict[str, Read]) -> None:
        super().__init__(tiler, context)
        self._partials = partials

    def write(
        self, states: tuple[State, ...], form: Running | None, version: Version, where: Expression | None
    ) -> None:
        """The partial state of each reduction that has none yet."""
        for state in states:
            if state.reduction is not None:
                self._partials[state.name] = self._local(state, version, where)

    def finished(self, states: tuple[State, ...], form: Running | None) -> Expression:
        """The reduction over chunks of the first state, moved to the finished contexts."""
        reduction = states[0].reduction
        assert reduction is not None
        reads = [self._partials[s.name] for s in states]
        body: Expression = reads[0]
        if form is not None:
            body = self._row(form, 0, reads, states, self._merging_factor)
        return replace(reduction, ranks=(self._rank.outer,), body=body, where=None)

    def _merging_factor(self, form: Running, entry: Any, diagonal: bool, first: State) -> Expression | None:
        def move(read: Read) -> Move:
            context = self._context(read.tensor)
            after = context.after(read)
            current = after if context.start is None else guard(after, context.start)
            return Move(context.before(read), after, current, context.start)

        return self._factor(form, entry, diagonal, first, move, (self._rank.now,))

    def _placed(self, indices: tuple[Expression, ...]) -> tuple[Expression, ...]:
        """The chunk comes first: a kernel that computes one stores it without gaps."""
        return (self._rank.now, *indices)


def _finished(read: Read) -> Expression:
    return read
