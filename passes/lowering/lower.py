"""``lower``: the cascade of one kernel, with its streamed rank split and its states explicit, as a tile program.

Nearly mechanical (design, section 5): the loop of sweep k holds the equations of pass level k; states are carried; what needs a state's
last value stands after its loop; the rest is the prologue. A filter becomes the ranges of the loop and, in partial tiles only, one select at
the first value whose emptiness reaches a reduction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from einsum_compiler.ir.build import ceil_divide, conjunction, extents_of, parameters_of, ranks_of, reads_of
from einsum_compiler.ir.cascade import Cascade, Equation
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.expression import Comparison, Constant, Expression, Extent, Rank, Read, Reduction, walk
from einsum_compiler.ir.fold import substitute
from einsum_compiler.ir.plan import Accumulation, KernelPlan, RankTile
from einsum_compiler.ir.tile import (
    Carry,
    Loop,
    Range,
    ScalarOperand,
    Schedule,
    Statement,
    Store,
    TensorOperand,
    TileKernel,
    TileType,
)
from einsum_compiler.ir.tile_ranges import needed
from einsum_compiler.passes.lowering.loops import common_consequences, loop_ranges
from einsum_compiler.passes.lowering.placement import Placement
from einsum_compiler.passes.lowering.scope import Scope, replace_scope
from einsum_compiler.passes.lowering.sweeps import assign_sweeps, finished_read
from einsum_compiler.passes.lowering.tiles import TileWriter
from einsum_compiler.passes.lowering.tiling import Tiling
from einsum_compiler.passes.lowering.translate import Domain
from einsum_compiler.passes.lowering.unvisited import without_unvisited


@dataclass(frozen=True)
class LoweringContext:
    """What is known when a kernel is lowered, besides cascade and plan.

    ``dtypes``: element types of inputs, buffers and outputs; ``scalars``: types of scalar parameters; ``extents`` and ``parameters``: constants of the
    kernel (resident ranks, divisors, coefficients).
    """

    dtypes: Mapping[str, str]
    scalars: Mapping[str, str]
    extents: Mapping[str, int]
    parameters: Mapping[str, int | bool]


def lower(cascade: Cascade, plan: KernelPlan, context: LoweringContext) -> TileKernel:
    """The tile program of one kernel.

    ``cascade`` is what ``online`` and ``precision`` left: every reduction over the streamed rank is a state along ``n.1``. Raises ``PlanError`` where
    the plan cannot hold the cascade.
    """
    return _Lowering(cascade, plan, context).kernel()


def skeleton(
    cascade: Cascade, plan: KernelPlan, context: LoweringContext
) -> tuple[TileKernel, tuple[frozenset[Expression], ...]]:
    """The tile program without closed forms of its loops, and for each loop the conjuncts that decide its tiles, in coordinates of the cascade.

    Its loops have one full and one partial range over the whole rank: statements are what matters here, of which both bodies are wanted.
    """
    lowering = _Lowering(cascade, plan, context, False)
    return lowering.kernel(), tuple(lowering.predicates)


class _Lowering:
    def __init__(self, cascade: Cascade, plan: KernelPlan, context: LoweringContext, closed_forms: bool = True) -> None:
        self.closed_forms, self.predicates = closed_forms, list[Domain]()
        extents = dict(context.extents)
        extents.update({f"{s.rank}.0": s.size for s in plan.streams})
        self.cascade, self.plan, self.context = cascade, plan, context
        self.tiling = Tiling(plan, extents)
        self.loops = self.tiling.loops
        self.sweeps = assign_sweeps(cascade, self.loops, plan.whole)
        self.placement = Placement(cascade, plan, self.loops, self.sweeps)
        self.writer = TileWriter(
            cascade, self.tiling, context.dtypes, context.scalars, context.parameters, self._tile_of
        )
        self.absorbed = self.placement.absorbed(self.writer.accumulation)
        self.schedules: list[Schedule] = []
        self.outputs = {t.name: t for t in cascade.outputs}

    # -- the kernel -------------------------------------------------------------------------------------------------------

    def kernel(self) -> TileKernel:
        body: list[Statement] = []
        outer: Scope | None = None
        for stage in range(self.sweeps.count + 1):
            scope = Scope(outer=outer)
            self.writer.scope = scope
            loops: list[Loop] = []
            for equation in self.placement.outside(stage):
                self._equation(equation)
            self._store_all(stage)
            for stream in self.plan.streams:
                if inside := self.placement.inside(stage + 1, f"{stream.rank}.1"):
                    loops.append(self._loop(stream, stage + 1, inside, scope))
            body += [*scope.statements, *loops]
            outer = scope
        # What stands between two sweeps elsewhere stands inside a loop of one trip, and outside only for what is stored there.
        return self._assemble(without_unvisited(needed(body) if self.plan.whole else body))

    def _assemble(self, body: tuple[Statement, ...]) -> TileKernel:
        tensors = self.writer.loaded
        for schedule in self.schedules:
            for node in walk(schedule.predicate):
                if isinstance(node, Read):
                    tensors.setdefault(node.tensor, None)
        expressions = [*_expressions(body), *(p.count for p in self.tiling.program)]
        expressions += [e for s in self.schedules for e in (s.predicate, s.stream.count, *(p.count for p in s.program))]
        operands = {t.name: t for t in self.cascade.inputs}
        inputs = tuple(self._operand(operands[name].name, operands[name].ranks) for name in operands if name in tensors)
        outputs = tuple(self._operand(t.name, t.ranks) for t in self.cascade.outputs)
        expressions += [e for t in (*inputs, *outputs) for e in t.extents]
        return TileKernel(
            ".".join([self.cascade.name, *self.plan.outputs]),
            inputs,
            outputs,
            tuple(ScalarOperand(n, self.context.scalars[n]) for n in parameters_of(*expressions)),
            extents_of(*expressions),
            self.tiling.program,
            body,
            tuple(self.schedules),
            self._accumulated(),
        )

    def _accumulated(self) -> tuple[Accumulation, ...]:
        """The accumulated outputs, with program indices for ranks."""
        indices = {t.rank: p.rank for t, p in zip(self.plan.program, self.tiling.program, strict=True)}
        return tuple(Accumulation(a.tensor, tuple(indices[r] for r in a.ranks)) for a in self.plan.accumulated)

    def _operand(self, name: str, ranks: tuple[str, ...]) -> TensorOperand:
        extents = tuple(substitute(Extent(r), self.tiling.extents, self.context.parameters) for r in ranks)
        return TensorOperand(name, self.context.dtypes[name], extents)

    # -- tiles of computed tensors --------------------------------------------------------------------------------------------

    def _tile_of(self, read: Read) -> tuple[Expression, Domain] | None:
        """The tile that holds a computed tensor at a read; None for an input."""
        if read.tensor in self.writer.translator.inputs:
            return None
        name = read.tensor
        if name in self.sweeps.states and (read.indices[-1] in self.writer.next_indices or self._finishes_here(read)):
            name = f"{name}.next"
        return self.writer.tile(name, read)

    def _finishes_here(self, read: Read) -> bool:
        """Whether a read of a state's last value stands inside the one trip that makes it."""
        return self.plan.whole and self.writer.scope.loop is not None and finished_read(read, self.loops)

    def _equation(self, equation: Equation) -> None:
        name = equation.target.tensor
        if name in self.absorbed:
            return
        if name in self.sweeps.states:
            self._state(equation)
            return
        value = equation.value
        state = isinstance(value, Read) and value.tensor in self.sweeps.states and equation.target.dtype is None
        if isinstance(value, Read) and state and value.indices[-1] not in self.writer.next_indices:
            last = f"{value.tensor}.next" if self._finishes_here(value) else value.tensor
            self.writer.alias(name, last, self.writer.filter(equation.where))  # the state's last value
        elif isinstance(value, Reduction):
            self.writer.reduction(name, equation, value, None)
        else:
            self.writer.map(name, equation)

    def _state(self, equation: Equation) -> None:
        name = f"{equation.target.tensor}.next"
        for local, inner in self.absorbed.items():
            if any(isinstance(n, Read) and n.tensor == local for n in walk(equation.value)):
                assert isinstance(inner.value, Reduction)
                rest = self.writer.accumulation(equation.value, inner.value.operator, local)
                self.writer.reduction(name, replace(inner, targets=equation.targets), inner.value, rest)
                return
        self.writer.map(name, equation)

    # -- loops ------------------------------------------------------------------------------------------------------------------

    def _loop(self, stream: RankTile, sweep: int, inside: list[Equation], outer: Scope) -> Loop:
        loop = f"{stream.rank}.1"
        carries = self._carries(sweep, loop)
        saved = self.writer.snapshot()
        # A first writing finds the domains of the reductions, whose common part the ranges of the loop stand for.
        trial = Scope(loop=loop, outer=replace_scope(outer))
        self._body(inside, carries, trial)
        predicate = common_consequences(trial.reduced)
        self.writer.restore(saved)
        inner = frozenset(c for c in predicate if self.writer.is_about_tiles(c))
        scope = Scope(loop=loop, predicate=inner, outer=outer)
        self._body(inside, carries, scope)
        self.writer.scope = outer
        self.predicates.append(inner)
        if not self.closed_forms:
            whole = ceil_divide(self.tiling.extent(stream.rank), stream.size)
            everything = tuple(Range(Constant(0), whole, partial) for partial in (False, True))
            return Loop(loop, everything, carries, tuple(scope.statements))
        ranges, schedule = loop_ranges(inner, stream, self.plan, self.tiling, self.writer, len(self.schedules))
        if schedule:
            self.schedules.append(schedule)
        return Loop(loop, ranges, carries, tuple(scope.statements), self._visible(inner, stream))

    def _visible(self, predicate: Domain, stream: RankTile) -> Expression | None:
        """What decides single points of a partial tile, at the tile's coordinates: conjuncts that bind the streamed rank to a row, and its extent."""
        found = [
            c for c in sorted(predicate, key=str)
            if stream.rank in ranks_of(c) and self.writer.domain_axes(frozenset({c})) & self.tiling.row_axes and not reads_of(c)
        ]  # fmt: skip
        if not self.plan.box:
            found.append(Comparison(("<",), (Rank(stream.rank), self.tiling.extent(stream.rank))))
        whole = conjunction(found)
        return None if whole is None else self.writer.translator.place(whole)

    def _body(self, inside: list[Equation], carries: tuple[Carry, ...], scope: Scope) -> None:
        self.writer.scope = scope
        for carry in carries:
            self.writer.declare(carry.name, carry.type, carry.initial)
        for equation in inside:
            self._equation(equation)
            self._store_streamed(equation)

    def _carries(self, sweep: int, loop: str) -> tuple[Carry, ...]:
        found = []
        for equation in self.cascade.equations:
            name = equation.target.tensor
            if (
                name not in self.sweeps.states
                or self.sweeps.level[name] != sweep
                or self.sweeps.loop[name] != loop
                or equation.target.indices[-1] != Constant(0)
            ):
                continue
            axes = self.tiling.axes(equation.target.ranks)
            initial, _ = self.writer.translator.value(self.writer.translator.prepare(equation.value))
            dtype = self.writer.real if self.writer.kind(initial) == "real" else self.writer.dtype_of(initial)
            if isinstance(initial, Constant) and not isinstance(initial.value, bool):
                dtype = self.writer.state_dtype(name)
                initial = self.writer.typed(initial, self.writer.kinds.get(name, "real"))
            found.append(Carry(name, TileType(dtype, axes), initial, f"{name}.next"))
        return tuple(found)

    # -- stores -------------------------------------------------------------------------------------------------------------------

    def _store_all(self, stage: int) -> None:
        for output in self.cascade.outputs:
            if output.name in self.placement.streamed_outputs or self.sweeps.stage.get(output.name) != stage:
                continue
            self._store(output.name, output.name, output.ranks)

    def _store_streamed(self, equation: Equation) -> None:
        name = self.placement.streamed_output(equation)
        if name is not None:
            self._store(name, equation.target.tensor, self.outputs[name].ranks)

    def _store(self, tensor: str, tile: str, ranks: tuple[str, ...]) -> None:
        """Writes an output; where it is empty it is 0."""
        writer = self.writer
        value, domain = writer.held(tile)
        axes = writer.store_axes(ranks)
        adds = any(a.tensor == tensor for a in self.plan.accumulated)
        bounds = list(self.tiling.row_bounds(axes))
        if in_range := writer.stream_bounds(ranks):
            bounds.append(writer.translator.place(conjunction(sorted(in_range, key=str))))
            domain -= in_range
            if not adds:  # elsewhere there is nothing to add, but a store must write every element
                writer.scope.reduced.append(in_range)
        if domain:
            value = writer.filled_with_zero(value, domain)
        indices = tuple(self.tiling.coordinate(r) for r in ranks)
        if adds and self.context.dtypes[tensor] != writer.real:
            raise PlanError(f"'{tensor}' is {self.context.dtypes[tensor]}: sums are accumulated in {writer.real}")
        writer.scope.statements.append(Store(tensor, axes, indices, value, conjunction(bounds), adds))


def _expressions(statements: tuple[Statement, ...]) -> list[Expression]:
    from einsum_compiler.ir.tile_ranges import expressions_around, expressions_of

    found: list[Expression] = []
    for statement in statements:
        found += expressions_of(statement)
        if isinstance(statement, Loop):
            found += [*expressions_around(statement), *_expressions(statement.body)]
    return found
