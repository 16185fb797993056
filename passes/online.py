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

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from einsum_compiler.ir.build import conjunction, conjuncts, reads_of
from einsum_compiler.ir.cascade import Cascade, Equation, Target
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.expression import (
    Binary,
    Call,
    Cast,
    Comparison,
    Conditional,
    Constant,
    Expression,
    Extent,
    Rank,
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
from einsum_compiler.passes.scope import definitions, free_ranks, opened, plain, tensor_names
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
    for rank in ranks:
        stream = _Stream(cascade, TiledRank(rank))
        cascade = stream.streamed(options.tile)
        certificates += stream.certificates
    return Transformed(cascade, tuple(certificates))


def dependent_ranks(cascade: Cascade) -> tuple[str, ...]:
    """The ranks with a reduction that depends on a finished reduction over the same rank."""
    found: dict[str, None] = {}
    for equation in cascade.equations:
        if isinstance(equation.value, Reduction):
            for rank in equation.value.ranks:
                if rank not in found and Lateness(cascade, (rank,)).is_late(equation.value):
                    found[rank] = None
    return tuple(found)


@dataclass(frozen=True)
class _State:
    """A finished decision: the reduction, its opened body, the sweep it runs in."""

    equation: Equation
    body: Expression | None  # None where it could not be opened
    conditions: frozenset[Expression]  # where the points of the body exist
    sweep: int


class _Stream:
    """The rewriting of one cascade along one rank."""

    def __init__(self, cascade: Cascade, rank: TiledRank) -> None:
        self.certificates: list[Certificate] = []
        self._cascade = cascade
        self._rank = rank
        self._defined = definitions(cascade)
        self._late = Lateness(cascade, (rank.rank,))
        self._tiler = Tiler(cascade, rank, tensor_names(cascade))
        self._ranges = Ranges(cascade)
        self._states: dict[str, _State] = {}
        self._conditions: dict[Expression, None] = {}
        self._contexts: dict[str, _Context] = {}
        self._fixes: dict[tuple[Expression, tuple[Expression, ...]], Read] = {}
        self._counts: dict[tuple[str, ...], Read] = {}

    def streamed(self, tile: int) -> Cascade:
        """The cascade with the rank tiled and its reductions running."""
        kept: list[Equation] = []
        finished: list[Equation] = []
        for equation in self._cascade.equations:
            value = equation.value
            if isinstance(value, Reduction) and self._rank.rank in value.ranks:
                kept.extend(self._reduction(equation, value))
                finished.append(self._finished(equation))
            else:
                kept.append(equation)
        if not self._states:
            return self._cascade
        parameters = (*self._cascade.parameters, *self._rank.scalars(tile))
        # Finished values come last, so that they stand where the first reader after the stream wants them.
        result = replace(self._cascade, parameters=parameters, equations=(*kept, *finished))
        return in_order(live(result))

    def _finished(self, equation: Equation) -> Equation:
        """``R[...] = R.run[..., N.1]``."""
        target = equation.target
        last = (*target.indices, Extent(self._rank.outer))
        return replace(equation, value=Read(f"{target.tensor}.run", last))

    # -- one reduction

    def _reduction(self, equation: Equation, reduction: Reduction) -> list[Equation]:
        if not plain(equation):
            raise PlanError(f"{equation.target.tensor} is reduced over {self._rank.rank} in one of several cases", equation.span)
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
        self._states[equation.target.tensor] = _State(equation, body, frozenset(self._conditions), sweep)
        self._certify(equation, reduction, form)
        self._emit(equation, reduction, form, sweep)
        made = self._tiler.made[before:]
        del self._tiler.made[before:]
        return made

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
            if self._late.is_context(read.tensor) and self._sweep(read.tensor) == sweep:
                return self._context(read.tensor).current(read)
            return None

        return Version(context, lambda tensor: self._running_contexts(tensor, sweep))

    def _emit(self, equation: Equation, reduction: Reduction, form: Running | Refused | None, sweep: int) -> None:
        version = self._version(sweep)
        states = self._state_names(equation, reduction, form)
        for i, (name, body) in enumerate(states):
            if body is None:
                continue  # another reduction keeps this state already
            target = Target(name, equation.target.indices)
            # A state beside the first sums an opened body, so the filters of the maps in between come with it.
            where = reduction.where if i == 0 else conjunction(self._conditions)
            local = self._local(name, target, replace(reduction, body=body, where=where), version, equation.where)
            if i == 0:
                pending = (target, local)
            else:
                self._run(target, reduction.operator, local, Read(f"{name}.run", (*target.indices, self._rank.now)), equation.where)
        target, local = pending
        before = self._corrected(equation, form, states)
        self._run(target, reduction.operator, local, before, equation.where)

    def _local(self, name: str, target: Target, reduction: Reduction, version: Version, where: Expression | None) -> Read:
        """``R.n[..., n.1] = op[n.0](...)``."""
        body = self._tiler.tiled(reduction.body, version)
        inner = tuple(self._rank.inner if r == self._rank.rank else r for r in reduction.ranks)
        held = None if reduction.where is None else self._tiler.tiled(reduction.where, version)
        filtered = self._rank.inside if held is None else Binary("and", held, self._rank.inside)
        indices = (*target.indices, self._rank.now)
        local = self._tiler.fresh(f"{name}.{self._rank.rank}")
        return self._tiler.add(local, indices, replace(reduction, ranks=inner, body=body, where=filtered), where)

    def _run(self, target: Target, operator: str, local: Read, before: Expression, where: Expression | None) -> None:
        """``R.run[..., 0] = identity`` and ``R.run[..., n.1+1] = combine(before, local)``."""
        monoid = REDUCTIONS[operator]
        name = f"{target.tensor}.run"
        self._tiler.add(name, (*target.indices, Constant(0)), Constant(monoid.identity), where)
        joined: Expression
        if monoid.combine in ("+", "*", "and", "or"):
            joined = Binary(monoid.combine, before, local)
        else:
            joined = Call(monoid.combine, (before, local))
        self._tiler.add(name, (*target.indices, self._rank.after), joined, where)

    def _state_names(
        self, equation: Equation, reduction: Reduction, form: Running | Refused | None
    ) -> list[tuple[str, Expression | None]]:
        """The states of a reduction with the body of each; a body of None says that a reduction before keeps it."""
        name = equation.target.tensor
        states: list[tuple[str, Expression | None]] = [(name, reduction.body)]
        if not isinstance(form, Running):
            return states
        for function in form.basis[1:]:
            existing = self._existing(function, form, equation, reduction)
            if existing is not None:
                states.append((existing, None))
            else:
                states.append((self._tiler.fresh(f"{name}.moment"), form.bridge.out(function)))
        return states

    def _existing(self, function: object, form: Running, equation: Equation, reduction: Reduction) -> str | None:
        """A running state of an earlier reduction with the same body over the same points."""
        import sympy as sp

        for name, state in self._states.items():
            other = state.equation.value
            assert isinstance(other, Reduction)
            alike = (other.operator, other.ranks) == (reduction.operator, reduction.ranks)
            if name == equation.target.tensor or not alike or state.body is None:
                continue
            if state.conditions != frozenset(self._conditions):
                continue
            if state.equation.target.indices == equation.target.indices and state.equation.where == equation.where:
                if sp.simplify(form.bridge.into(state.body) - function) == 0:
                    return name
        return None

    # -- corrections

    def _corrected(self, equation: Equation, form: Running | Refused | None, states: list[tuple[str, Expression | None]]) -> Expression:
        """The state of a reduction before this tile, moved to the contexts after it."""
        indices = equation.target.indices
        reads: list[Expression] = [Read(f"{name}.run", (*indices, self._rank.now)) for name, _ in states]
        if not isinstance(form, Running):
            return reads[0]
        for i in range(len(states) - 1, 0, -1):
            self._rewrite_step(states, i, form, equation, reads)
        return self._row(equation, form, 0, reads)

    def _row(self, equation: Equation, form: Running, i: int, reads: list[Expression]) -> Expression:
        result: Expression | None = None
        for j, entry in enumerate(form.matrix[i]):
            if entry == 0:
                continue
            factor = self._fix(equation, form, entry, diagonal=i == j)
            part = reads[j] if factor is None else Binary(form.operator, reads[j], factor)
            result = part if result is None else Binary("+", result, part)
        assert result is not None
        return result

    def _rewrite_step(
        self, states: list[tuple[str, Expression | None]], i: int, form: Running, equation: Equation, reads: list[Expression]
    ) -> None:
        """Corrects a state of the basis that was emitted without its correction."""
        name, body = states[i]
        if body is None:
            return
        corrected = self._row(equation, form, i, reads)
        made = self._tiler.made
        for k, step in enumerate(made):
            if step.target.tensor == f"{name}.run" and step.target.indices[-1] == self._rank.after:
                assert isinstance(step.value, Binary)
                moved = made.pop(k)
                made.append(replace(moved, value=replace(step.value, left=corrected)))
                return

    def _fix(self, equation: Equation, form: Running, entry: object, diagonal: bool) -> Expression | None:
        """An entry of the correction, guarded; None if it is 1. Equal entries share one equation."""
        import sympy as sp

        if entry == 1 and form.operator == "*" or entry == 0:
            return None
        symbolic = sp.sympify(entry)
        if symbolic.is_number:
            return form.bridge.out(symbolic)
        used = [(read, s) for read, s in form.bridge.contexts.items() if symbolic.has(s, form.new[s])]
        for read, symbol in used:
            form.bridge.define(symbol, self._context(read.tensor).before(read))
            form.bridge.define(form.new[symbol], self._context(read.tensor).current(read))
        value = form.bridge.out(symbolic)
        for read, symbol in form.bridge.contexts.items():
            form.bridge.define(symbol, read)
        neutral = Constant((1 if form.operator == "*" else 0) if diagonal else 0)
        tests: list[Expression] = []
        for read, _ in used:
            context = self._context(read.tensor)
            tests.append(Comparison(("==",), (context.before(read), context.after(read))))
        test = tests[0]
        for other in tests[1:]:
            test = Binary("and", test, other)
        for read, symbol in used:
            start = self._context(read.tensor).start
            if not diagonal and start is not None:
                test = Binary("or", test, Comparison(("==",), (self._context(read.tensor).before(read), Constant(start))))
        value = Conditional(test, neutral, value)
        ranks = tuple(i for i in equation.target.indices if isinstance(i, Rank) and i.name in free_ranks(value))
        key = (value, ranks)
        if key not in self._fixes:
            name = self._tiler.fresh(f"{equation.target.tensor}.fix")
            self._fixes[key] = self._tiler.add(name, (*ranks, self._rank.now), value)
        return self._fixes[key]

    def _context(self, tensor: str) -> _Context:
        if tensor not in self._contexts:
            self._contexts[tensor] = self._new_context(tensor)
        return self._contexts[tensor]

    def _new_context(self, tensor: str) -> _Context:
        if tensor in self._states:
            equation = self._states[tensor].equation
            value = equation.value
            assert isinstance(value, Reduction)
            before = _Element(f"{tensor}.run", self._rank.now)
            after = _Element(f"{tensor}.run", self._rank.after)
            start = float(REDUCTIONS[value.operator].identity)
            start_ = start if math.isinf(start) else None
        else:
            equation = self._defined[tensor]
            sweep = self._sweep(tensor)
            indices = (*equation.target.indices, self._rank.now)
            names = [self._tiler.fresh(f"{tensor}.{part}") for part in ("old", "new")]
            starts = []
            for name, which in zip(names, ("before", "after"), strict=True):
                value = self._on_running_states(equation.value, sweep, which)
                self._tiler.add(name, indices, value, equation.where)
            for read in _all_reads(equation):
                if self._late.is_context(read.tensor) and self._sweep(read.tensor) == sweep:
                    starts.append(self._context(read.tensor).start)
            before, after = (_Element(name, self._rank.now) for name in names)
            start_ = next((s for s in starts if s is not None), None)
        current = after
        if start_ is not None:
            # A running extremum that saw nothing yet counts as 0: exp(-inf - 0) is 0, and never NaN.
            read = after.at(Read(tensor, equation.target.indices))
            identity = Constant(start_)
            guarded = Conditional(Comparison(("==",), (read, identity)), Constant(0), read)
            name = self._tiler.fresh(f"{tensor}.cur")
            self._tiler.add(name, (*equation.target.indices, self._rank.now), guarded, equation.where)
            current = _Element(name, self._rank.now)
        return _Context(before.at, after.at, current.at, start_)

    def _on_running_states(self, node: Expression, sweep: int, which: str) -> Expression:
        """A function of contexts as a function of their running states."""
        if isinstance(node, Read) and self._late.is_context(node.tensor) and self._sweep(node.tensor) == sweep:
            context = self._context(node.tensor)
            return context.before(node) if which == "before" else context.after(node)
        changed = map_children(node, lambda child: self._on_running_states(child, sweep, which))
        if isinstance(changed, Binary) and changed.operator == "/" and changed.right is not node.right:  # type: ignore[attr-defined]
            # Before the first point a sum is 0; any finite context will do, since the states are 0 as well.
            return Conditional(Comparison(("==",), (changed.right, Constant(0))), Constant(0), changed)
        if isinstance(node, Extent) and node.rank == self._rank.rank:
            return self._count(which)
        return changed

    def _count(self, which: str) -> Expression:
        """How many points the stream has seen: the running version of the rank's extent."""
        name = "count"
        key = (self._rank.rank,)
        if key not in self._counts:
            tensor = self._tiler.fresh(f"{self._rank.rank}.{name}")
            target = Target(tensor, ())
            one = Reduction("sum", (self._rank.rank,), Constant(1))
            local = self._local(tensor, target, one, self._version(0), None)
            self._counts[key] = Read(f"{tensor}.run", (self._rank.now,))
            self._run(target, "sum", local, self._counts[key], None)
        read = self._counts[key]
        return read if which == "before" else replace(read, indices=(self._rank.after,))


@dataclass(frozen=True)
class _Element:
    """The element of a running tensor at one position of the stream."""

    tensor: str
    position: Expression

    def at(self, read: Read) -> Read:
        return Read(self.tensor, (*read.indices, self.position))


@dataclass(frozen=True)
class _Context:
    """A running context: its value before and after a tile, and the guarded one that maps see."""

    before: Callable[[Read], Read]
    after: Callable[[Read], Read]
    current: Callable[[Read], Read]
    start: float | None


def _all_reads(equation: Equation) -> tuple[Read, ...]:
    return reads_of(equation.value, equation.where)
