"""Seconds of one kernel on a GPU: its units run side by side, and programs run in waves over the processors.

A program takes registers and shared memory; they decide how many of them one processor holds, and what it holds overlaps. What does not overlap
waits: the time of a wave lies between the longest unit and the sum of all, nearer to the first the more programs are there. A plan that does not fit
has no prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil

from einsum_compiler.backends.triton.layout import MOST_ELEMENTS
from einsum_compiler.cost.device import Device
from einsum_compiler.cost.prediction import Prediction
from einsum_compiler.cost.shape import Shape
from einsum_compiler.cost.steps import Fetch, Product, Sweep, Tile

SMALLEST_DOT = 16
GROUP_ROWS = 64  # of an instruction of a warp group; fewer rows run as instructions of single warps
# Columns below which the operand of the rows limits it (Luo et al., Benchmarking and Dissecting the Nvidia Hopper GPU Architecture, 2024).
GROUP_COLUMNS = 64
SINGLE_WARPS = 0.6  # of the peak that those reach where the peak is that of warp groups
WARPS = (4, 8)
THREADS = 32
# Registers of a thread for tiles, as backends/triton/warps.py has them; products without a matrix instruction hold their operands too.
REGISTERS, REGISTERS_OF_VECTORS = 160, 80
OTHER_REGISTERS = 56  # of a thread: addresses, masks, the pipeline
STEP_CYCLES = (
    250.0  # of a program and one step of its loop that nothing else of it hides: barriers and the chain of reductions
)
PROGRAM_CYCLES = 1500.0  # start, first loads, last stores
USABLE = 0.9  # of the bandwidths and peaks of a data sheet


class DoesNotFit(Exception):
    """A plan whose tiles exceed the registers or the shared memory of a program."""


class TooLarge(DoesNotFit):
    """A plan with a tile that has more elements than the language of the kernels takes: it cannot be compiled."""


@dataclass
class _Units:
    """Seconds of one processor for one program, by unit."""

    spent: dict[str, float] = field(default_factory=dict)

    def add(self, unit: str, seconds: float) -> None:
        self.spent[unit] = self.spent.get(unit, 0.0) + seconds


def predict_gpu(shape: Shape, device: Device) -> Prediction:
    """The time of one kernel, its launch included. Raises ``DoesNotFit``."""
    model = _Gpu(shape, device)
    warps, shared, registers = model.resources()
    assert device.limits is not None
    resident = max(
        1,
        min(
            device.level("shared").bytes // max(shared, 1),
            device.limits.warps // warps,
            int(device.limits.registers // (warps * THREADS * registers)),
        ),
    )
    units = model.program()
    per_processor = ceil(shape.programs / device.processors)
    at_once = min(resident, per_processor)
    longest, total = max(units.spent.values(), default=0.0), sum(units.spent.values())
    program = longest + (total - longest) / (1 + at_once)
    waiting = model.waiting()
    rounds = ceil(per_processor / at_once)
    busy = per_processor * program + rounds * waiting
    resources = {name: seconds * per_processor for name, seconds in units.spent.items()}
    resources["latency"] = rounds * waiting
    for name, seconds in model.moved().items():
        resources[name] = resources.get(name, 0.0) + seconds
    resources["launch"] = device.launch
    return Prediction(max(busy, *model.moved().values()) + device.launch, resources)


class _Gpu:
    def __init__(self, shape: Shape, device: Device) -> None:
        self.shape, self.device = shape, device

    def padded(self, axes: Sequence[str], least: int = 1) -> int:
        return max(least, 1 << (self.shape.points(axes) - 1).bit_length())

    def lanes(self, tile: Tile) -> float:
        """32-bit registers of all threads for a tile."""
        size = 1.0
        for axis in tile.axes:
            size *= self.padded((axis,))
        return size * max(tile.bytes, 2) / 4

    def on_matrix_unit(self, p: Product) -> bool:
        return (
            p.dtypes[0] == p.dtypes[1] and p.dtypes[0] in self.device.matrix and bool(p.rows and p.columns and p.depth)
        )

    # -- what a program takes ----------------------------------------------------------------------------------------------------

    def resources(self) -> tuple[int, int, float]:
        """Warps, bytes of shared memory and registers of a thread."""
        limits = self.device.limits
        assert limits is not None
        self.check_elements()
        wanted, vectors = 0.0, False
        operands = 0
        before = [s.tile for s in self.shape.skeleton.outside if isinstance(s, Fetch) and s.operand]
        for loop in self.shape.skeleton.loops:
            carried = sum(map(self.lanes, loop.carried))
            computed: list[float] = []
            inputs = sum(map(self.lanes, before))
            for step in loop.full:
                match step:
                    case Product():
                        if not step.accumulates:  # else it takes the place of what is carried
                            computed.append(self.lanes(step.result))
                        if not self.on_matrix_unit(step):
                            vectors = True
                    case Sweep():
                        computed += [self.lanes(Tile(step.axes, 4)) for _ in (0,) if len(step.axes) > 1]
                    case Fetch() if step.operand:
                        inputs += self.lanes(step.tile)
                        operands += self.lanes_bytes(step.tile) * max(1, self.shape.plan.launch.stages)
            wanted = max(wanted, carried + sum(sorted(computed, reverse=True)[:2]) + (inputs if vectors else 0.0))
        operands += sum(map(self.lanes_bytes, before))
        each = REGISTERS_OF_VECTORS if vectors else REGISTERS
        given = self.shape.plan.launch.warps
        warps = next((w for w in ((given,) if given else WARPS) if wanted <= w * THREADS * each), 0)
        if not warps:
            raise DoesNotFit(f"tiles take {wanted / (WARPS[-1] * THREADS):.0f} registers of every thread")
        if operands > limits.shared:
            raise DoesNotFit(f"operands take {operands} bytes of shared memory")
        return warps, operands, min(wanted / (warps * THREADS) + OTHER_REGISTERS, limits.registers_per_thread)

    def check_elements(self) -> None:
        """No tile has more elements than Triton takes, those neither that a sweep reduces at once.

        What is loaded can be loaded again, one coordinate of a reduced axis at a time (``backends/triton/streaming.py``); what a product made cannot.
        """
        for _, body in self.shape.bodies:
            made = {a for step in body if isinstance(step, Product) for a in step.result.axes}
            for step in body:
                match step:
                    case Sweep():
                        axes: Sequence[str] = (*step.kept, *made.intersection(step.over))
                    case Product() if step.rows and step.columns and step.depth:
                        axes = step.result.axes
                    case Product():
                        axes = (*step.batch, *step.rows, *step.columns, *step.depth)
                    case _:
                        continue
                if (elements := self.padded(axes)) > MOST_ELEMENTS:
                    raise TooLarge(f"a tile of {elements:,} elements; Triton takes at most {MOST_ELEMENTS:,}")

    def lanes_bytes(self, tile: Tile) -> int:
        return int(self.lanes(Tile(tile.axes, 4))) * tile.bytes

    # -- time ----------------------------------------------------------------------------------------------------------------------

    def program(self) -> _Units:
        """What one program asks of the units of its processor."""
        units, device = _Units(), self.device
        processors = device.processors
        for times, body in self.shape.bodies:
            for step in body if times > 0 else ():
                match step:
                    case Product():
                        self.product(step, times, units)
                    case Sweep():
                        self.sweep(step, times, units)
                    case Fetch():
                        units.add("vector", times * self.padded(step.tile.axes) * processors * 2 / device.vector["f32"])
        asked = sum(s.per_program for s in self.shape.traffic)
        units.add("L2", asked * processors / (device.level("L2").bandwidth * USABLE))
        return units

    def product(self, p: Product, times: float, units: _Units) -> None:
        processors, device = self.device.processors, self.device
        rows, columns, depth = (self.padded(axes) for axes in (p.rows, p.columns, p.depth))
        if p.rescales:
            units.add("vector", times * self.lanes(Tile(p.result.axes, 4)) * processors * 2 / device.vector["f32"])
        if not self.on_matrix_unit(p):
            operations = 2.0 * self.shape.points(p.batch) * rows * columns * depth
            units.add("vector", times * operations * processors / device.vector["f64" if "f64" in p.dtypes else "f32"])
            return
        rows, columns, depth = (max(SMALLEST_DOT, n) for n in (rows, columns, depth))
        rate = device.matrix[p.dtypes[0]] * USABLE
        if max(rows, columns) < GROUP_ROWS and device.target in ("sm_90", "sm_100"):
            rate *= SINGLE_WARPS
        elif min(rows, columns) < GROUP_COLUMNS and device.target in ("sm_90", "sm_100"):
            rate *= max(0.5, min(rows, columns) / GROUP_COLUMNS)
        batch = self.shape.points(p.batch)
        units.add("matrix", times * 2.0 * batch * rows * columns * depth * processors / rate)
        moved = batch * (rows + columns) * depth * 2
        units.add("shared", times * moved * processors / device.level("shared").bandwidth)

    def sweep(self, s: Sweep, times: float, units: _Units) -> None:
        processors, device = self.device.processors, self.device
        for o in s.operations:
            elements = times * o.count * self.padded(sorted(o.axes)) * processors
            if o.kind in device.functions:
                units.add("functions", elements / device.functions[o.kind])
            units.add("vector", elements * (16 if o.kind == "integer" else 1) * 2 / device.vector["f32"])

    def waiting(self) -> float:
        """Seconds of one program in which its own steps wait for one another."""
        steps = sum(v.full + v.partial for v in self.shape.visited)
        return (PROGRAM_CYCLES + steps * STEP_CYCLES) / self.device.clock

    def moved(self) -> dict[str, float]:
        """Seconds of the memory: every tensor once, and again what the L2 does not hold until it is asked for again."""
        device, shape = self.device, self.shape
        first = again = 0.0
        one_program = sum(s.per_program for s in shape.traffic)
        for s in shape.traffic:
            once = min(s.total, shape.tensor_bytes(s.tensor))
            first += once
            # Programs of one wave run together and share what they ask for.
            between = max(0, (s.distance or 1) - device.processors)
            if one_program * between > device.level("L2").bytes:
                again += s.total - once
        return {"memory": (first + again) / (device.memory.bandwidth * USABLE)}
