"""box_order: a merged rank runs over boxes of the ranks it was merged from, so that one tile of it is one box.

    K[v_u // U, v_u % U]   ->   K[v_u // 12 // ceil(U / 4) * 3 + v_u % 12 // 4, v_u // 12 % ceil(U / 4) * 4 + v_u % 12 % 4]      boxes of 3 x 4

Law: a reduction is over a set of points, in any order. The boxes follow each other in row-major order, and so do the points of a box. Extents are rounded
up to whole boxes; points beyond them are filtered from every equation. A tile of the merged rank is then an interval along every
axis, which is what bounds of loops and the three-valued evaluation of filters need. The first box along an axis may start before 0 (``starts``), so that
the boundaries of boxes lie where those of the filters do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

from einsum_compiler.ir.build import add, box_place, ceil_divide, less, multiply, nonnegative
from einsum_compiler.ir.cascade import Cascade, Equation
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.expression import (
    Binary,
    Constant,
    Expression,
    Extent,
    Rank,
    Read,
    Reduction,
    map_children,
)
from einsum_compiler.passes.flatten import merged_group, row_major
from einsum_compiler.passes.lateness import reduced_ranks
from einsum_compiler.passes.scope import both


@dataclass(frozen=True, slots=True)
class BoxOrder:
    """``rank``: the merged rank; ``sizes``: coordinates of a box along the ranks it was merged from; ``starts``: where the first box starts, 0 if not given."""

    rank: str = ""
    sizes: tuple[int, ...] = ()
    starts: tuple[int, ...] = ()


def box_order(cascade: Cascade, options: BoxOrder) -> Cascade:
    """The cascade with a merged rank in the order of boxes.

    Raises ``PlanError`` if the rank is not merged from as many ranks as there are sizes, or is an axis in memory.
    """
    rank, sizes = options.rank, options.sizes
    starts = options.starts or (0,) * len(sizes)
    group = merged_group(cascade, rank)
    if not group or not len(group) == len(sizes) == len(starts):
        raise PlanError(f"'{rank}' is merged from {len(group)} ranks, and the box has {len(sizes)}")
    if is_in_memory(cascade, rank):
        raise PlanError(f"'{rank}' is an axis of a tensor in memory, whose order is fixed")
    return _Reordered(cascade, rank, group, sizes, starts).cascade()


def is_in_memory(cascade: Cascade, rank: str) -> bool:
    """Whether an input or an output has the rank as an axis."""
    return any(rank in t.ranks for t in (*cascade.inputs, *cascade.outputs))


def box_coordinates(
    rank: str, group: tuple[str, ...], sizes: tuple[int, ...], starts: tuple[int, ...]
) -> dict[str, Expression]:
    """The coordinate of each rank of a group as a function of the merged one."""
    volume = prod(sizes)
    which: Expression = Binary("//", Rank(rank), Constant(volume))
    place: Expression = Binary("%", Rank(rank), Constant(volume))
    found: dict[str, Expression] = {}
    behind: Expression = Constant(1)  # boxes along the ranks behind
    for axis in reversed(range(len(group))):
        count = ceil_divide(add(Extent(group[axis]), Constant(-starts[axis])), sizes[axis])
        outer = which if behind == Constant(1) else Binary("//", which, behind)
        if axis:
            outer = Binary("%", outer, count)
        first = add(multiply(outer, Constant(sizes[axis])), Constant(starts[axis]))
        found[group[axis]] = add(first, box_place(axis, sizes, place))
        behind = multiply(count, behind)
    return found


def box_bounds(
    coordinates: Mapping[str, Expression], group: tuple[str, ...], starts: tuple[int, ...]
) -> tuple[Expression, ...]:
    """What keeps the coordinates of boxes inside the extents."""
    below = (less(coordinates[r], Extent(r)) for r in group)
    above = (nonnegative(coordinates[r]) for r, start in zip(group, starts, strict=True) if start)
    return (*below, *above)


class _Reordered:
    def __init__(
        self, cascade: Cascade, rank: str, group: tuple[str, ...], sizes: tuple[int, ...], starts: tuple[int, ...]
    ) -> None:
        self._cascade, self._rank, self._group, self._sizes, self._starts = cascade, rank, group, sizes, starts
        self._computed = {t.tensor for e in cascade.equations for t in e.targets}
        self._coordinates = box_coordinates(rank, group, sizes, starts)
        self._replaced = {old: self._coordinates[r] for r, old in row_major(rank, group).items()}
        self._inside = both(*box_bounds(self._coordinates, group, starts))
        place: Expression = Constant(0)
        for r in group:
            place = add(multiply(place, Extent(r)) if place != Constant(0) else place, self._coordinates[r])
        self._replaced[Rank(rank)] = place  # any other use of the rank: its place in row-major order

    def cascade(self) -> Cascade:
        extent: Expression = Constant(prod(self._sizes))
        for rank, size, start in zip(self._group, self._sizes, self._starts, strict=True):
            extent = multiply(ceil_divide(add(Extent(rank), Constant(-start)), size), extent)
        parameters = tuple(
            replace(p, default=extent) if p.name == self._rank.upper() else p for p in self._cascade.parameters
        )
        return replace(
            self._cascade, parameters=parameters, equations=tuple(map(self._equation, self._cascade.equations))
        )

    def _equation(self, equation: Equation) -> Equation:
        value, where = self._changed(equation.value), equation.where
        if where is not None:
            where = self._changed(where)
        if self._rank in reduced_ranks(equation) and isinstance(value, Reduction):
            value = replace(value, where=both(value.where, self._inside))
        elif any(self._rank in t.ranks for t in equation.targets):
            where = both(where, self._inside)
        return replace(equation, value=value, where=where)

    def _changed(self, node: Expression) -> Expression:
        if node in self._replaced:
            return self._replaced[node]
        if isinstance(node, Read) and node.tensor in self._computed:
            kept = Rank(self._rank)
            return replace(node, indices=tuple(i if i == kept else self._changed(i) for i in node.indices))
        return map_children(node, self._changed)
