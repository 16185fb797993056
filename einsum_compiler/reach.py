"""What queries see along the axes of a merged rank: what the shape of boxes is chosen from."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from einsum_compiler.ir.build import conjunction, extents_of, parameters_of, ranks_of, reads_of
from einsum_compiler.ir.expression import Constant, Expression, Rank, map_children
from einsum_compiler.ir.tile import ProgramRank, Schedule
from einsum_compiler.passes.boxes import STRETCH, Reach, conditions, related_ranks
from einsum_compiler.passes.flatten import merged_group, row_major
from einsum_compiler.passes.kernel_cascade import KernelCascade

Number = int | float | bool
POINTS = 1 << 20  # pairs of a query and a key that are looked at


def reach_of(part: KernelCascade, extents: Mapping[str, int], numbers: Mapping[str, Number]) -> dict[str, Reach]:
    """For every rank that the streamed one was merged from: what queries along the rank it is related with see, others being in the middle.

    ``numbers``: values of parameters. Conditions that read tensors, or parameters without a value, are left out.
    """
    group = merged_group(part.cascade, part.stream)
    if part.stream is None or not group:
        return {}
    related = related_ranks(part.cascade, part.stream, part.program)
    if len(related) < 2 or 0 in (extents[r] for r in (*group, *related.values())):
        return {}
    from einsum_compiler.tile_lists import classify

    known = [c for c in conditions(part.cascade) if not reads_of(c) and set(parameters_of(c)) <= set(numbers)]
    known = [c for c in known if {r for r in extents_of(c)} <= set(extents)]
    predicate = conjunction(known) or Constant(True)
    middle: dict[Expression, Expression] = {Rank(r): Constant(extents[r] // 2) for r in ranks_of(predicate)}
    coordinates = row_major(part.stream, group)
    found: dict[str, Reach] = {}
    for axis, query in related.items():
        fixed = {coordinates[r]: Rank(r) if r == axis else Constant(extents[r] // 2) for r in group}
        plane = _replaced(predicate, {**middle, **fixed, Rank(query): Rank(query)})
        count = max(1, min(STRETCH, extents[query], POINTS // extents[axis]))
        places = np.arange((extents[query] - count) // 2, (extents[query] + count) // 2)
        stretch, keys = (ProgramRank(r, Constant(n)) for r, n in ((query, count), (axis, extents[axis])))
        schedule = Schedule("", plane, ((query, query, 1), (axis, axis, 1)), (stretch,), keys)
        seen = classify(schedule, {}, numbers, extents, {query: places})[1]
        found[axis] = Reach(int(places[0]), seen)
    return found


def _replaced(node: Expression, values: Mapping[Expression, Expression]) -> Expression:
    return values[node] if node in values else map_children(node, lambda child: _replaced(child, values))
