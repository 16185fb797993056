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

from einsum_compiler.ir.build import conjunction, conjuncts, reads_of
from einsum_compiler.ir.cascade import Cascade, Equation
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.expression import (
    Cast,
    Constant,
    Expression,
    Read,
    Reduction,
    map_children,
    walk,
)
from einsum_compiler.ir.operators import REDUCTIONS
from einsum_compiler.ir.printer import print_expression
from einsum_compiler.passes.algebra.decision import Refused, Running, decide
from einsum_compiler.passes.analysis.value_ranges import Ranges
from einsum_compiler.passes.certificate import Certificate, Transformed
from einsum_compiler.passes.lateness import Lateness
from einsum_compiler.passes.order import in_order, live
from einsum_compiler.passes.running_contexts import RunningContext, RunningContexts
from einsum_compiler.passes.scope import definitions, free_ranks, opened, plain, tensor_names
from einsum_compiler.passes.states import State, States, target_indices
from einsum_compiler.passes.streaming import TiledRank, Tiler, Version


@dataclass(frozen=True, slots=True)
class Online:
    """``tile`` is the default of the new parameter ``N.0``. ``ranks`` are streamed; if None, those with dependent reductions."""

    tile: int = 128
    ranks: tuple[str, ...] | None = None


def online(cascade: Cascade, options: Online = Online()) -> Transformed:
    """The normalized cascade with its streamed ranks in running form."""
    ranks = dependent_ranks(cascade) if options.ranks is None else options.ranks
    certificates: list[Certificate] = []
    original = cascade
    for rank in ranks:
        stream = _Stream(cascade, TiledRank(rank), _foreign(original, rank, ranks))
        cascade = stream.streamed(options.tile)
        certificates += stream.certificates
    return Transformed(cascade, tuple(certificates))


def dependent_ranks(cascade: Cascade) -> tuple[str, ...]:
    """The ranks with a reduction that depends on a finished reduction over the same rank.

    Of ranks that are reduced together the first one stands for all: the others stay inside its tiles.
    """
    found: dict[str, None] = {}
    together = [set(e.value.ranks) for e in cascade.equations if isinstance(e.value, Reduction)]
    for equation in cascade.equations:
        if isinstance(equation.value, Reduction):
            for rank in equation.value.ranks:
                streamed = any(rank in group and group & found.keys() for group in together)
                if not streamed and Lateness(cascade, (rank,)).is_late(equation.value):
                    found[rank] = None
    return tuple(found)


def _foreign(cascade: Cascade, rank: str, ranks: tuple[str, ...]) -> dict[str, Constant]:
    """The maxima and minima that only other streams compute, with their identities: running contexts of this one do without."""
    mine = Lateness(cascade, (rank,))
    others = {r for r in ranks if r != rank}
    return {
        e.target.tensor: Constant(REDUCTIONS[e.value.operator].identity)
        for e in cascade.equations
        if isinstance(e.value, Reduction)
        and e.value.operator in ("max", "min")
        and plain(e)
        and others & set(e.value.ranks)
        and not mine.is_late(e.target.tensor)
    }


@dataclass(frozen=True)
class _Decided:
    """A finished decision: the reduction, its opened body, the sweep it runs in."""

    equation: Equation
    body: Expression | None  # None where it could not be opened
    conditions: frozenset[Expression]  # where the points of the body exist
    sweep: int


