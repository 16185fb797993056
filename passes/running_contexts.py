"""Contexts while the stream runs: their value before a tile, after it, and the guarded one that maps see.

A reduction's running value is its state. A function of reductions is the same equation on the running states: ``C = max(SG, MX)`` becomes
``C.new[n.1] = max(SG, MX.run[n.1+1])``. The extent of the streamed rank in such a function counts the points seen so far. Any finite
sequence of contexts gives the right result if the last one is right, so a part that another stream is still computing may be
left out (a maximum over a second set of keys); the finished state is then corrected once more (``last``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from einsum_compiler.ir.build import reads_of
from einsum_compiler.ir.cascade import Equation
from einsum_compiler.ir.expression import (
    Binary,
    Call,
    Comparison,
    Conditional,
    Constant,
    Expression,
    Extent,
    Read,
    Reduction,
    map_children,
)
from einsum_compiler.ir.operators import REDUCTIONS
from einsum_compiler.passes.streaming import Tiler

Element = Callable[[Read], Expression]


@dataclass(frozen=True)
class RunningContext:
    """A context as functions from the read of its finished value to what stands for it.

    ``start`` is the infinity that a running extremum has before its first point; ``last`` is the finished running value, where
    that differs from the context itself.
    """

    before: Element
    after: Element
    current: Element
    start: float | None
    last: Element | None = None


class RunningContexts:
    """The running contexts of one stream, each written when first asked for.

    ``runs(tensor)`` says whether a tensor is a context that runs in the sweep at hand, ``foreign`` holds the
    extrema that another stream computes, with their identities.
    """

    def __init__(
        self,
        tiler: Tiler,
        equations: Callable[[str], Equation],
        is_state: Callable[[str], bool],
        foreign: Mapping[str, Constant],
    ) -> None:
        self._tiler = tiler
        self._equation = equations
        self._is_state = is_state
        self._foreign = foreign
        self._known: dict[str, RunningContext] = {}
        self._count: Read | None = None

    def of(self, tensor: str, runs: Callable[[str], bool]) -> RunningContext:
        """The running version of a context."""
        if tensor not in self._known:
            if self._is_state(tensor):
                self._known[tensor] = self._state(tensor)
            else:
                self._known[tensor] = self._extremum(tensor, runs) or self._function(tensor, runs)
        return self._known[tensor]

    def _extremum(self, tensor: str, runs: Callable[[str], bool]) -> RunningContext | None:
        """A guarded extremum as the extremum itself; None for any other function."""
        equation = self._equation(tensor)
        bare = _guarded_extremum(equation)
        if bare is None or not runs(bare.tensor):
            return None
        extremum = self.of(bare.tensor, runs)
        return None if extremum.start is None or extremum.last is not None else _unguarded(extremum, bare, equation)

    def _state(self, tensor: str) -> RunningContext:
        rank, equation = self._tiler.rank, self._equation(tensor)
        assert isinstance(equation.value, Reduction)
        identity = float(REDUCTIONS[equation.value.operator].identity)
        after = _element(f"{tensor}.run", rank.after)
        start = identity if math.isinf(identity) else None
        return RunningContext(_element(f"{tensor}.run", rank.now), after, self._guarded(tensor, after, start), start)

    def _function(self, tensor: str, runs: Callable[[str], bool]) -> RunningContext:
        equation = self._equation(tensor)
        inner = [self.of(r.tensor, runs) for r in reads_of(equation.value) if runs(r.tensor)]
        start = next((c.start for c in inner if c.start is not None), None)
        indices = (*equation.target.indices, self._tiler.rank.now)
        found: dict[str, Element] = {}
        for part in ("old", "new"):
            found[part] = self._written(
                f"{tensor}.{part}", indices, self._running(equation.value, runs, part), equation
            )
        last: Element | None = None
        if any(
            r.tensor in self._foreign or (runs(r.tensor) and self.of(r.tensor, runs).last)
            for r in reads_of(equation.value)
        ):
            value = self._running(equation.value, runs, "last")
            last = self._written(f"{tensor}.last", equation.target.indices, value, equation)
        return RunningContext(found["old"], found["new"], self._guarded(tensor, found["new"], start), start, last)

    def _written(self, stem: str, indices: tuple[Expression, ...], value: Expression, equation: Equation) -> Element:
        """A function of running states in an equation of its own, unless it is one of them."""
        left = equation.target.indices
        if isinstance(value, Read) and value.indices[: len(left)] == left and equation.where is None:
            return _element(value.tensor, *value.indices[len(left) :])
        name = self._tiler.fresh(stem)
        self._tiler.add(name, indices, value, equation.where)
        return _element(name, *indices[len(left) :])

    def _guarded(self, tensor: str, after: Element, start: float | None) -> Element:
        """A running extremum that saw nothing yet counts as 0: exp(-inf - 0) is 0, and exp(-inf - -inf) is NaN."""
        if start is None:
            return after
        equation, now = self._equation(tensor), self._tiler.rank.now
        read = after(Read(tensor, equation.target.indices))
        name = self._tiler.fresh(f"{tensor}.cur")
        self._tiler.add(name, (*equation.target.indices, now), guard(read, start), equation.where)
        return _element(name, now)

    def _running(self, node: Expression, runs: Callable[[str], bool], part: str) -> Expression:
        """A function of contexts as a function of their running states, before (``old``), after (``new``) or at the end (``last``)."""
        if isinstance(node, Read) and runs(node.tensor):
            context = self.of(node.tensor, runs)
            if part == "last":
                return node if context.last is None else context.last(node)
            return context.before(node) if part == "old" else context.after(node)
        if isinstance(node, Read) and node.tensor in self._foreign:
            return self._foreign[node.tensor]
        if isinstance(node, Extent) and node.rank == self._tiler.rank.rank and part != "last":
            return self._points(part)
        changed = map_children(node, lambda child: self._running(child, runs, part))
        if (
            isinstance(node, Binary)
            and isinstance(changed, Binary)
            and node.operator == "/"
            and changed.right != node.right
        ):
            # Before the first point a sum is 0. Any finite context will do there, since the states are 0 too.
            return Conditional(Comparison(("==",), (changed.right, Constant(0))), Constant(0), changed)
        return _without_identities(changed)

    def _points(self, part: str) -> Expression:
        """How many points the stream has seen: a sum of ones."""
        rank = self._tiler.rank
        if self._count is None:
            name = self._tiler.fresh(f"{rank.rank}.count")
            ones = Reduction("sum", (rank.inner,), Constant(1), rank.inside)
            local = self._tiler.add(self._tiler.fresh(f"{name}.{rank.rank}"), (rank.now,), ones)
            self._count = Read(f"{name}.run", (rank.now,))
            self._tiler.add(f"{name}.run", (Constant(0),), Constant(0))
            self._tiler.add(f"{name}.run", (rank.after,), Binary("+", self._count, local))
        return self._count if part == "old" else replace(self._count, indices=(rank.after,))

    @property
    def count(self) -> str | None:
        """The name of the count of points, without ``.run``, once something needed it."""
        return None if self._count is None else self._count.tensor.removesuffix(".run")


def guard(read: Expression, start: float) -> Expression:
    """``if(x == -inf, 0, x)``."""
    return Conditional(Comparison(("==",), (read, Constant(start))), Constant(0), read)


def _guarded_extremum(equation: Equation) -> Read | None:
    """X of ``C = if(X == -inf, 0, X)`` over the ranks of C; None for any other equation."""
    match equation.value:
        case Conditional(
            condition=Comparison(operators=("==",), operands=(Read() as read, Constant(value=float() as value))),
            then=Constant(value=0),
            otherwise=kept,
        ) if kept == read and math.isinf(value) and equation.where is None:
            return read if set(read.indices) == set(equation.target.indices) else None
    return None


def _unguarded(extremum: RunningContext, bare: Read, equation: Equation) -> RunningContext:
    """C of ``C = if(X == -inf, 0, X)`` runs as X, which maps see guarded anyway.

    If it ran as written it would jump from 0 to the first maximum, and where that is far below 0 the correction of states that are still 0 would be infinite.
    """
    order = [equation.target.indices.index(i) for i in bare.indices]

    def through(element: Element) -> Element:
        return lambda read: element(Read(bare.tensor, tuple(read.indices[p] for p in order)))

    return RunningContext(through(extremum.before), through(extremum.after), through(extremum.current), extremum.start)


def _element(tensor: str, *position: Expression) -> Element:
    return lambda read: Read(tensor, (*read.indices, *position))


def _without_identities(node: Expression) -> Expression:
    """``max(x, -inf)`` is x."""
    if isinstance(node, Call) and node.function in ("max", "min"):
        identity = Constant(REDUCTIONS[node.function].identity)
        rest = tuple(a for a in node.arguments if a != identity)
        return (
            node
            if len(rest) == len(node.arguments) or not rest
            else rest[0]
            if len(rest) == 1
            else replace(node, arguments=rest)
        )
    return node
