"""Ranks as tiles: which ranks are program indices, which are axes, and the coordinate each stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod

from einsum_compiler.ir.build import add, box_place, ceil_divide, multiply
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.expression import Constant, Expression, Extent, Rank
from einsum_compiler.ir.plan import KernelPlan, RankTile
from einsum_compiler.ir.tile import Axis, ProgramRank


@dataclass(frozen=True)
class Tiling:
    """How one kernel holds every rank.

    A program rank ``m`` with tiles of 96 is the index ``m.1`` and the axis ``m.0:96``; with tiles of 1 it is the index ``m``. The ranks of a box,
    ``(y:8, x:12)``, are the indices ``y.1`` and ``x.1`` and one axis ``y_x.0:96``, where ``y`` is ``8*y.1 + y_x.0 // 12`` and ``x`` is ``12*x.1 + y_x.0 % 12``.
    Of ``y:8@-3`` the first tile starts at -3, and ``y`` is ``8*y.1 - 3 + y_x.0 // 12``.
    A stream rank ``n`` arrives from the cascade as ``n.1`` (the loop) and ``n.0`` (an axis). Other ranks are axes
    of their whole extent, which is therefore a constant of the kernel.
    """

    plan: KernelPlan
    extents: Mapping[str, int]  # constants: resident ranks, and ranks in divisors or coefficients

    @property
    def loops(self) -> tuple[str, ...]:
        """The indices of the loops over tiles of the stream ranks."""
        return tuple(f"{s.rank}.1" for s in self.plan.streams)

    def stream(self, rank: str) -> RankTile | None:
        """The stream rank of that name, or with that name's loop or axis (``n.1``, ``n.0``)."""
        return next((s for s in self.plan.streams if rank in (s.rank, f"{s.rank}.1", f"{s.rank}.0")), None)

    def is_boxed(self, rank: str) -> bool:
        """Whether a streamed rank runs box by box: its extent is then a number of whole tiles."""
        return bool(self.plan.box) and self.plan.stream is not None and self.plan.stream.rank == rank

    def is_program(self, rank: str) -> bool:
        return rank in self._program_axes

    def extent(self, rank: str) -> Expression:
        return Constant(self.extents[rank]) if rank in self.extents else Extent(rank)

    def axis(self, rank: str) -> Axis | None:
        """The axis a rank of the cascade occupies in a tile; None for an index."""
        if self.is_program(rank):
            return self.row_axis(rank)
        if rank in self.loops:
            return None
        if (stream := self.stream(rank)) and rank == f"{stream.rank}.0":
            return Axis(rank, stream.size)
        size = self.extents.get(rank.removesuffix(".whole"))
        if size is None:
            raise PlanError(f"the plan does not say what becomes of rank '{rank}'")
        return Axis(rank, size)

    def whole(self, rank: str) -> str:
        """The axis that a fibre along a rank occupies, whole whatever becomes of the rank elsewhere in the kernel."""
        return f"{rank}.whole" if self.is_program(rank) or self.stream(rank) else rank

    def axes(self, ranks: tuple[str, ...]) -> tuple[Axis, ...]:
        return tuple(dict.fromkeys(axis for axis in map(self.axis, ranks) if axis))

    def row_axis(self, rank: str) -> Axis | None:
        """The axis of a program rank, its own or that of its box; None if a tile holds one coordinate."""
        return self._program_axes[rank] if rank in self._program_axes else self._row_axis(rank)

    @cached_property
    def _program_axes(self) -> dict[str, Axis | None]:
        """Those of every program rank: every index of a kernel asks."""
        return {t.rank: self._row_axis(t.rank) for t in self.plan.program}

    def _row_axis(self, rank: str) -> Axis | None:
        size = self.plan.tile(rank)
        if size > 1 and rank in self.plan.rows:
            return Axis(f"{'_'.join(self.plan.rows)}.0", prod(map(self.plan.tile, self.plan.rows)))
        return Axis(f"{rank}.0", size) if size > 1 else None

    @property
    def row_axes(self) -> frozenset[str]:
        """The axes of the program ranks."""
        return frozenset(axis.rank for t in self.plan.program if (axis := self.row_axis(t.rank)))

    @property
    def kept_axes(self) -> frozenset[str]:
        """The axes of the program ranks that nothing is accumulated over."""
        summed = frozenset(axis.rank for r in self.plan.ordered if (axis := self.row_axis(r)))
        return self.row_axes - summed

    def axis_name(self, rank: str) -> str | None:
        """The axis along which the coordinate of a rank, split or not, varies; None for an index."""
        if any(s.rank == rank for s in self.plan.streams):
            return f"{rank}.0"
        axis = self.row_axis(rank) if self.is_program(rank) else None
        return axis.rank if axis else rank if rank in self._axis_sizes else None

    def coordinate(self, rank: str) -> Expression:
        """The coordinate of a rank of the cascade at one element of a tile."""
        if any(s.rank == rank for s in self.plan.streams):
            return add(multiply(Constant(self.plan.tile(rank)), Rank(f"{rank}.1")), Rank(f"{rank}.0"))
        axis = self.row_axis(rank) if self.is_program(rank) else None
        if axis is None:
            return Rank(rank)
        size, inner = self.plan.tile(rank), self._inside(rank, Rank(axis.rank))
        first = add(multiply(Constant(size), Rank(f"{rank}.1")), Constant(self.plan.start(rank)))
        return add(first, inner)

    def _inside(self, rank: str, place: Expression) -> Expression:
        """The coordinate inside a tile of a rank, from the place on its axis."""
        rows = self.plan.rows
        if rank not in rows:
            return place
        return box_place(rows.index(rank), tuple(map(self.plan.tile, rows)), place)

    @property
    def axis_sizes(self) -> dict[str, int]:
        """The size of every axis, by the rank of the tile."""
        return dict(self._axis_sizes)

    @cached_property
    def _axis_sizes(self) -> dict[str, int]:
        sizes = {r: n for r, n in self.extents.items() if not self.is_program(r)}
        sizes.update({self.whole(r): n for r, n in self.extents.items()})
        for tile in self.plan.program:
            if axis := self.row_axis(tile.rank):
                sizes[axis.rank] = axis.size
        sizes.update({f"{s.rank}.0": s.size for s in self.plan.streams})
        return sizes

    @property
    def known_ranks(self) -> dict[str, int]:
        """Every index and axis with a known number of values, for bounds of index expressions."""
        known = self.axis_sizes
        for tile in self.plan.program:
            if tile.rank in self.extents:
                outer = f"{tile.rank}.1" if tile.size > 1 else tile.rank
                known[outer] = -(-(self.extents[tile.rank] - tile.start) // tile.size)
        return known

    @property
    def program(self) -> tuple[ProgramRank, ...]:
        """The indices the programs are spread over."""
        return tuple(
            ProgramRank(f"{t.rank}.1", ceil_divide(add(self.extent(t.rank), Constant(-t.start)), t.size))
            if t.size > 1
            else ProgramRank(t.rank, self.extent(t.rank))
            for t in self.plan.program
        )

    def row_bounds(self, axes: tuple[Axis, ...]) -> tuple[Expression, ...]:
        """What keeps the tiled program ranks among ``axes`` inside their extents: ``96*m.1 + m.0 < M``."""
        from einsum_compiler.ir.build import less, nonnegative

        held = {a.rank for a in axes}
        tiles = [t for t in self.plan.program if (axis := self.row_axis(t.rank)) and axis.rank in held]
        below = (
            less(self.coordinate(t.rank), self.extent(t.rank))
            for t in tiles
            if t.rank not in self.extents or (self.extents[t.rank] - t.start) % t.size
        )
        return (*below, *(nonnegative(self.coordinate(t.rank)) for t in tiles if t.start))

    @cached_property
    def held_ranks(self) -> dict[str, int]:
        """Every index, axis and rank whose coordinates are all within a known extent: no tile of it reaches beyond."""
        tiles = (*self.plan.program, *self.plan.streams)
        beyond = {t.rank for t in tiles if self.plan.start(t.rank) or self.extents.get(t.rank, 1) % t.size}
        known = {**self.extents, **self.known_ranks}
        return {r: n for r, n in known.items() if r not in beyond}