class _Stream:
    """The rewriting of one cascade along one rank."""

    def __init__(self, cascade: Cascade, rank: TiledRank, foreign: Mapping[str, Constant]) -> None:
        self.certificates: list[Certificate] = []
        self._cascade = cascade
        self._rank = rank
        self._defined = definitions(cascade)
        self._late = Lateness(cascade, (rank.rank,))
        self._tiler = Tiler(cascade, rank, tensor_names(cascade))
        self._ranges = Ranges(cascade)
        self._states: dict[str, _Decided] = {}
        self._conditions: dict[Expression, None] = {}
        self._contexts = RunningContexts(
            self._tiler, self._defined.__getitem__, lambda name: name in self._states, foreign
        )
        self._writer = States(self._tiler, self._running)

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
        self._conditions = dict.fromkeys(conjuncts(reduction.where))
        body = self._opened(reduction.body)
        contexts = () if body is None else self._contexts_in(body)
        if reduction.where is not None and self._late.is_late(reduction.where):
            body = None
        form: Running | Refused | None
        if not self._late.is_late(reduction):
            form, sweep = None, 1
        else:
            latest = self._latest_sweep(reduction)
            contexts = tuple(c for c in contexts if self._sweep(c.tensor) == latest)
            form = self._decide(equation, reduction, body, contexts)
            sweep = latest + isinstance(form, Refused)
        self._certify(equation, reduction, form)
        running = form if isinstance(form, Running) else None
        for context in running.bridge.contexts if running is not None else ():
            self._running(context.tensor)  # before the states: they may share its count of points
        states = self._states_of(equation, reduction, running)
        self._states[equation.target.tensor] = _Decided(equation, body, frozenset(self._conditions), sweep)
        self._writer.write(states, running, self._version(sweep), equation.where)
        finished = replace(equation, value=self._writer.finished(states, running))
        made = self._tiler.made[before:]
        del self._tiler.made[before:]
        return made, finished

    def _decide(
        self, equation: Equation, reduction: Reduction, body: Expression | None, contexts: tuple[Read, ...]
    ) -> Running | Refused:
        if body is None:
            return Refused("a filter, a rounding or another reduction stands between the context and this one")
        inner = set(reduction.ranks)
        varying = [c for c in contexts if set(free_ranks(c)) & inner]
        if varying:
            return Refused(f"the context {print_expression(varying[0])} varies along the reduced ranks")
        return decide(reduction.operator, body, contexts, lambda read: self._positive(read))

    def _positive(self, read: Read) -> bool:
        found = self._ranges.of_tensor(read.tensor)
        return found.nonnegative

    def _certify(self, equation: Equation, reduction: Reduction, form: Running | Refused | None) -> None:
        name, ranks = equation.target.tensor, reduction.ranks
        if form is None:
            self.certificates.append(Certificate("online", name, ranks, "plain", "no context moves"))
        elif isinstance(form, Refused):
            self.certificates.append(Certificate("online", name, ranks, "refused", reason=form.reason))
        else:
            kind = "running" if form.rank == 1 else "finite rank"
            self.certificates.append(Certificate("online", name, ranks, kind, form.identity, form.conditions))

    # -- what a body depends on

    def _opened(self, node: Expression) -> Expression | None:
        """The expression with late maps along the rank replaced by their definitions; None if something else is in between."""
        if isinstance(node, Read) and self._late.is_late(node.tensor) and self._late.runs(node.tensor):
            equation = self._defined.get(node.tensor)
            if equation is None or isinstance(equation.value, Reduction):
                return None
            value, where = opened(equation, node)
            if where is not None and self._late.is_late(where):
                return None
            self._conditions.update(dict.fromkeys(conjuncts(where)))
            inner = self._opened(value)
            if inner is None or equation.target.dtype is None:
                return inner
            return Cast(inner, equation.target.dtype)
        failed = False

        def change(child: Expression) -> Expression:
            nonlocal failed
            found = self._opened(child)
            failed = failed or found is None
            return child if found is None else found

        result = map_children(node, change)
        return None if failed else result

    def _contexts_in(self, body: Expression) -> tuple[Read, ...]:
        return tuple(dict.fromkeys(r for r in reads_of(body) if self._late.is_context(r.tensor)))

    def _sweep(self, tensor: str) -> int:
        """The sweep in which a tensor is known: that of the last reduction over the rank it depends on; 0 if there is none."""
        if tensor in self._states:
            return self._states[tensor].sweep
        if not self._late.is_late(tensor):
            return 0
        reads = [r for e in self._cascade.equations_of(tensor) for r in _all_reads(e)]
        return max((self._sweep(r.tensor) for r in reads if r.tensor != tensor), default=0)

    def _latest_sweep(self, reduction: Reduction) -> int:
        return max(self._sweep(n.tensor) for n in walk(reduction) if isinstance(n, Read))

    def _running_contexts(self, tensor: str, sweep: int) -> frozenset[str]:
        """The contexts of that sweep which a tensor along the rank depends on."""
        found: set[str] = set()
        for equation in self._cascade.equations_of(tensor):
            for read in _all_reads(equation):
                if self._late.is_context(read.tensor):
                    if self._sweep(read.tensor) == sweep:
                        found.add(read.tensor)
                elif self._late.is_late(read.tensor) and read.tensor != tensor:
                    found |= self._running_contexts(read.tensor, sweep)
        return frozenset(found)

    # -- the running form

    def _version(self, sweep: int) -> Version:
        """Equations of one sweep: contexts of that sweep run, earlier ones are finished."""

        def context(read: Read) -> Expression | None:
            return self._running(read.tensor).current(read) if self._runs_in(read.tensor, sweep) else None

        return Version(context, lambda tensor: self._running_contexts(tensor, sweep))

    def _runs_in(self, tensor: str, sweep: int) -> bool:
        return self._late.is_context(tensor) and self._sweep(tensor) == sweep

    def _running(self, tensor: str) -> RunningContext:
        sweep = self._sweep(tensor)
        return self._contexts.of(tensor, lambda name: self._runs_in(name, sweep))

    def _states_of(self, equation: Equation, reduction: Reduction, form: Running | None) -> tuple[State, ...]:
        """The reduction itself, and the further states that its correction needs."""
        name = equation.target.tensor
        states = [State(name, equation.target.indices, reduction)]
        if form is None:
            return tuple(states)
        for function in form.basis[1:]:
            existing = self._existing(function, form, equation, reduction)
            if existing is None:
                # This state sums an opened body, so the filters of the maps in between come with it.
                body = form.bridge.out(function)
                where = conjunction(self._conditions)
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

    def _existing(self, function: Any, form: Running, equation: Equation, reduction: Reduction) -> State | None:
        """A running state of an earlier reduction with the same body over the same points."""
        import sympy as sp

        counts = function == 1 and not self._conditions and reduction.ranks == (self._rank.rank,)
        if counts and self._contexts.count is not None:
            return State(self._contexts.count, (), None)
        for name, state in self._states.items():
            other = state.equation.value
            assert isinstance(other, Reduction)
            if (other.operator, other.ranks) != (reduction.operator, reduction.ranks) or state.body is None:
                continue
            if state.conditions != frozenset(self._conditions) or state.equation.where != equation.where:
                continue
            within = set(state.equation.target.ranks) <= set(equation.target.ranks)
            if within and sp.simplify(form.bridge.into(state.body) - function) == 0:
                return State(name, state.equation.target.indices, None)
        return None


def _all_reads(equation: Equation) -> tuple[Read, ...]:
    return reads_of(equation.value, equation.where)
