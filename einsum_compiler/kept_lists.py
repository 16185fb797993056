"""What calls with the same sizes need of a list of tiles and need not compute again (``tile_lists``)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from einsum_compiler.box_values import Array
from einsum_compiler.ir.build import reads_of
from einsum_compiler.ir.expression import Expression
from einsum_compiler.ir.scalar import evaluate_scalar
from einsum_compiler.ir.tile import Schedule

T = TypeVar("T")

# Lists of at most so many boxes keep what no tensor decides: there the time is that of the calls, not of the boxes.
BOXES_KEPT = 1 << 12


@dataclass(eq=False)
class Kept:
    """What no tensor decides of a list, from one call to the next with the same schedule, scalars and extents.

    ``reads``: the tensors that decide the rest. ``counts``: of tiles along every index. ``inside``: see ``_inside``. ``values`` by the
    identity of a node, which they hold, and by what was asked of it: None for what depends on a tensor. No values are kept of a list that
    is built once, or has many boxes.
    """

    reads: frozenset[str]
    counts: tuple[int, ...]
    inside: tuple[Array, Array] | None = None
    values: dict[tuple[int, str], tuple[Expression, Any]] | None = None

    def value(self, node: Expression, asked: str, compute: Callable[[Any], T], of: tuple[Expression, ...] = ()) -> T:
        """``compute(node)``, which depends on the expressions ``of``, by default on the node."""
        if self.values is None:
            return compute(node)
        found = self.values.get((id(node), asked))
        if found is None:
            found = self.values[id(node), asked] = node, None if reads_of(*(of or (node,))) else compute(node)
        return compute(node) if found[1] is None else found[1]


def kept_between_calls(schedule: Schedule, scalars: Mapping[str, float], extents: Mapping[str, int]) -> Kept:
    """What the calls with these scalars and extents share."""
    kept = kept_in_a_call(schedule, scalars, extents)
    return replace(kept, values={}) if math.prod(kept.counts) <= BOXES_KEPT else kept


def kept_in_a_call(schedule: Schedule, scalars: Mapping[str, float], extents: Mapping[str, int]) -> Kept:
    """The same for a list that is built once."""
    names = {**{rank.upper(): size for rank, size in extents.items()}, **scalars}
    counts = [max(int(evaluate_scalar(index.count, names)), 0) for index in (*schedule.program, schedule.stream)]
    return Kept(frozenset(read.tensor for read in reads_of(schedule.predicate)), tuple(counts))
