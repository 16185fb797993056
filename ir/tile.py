"""Level 3: tile programs. A kernel is straight-line code over tiles, with loops and carried values.

A tile has named axes, one rank each; operands broadcast by rank name. Rank names of a tile program are
those of the partitioned cascade: ``m.1`` (which tile; a program or loop index) and ``m.0`` (inside the tile;
an axis). A rank that is neither partitioned nor an axis is a program index with tiles of one coordinate.

Expressions are those of ``ir.expression``: ``Rank("m.1")`` is the index of a program or loop, ``Rank("m.0")`` the
position on an axis, ``Extent("n")`` a run-time extent, ``Parameter`` a scalar operand, ``Read("s")`` with no indices the
tile ``s``. Reads of tensors occur in ``Load`` and ``Store`` only.
"""

from __future__ import annotations

from dataclasses import dataclass

from einsum_compiler.ir.expression import Constant, Expression
from einsum_compiler.ir.plan import Accumulation

ZERO = Constant(0)


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a tile: its rank and how many coordinates it holds."""

    rank: str
    size: int


@dataclass(frozen=True, slots=True)
class TileType:
    """``f32[m.0:96, e:64]``; no axes: a scalar."""

    dtype: str
    axes: tuple[Axis, ...] = ()

    @property
    def ranks(self) -> tuple[str, ...]:
        return tuple(a.rank for a in self.axes)

    def size(self, rank: str) -> int:
        """Coordinates on the axis of that rank; 1 if the tile lacks it."""
        return next((a.size for a in self.axes if a.rank == rank), 1)


@dataclass(frozen=True, slots=True)
class TensorOperand:
    """A tensor in memory: its element type, and its extent along each axis (a scalar expression each)."""

    name: str
    dtype: str
    extents: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class ScalarOperand:
    """A scalar argument: a parameter (f64, i64 or bool)."""

    name: str
    dtype: str


@dataclass(frozen=True, slots=True)
class Statement:
    """Any statement."""


@dataclass(frozen=True, slots=True)
class Load(Statement):
    """``target = load tensor[indices] where ... fill c``: the tile of elements at the indices.

    ``where`` holds in every range of the loop around, ``partial_where`` only in its partial ranges: in a full
    range it is known to be true. Elements where either is false are not read and become ``fill``. An index may
    read an integer tile (a gather). The tile has the type of the tensor.
    """

    target: str
    type: TileType
    tensor: str
    indices: tuple[Expression, ...]
    where: Expression | None = None
    partial_where: Expression | None = None
    fill: Constant = ZERO


@dataclass(frozen=True, slots=True)
class Map(Statement):
    """``target = expression``: element by element, computed in the accumulator type of its operands."""

    target: str
    type: TileType
    value: Expression


@dataclass(frozen=True, slots=True)
class Select(Statement):
    """``target = select(condition, value, fill)``; in full ranges, if ``partial``, the tile ``value`` itself."""

    target: str
    type: TileType
    condition: Expression
    value: Expression
    fill: Constant
    partial: bool = False


@dataclass(frozen=True, slots=True)
class Dot(Statement):
    """``target = dot(left, right) over ranks``: sum of products in f32 (f64 for f64), plus ``accumulator`` if given.

    ``accumulator`` is an expression over tiles with the axes of the result, such as ``acc * scale``; reading a
    carried value that is not used again lets a backend update it in place. Ranks of both operands that the
    result has too are batch ranks; the others are rows (of left) and columns (of right).
    """

    target: str
    type: TileType
    left: str
    right: str
    over: tuple[str, ...]
    accumulator: Expression | None = None


@dataclass(frozen=True, slots=True)
class Reduce(Statement):
    """``target = op over ranks (value)``, plus ``accumulator`` combined by the same operator if given.

    ``value`` is an expression over tiles whose axes are those of the result and the reduced ``ranks`` (given with
    their sizes in ``over``); it is never stored, so a body such as ``abs(q - k)`` costs no tile of three axes.
    Operators: sum, prod, max, min, any, all. max and min hand NaN on.
    """

    target: str
    type: TileType
    operator: str
    over: tuple[Axis, ...]
    value: Expression
    accumulator: Expression | None = None


@dataclass(frozen=True, slots=True)
class Store(Statement):
    """``store tensor[indices] = value where ...``; axes are those of ``axes``; rounds to the tensor's type. If ``adds``, the value is added to what is there."""

    tensor: str
    axes: tuple[Axis, ...]
    indices: tuple[Expression, ...]
    value: Expression
    where: Expression | None = None
    adds: bool = False


