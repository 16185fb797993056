"""What a kernel does in one program, as a list of steps with named axes: sweeps, products, packings, loads and stores.

Axes are named as in tile programs: ``m.0`` inside a tile, other ranks held whole. Their sizes are those of a plan (``shape``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from einsum_compiler.ir.expression import Expression


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile in scratch or registers: its axes and the bytes of an element."""

    axes: tuple[str, ...]
    bytes: int


@dataclass(frozen=True, slots=True)
class Operation:
    """``count`` operations of a kind at every point of the axes."""

    kind: str
    axes: frozenset[str]
    count: int


@dataclass(frozen=True, slots=True)
class OnePass:
    """A reduction that runs along ``results`` (``backends.cpu.running``), or puts every one of ``points`` into one of them (``backends.cpu.buckets``)."""

    results: str
    points: tuple[str, ...]
    runs: bool


@dataclass(frozen=True, slots=True)
class Sweep:
    """Maps, selects and at most one reduction in one loop nest. ``kept``: axes of its results; ``over``: axes that are reduced; ``fresh``: what is written
    where no tile dies; ``once``: how the reduction meets every point once, if it does."""

    kept: tuple[str, ...]
    over: tuple[str, ...]
    operations: tuple[Operation, ...]
    reads: tuple[Tile, ...]
    writes: tuple[Tile, ...]
    fresh: tuple[Tile, ...]
    once: OnePass | None = None

    @property
    def axes(self) -> tuple[str, ...]:
        return (*self.kept, *self.over)


@dataclass(frozen=True, slots=True)
class Product:
    """A product of tiles. ``dtypes`` of the operands, the left one with the rows; ``adjacent``: whether the right operand lies with its depth innermost;
    ``source``: the tensor that the right operand is a tile of."""

    batch: tuple[str, ...]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    depth: tuple[str, ...]
    dtypes: tuple[str, str]
    adjacent: bool
    result: Tile
    accumulates: bool
    rescales: bool
    strided: bool
    packed: bool = False  # the right operand, before the loop
    source: str = ""


@dataclass(frozen=True, slots=True)
class Packing:
    """A right operand of products with these ``rows`` that a loop does not change, packed before it; ``adjacent``, ``source``: see ``Product``.

    ``always``: however it lies in the source.
    """

    tile: Tile
    rows: tuple[str, ...]
    depth: tuple[str, ...]
    adjacent: bool
    source: str
    always: bool


@dataclass(frozen=True, slots=True)
class Fetch:
    """A tile of an input. ``indices``: the program and loop ranks that its place depends on; ``scattered``: gathered element by element."""

    tensor: str
    tile: Tile
    dtype: str
    indices: frozenset[str]
    scattered: bool
    operand: bool  # of a product


@dataclass(frozen=True, slots=True)
class Write:
    """A tile of an output. ``adds``: to what is there; ``indices``: the program and loop ranks that its place depends on; ``direct``: by the product itself;
    ``scattered``: see ``Fetch``."""

    tensor: str
    tile: Tile
    adds: bool
    indices: frozenset[str]
    direct: bool = False
    scattered: bool = False


Step = Sweep | Product | Packing | Fetch | Write


@dataclass(frozen=True, slots=True)
class Sum:
    """A sum that is no product of tiles: the axes that are reduced, and whether vectors lie along one of them (else along the results).

    ``signed``: its terms may be of both signs.
    """

    over: tuple[str, ...]
    along: bool
    signed: bool = True


@dataclass(frozen=True)
class LoopSkeleton:
    """A loop over tiles: the conjuncts that decide which are visited, and what is done in full and in partial ones."""

    predicate: frozenset[Expression]
    full: tuple[Step, ...]
    partial: tuple[Step, ...]
    carried: tuple[Tile, ...]
    sums: tuple[Sum, ...] = ()


@dataclass(frozen=True)
class Skeleton:
    """One kernel: what stands outside its loops, and the loops in order."""

    outside: tuple[Step, ...]
    loops: tuple[LoopSkeleton, ...]
    sums: tuple[Sum, ...] = ()


def lane(kept: tuple[str, ...], over: tuple[str, ...], reads: Sequence[Tile]) -> str:
    """The axis that vectors lie along, as ``backends.cpu.sweeps`` chooses."""
    if not over:
        return kept[-1] if kept else ""
    return min([*reversed(over), *kept[-1:]], key=lambda a: sum(a in t.axes and t.axes[-1] != a for t in reads))
