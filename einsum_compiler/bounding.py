"""Bounds of a program at given sizes: for a capacity, or for the memories of a device; as values and as tables a person can read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.text import Text

from einsum_compiler import tables
from einsum_compiler.ir.binding import Binding, bind
from einsum_compiler.ir.extents import all_extents
from einsum_compiler.ir.plan import Plan
from einsum_compiler.ir.types import bytes_of
from einsum_compiler.passes.bounds.analysis import Analysis
from einsum_compiler.passes.bounds.result import BoundReport, Crossover, Touched
from einsum_compiler.passes.bounds.sweeps import sweeps

if TYPE_CHECKING:
    from einsum_compiler.cost.device import Device
    from einsum_compiler.derivation import Derivation


@dataclass(frozen=True)
class LevelBound:
    """The bounds at one level of memory: ``level`` names the fast memory, ``capacity`` is what it holds, in elements."""

    level: str
    capacity: float
    report: BoundReport


@dataclass(frozen=True)
class Bounds:
    """Lower bounds on the elements that a cascade moves, loads and stores together.

    ``levels``: from the fast memory of one processor to the last cache; with a capacity in place of a device there is one. ``value``, ``formula``,
    ``schedules`` and ``source`` are those of the first level, which is what the programs of a kernel exchange with the memory they share.
    """

    levels: tuple[LevelBound, ...]
    analysis: Analysis

    @property
    def report(self) -> BoundReport:
        """Everything known at the first level."""
        return self.levels[0].report

    @property
    def value(self) -> float:
        """Elements moved at least."""
        return self.report.value

    @property
    def formula(self) -> Any:
        """A SymPy expression over extents and the capacity ``S``."""
        return self.report.formula

    @property
    def schedules(self) -> str:
        """The class of schedules that the bound covers."""
        return self.report.schedules

    @property
    def source(self) -> str:
        """Where the law comes from."""
        return self.report.source

    def at(self, level: str) -> BoundReport:
        """The bounds at a level by name. Raises ``KeyError``."""
        for found in self.levels:
            if found.level == level:
                return found.report
        raise KeyError(level)

    def curve(self, capacities: tuple[float, ...] | list[float]) -> tuple[tuple[float, float], ...]:
        """The bound against the capacity in elements."""
        return self.analysis.curve(capacities)

    def crossovers(self) -> tuple[Crossover, ...]:
        """The capacities at which another class of schedules becomes the best."""
        return self.analysis.crossovers()


def bounds(derivation: Derivation, binding: Binding, device: Device | None, capacity: float | None) -> Bounds:
    """The bounds of a program at the sizes of a binding, for a device or for a capacity in elements: in the order of contractions that the derivation has."""
    analysis = analysis_of(derivation, binding)
    wanted: tuple[tuple[str, float], ...] = (("fast memory", float(capacity or 0)),)
    if capacity is None:
        assert device is not None
        wanted = capacities(device, element_bytes(binding))
    return Bounds(tuple(LevelBound(name, size, analysis.at(size)) for name, size in wanted), analysis)


def analysis_of(derivation: Derivation, binding: Binding) -> Analysis:
    """The analysis of a program at the sizes of a binding; kept, since it serves every capacity."""
    extents = {
        p.name: binding.extents[p.name.lower()]
        for p in derivation.declared.parameters
        if p.name.lower() in binding.extents
    }
    given = tuple(sorted({**extents, **binding.scalars}.items()))
    shapes = tuple((name, tuple(tensor.shape)) for name, tensor in binding.tensors.items())
    return _analysis(_Program(derivation), shapes, given)


@dataclass(frozen=True, eq=False)
class _Program:
    """A derivation as a key of the cache: by its text."""

    derivation: Derivation

    def _key(self) -> tuple[object, ...]:
        return self.derivation.text, self.derivation.source, self.derivation.declared.name, self.derivation.orders

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Program) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())


@lru_cache(maxsize=64)
def _analysis(
    program: _Program, shapes: tuple[tuple[str, tuple[int, ...]], ...], given: tuple[tuple[str, Any], ...]
) -> Analysis:
    import torch

    from einsum_compiler.ir.torch_types import torch_dtype
    from einsum_compiler.passes.normalize import Normalize, normalize

    made = program.derivation
    cascade = made.normalized if made.orders else normalize(dict(made.stages)["inline"], Normalize(distribute=False))
    types = {t.name: t.dtype or "f32" for t in cascade.inputs}
    tensors = {n: torch.empty(s, dtype=torch_dtype(types[n]), device="meta") for n, s in shapes}
    scalars = {n: v for n, v in given if any(p.name == n for p in cascade.parameters)}
    bound = bind(cascade, (), {**tensors, **scalars})
    return Analysis(cascade, all_extents(cascade, bound.extents), bound.scalars)


def element_bytes(binding: Binding) -> int:
    """The bytes of the smallest floating element among the inputs: no fast memory holds more elements than with these."""
    from einsum_compiler.ir.torch_types import dtype_name
    from einsum_compiler.ir.types import is_float

    names = [t.dtype if isinstance(t.dtype, str) else dtype_name(t.dtype) or "f32" for t in binding.tensors.values()]
    return min((bytes_of(n) for n in names if is_float(n)), default=4)


def capacities(device: Device, element: int) -> tuple[tuple[str, float], ...]:
    """The fast memory of one processor, and all memory on the chip: what lies before the memory of the device. In elements."""
    own = sum(level.bytes for level in device.levels[:-1] if level.per == "processor")
    shared = [level for level in device.levels[:-1] if level.per == "device"]
    found = [("processor", own / element)]
    if shared:
        found.append((shared[-1].name, (sum(level.bytes for level in shared) + own * device.processors) / element))
    return tuple(found)


# -- tables -------------------------------------------------------------------------------------------------------------------


# Elements that a plan loads and stores, by tensor; None where that depends on values.
Moved = dict[str, int | None]


def beside(found: Bounds, plan: Moved) -> list[RenderableType]:
    """What a plan moves beside what it must: per tensor, and in all beside the bound."""
    totals = plan.values()
    lines: list[RenderableType] = [tensor_table(found.report.touched, plan)]
    for level in found.levels:
        report = level.report
        lines.append(_bound_line(level))
        if level is found.levels[0] and None not in totals:
            lines[-1] = f"{lines[-1]}; the plan moves {sum(t or 0 for t in totals) / report.value:.2f} times as many"
    return lines


def in_order_of_plan(found: Bounds, plan: Plan) -> list[str]:
    """The bounds of a program whose plan has its contractions in another order than written: the bounds as written say nothing about such a plan."""
    return [
        f"the plan is in another order of contraction than written ({'; '.join(plan.orders)}); in that order:",
        *(f"  {_bound_line(level)}" for level in found.levels),
    ]


def _bound_line(level: LevelBound) -> str:
    report = level.report
    return f"bound with {_memory(level)}: {report.value:,.0f} elements, {report.best.formula} ({report.optimal})"


def _memory(level: LevelBound) -> str:
    """The fast memory of a level in words."""
    where = {"processor": "of one processor", "fast memory": "of fast memory"}.get(
        level.level, f"on the chip, {level.level} included"
    )
    return f"S = {level.capacity:,.0f} elements {where}"


def report_text(found: Bounds, title: str, plan: Moved | None = None, latex: bool = False) -> str:
    """The bounds as text: elements of each tensor, classes at each level, where they change places, and what was assumed."""
    parts: list[RenderableType] = [Text(title, style="bold"), ""]
    parts.append(tensor_table(found.report.touched, plan))
    for level in found.levels:
        parts += ["", _class_table(level, latex)]
    parts += _schedules(found)
    crossings = found.crossovers()
    if crossings:
        parts += ["", "the best class changes at"]
        parts += [f"  {c}" for c in crossings]
    parts += ["", "what each class covers", *_covered(found)]
    assumptions = dict.fromkeys(
        a for level in found.levels for b in (*level.report.classes, level.report.compulsory) for a in b.assumptions
    )
    if assumptions:
        parts += ["", "assumed", *(f"  {a}" for a in assumptions)]
    notes = dict.fromkeys(n for level in found.levels for n in level.report.notes)
    if notes:
        parts += ["", "without a bound of their own", *(f"  {n}" for n in notes)]
    return tables.text_of(*parts)


def tensor_table(touched: tuple[Touched, ...], plan: Moved | None) -> RenderableType:
    """The compulsory elements of each tensor, beside what the plan moves."""
    headings = ["tensor", "moved", ">compulsory", "formula"]
    table = tables.table("elements of each tensor", *headings, *((">plan", ">ratio") if plan is not None else ()))
    least = total = 0
    known = True
    names = [t.tensor for t in touched]
    extra = [n for n in plan or {} if n not in names]
    for t in touched:
        row = [t.tensor, t.role, f"{t.count:,}", str(t.formula)]
        least += t.count
        if plan is not None:
            number = plan.get(t.tensor)
            known, total = known and number is not None, total + (number or 0)
            row += ["depends on values" if number is None else f"{number:,}", _ratio(number, t.count)]
        table.add_row(*row)
    for name in extra:
        number = (plan or {})[name]
        known, total = known and number is not None, total + (number or 0)
        table.add_row(name, "between kernels", "0", "", "depends on values" if number is None else f"{number:,}", "")
    row = ["all", "", f"{least:,}", ""]
    if plan is not None:
        row += [f"{total:,}" if known else "depends on values", _ratio(total if known else None, least)]
    table.add_row(*row)
    return table


def _ratio(number: int | None, least: int) -> str:
    return "" if number is None or not least else f"{number / least:.2f}"


def _class_table(level: LevelBound, latex: bool) -> RenderableType:
    report = level.report
    table = tables.table(f"elements moved at least, {_memory(level)}", "class of schedules", ">elements", "formula")
    for bound in (report.compulsory, *report.classes, report.no_spill):
        value = "unknown" if bound.value is None else f"{bound.value:,.0f}"
        table.add_row(bound.name, value, bound.latex() if latex else str(bound.formula))
    table.add_section()
    table.add_row(
        f"all classes ({report.optimal})", f"{report.value:,.0f}", report.best.latex() if latex else str(report.formula)
    )
    return table


def _schedules(found: Bounds) -> list[RenderableType]:
    """What schedules move that keep rows and stream a rank past them, at the first level: none where nothing is streamed."""
    level, parts = found.levels[0], list[RenderableType]()
    for rank in dict.fromkeys(r for s in found.analysis.spaces.spaces for r in s.reduced):
        try:
            schedules = sweeps(found.analysis, level.capacity, rank)
        except ValueError:  # no intermediate carries the rank past rows
            continue
        title = f"elements moved by schedules that stream {rank}, {_memory(level)}"
        table = tables.table(title, "schedule", ">rows kept", ">elements", "formula")
        for s in schedules:
            rows = "" if s.rows is None else f"{s.rows:,}"
            table.add_row(s.name, rows, "does not fit" if s.value is None else f"{s.value:,.0f}", str(s.formula))
        parts += ["", table]
    return parts


def _covered(found: Bounds) -> list[str]:
    """The schedules and the source of every class shown, once."""
    every = [
        b for level in found.levels for b in (level.report.compulsory, *level.report.classes, level.report.no_spill)
    ]
    return [f"  {b.name}: {b.schedules} [{b.source}]" for b in {b.name: b for b in every}.values()]
