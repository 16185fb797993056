"""What the plan moves, against the least that any schedule can move: per tensor, and per level of memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from einsum_compiler.bounding import Moved, analysis_of
from einsum_compiler.compilation import Compilation, CompiledPart, compilation
from einsum_compiler.cost.device import Device, Level
from einsum_compiler.derivation import Derivation
from einsum_compiler.inspection import with_tile_lists
from einsum_compiler.ir.binding import Binding
from einsum_compiler.ir.plan import Plan
from einsum_compiler.ir.types import bytes_of
from einsum_compiler.passes.bounds.analysis import Analysis
from einsum_compiler.passes.bounds.result import BoundReport
from einsum_compiler.passes.traffic import KernelTraffic, footprint_of, traffic_behind_cache, traffic_of
from einsum_compiler.passes.traffic.arrays import UnknownValues
from einsum_compiler.quantities import ratio, scaled

LEAST_CAPACITY = 64.0  # elements: bounds are asked for no smaller memory


@dataclass(frozen=True)
class Sizes:
    """How numbers of elements are shown: as bytes where all tensors have elements of one size, else as elements.

    ``element``: bytes of the smallest element, what a capacity in bytes is divided by.
    """

    each: int
    unit: str
    element: int

    def __call__(self, elements: float | None) -> str:
        return "depends on values" if elements is None else scaled(elements * self.each, self.unit)


@dataclass(frozen=True)
class TensorMovement:
    """One tensor: what must be moved of it at least, what programs load and store, what memory sees of that, and how many times the least that is."""

    tensor: str
    role: str
    least: str
    programs: str
    programs_ratio: str
    memory: str
    memory_ratio: str


@dataclass(frozen=True)
class LevelMovement:
    """One level: what the fast memory up to it holds, the bound on what is moved past it, what the plan moves, and the ratio."""

    level: str
    capacity: str
    bound: str
    schedules: str
    plan: str
    ratio: str


@dataclass(frozen=True)
class Movement:
    """Data moved by a plan. ``laws``: schedules, formula and source of every bound. ``notes``: why numbers are missing. ``kernels``: bytes that each
    kernel moves from and to memory. The rest is what pictures are drawn from: ``programs`` are elements loaded and stored, ``behind`` those moved behind each
    cache, ``footprint`` the bytes that a program holds.
    """

    unit: str
    device: str
    last_level: str
    tensors: tuple[TensorMovement, ...]
    levels: tuple[LevelMovement, ...]
    laws: tuple[tuple[str, str, str], ...]
    assumptions: tuple[str, ...]
    notes: tuple[str, ...]
    kernels: tuple[int | None, ...]
    analysis: Analysis
    amounts: Sizes
    caches: tuple[Level, ...]
    programs: int | None
    behind: Mapping[str, int | None]
    footprint: int


def movement(compiled: Compilation, device: Device) -> Movement:
    """Bounds and traffic at the sizes of a compilation, for the levels of a device."""
    analysis = analysis_of(compiled.ordered, compiled.binding)
    amounts = _amounts(compiled)
    caches = device.levels[:-1]
    programs, notes = _traffic(compiled.parts, compiled, None)
    behind = {level.name: _traffic(compiled.parts, compiled, level.bytes)[0] for level in caches}
    reports = {level.name: analysis.at(max(LEAST_CAPACITY, level.bytes / amounts.element)) for level in caches}
    footprint = max((footprint_of(p.tile).total for p in compiled.parts), default=0)
    last = caches[-1].name
    unit = "core" if device.backend == "cpu" else "processor"
    levels = [
        _level(level, reports[level.name], _total(behind[level.name]), amounts, unit, footprint) for level in caches
    ]
    return Movement(
        "bytes" if amounts.unit == "B" else "elements",
        device.title,
        last,
        tuple(_tensors(compiled, analysis, programs, behind[last], amounts)),
        tuple(levels),
        tuple(_laws(reports.values())),
        tuple(dict.fromkeys(a for r in reports.values() for a in r.best.assumptions)),
        notes,
        tuple(_bytes(part, compiled, caches[-1]) for part in compiled.parts),
        analysis,
        amounts,
        caches,
        _total(programs),
        {name: _total(moved) for name, moved in behind.items()},
        footprint,
    )


def _amounts(compiled: Compilation) -> Sizes:
    declared = compiled.derivation.declared
    sizes = {bytes_of(compiled.request.dtypes[t.name]) for t in (*declared.inputs, *declared.outputs)}
    sizes |= {bytes_of(o.dtype) for p in compiled.parts for o in (*p.tile.inputs, *p.tile.outputs)}
    least = min(sizes, default=4)
    return Sizes(least, "B", least) if len(sizes) == 1 else Sizes(1, "", least)


def plan_elements(derivation: Derivation, binding: Binding, backend: str, plan: Plan | None) -> Moved:
    """What the kernels of a plan load and store of each tensor at the sizes of a binding, all of them together."""
    return moved_elements(compilation(derivation, binding, backend, plan))


def moved_elements(compiled: Compilation) -> Moved:
    """What the programs of all kernels load and store of each tensor."""
    return _traffic(compiled.parts, compiled, None)[0]


def _traffic(
    parts: Sequence[CompiledPart], compiled: Compilation, capacity: int | None
) -> tuple[Moved, tuple[str, ...]]:
    """Elements of every tensor that programs load and store, or that memory sees behind a cache of ``capacity`` bytes."""
    moved: Moved = {}
    notes: dict[str, None] = {}
    for part in parts:
        extents = {**compiled.binding.extents, **part.planned.extents}
        scalars = compiled.binding.scalars
        tensors = with_tile_lists(part.tile, compiled.binding.tensors, scalars, extents)
        found: KernelTraffic = traffic_of(part.tile, extents, scalars, tensors)
        notes.update(dict.fromkeys(found.reasons))
        if capacity is not None:
            try:
                found = traffic_behind_cache(part.tile, extents, scalars, tensors, capacity).traffic
            except UnknownValues as unknown:
                notes[str(unknown)] = None
                found = replace(found, tensors=tuple(replace(t, loaded=None) for t in found.tensors))
        for t in found.tensors:
            both = None if t.loaded is None or t.stored is None else t.loaded + t.stored
            known = moved.get(t.tensor, 0)
            moved[t.tensor] = None if both is None or known is None else known + both
    return moved, tuple(notes)


def _bytes(part: CompiledPart, compiled: Compilation, cache: Level) -> int | None:
    """Bytes between memory and the last cache."""
    moved, _ = _traffic((part,), compiled, cache.bytes)
    sizes = {o.name: bytes_of(o.dtype) for o in (*part.tile.inputs, *part.tile.outputs)}
    return _total({name: n if n is None else n * sizes.get(name, 4) for name, n in moved.items()})


def _total(moved: Moved) -> int | None:
    return None if None in moved.values() else sum(n or 0 for n in moved.values())


def _tensors(
    compiled: Compilation, analysis: Analysis, programs: Moved, memory: Moved, amounts: Sizes
) -> list[TensorMovement]:
    declared = compiled.derivation.declared
    roles = {t.name: "input" for t in declared.inputs} | {t.name: "output" for t in declared.outputs}
    least = {t.tensor: t.count for t in analysis.touched}
    names = [*(n for n in roles if n in least), *(n for n in programs if n not in least)]

    def row(name: str, role: str, count: int, seen: int | None, fetched: int | None) -> TensorMovement:
        times = [ratio(n / count) if n is not None and count else "" for n in (seen, fetched)]
        return TensorMovement(name, role, amounts(count), amounts(seen), times[0], amounts(fetched), times[1])

    rows = []
    for n in names:
        role = roles.get(
            n, "list of tiles" if "." in n and n.rpartition(".")[2] in ("tiles", "offsets") else "between kernels"
        )
        rows.append(row(n, role, least.get(n, 0), programs.get(n, 0), memory.get(n, 0)))
    return [*rows, row("all", "", sum(least.values()), _total(programs), _total(memory))]


def _level(
    level: Level, report: BoundReport, plan: int | None, amounts: Sizes, unit: str, footprint: int
) -> LevelMovement:
    if footprint > level.bytes:  # what such a memory would move depends on how the tiles themselves are spilled
        plan, shown = None, f"a program holds {scaled(footprint, 'B')}"
    else:
        shown = amounts(plan)
    times = ratio(plan / report.value) if plan is not None and report.value else ""
    own = f" of each {unit}" if level.per == "processor" else ""
    capacity = scaled(level.bytes, "B") if amounts.unit == "B" else scaled(level.bytes / amounts.element)
    return LevelMovement(level.name + own, capacity, amounts(report.value), report.optimal, shown, times)


def _laws(reports: Any) -> list[tuple[str, str, str]]:
    """What each class of schedules covers, its formula, and its source; each once."""
    found: dict[str, tuple[str, str, str]] = {}
    for report in reports:
        best = report.best
        found[f"{report.optimal} {best.formula}"] = (
            f"{report.optimal}: {best.schedules}",
            str(best.formula),
            best.source,
        )
    return list(found.values())
