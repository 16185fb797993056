"""Filters of a merged rank in the order of boxes, without deriving the kernel again for every shape of a box."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from einsum_compiler.cost.visits import NOWHERE, Filter
from einsum_compiler.ir.build import conjunction
from einsum_compiler.ir.expression import Expression, map_children
from einsum_compiler.ir.fold import substitute
from einsum_compiler.ir.plan import KernelPlan
from einsum_compiler.passes.box_order import box_bounds, box_coordinates
from einsum_compiler.passes.flatten import row_major


def boxed_extents(plan: KernelPlan, extents: Mapping[str, int]) -> dict[str, int]:
    """The extents with that of the streamed rank rounded up to whole boxes."""
    if plan.stream is None or not plan.box:
        return dict(extents)
    whole = 1
    for tile in plan.box:
        whole *= -(-(extents[tile.rank] - tile.start) // tile.size) * tile.size
    return {**extents, plan.stream.rank: whole}


def boxed_filter(condition: Filter, plan: KernelPlan, extents: Mapping[str, int]) -> Filter:
    """A filter over a merged rank, written in row-major coordinates with constant extents, in the coordinates of the plan's boxes."""
    if plan.stream is None or not plan.box or condition == NOWHERE:
        return condition
    rank, group = plan.stream.rank, tuple(t.rank for t in plan.box)
    starts = tuple(t.start for t in plan.box)
    coordinates = box_coordinates(rank, group, tuple(t.size for t in plan.box), starts)
    changed: dict[Expression, Expression] = {
        substitute(old, extents, {}): substitute(coordinates[r], extents, {})
        for r, old in row_major(rank, group).items()
    }

    def change(node: Expression) -> Expression:
        return changed[node] if node in changed else map_children(node, change)

    inside = (substitute(bound, extents, {}) for bound in box_bounds(coordinates, group, starts))
    known = conjunction([*inside, change(condition.known)])
    assert known is not None
    return replace(condition, known=known, ranks=condition.ranks | {rank})
