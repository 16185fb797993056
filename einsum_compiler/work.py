"""What the kernels of a call do at its sizes: tiles visited, operations, bytes. Counted from the tile programs, without running them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from einsum_compiler.ir.expression import Constant, Expression, Rank, Read, transform, walk
from einsum_compiler.ir.scalar import evaluate_scalar
from einsum_compiler.ir.tile import (
    Axis,
    Dot,
    Load,
    Loop,
    Map,
    Range,
    Reduce,
    Select,
    Statement,
    Store,
    TensorOperand,
    TileKernel,
    TileList,
)
from einsum_compiler.ir.tile_ranges import loop_body
from einsum_compiler.ir.types import bytes_of

# Program points at which loop bounds are evaluated one by one; beyond that nothing is counted.
MOST_POINTS = 200_000


@dataclass(frozen=True)
class Visits:
    """The tiles that one sweep visits, all programs together: full ones (no mask), partial ones, and how many there are."""

    rank: str
    full: int
    partial: int
    total: int


@dataclass(frozen=True)
class Work:
    """One kernel at the sizes of a call. ``sweeps`` and the operations are None where tiles depend on values that are not there.

    ``products``: two operations per point of a product of tiles; ``others``: one per element and operator of maps, selections and reductions. Both
    count whole tiles, padding included: what the kernel executes.
    """

    programs: int
    sweeps: tuple[Visits, ...] | None
    products: int | None
    others: int | None
    read: int
    written: int

    @property
    def operations(self) -> int | None:
        return None if self.products is None or self.others is None else self.products + self.others


def work_of(
    kernel: TileKernel, tensors: Mapping[str, Any], scalars: Mapping[str, Any], extents: Mapping[str, int]
) -> Work:
    """The work of a kernel; ``tensors`` are those whose values decide which tiles are visited, if they are known."""
    counting = Counting(kernel, tensors, scalars, extents)
    products, others = (n * counting.programs for n in counting.statements(kernel.body, True))
    loops = [s for s in kernel.body if isinstance(s, Loop)]
    sweeps = [seen for loop in loops if (seen := counting.visits(loop)) is not None]
    for loop, seen in zip(loops, sweeps, strict=False):
        for times, partial in ((seen.full, False), (seen.partial, True)):
            inside = counting.statements(loop_body(loop, partial), partial)
            products, others = products + times * inside[0], others + times * inside[1]
    known = len(sweeps) == len(loops)
    return Work(
        counting.programs,
        tuple(sweeps) if known else None,
        products if known else None,
        others if known else None,
        sum(map(counting.bytes, kernel.inputs)),
        sum(map(counting.bytes, kernel.outputs)),
    )


@dataclass
class Counting:
    """The numbers of one kernel at the sizes of a call."""

    kernel: TileKernel
    tensors: Mapping[str, Any]
    scalars: Mapping[str, Any]
    extents: Mapping[str, int]

    def __post_init__(self) -> None:
        self.names = {**self.scalars, **{rank.upper(): extent for rank, extent in self.extents.items()}}
        self.counts = {p.rank: self.number(p.count) for p in self.kernel.program}
        self.programs = prod(self.counts.values())
        self.loads = {s.target: s for s in self.kernel.body if isinstance(s, Load) and not s.type.axes}

    def number(self, node: Expression, indices: Mapping[str, int] | None = None) -> int:
        return int(evaluate_scalar(node, {**self.names, **(indices or {})}))

    def bytes(self, operand: TensorOperand) -> int:
        return bytes_of(operand.dtype) * prod(map(self.number, operand.extents))

    # -- tiles

    def visits(self, loop: Loop) -> Visits | None:
        lists = [r for r in loop.ranges if isinstance(r, TileList)]
        found = self._listed(lists) if lists else self._in_ranges([r for r in loop.ranges if isinstance(r, Range)])
        if found is None:
            return None
        return Visits(loop.rank, *found, self.programs * self.tiles(loop))

    def tiles(self, loop: Loop) -> int:
        """How many tiles the rank of a loop has."""
        outer, size = (
            loop.rank,
            next((a.size for a in _axes(loop.body) if a.rank == f"{loop.rank.removesuffix('.1')}.0"), 1),
        )
        for schedule in self.kernel.schedules:
            if schedule.stream.rank == outer:
                return self.number(schedule.stream.count)
        extent = self.extents.get(outer.removesuffix(".1"))
        return 0 if extent is None else -(-extent // size)

    def _in_ranges(self, ranges: list[Range]) -> tuple[int, int] | None:
        """Full and partial tiles: bounds are evaluated for the indices that they depend on, the others multiply."""
        needed = self.needed(ranges)
        if needed is None or prod(self.counts[rank] for rank in needed) > MOST_POINTS:
            return None
        counts = [0, 0]
        for point in itertools.product(*(range(self.counts[rank]) for rank in needed)):
            for lower, upper, partial in self.bounds(ranges, dict(zip(needed, point, strict=True))):
                counts[partial] += max(0, upper - lower)
        others = prod(n for rank, n in self.counts.items() if rank not in needed)
        return counts[0] * others, counts[1] * others

    def needed(self, ranges: Iterable[Range]) -> list[str] | None:
        """The program ranks that the bounds of ranges depend on; None where they depend on a tensor without values."""
        return self._needed(itertools.chain.from_iterable((r.lower, r.upper) for r in ranges))

    def bounds(self, ranges: Iterable[Range], indices: Mapping[str, int]) -> list[tuple[int, int, bool]]:
        """Lower bound, upper bound and whether partial, of each range in one program."""

        def at(bound: Expression) -> int:
            return self.number(self._with_values(bound, indices), indices)

        return [(at(r.lower), at(r.upper), r.partial) for r in ranges]

    def _needed(self, bounds: Iterable[Expression]) -> list[str] | None:
        """The program ranks that bounds depend on, through tensors too; None where a tensor has no values."""
        found: dict[str, None] = {}
        frontier = list(bounds)
        while frontier:
            for node in walk(frontier.pop()):
                if isinstance(node, Rank) and node.name in self.counts:
                    found[node.name] = None
                elif isinstance(node, Read):
                    load = self.loads[node.tensor]
                    if load.tensor not in self.tensors or self.tensors[load.tensor].device.type == "meta":
                        return None
                    frontier += load.indices
        return list(found)

    def _with_values(self, bound: Expression, indices: Mapping[str, int]) -> Expression:
        def known(node: Expression) -> Expression:
            if not isinstance(node, Read):
                return node
            load = self.loads[node.tensor]
            place = tuple(self.number(self._with_values(i, indices), indices) for i in load.indices)
            return Constant(self.tensors[load.tensor][place].item())

        return transform(bound, known)

    def _listed(self, lists: list[TileList]) -> tuple[int, int] | None:
        from einsum_compiler.ir.build import reads_of
        from einsum_compiler.tile_lists import build_tile_list, count_tiles

        schedule = next(s for s in self.kernel.schedules if s.name == lists[0].schedule)
        reads = {r.tensor for r in reads_of(schedule.predicate)}
        if any(r not in self.tensors or self.tensors[r].device.type == "meta" for r in reads):
            return None
        given = {name: self.tensors[name] for name in reads}
        offsets, _ = build_tile_list(schedule, given, self.scalars, self.extents)
        full, partial = count_tiles(offsets)
        listed = prod(self.number(p.count) for p in schedule.program)
        share = self.programs // max(1, listed)
        return full * share, partial * share

    # -- operations

    def statements(self, body: Iterable[Statement], partial: bool) -> tuple[int, int]:
        """Operations of products and of everything else in statements that run once."""
        products = others = 0
        sizes = {a.rank: a.size for a in _axes(self.kernel.body)}
        for s in body:
            match s:
                case Dot():
                    products += 2 * _points(s.type.axes) * prod(sizes[r] for r in s.over)
                    others += _points(s.type.axes) * (operators_in(s.accumulator) if s.accumulator else 0)
                case Map():
                    others += _points(s.type.axes) * operators_in(s.value)
                case Select():
                    checked = operators_in(s.condition) + 1 if partial or not s.partial else 0
                    others += _points(s.type.axes) * (operators_in(s.value) + checked)
                case Reduce():
                    others += _points((*s.type.axes, *s.over)) * (operators_in(s.value) + 1)
                    others += _points(s.type.axes) * (operators_in(s.accumulator) if s.accumulator else 0)
                case Store():
                    others += _points(s.axes) * (operators_in(s.value) + s.adds)
        return products, others


def operators_in(node: Expression) -> int:
    """Operators of an expression, each one operation per element; names, literals and coordinates are free."""
    from einsum_compiler.backends.reference.tile_expressions import operators_in as operators

    return operators(node)


def _axes(body: Iterable[Statement]) -> list[Axis]:
    found: list[Axis] = []
    for s in body:
        if isinstance(s, Loop):
            found += [a for c in s.carries for a in c.type.axes] + _axes(s.body)
        elif isinstance(s, Store):
            found += s.axes
        elif isinstance(s, (Load, Map, Select, Dot, Reduce)):
            found += s.type.axes
            if isinstance(s, Reduce):
                found += s.over
    return found


def _points(axes: Iterable[Axis]) -> int:
    return prod(a.size for a in axes)
