"""The ski-slope: the lower bound against the capacity of the fast memory, and the plan at the capacity of every level."""

from __future__ import annotations

from collections.abc import Callable

from einsum_compiler.ir.hints import listed
from einsum_compiler.movement import LEAST_CAPACITY, Movement
from einsum_compiler.passes.bounds.analysis import Analysis
from einsum_compiler.quantities import rounded
from einsum_compiler.report.plot import Axis, Curve, Guide, Mark, plot, spanning

START = 1 / 8  # of the smallest level: where the curve starts
STEP = 1.6  # between the capacities of the curve


def slope_picture(moved: Movement) -> str:
    """The picture as SVG; nothing where nothing must be moved."""
    analysis, amounts, caches = moved.analysis, moved.amounts, moved.caches
    least = float(analysis.compulsory.value or 0)
    if least <= 0:
        return ""
    size = amounts.each
    sizes = [level.bytes / amounts.element for level in caches]
    points = bound_curve(analysis, min(sizes) * START, max(sizes) * 4)
    marks = []
    alike = {level.bytes: [other.name for other in caches if other.bytes == level.bytes] for level in caches}
    for capacity, names in alike.items():
        seen = moved.behind[names[-1]]
        if seen and moved.footprint <= capacity:
            label = f"behind {listed(names)}: {amounts(seen)}"
            marks.append(Mark(capacity / amounts.element * size, seen * size, label, "plan"))
    if moved.programs:
        label = f"all loads and stores: {amounts(moved.programs)}"
        marks.append(Mark(moved.footprint / amounts.element * size, moved.programs * size, label, "plan", hollow=True))
    show: Callable[[float], str] = lambda v: rounded(v, amounts.unit)
    xs, ys = [p[0] * size for p in points], [p[1] * size for p in points]
    x = Axis("capacity of the fast memory", show, min(xs), max(xs))
    y = Axis("moved in and out of it", show, *spanning([*ys, *(m.y for m in marks), least * size], 2.2))
    ends = ((min(xs), least * size), (max(xs), least * size))
    curves = [
        Curve(ends, "floor", "each element once"),
        Curve(tuple(zip(xs, ys, strict=True)), "bound", "lower bound", True),
    ]
    guides = [Guide(capacity / amounts.element * size, ", ".join(names)) for capacity, names in alike.items()]
    return plot("lower bound on data moved against the capacity of fast memory", x, y, curves, marks, guides)


def bound_curve(analysis: Analysis, capacity: float, greatest: float) -> list[tuple[float, float]]:
    """The bound against the capacity. Where it has come down to each element once, it stays there."""
    least = float(analysis.compulsory.value or 0)
    found: list[tuple[float, float]] = []
    capacity = max(LEAST_CAPACITY, capacity)
    while capacity < greatest:
        if found and found[-1][1] <= least * 1.000001:
            break
        found += analysis.curve([capacity])
        capacity *= STEP
    return [*found, (greatest, least)] if found[-1][1] <= least * 1.000001 else found