@dataclass(frozen=True, slots=True)
class Range:
    """Tiles ``lower <= index < upper`` (empty if upper <= lower); expressions over program indices and scalars."""

    lower: Expression
    upper: Expression
    partial: bool


@dataclass(frozen=True, slots=True)
class TileList:
    """The tiles a schedule lists for this program, full or partial ones.

    ``tiles`` of the schedule named ``s`` are found at run time and given as two operands: ``s.offsets: i32[2 P + 1]`` and
    ``s.tiles: i32[count]``. Program number p (``position``) runs ``tiles[offsets[2p] : offsets[2p+1]]`` as full and
    ``tiles[offsets[2p+1] : offsets[2p+2]]`` as partial tiles.
    """

    schedule: str
    position: Expression
    partial: bool


@dataclass(frozen=True, slots=True)
class Carry:
    """A loop-carried tile: its value before the first iteration and the name of its next value."""

    name: str
    type: TileType
    initial: Expression
    next: str


@dataclass(frozen=True, slots=True)
class Loop(Statement):
    """``loop n.1 in ranges where p carry ... { body }``; after the loop the carried names hold the last values.

    Points of a tile where ``p`` is false add nothing to any carried value or store: what the body would compute there need not be
    computed. ``p`` names the row axes and the axis of the loop (``n.0``); None if nothing is known of single points.
    """

    rank: str
    ranges: tuple[Range | TileList, ...]
    carries: tuple[Carry, ...]
    body: tuple[Statement, ...]
    where: Expression | None = None


@dataclass(frozen=True, slots=True)
class ProgramRank:
    """An index that the programs of a launch are spread over, and how many values it takes."""

    rank: str
    count: Expression


@dataclass(frozen=True, slots=True)
class Schedule:
    """A list of tiles found at run time from a predicate that no closed form covers (ir.tile.TileList).

    Tile ``(p, t)`` is empty if ``predicate`` holds at none of its points, full if at all. ``ranks`` gives for every rank of the
    predicate the index it is split by and its tile size: ``("m", "m.1", 96)``; a rank with tiles of one
    coordinate has size 1 and its own name. ``program`` lists the indices (with counts) that number the programs.
    """

    name: str
    predicate: Expression
    ranks: tuple[tuple[str, str, int], ...]
    program: tuple[ProgramRank, ...]
    stream: ProgramRank


@dataclass(frozen=True, slots=True)
class TileKernel:
    """One launch. Extents of partitioned ranks are run-time values (``extents`` lists their ranks); others are constants.

    Outputs that are ``accumulated`` are 0 before the launch, and every store to one adds; the ranks there are program indices.
    """

    name: str
    inputs: tuple[TensorOperand, ...]
    outputs: tuple[TensorOperand, ...]
    scalars: tuple[ScalarOperand, ...]
    extents: tuple[str, ...]
    program: tuple[ProgramRank, ...]
    body: tuple[Statement, ...]
    schedules: tuple[Schedule, ...] = ()
    accumulated: tuple[Accumulation, ...] = ()

    @property
    def ordered(self) -> frozenset[str]:
        """The program indices whose programs run one after the other, from the first to the last."""
        return frozenset(rank for a in self.accumulated for rank in a.ranks)

    def __str__(self) -> str:
        from einsum_compiler.ir.tile_printer import print_kernel

        return print_kernel(self)


@dataclass(frozen=True, slots=True)
class TileProgram:
    """Kernels in the order they run, with the buffers between them."""

    name: str
    kernels: tuple[TileKernel, ...]
    buffers: tuple[TensorOperand, ...] = ()

    def __str__(self) -> str:
        return "\n\n".join(str(k) for k in self.kernels)
