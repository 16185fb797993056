"""The sizes a plan gives to the axes and loops of a skeleton, and what its loads ask of the memory behind the caches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

from einsum_compiler.cost.steps import Fetch, Skeleton, Step, Tile, Write
from einsum_compiler.ir.plan import KernelPlan


@dataclass(frozen=True)
class Visited:
    """Tiles that a loop visits in one program: full and partial ones, on the average, and at most.

    Of partial tiles with both ``axes`` only a ``share`` is computed.
    """

    full: float
    partial: float
    most: float
    share: float = 1.0
    axes: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Operand:
    """A tensor in memory: its ranks and the bytes of an element."""

    ranks: tuple[str, ...]
    bytes: int


@dataclass(frozen=True)
class Shape:
    """A skeleton with a plan at given extents. ``visited``: of each loop."""

    skeleton: Skeleton
    plan: KernelPlan
    extents: Mapping[str, int]
    tensors: Mapping[str, Operand]
    visited: tuple[Visited, ...]

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Coordinates on every axis of a tile."""
        found = dict(self.extents)
        found |= {f"{t.rank}.0": t.size for t in self.plan.program}
        if self.plan.rows:
            found[f"{'_'.join(self.plan.rows)}.0"] = prod(map(self.plan.tile, self.plan.rows))
        found |= {f"{s.rank}.0": s.size for s in self.plan.streams}
        return found

    @cached_property
    def counts(self) -> dict[str, int]:
        """Programs along every program rank."""
        return {t.rank: -(-(self.extents[t.rank] - t.start) // t.size) for t in self.plan.program}

    @property
    def programs(self) -> int:
        return prod(self.counts.values())

    @property
    def chains(self) -> int:
        """How many programs may run at the same time: those that add to the same elements follow one another."""
        return prod(n for rank, n in self.counts.items() if rank not in self.plan.ordered)

    @property
    def bodies(self) -> Iterator[tuple[float, Sequence[Step]]]:
        """Every stretch of straight-line code with how often one program runs it."""
        for times, body, _ in self.shares:
            yield times, body

    @property
    def shares(self) -> Iterator[tuple[float, Sequence[Step], Visited | None]]:
        """The same with the tiles of a loop whose partial ones are computed in part."""
        yield 1.0, self.skeleton.outside, None
        for loop, seen in zip(self.skeleton.loops, self.visited, strict=True):
            yield seen.full, loop.full, None
            yield seen.partial, loop.partial, seen

    def points(self, axes: Iterable[str]) -> int:
        return prod(self.sizes.get(a, 1) for a in axes)

    def bytes(self, tile: Tile) -> int:
        """Bytes of the part of a tile that lies inside the extents."""
        return (
            prod(min(self.sizes.get(a, 1), self.extents.get(a.removesuffix(".0"), 1 << 60)) for a in tile.axes)
            * tile.bytes
        )

    def tensor_bytes(self, name: str) -> int:
        operand = self.tensors[name]
        return prod(self.extents.get(r, 1) for r in operand.ranks) * operand.bytes

    @cached_property
    def traffic(self) -> tuple[Stream, ...]:
        """What every load and store of the kernel moves, all programs together."""
        found: dict[tuple[str, frozenset[str], bool], float] = {}
        added = {s.tensor for _, body in self.bodies for s in body if isinstance(s, Write) and s.adds}
        for times, body in self.bodies:
            for step in body:
                if isinstance(step, Fetch):
                    key = step.tensor, step.indices, False
                elif isinstance(step, Write):
                    key = step.tensor, step.indices if step.adds else frozenset(self.counts), True
                else:
                    continue
                found[key] = found.get(key, 0.0) + times * self.bytes(step.tile)
        return tuple(
            Stream(
                name,
                per_program,
                per_program * self.programs,
                self._distance(indices),
                written,
                name in added and written,
            )
            for (name, indices, written), per_program in found.items()
        )

    def _distance(self, indices: frozenset[str]) -> int | None:
        """How many programs lie between two that ask for the same tiles; None where no two do."""
        between = 1
        for name, count in reversed(self.counts.items()):
            if name not in indices and count > 1:
                return between
            between *= count
        return None


@dataclass(frozen=True)
class Stream:
    """The bytes of one tensor that programs ask for: one of them, and all. ``distance``: see ``Shape._distance``."""

    tensor: str
    per_program: float
    total: float
    distance: int | None
    written: bool
    added: bool = False  # read before it is written, every time
