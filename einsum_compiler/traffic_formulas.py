"""What the kernels of a plan move past each level of memory, as formulas with the conditions under which they hold."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import RenderableType
from rich.padding import Padding

from einsum_compiler.compilation import Compilation
from einsum_compiler.cost.device import Device
from einsum_compiler.inspection import with_tile_lists
from einsum_compiler.passes.traffic import traffic_behind_cache
from einsum_compiler.passes.traffic.arrays import UnknownValues
from einsum_compiler.passes.traffic.cache_formulas import CacheFormulas, cache_formulas
from einsum_compiler.quantities import scaled

LONGEST = 120  # characters of a formula that is printed


@dataclass(frozen=True)
class LevelTraffic:
    """One kernel at one level: ``formulas`` hold at all sizes at which the same rank's steps fit as at those asked for. None, with the ``reason``, where even the
    number depends on values that are not known."""

    level: str
    kernel: str
    formulas: CacheFormulas | None
    reason: str = ""


def traffic_formulas(compiled: Compilation, device: Device) -> tuple[LevelTraffic, ...]:
    """The formulas of every kernel at every cache of a device, fastest first, for what fits at the sizes of a compilation."""
    found = []
    for part in compiled.parts:
        sizes = {**compiled.binding.extents, **part.planned.extents}
        scalars = compiled.binding.scalars
        tensors = with_tile_lists(part.tile, compiled.binding.tensors, scalars, sizes)
        for level in device.levels[:-1]:
            try:
                kept = traffic_behind_cache(part.tile, sizes, scalars, tensors, level.bytes).kept
                formulas = cache_formulas(part.tile, kept, level.bytes)
                found.append(LevelTraffic(level.name, part.tile.name, formulas))
            except UnknownValues as unknown:
                found.append(LevelTraffic(level.name, part.tile.name, None, str(unknown)))
    return tuple(found)


def formula_text(levels: tuple[LevelTraffic, ...]) -> list[RenderableType]:
    """The formulas as lines: per kernel and level what decides, then every tensor."""
    lines: list[RenderableType] = [
        "",
        "elements that the plan moves past each cache, and where the formulas hold (in bytes)",
    ]
    before = None
    for one in levels:
        formulas = one.formulas
        if formulas is None:
            lines.append(Padding(f"{one.kernel}, {one.level}: no formula ({one.reason})", (0, 0, 0, 2)))
            continue
        fits = {None: "no program fits", "": "the whole kernel fits"}.get(
            formulas.kept, f"a step of {formulas.kept} fits"
        )
        lines.append(Padding(f"{one.kernel}, {one.level} ({scaled(formulas.capacity, 'B')}): {fits}", (0, 0, 0, 2)))
        if formulas.conditions is None:
            lines.append(Padding("at these sizes; no condition in closed form", (0, 0, 0, 4)))
        lines += [Padding(f"where {_shown(c)}", (0, 0, 0, 4)) for c in formulas.conditions or ()]
        decided, before = before, (one.kernel, formulas.kept)
        if decided == before:
            lines.append(Padding("every tensor as above", (0, 0, 0, 4)))
            continue
        for tensor, formula in formulas.tensors.items():
            parts = [
                f"{_shown(x)} {what}" for x, what in ((formula.loaded, "loaded"), (formula.stored, "stored")) if x != 0
            ]
            lines.append(Padding(f"{tensor}: {', '.join(parts) or 'nothing'}", (0, 0, 0, 4)))
        lines += [Padding(f"no formula: {reason}", (0, 0, 0, 4)) for reason in formulas.reasons]
    return lines


def _shown(formula: object) -> str:
    if formula is None:
        return "unknown"
    text = str(formula)
    return text if len(text) <= LONGEST else "a longer sum over tiles (Kernel.traffic has it)"
