"""How far a query sees along the axes of a merged rank: what the shape of boxes is chosen from."""

from __future__ import annotations

from collections.abc import Mapping

from einsum_compiler.ir.build import conjunction, extents_of, parameters_of, ranks_of, reads_of
from einsum_compiler.ir.expression import Constant, Expression, Rank, map_children
from einsum_compiler.ir.tile import ProgramRank, Schedule
from einsum_compiler.passes.boxes import conditions, related_ranks
from einsum_compiler.passes.flatten import merged_group, row_major
from einsum_compiler.passes.kernel_cascade import KernelCascade

Number = int | float | bool


def reach_of(part: KernelCascade, extents: Mapping[str, int], numbers: Mapping[str, Number]) -> dict[str, int]:
    """For every rank that the streamed one was merged from: the coordinates from the first to the last that the middle query sees.

    ``numbers``: values of parameters. Conditions that read tensors, or parameters without a value, are left out.
    """
    group = merged_group(part.cascade, part.stream)
    if part.stream is None or not group or len(related_ranks(part.cascade, part.stream, part.program)) < 2:
        return {}
    from einsum_compiler.tile_lists import classify

    known = [c for c in conditions(part.cascade) if not reads_of(c) and set(parameters_of(c)) <= set(numbers)]
    known = [c for c in known if {r for r in extents_of(c)} <= set(extents)]
    predicate = conjunction(known) or Constant(True)
    middle: dict[Expression, Expression] = {Rank(r): Constant(extents[r] // 2) for r in ranks_of(predicate)}
    coordinates = row_major(part.stream, group)
    found: dict[str, int] = {}
    for axis in group:
        fixed = {coordinates[r]: Rank(r) if r == axis else Constant(extents[r] // 2) for r in group}
        line = _replaced(predicate, {**middle, **fixed})
        schedule = Schedule("", line, ((axis, axis, 1),), (), ProgramRank(axis, Constant(extents[axis])))
        seen = classify(schedule, {}, numbers, extents)[1][0].nonzero()[0]
        found[axis] = int(seen[-1] - seen[0]) + 1 if len(seen) else 1
    return found


def _replaced(node: Expression, values: Mapping[Expression, Expression]) -> Expression:
    return values[node] if node in values else map_children(node, lambda child: _replaced(child, values))
