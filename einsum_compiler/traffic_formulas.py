"""What the kernels of a plan move past each level of memory, as formulas with the conditions under which they hold."""

from __future__ import annotations

from collections.abc import Callable
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

LONGEST = 160  # characters of a formula that is printed


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


@dataclass(frozen=True)
class FormulaView:
    """The formulas of one kernel at one level in words: what fits, where the formulas hold, and of each tensor what is moved and what one step of the rank that
    fits touches (of a program, if none fits), the mean over the steps. ``reasons``: why one is missing."""

    kernel: str
    level: str
    fits: str
    conditions: tuple[str, ...]
    tensors: tuple[tuple[str, str, str], ...]
    reasons: tuple[str, ...]


def formula_views(levels: tuple[LevelTraffic, ...], longest: int | None = None) -> list[FormulaView]:
    """The formulas as text, for tables and pages; of more than ``longest`` characters, a word in their place."""

    def shown(formula: object) -> str:
        if formula is None:
            return "unknown"
        text = _printed(formula)
        return text if longest is None or len(text) <= longest else "a longer sum over tiles (Kernel.traffic has it)"

    return [_view(one.kernel, one, shown) for one in levels]


def _printed(formula: object) -> str:
    """As SymPy prints it; but the terms beside a sum over tiles stay as they are kept, since ordering them builds the body of every sum anew, for minutes."""
    import sympy as sp
    from sympy.printing.str import StrPrinter

    class Printer(StrPrinter):  # type: ignore[misc]
        def _as_ordered_terms(self, expr: sp.Expr, order: str | None = None) -> list[sp.Expr]:
            ordered: list[sp.Expr] = list(expr.args) if expr.has(sp.Sum) else super()._as_ordered_terms(expr, order)
            return ordered

    return str(Printer().doprint(formula))


def _view(kernel: str, one: LevelTraffic, shown: Callable[[object], str]) -> FormulaView:
    formulas = one.formulas
    if formulas is None:
        return FormulaView(kernel, one.level, "", (), (), (one.reason,))
    fits = {None: "no program fits", "": "the whole kernel fits"}.get(formulas.kept, f"a step of {formulas.kept} fits")
    tensors = []
    for tensor, formula in formulas.tensors.items():
        parts = ((formula.loaded, "loaded"), (formula.stored, "stored"))
        moved = ", ".join(f"{shown(x)} {what}" for x, what in parts if x != 0) or "nothing"
        tensors.append((tensor, moved, shown(formulas.footprint.get(tensor))))
    where: tuple[str, ...] = ("at these sizes; no condition in closed form",)
    if formulas.conditions is not None:
        where = tuple(f"where {shown(c)}" for c in formulas.conditions)
    level = f"{one.level} ({scaled(formulas.capacity, 'B')})"
    return FormulaView(kernel, level, fits, where, tuple(tensors), formulas.reasons)


def formula_text(levels: tuple[LevelTraffic, ...]) -> list[RenderableType]:
    """The formulas as lines: per kernel and level what decides, then a table of the tensors."""
    lines: list[RenderableType] = [
        "",
        "what the plan moves past each cache (elements), what a step touches (bytes), and where the formulas hold",
    ]
    before = None
    for view in formula_views(levels, LONGEST):
        said = f"{view.kernel}, {view.level}: {view.fits}" if view.fits else f"{view.kernel}, {view.level}: no formula"
        lines += [Padding(said, (0, 0, 0, 2)), *(Padding(c, (0, 0, 0, 4)) for c in view.conditions)]
        decided, before = before, (view.kernel, view.fits, view.tensors)
        if view.tensors and decided == before:
            lines.append(Padding("every tensor as above", (0, 0, 0, 4)))
        elif view.tensors:
            lines += [
                Padding(f"{t}: {moved}; a step touches {touched} on average", (0, 0, 0, 4))
                for t, moved, touched in view.tensors
            ]
        lines += [Padding(f"no formula: {reason}", (0, 0, 0, 4)) for reason in view.reasons]
    return lines
