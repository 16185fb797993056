"""Level 2: the plan, which says how a cascade runs. A frozen value that prints, parses, is scored and searched.

```
plan attention {
  kernel O, L { program b, h, m:96  stream n:128  resident e, f }
}
```
``program`` ranks are spread over programs, tile by tile (``m:96``; no number: one coordinate at a time); the ``stream`` rank is a loop
over tiles inside each program (of several, ``stream i:128, j:64``, the loops follow one another); ``resident`` ranks are held whole. A tensor between
kernels is the output of one and an input of later ones, so the outputs of the kernels say what is fused. Reductions that depend on others over the
stream are corrected as it runs by; with ``contexts finished`` each waits for what it depends on, in one more sweep; with ``contexts whole`` one tile holds
the stream, however long it is up to there, and each waits for what it depends on inside of the one sweep.
Ranks in parentheses are a box: ``program b, (y:8, x:12)  stream y2_x2:(y2:8, x2:16)`` spreads boxes of 8 x 12 over programs, each one axis of 96, and
streams the merged rank of y2 and x2 box by box (``passes.box_order``); of ``y2:8@-3`` the first tile starts at -3, so that the boundaries of tiles
lie where those of the filter do.
``warps 8 stages 3  persistent 2  copies descriptors`` say how a GPU runs it (``ir.launch``).
``order O = Q[m,e] * (K[n,e] * V[n,f])`` says in which order a contraction runs, one a line; ``order deferred``, first, that invariant factors left their sums
before; ``order apart``, last, that reductions have chains of their own (``passes.apart``).
``accumulate DQ over n`` says that DQ is summed over the program rank n in memory: programs that differ in n only run one after the other, each adding its share.
``split O, L over n:128 into 16`` says that the kernel of O and L became several: its stream was cut into 16 chunks of whole tiles.
``split T over m:32`` says that a rank which the kernel of T sums together with its stream was cut into chunks of 32, as many as it takes; a kernel may be split over several ranks.
``saves MX, D, O`` says what a forward pass keeps for the backward pass (``saves nothing``: all is computed again). A plan may say that alone, and leave the
kernels to be chosen.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from einsum_compiler.ir.launch import Launch


@dataclass(frozen=True, slots=True)
class RankTile:
    """A rank and the coordinates of it that one tile holds. ``start``: where the first tile starts, not above 0; of no streamed rank but those of a box."""

    rank: str
    size: int = 1
    start: int = 0

    def __str__(self) -> str:
        return self.rank if self.size == 1 else _sized(self)


@dataclass(frozen=True, slots=True)
class Accumulation:
    """A tensor that programs add to: it is 0 before the launch, and programs that differ only in ``ranks`` run in order, one after the other."""

    tensor: str
    ranks: tuple[str, ...]

    def __str__(self) -> str:
        return f"accumulate {self.tensor} over {', '.join(self.ranks)}"


@dataclass(frozen=True, slots=True)
class KernelPlan:
    """One kernel: the tensors it writes and what becomes of each rank.

    ``rows``: program ranks whose tiles are one axis, a box. ``box``: the ranks that the streamed rank was merged from, with their share of a tile; a
    tile of the stream is one box. Empty where there are none.
    """

    outputs: tuple[str, ...]
    program: tuple[RankTile, ...]
    stream: RankTile | None = None
    resident: tuple[str, ...] = ()
    launch: Launch = field(default_factory=Launch)
    later: tuple[RankTile, ...] = ()  # streamed after ``stream``
    contexts: str = "running"  # or "finished" or "whole"
    rows: tuple[str, ...] = ()
    box: tuple[RankTile, ...] = ()
    accumulated: tuple[Accumulation, ...] = ()

    @property
    def ordered(self) -> frozenset[str]:
        """The program ranks whose programs run one after the other, since they add to the same elements."""
        return frozenset(rank for a in self.accumulated for rank in a.ranks)

    @property
    def streams(self) -> tuple[RankTile, ...]:
        """Every streamed rank, in the order of the loops."""
        return () if self.stream is None else (self.stream, *self.later)

    @property
    def whole(self) -> bool:
        """Whether the loop over the stream has one trip at most."""
        return self.contexts == "whole"

    def start(self, rank: str) -> int:
        """Where the first tile of a program rank starts."""
        return next((r.start for r in self.program if r.rank == rank), 0)

    def tile(self, rank: str) -> int:
        """The tile of a program or stream rank; 1 for a program rank without one."""
        return next((r.size for r in (*self.program, *self.streams) if r.rank == rank), 1)

    def __str__(self) -> str:
        parts = [f"program {', '.join(self._program())}" if self.program else ""]
        if self.stream:
            first = f"{self.stream.rank}:({', '.join(map(_sized, self.box))})" if self.box else _sized(self.stream)
            parts.append(f"stream {', '.join([first, *map(_sized, self.later)])}")
        if self.resident:
            parts.append(f"resident {', '.join(self.resident)}")
        parts += map(str, self.accumulated)
        if str(self.launch):
            parts.append(str(self.launch))
        if self.contexts != "running":
            parts.append(f"contexts {self.contexts}")
        return f"kernel {', '.join(self.outputs)} {{ {'  '.join(p for p in parts if p)} }}"

    def _program(self) -> list[str]:
        """The program ranks in order, those of a box where its first one stands."""
        found: list[str] = []
        for tile in self.program:
            if tile.rank not in self.rows:
                found.append(str(tile))
            elif tile.rank == self.rows[0]:
                found.append(f"({', '.join(_sized(t) for r in self.rows for t in self.program if t.rank == r)})")
        return found


def _sized(tile: RankTile) -> str:
    return f"{tile.rank}:{tile.size}" + (f"@{tile.start}" if tile.start else "")


@dataclass(frozen=True, slots=True)
class RankSplit:
    """The streamed rank of the kernel that writes ``outputs``, cut into ``chunks`` that are multiples of its tile long.

    Without a number of chunks, a rank that this kernel would hold whole, cut into as many chunks of one tile as it takes.
    """

    outputs: tuple[str, ...]
    rank: RankTile
    chunks: int = 0

    def __str__(self) -> str:
        into = f" into {self.chunks}" if self.chunks else ""
        return f"split {', '.join(self.outputs)} over {self.rank}{into}"


@dataclass(frozen=True, slots=True)
class Plan:
    """The kernels of a cascade in the order they run, the splits that some of them come from, and the orders of contractions that are not as written.

    ``saves``: what a forward pass keeps for the backward pass; None where that is left to be chosen.
    """

    name: str
    kernels: tuple[KernelPlan, ...]
    splits: tuple[RankSplit, ...] = ()
    orders: tuple[str, ...] = ()
    saves: tuple[str, ...] | None = None

    def __str__(self) -> str:
        lines = [] if self.saves is None else [saves_text(self.saves)]
        lines += [*(f"order {o}" for o in self.orders), *map(str, self.splits), *map(str, self.kernels)]
        return "\n".join([f"plan {self.name} {{", *(f"  {line}" for line in lines), "}"])


def saves_text(names: Iterable[str]) -> str:
    """``saves MX, D``, or ``saves nothing``."""
    return f"saves {', '.join(names) or 'nothing'}"
