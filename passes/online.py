"""online: every reduction over a streamed rank becomes a running one, corrected where its context moves.

    MX   = max[n](S[n])                       MX.run[n.1+1] = max(MX.run[n.1], max[n.0](S.n[n.1,n.0]))
    P[n] = exp(S[n] - MX)               ->    P.n[n.1,n.0]  = exp(S.n[n.1,n.0] - MX.cur[n.1])
    D    = sum[n](P[n])                       D.run[n.1+1]  = D.run[n.1] * D.fix[n.1] + sum[n.0](P.n[n.1,n.0])

Law (theory.md 6): a body F(x, d) = sum_r G_r(x) H_r(d) keeps as many running states as its rank; when the context moves from d to d' they
are multiplied by the matrix T with W(d') = T W(d). A reduction whose body does not separate reads finished contexts and so runs in
a later sweep; its certificate says which term mixes. A context may be any function of reductions: its running version is the same
equation on the running states.

Guards: a running maximum that is still -inf counts as 0 in maps (``cur``), and a state whose context did not move is multiplied by 1 (``fix``), so a tile
without points leaves every state as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from einsum_compiler.ir.build import conjunction, conjuncts
from einsum_compiler.ir.cascade import Cascade, Equation
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.expression import (
    Constant,
    Expression,
    Read,
    Reduction,
)
from einsum_compiler.ir.printer import print_expression
from einsum_compiler.passes.algebra.decision import Refused, Running, decide
from einsum_compiler.passes.analysis.positivity import Positivity
from einsum_compiler.passes.analysis.value_ranges import Ranges
from einsum_compiler.passes.certificate import Certificate, Transformed
from einsum_compiler.passes.context_dependence import Decided, Dependences, Opened
from einsum_compiler.passes.domains import Domains
from einsum_compiler.passes.lateness import Lateness
from einsum_compiler.passes.order import in_order, live
from einsum_compiler.passes.running_contexts import RunningContext, RunningContexts
from einsum_compiler.passes.scope import definitions, free_ranks, plain, tensor_names
from einsum_compiler.passes.states import State, States, target_indices
from einsum_compiler.passes.streamed_ranks import dependent_ranks, foreign_extrema, streaming_obstacle
from einsum_compiler.passes.streaming import TiledRank, Tiler, Version


@dataclass(frozen=True, slots=True)
class Online:
    """``tile`` is the default of the new parameter ``N.0``. ``ranks`` are streamed; if None, those with dependent reductions.

    Without ``running`` no reduction is corrected: each waits for what it depends on, in one more sweep over the rank.
    """

    tile: int = 128
    ranks: tuple[str, ...] | None = None
    running: bool = True


def online(cascade: Cascade, options: Online = Online()) -> Transformed:
    """The normalized cascade with its streamed ranks in running form.

    Raises ``PlanError`` for a rank that cannot be streamed: a recurrence runs along it or through a reduction over it.
    """
    ranks = dependent_ranks(cascade) if options.ranks is None else options.ranks
    for rank in ranks:
        if (reason := streaming_obstacle(cascade, rank)) is not None:
            raise PlanError(f"rank {rank} cannot be streamed: {reason}")
    certificates: list[Certificate] = []
    original = cascade
    for rank in ranks:
        stream = Stream(cascade, TiledRank(rank), foreign_extrema(original, rank, ranks), options.running)
        cascade = stream.streamed(options.tile)
        certificates += stream.certificates
    return Transformed(cascade, tuple(certificates))


class Stream:
    """The rewriting of one cascade along one rank. ``split`` cuts the rank into chunks in place of steps, by the same decisions."""

    step = "online"

    def __init__(
        self, cascade: Cascade, rank: TiledRank, foreign: Mapping[str, Constant], running: bool = True
    ) -> None:
        self._corrects = running
        self.certificates: list[Certificate] = []
        self._cascade = cascade
        self._rank = rank
        self._defined = definitions(cascade)
        self._late = Lateness(cascade, (rank.rank,))
        self._tiler = Tiler(cascade, rank, tensor_names(cascade))
        self._ranges = Ranges(cascade)
        self._positivity = Positivity(self._defined, self._ranges)
        self._domains = Domains(cascade)
        self._states: dict[str, Decided] = {}
        self._dependences = Dependences(cascade, self._late, self._states)
        self._contexts = self._contexts_over(foreign)
        self._writer = self._writer_of_states()

    def _contexts_over(self, foreign: Mapping[str, Constant]) -> RunningContexts:
        return RunningContexts(self._tiler, self._defined.__getitem__, lambda name: name in self._states, foreign)

    def _writer_of_states(self) -> States:
        return States(self._tiler, self._running)

    def streamed(self, tile: int) -> Cascade:
        """The cascade with the rank tiled and its reductions running."""
        kept: list[Equation] = []
        finished: list[Equation] = []
        for equation in self._cascade.equations:
            value = equation.value
            if isinstance(value, Reduction) and self._rank.rank in value.ranks:
                made, last = self._reduction(equation, value)
                kept.extend(made)
                finished.append(last)
            else:
                kept.append(equation)
        if not self._states:
            return self._cascade
        parameters = (*self._cascade.parameters, *self._rank.scalars(tile))
        # Finished values come last, so that they stand where the first reader after the stream wants them.
        result = replace(self._cascade, parameters=parameters, equations=(*kept, *finished))
        return in_order(live(result))

    # -- one reduction

    def _reduction(self, equation: Equation, reduction: Reduction) -> tuple[list[Equation], Equation]:
        """The equations of a running reduction, and that of its finished value."""
        if not plain(equation):
            raise PlanError(
                f"{equation.target.tensor} is reduced over {self._rank.rank} in one of several cases", equation.span
            )
        before = len(self._tiler.made)
        latest = self._dependences.latest_sweep(reduction)
        opened = self._dependences.opened(reduction, latest)
        form: Running | Refused | None = None
        if latest:
            form = self._decide(reduction, opened, latest)
        sweep = max(1, latest + isinstance(form, Refused))
        self._certify(equation, reduction, form)
        running = form if isinstance(form, Running) else None
        for context in running.bridge.contexts if running is not None else ():
            self._running(context.tensor)  # before the states: they may share its count of points
        states = self._states_of(equation, reduction, running, opened)
        self._states[equation.target.tensor] = Decided(equation, opened, sweep)
        # Where the left side is defined may depend on finished values: that part waits for them.
        known = conjunction(c for c in conjuncts(equation.where) if not self._late.is_late(c))
        self._writer.write(states, running, self._version(sweep), known)
        finished = replace(equation, value=self._writer.finished(states, running))
        made = self._tiler.made[before:]
        del self._tiler.made[before:]
        return made, finished

    def _decide(self, reduction: Reduction, opened: Opened, latest: int) -> Running | Refused:
        """The form of a reduction that depends on contexts of a sweep."""
        if not self._corrects:
            return Refused("the plan lets it wait for finished contexts")
        if opened.obstacle is not None:
            return Refused(opened.obstacle)
        contexts = tuple(
            c for c in self._dependences.contexts(opened.body) if self._dependences.sweep(c.tensor) == latest
        )
        for context in contexts:
            if set(free_ranks(context)) & set(reduction.ranks):
                return Refused(f"the context {print_expression(context)} varies along the reduced ranks")
            if not self._dependences.followable(context.tensor):
                return Refused(f"{context.tensor} is defined by cases or by a recurrence, which has no running version")
        reduced = set(reduction.ranks)
        found = decide(
            reduction.operator,
            opened.body,
            contexts,
            self._positive,
            lambda node: not set(free_ranks(node)) & reduced,
        )
        if isinstance(found, Running) and (divisor := self._doubtful_divisor(found)) is not None:
            shown = print_expression(divisor)
            return Refused(f"it divides by {shown}, which may be 0 until its last point")
        if isinstance(found, Running) and len(found.basis) > 1 and self._points(reduction) is None:
            return Refused(f"no predicate says at which points {print_expression(reduction.body)} exists")
        return found

    def _positive(self, read: Read) -> bool:
        found = self._ranges.of_tensor(read.tensor)
        return found.nonnegative

    def _doubtful_divisor(self, form: Running) -> Read | None:
        """A context that divides in the states and may be 0 while it runs: 0 / 0 would stay in them for ever."""
        import sympy as sp

        powers = [p for function in form.basis for p in function.atoms(sp.Pow) if p.exp.could_extract_minus_sign()]
        divisors = {p.base for p in powers}
        return next(
            (r for r, v in form.bridge.contexts.items() if v in divisors and not self._positivity.holds(r)), None
        )

    def _certify(self, equation: Equation, reduction: Reduction, form: Running | Refused | None) -> None:
        name, ranks = equation.target.tensor, reduction.ranks
        if form is None:
            self.certificates.append(Certificate(self.step, name, ranks, "plain", "no context moves"))
        elif isinstance(form, Refused):
            self.certificates.append(Certificate(self.step, name, ranks, "refused", reason=form.reason))
        else:
            kind = "running" if form.rank == 1 else "finite rank"
            self.certificates.append(Certificate(self.step, name, ranks, kind, form.identity, form.conditions))

    # -- the running form

    def _version(self, sweep: int) -> Version:
        """Equations of one sweep: contexts of that sweep run, earlier ones are finished."""

        def context(read: Read) -> Expression | None:
            return self._running(read.tensor).current(read) if self._runs_in(read.tensor, sweep) else None

        return Version(context, lambda tensor: self._dependences.running_contexts(tensor, sweep))

    def _runs_in(self, tensor: str, sweep: int) -> bool:
        return self._late.is_context(tensor) and self._dependences.sweep(tensor) == sweep

    def _running(self, tensor: str) -> RunningContext:
        sweep = self._dependences.sweep(tensor)
        return self._contexts.of(tensor, lambda name: self._runs_in(name, sweep))

    def _states_of(
        self, equation: Equation, reduction: Reduction, form: Running | None, opened: Opened
    ) -> tuple[State, ...]:
        """The reduction itself, and the further states that its correction needs."""
        name = equation.target.tensor
        states = [State(name, equation.target.indices, reduction)]
        if form is None:
            return tuple(states)
        for function in form.basis[1:]:
            existing = self._existing(function, form, equation, reduction, opened)
            if existing is None:
                # This state sums an opened body, so the filters of the maps in between come with it; and it sums over the points of the
                # reduction that it corrects, although its own body may exist at more.
                body = form.bridge.out(function)
                where = conjunction((*opened.conditions, *(self._points(reduction) or ())))
                row = form.matrix[form.basis.index(function)]
                coupled: list[Expression] = [
                    read for read, symbol in form.bridge.contexts.items() if any(e.has(symbol) for e in row)
                ]
                coupled += [form.bridge.out(other) for other, e in zip(form.basis, row, strict=True) if e != 0]
                indices = target_indices(equation, body, where, *coupled)
                existing = State(
                    self._tiler.fresh(f"{name}.moment"), indices, replace(reduction, body=body, where=where)
                )
            states.append(existing)
        return tuple(states)

    def _points(self, reduction: Reduction) -> tuple[Expression, ...] | None:
        """Where the body of a reduction exists; None where no predicate says so."""
        return self._domains.of(reduction.body)

    def _existing(
        self, function: Any, form: Running, equation: Equation, reduction: Reduction, opened: Opened
    ) -> State | None:
        """A running state of an earlier reduction with the same body over the same points."""
        import sympy as sp

        points = set(self._points(reduction) or ())
        counts = function == 1 and not opened.conditions and not points and reduction.ranks == (self._rank.rank,)
        if counts and self._contexts.count is not None:
            return State(self._contexts.count, (), None)
        for name, state in self._states.items():
            other = state.equation.value
            assert isinstance(other, Reduction)
            if (other.operator, other.ranks) != (reduction.operator, reduction.ranks) or state.opened.obstacle:
                continue
            if set(state.opened.conditions) != set(opened.conditions) or state.equation.where != equation.where:
                continue
            if set(self._points(other) or ()) != points:
                continue
            within = set(state.equation.target.ranks) <= set(equation.target.ranks)
            if within and sp.simplify(form.bridge.into(state.opened.body) - function) == 0:
                return State(name, state.equation.target.indices, None)
        return None
