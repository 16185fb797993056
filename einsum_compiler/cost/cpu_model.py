"""Seconds of one kernel on a CPU: the units of a core take turns, cores share the programs.

Products are priced by register blocks (``register_blocks``), and what all wait for behind the cores in ``cpu_memory``. Sweeps are priced by
the instructions of a vector of elements, or by the bytes of the tiles they touch at the level that the working set of the loop fits into.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod

from einsum_compiler.cost.cpu import vector_bytes
from einsum_compiler.cost.cpu_memory import FAULT, USABLE, new_pages, seconds_behind
from einsum_compiler.cost.device import Device
from einsum_compiler.cost.prediction import Prediction
from einsum_compiler.cost.register_blocks import LATENCY, register_blocks, stays_near
from einsum_compiler.cost.shape import Shape, Visited
from einsum_compiler.cost.steps import Fetch, OnePass, Packing, Product, Step, Sweep, Tile, Write, lane

# Cycles; docs/decisions.md says what they were taken from.
SCALAR = {"simple": 1.0, "integer": 20.0}  # one operation on one number
SIMPLE = 0.5  # one operation on a vector: two units
INTEGER = 20.0  # a floor division or remainder of a vector
LOOP = 1.0  # one step of a loop over vectors
ROW, FOLD = 6.0, 24.0  # the start of a row, and the fold of its lanes at the end
GATHER = 2.0  # one element that lies apart from its neighbours
RUNNING, RESULT = 4.0, 2.0  # a value that waits for the one before, and a result on the way
PLACE = 8.0  # finding the result that a point belongs to
STEP = 20.0  # a statement
PROGRAM = 200.0  # taking the next program
FEW_ROWS = 4  # products of no more rows read the right operand as it lies
WIDEST = 16  # tiles whose rows are no multiple of it are copied
BLOCK_ROWS = 6  # of a register block


@dataclass
class _Core:
    """Seconds of one core by resource, added up."""

    spent: dict[str, float] = field(default_factory=dict)

    def add(self, resource: str, seconds: float) -> None:
        self.spent[resource] = self.spent.get(resource, 0.0) + seconds


def _axes(step: Step) -> set[str]:
    """All axes of a product or a sweep."""
    match step:
        case Product():
            return {*step.batch, *step.rows, *step.columns, *step.depth}
        case Sweep():
            return set(step.axes)
    return set()


def predict_cpu(shape: Shape, device: Device) -> Prediction:
    """The time of one kernel, the call included."""
    return _Cpu(shape, device).prediction()


class _Cpu:
    def __init__(self, shape: Shape, device: Device) -> None:
        self.shape, self.device = shape, device
        self.lanes = vector_bytes(device.target) // 4
        self.width = 4 if self.lanes == 16 else 2  # vectors of a register block
        self.cycle = 1.0 / device.clock

    def prediction(self) -> Prediction:
        shape, device = self.shape, self.device
        programs, cores = shape.chains, device.processors
        length = shape.programs / programs  # programs that follow one another
        core = _Core({"launch": 0.0})
        for times, body, seen in shape.shares:
            if times > 0:
                for resource, seconds in self.body(body, seen).spent.items():
                    core.add(resource, times * seconds)
        core.add("launch", PROGRAM * self.cycle)
        core.spent = {name: seconds * length for name, seconds in core.spent.items()}
        busy = sum(core.spent.values())
        # The last wave may leave cores idle, and the longest program may be the last.
        share = programs / cores if programs >= cores else 1.0
        idle = (-programs % cores) / cores if programs > cores else 0.0
        longest = self._longest() if length == 1 else 1.0
        rounds = share + idle * longest * (0.5 if idle and longest > 1.01 else 1.0)
        resources = {name: seconds * rounds for name, seconds in core.spent.items()}
        moved = seconds_behind(shape, device, min(programs, cores))
        waiting = max(moved.values(), default=0.0)
        if waiting > busy * rounds:
            level = max(moved, key=lambda name: moved[name])
            resources[level] = resources.get(level, 0.0) + waiting - busy * rounds
        resources["pages"] = new_pages(shape) * FAULT / min(programs, cores)
        resources["launch"] += device.launch
        return Prediction(sum(resources.values()), resources)

    def _longest(self) -> float:
        """The longest program over the average one, by visited tiles."""
        average = sum(v.full + v.partial for v in self.shape.visited)
        return sum(v.most for v in self.shape.visited) / average if average > 0 else 1.0

    # -- one stretch of code ------------------------------------------------------------------------------------------------------

    def body(self, steps: Sequence[Step], seen: Visited | None = None) -> _Core:
        total = _Core()
        level, bandwidth = self._scratch(steps)
        for step in steps:
            core = _Core()
            core.add("vector", STEP * self.cycle)
            match step:
                case Product():
                    self.product(step, core, bandwidth, level)
                case Sweep():
                    self.sweep(step, core, bandwidth, level)
                case Fetch():
                    self.fetch(step, core)
                case Packing():
                    self.packing(step, core)
                case Write() if not step.direct:
                    rows, columns = self._rows(step.tile)
                    each = 2.5 if step.adds else 1.5
                    cycles = columns * GATHER * 2 if step.scattered else columns / self.lanes * each
                    core.add("copies", rows * (ROW + cycles) * self.cycle)
            trimmed = seen is not None and seen.share < 1.0 and seen.axes <= _axes(step)
            for resource, seconds in core.spent.items():
                total.add(resource, seconds * seen.share if seen and trimmed else seconds)
        return total

    def _scratch(self, steps: Sequence[Step]) -> tuple[str, float]:
        """The level that tiles of a body stay in, and the bandwidth of one core to it."""
        shape = self.shape
        size = 0.0
        for step in steps:
            match step:
                case Product():
                    size += shape.points(step.result.axes) * 4 + shape.points((*step.columns, *step.depth)) * 4
                case Sweep():
                    size += sum(shape.points(t.axes) * t.bytes for t in step.fresh)
                case Fetch() if not step.operand:
                    size += shape.bytes(step.tile)
        for level in self.device.levels:
            if size <= level.bytes * USABLE:
                return level.name, level.bandwidth / self.device.processors
        memory = self.device.memory
        return memory.name, memory.bandwidth / self.device.processors

    def _rows(self, tile: Tile) -> tuple[float, float]:
        columns = self.shape.sizes.get(tile.axes[-1], 1) if tile.axes else 1
        return self.shape.points(tile.axes[:-1]), columns

    def _padded(self, count: int) -> int:
        return -(-count // self.lanes) * self.lanes

    # -- products -----------------------------------------------------------------------------------------------------------------

    def product(self, p: Product, core: _Core, bandwidth: float, level: str) -> None:
        sizes = self.shape.sizes
        rows = max((sizes.get(a, 1) for a in p.rows), default=1)
        columns = sizes.get(p.columns[-1], 1) if p.columns else 1
        depth = self.shape.points(p.depth)
        loops = self.shape.points((*p.batch, *p.rows, *p.columns)) / max(1, rows * columns)
        wide = self.device.matrix["f32"] / self.device.matrix["f64"] if "f64" in p.dtypes else 1.0
        if p.strided:
            # Numbers one by one: every addition waits for the one before.
            core.add("matrix", loops * rows * columns * depth * LATENCY * self.cycle)
            return
        if rows <= FEW_ROWS:
            vectors = (columns * depth / self.lanes) * wide
            instructions = vectors * (rows + 1) / 2
            if p.adjacent:
                instructions += columns * rows * FOLD / 2
            else:
                instructions += vectors * rows / 2  # sums are loaded and stored again
            if p.dtypes[1] in ("bf16", "f16"):
                instructions += vectors
            core.add("matrix", loops * instructions * self.cycle)
            return
        if not p.packed and (p.adjacent or p.dtypes[1] in ("bf16", "f16")):
            kind = "transpose" if p.adjacent else "convert"
            core.add("packing", loops * columns * depth / self._rate(kind))
        elif not p.packed and self._lies_apart(p):
            core.add("packing", loops * columns * depth / self._rate("panels"))
        compute = loops * wide * register_blocks(self.lanes, rows, columns, depth, p.accumulates) * self.cycle
        read = loops * rows * depth * 4 * wide * max(1.0, columns / (self.width * self.lanes))
        core.add("matrix", compute)
        excess = read / bandwidth - compute
        if excess > 0:
            core.add(level, excess)

    def _lies_apart(self, p: Product | Packing) -> bool:
        """Whether a right operand is copied from its tensor because rows of a register block's columns evict each other there (Note [Panels] in panels.hpp)."""
        shape = self.shape
        operand = shape.tensors.get(p.source)
        rank = p.depth[-1].removesuffix(".0") if p.depth else ""
        rows = max((shape.sizes.get(a, 1) for a in p.rows), default=1)
        if operand is None or rank not in operand.ranks or rows <= 3 * BLOCK_ROWS:
            return False
        behind = operand.ranks[operand.ranks.index(rank) + 1 :]
        row = prod(shape.extents.get(r, 1) for r in behind) * operand.bytes
        return not stays_near(shape.points(p.depth), row, self.width * vector_bytes(self.device.target))

    def packing(self, p: Packing, core: _Core) -> None:
        if self.shape.points(p.rows) <= FEW_ROWS or not (p.always or self._lies_apart(p)):
            return
        kind = "transpose" if p.adjacent else "convert" if p.always else "panels"
        core.add("packing", self.shape.points(p.tile.axes) / self._rate(kind))

    # -- sweeps -------------------------------------------------------------------------------------------------------------------

    def sweep(self, s: Sweep, core: _Core, bandwidth: float, level: str) -> None:
        shape, sizes = self.shape, self.shape.sizes
        if s.once:
            s = self._values(s, s.once, core)
        axis = lane(s.kept, s.over, s.reads)
        points = shape.points(s.axes)
        size = sizes.get(axis, 1) if axis else 1
        rows = points / max(size, 1)
        vectors = rows * self._padded(size) / self.lanes
        simple = functions = 0.0
        for o in s.operations:
            if axis in o.axes:
                if o.kind == "simple":
                    simple += o.count * vectors * SIMPLE
                elif o.kind == "integer":
                    simple += o.count * vectors * INTEGER
                else:
                    functions += o.count * vectors * self.lanes / self._rate(o.kind)
            else:
                elements = shape.points(o.axes)
                if o.kind in SCALAR:
                    simple += o.count * elements * SCALAR[o.kind]
                else:
                    functions += o.count * elements * self.lanes / self._rate(o.kind)
        gathers = sum(axis in t.axes and t.axes[-1] != axis for t in s.reads) if axis else 0
        accesses = sum(axis in t.axes for t in (*s.reads, *s.writes)) if axis else 0
        folds = bool(s.over) and axis in s.over
        cycles = simple + vectors * (LOOP * (0.5 if folds else 1.0) + 0.5 * accesses) + gathers * points * GATHER
        cycles += rows * (FOLD if folds else ROW)
        compute = cycles * self.cycle + functions
        core.add("vector", cycles * self.cycle)
        core.add("functions", functions)
        touched = sum(shape.points(t.axes) * t.bytes for t in (*s.reads, *s.writes))
        excess = touched / bandwidth - compute
        if excess > 0:
            core.add(level, excess)

    def _values(self, s: Sweep, once: OnePass, core: _Core) -> Sweep:
        """Prices the steps of a reduction that meets every point once; gives the sweep that makes what it meets."""
        shape, results, points = self.shape, once.results, self.shape.points(once.points)
        rest = tuple(a for a in s.kept if a != results)
        if once.runs:
            steps = points * RUNNING + shape.sizes.get(results, 1) * RESULT
            cycles = shape.points(rest) * (ROW + FOLD + steps)
        else:
            extent = shape.extents.get(results.removesuffix(".0"), 1)
            share = min(1.0, shape.sizes.get(results, 1) / max(extent, 1))
            vectors = s.kept[-1] in rest
            each = shape.points(rest) / self.lanes * (LOOP + SIMPLE * 4) if vectors else shape.points(rest) * RUNNING
            cycles = points * (PLACE + share * (ROW + each))
        core.add("vector", cycles * self.cycle)
        kept = tuple(a for a in rest if any(a in t.axes for t in s.reads))
        over = () if once.runs else tuple(a for a in s.over if a not in once.points)
        operations = tuple(o for o in s.operations if o.axes <= {*kept, *s.over})
        return replace(
            s,
            kept=(*once.points, *kept) if over else (*kept, *once.points),
            over=over,
            operations=operations,
            once=None,
        )

    # -- loads --------------------------------------------------------------------------------------------------------------------

    def fetch(self, f: Fetch, core: _Core) -> None:
        if not f.tile.axes:
            return
        rows, columns = self._rows(f.tile)
        if f.scattered:
            core.add("copies", rows * columns * GATHER * 2 * self.cycle)
        elif columns % WIDEST:
            core.add("copies", rows * (ROW + self._padded(int(columns)) / self.lanes * 1.5) * self.cycle)

    def _rate(self, kind: str) -> float:
        """Results per second of one core."""
        return self._rates[kind]

    @cached_property
    def _rates(self) -> dict[str, float]:
        rates = {name: rate / self.device.processors for name, rate in self.device.functions.items()}
        per_cycle = self.device.clock
        rates.setdefault("transpose", per_cycle * 2.2)
        rates.setdefault("convert", per_cycle * 4.0)
        rates.setdefault("panels", per_cycle * 1.2)
        return rates
