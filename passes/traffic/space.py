"""Where a kernel touches memory: every load and store with its conditions, and the programs and tiles at which it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from einsum_compiler.ir.build import conjuncts
from einsum_compiler.ir.expression import Expression
from einsum_compiler.ir.tile import Axis, Load, Loop, Range, Statement, Store, TileKernel, TileList
from einsum_compiler.ir.tile_ranges import loop_body
from einsum_compiler.passes.traffic.arrays import Array, Points, UnknownValues, Values, host_array

# Programs at which bounds of loops are evaluated one by one; more are refused.
MOST_PROGRAMS = 1 << 24


@dataclass(frozen=True)
class Access:
    """One load or store, of what adds one of each: elements of ``tensor`` at ``indices``, for every coordinate of ``axes`` at which all ``conditions`` hold.

    ``loop`` and ``part`` say in which range of which loop it stands (None: outside of loops, once per program).
    """

    tensor: str
    stored: bool
    axes: tuple[Axis, ...]
    indices: tuple[Expression, ...]
    conditions: tuple[Expression, ...]
    loop: Loop | None = None
    part: Range | TileList | None = None

    @property
    def partial(self) -> bool:
        return self.part is None or self.part.partial


def accesses(kernel: TileKernel) -> Iterator[Access]:
    """Every access of a kernel, those of a loop once for each of its ranges, without what a range does not compute."""
    for statement in kernel.body:
        if isinstance(statement, Loop):
            for part in statement.ranges:
                for inner in loop_body(statement, part.partial):
                    yield from _access(inner, statement, part)
        else:
            yield from _access(statement, None, None)


def _access(statement: Statement, loop: Loop | None, part: Range | TileList | None) -> Iterator[Access]:
    match statement:
        case Load():
            where = (*conjuncts(statement.where), *conjuncts(statement.partial_where))
            yield Access(statement.tensor, False, statement.type.axes, statement.indices, where, loop, part)
        case Store():
            where = conjuncts(statement.where)
            for stored in (False, True) if statement.adds else (True,):
                yield Access(statement.tensor, stored, statement.axes, statement.indices, where, loop, part)


@dataclass(frozen=True)
class Rows:
    """Programs, each with the tiles it visits: an array of program indices per rank, all of one length.

    ``tiles[first[i] : last[i]]`` are those of row i (without ``tiles``: the numbers from ``first[i]`` up to ``last[i]``).
    """

    indices: Mapping[str, Array]
    length: int
    first: Array
    last: Array
    tiles: Array | None = None

    def tile_at(self, positions: Array) -> Array:
        return positions if self.tiles is None else self.tiles[positions]


@dataclass(frozen=True)
class Space:
    """The programs of a kernel at given sizes."""

    kernel: TileKernel
    values: Values
    counts: Mapping[str, int]

    @classmethod
    def of(
        cls, kernel: TileKernel, sizes: Mapping[str, int], scalars: Mapping[str, Any], tensors: Mapping[str, Any]
    ) -> Space:
        values = Values.of(kernel, sizes, scalars, tensors)
        return cls(kernel, values, {p.rank: max(0, values.number(p.count)) for p in kernel.program})

    @property
    def programs(self) -> int:
        return prod(self.counts.values())

    def among(self, names: frozenset[str]) -> tuple[str, ...]:
        """The program ranks among some names, outermost first."""
        return tuple(r for r in self.counts if r in names)

    def bounds(self, access: Access) -> frozenset[str]:
        """What the tiles that are visited at an access depend on."""
        match access.part:
            case Range(lower=lower, upper=upper):
                return self.values.depends(lower, upper)
            case TileList(position=position):
                return self.values.depends(position)
        return frozenset()

    def rows(self, access: Access, ranks: tuple[str, ...]) -> Rows:
        """The programs that differ in ``ranks``, with their tiles at an access (one nameless tile outside of loops)."""
        sizes = [self.counts[r] for r in ranks]
        length = prod(sizes)
        if length > MOST_PROGRAMS:
            raise UnknownValues(f"it has {length} different programs, more than are looked at one by one")
        grid = (
            np.unravel_index(np.arange(length), sizes)
            if sizes and length
            else tuple(np.zeros(length, np.int64) for _ in sizes)
        )
        indices = {r: np.asarray(i, dtype=np.int64) for r, i in zip(ranks, grid, strict=True)}
        points = Points(self.values, indices)

        def number(node: Expression) -> Array:
            return np.broadcast_to(points.value(node), (length,))

        match access.part:
            case None:
                return Rows(indices, length, np.zeros(length, np.int64), np.ones(length, np.int64))
            case Range(lower=lower, upper=upper):
                first = number(lower)
                return Rows(indices, length, first, np.maximum(first, number(upper)))
            case TileList(schedule=schedule, position=position, partial=partial):
                offsets, tiles = (self.values.tensors.get(f"{schedule}.{name}") for name in ("offsets", "tiles"))
                if offsets is None or tiles is None:
                    raise UnknownValues(f"which tiles are visited depends on values: the list {schedule} is not known")
                slot = 2 * number(position) + int(partial)
                ends = host_array(offsets).astype(np.int64)
                return Rows(indices, length, ends[slot], ends[slot + 1], host_array(tiles).astype(np.int64))
