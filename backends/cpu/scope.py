"""What emission knows while it goes through a kernel: names, tiles, scratch, lines written so far."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from einsum_compiler.backends.cpu.affine import Known
from einsum_compiler.backends.cpu.columns import Columns
from einsum_compiler.backends.cpu.coordinates import Coordinates
from einsum_compiler.backends.cpu.expressions import Expressions
from einsum_compiler.backends.cpu.expressions import Names as Visible
from einsum_compiler.backends.cpu.names import Names
from einsum_compiler.backends.cpu.storage import Arena
from einsum_compiler.backends.cpu.view import View, c_type, strides_of
from einsum_compiler.backends.cpu.writer import Writer
from einsum_compiler.ir.expression import Expression, Read, walk
from einsum_compiler.ir.tile import Axis, Load, Loop, TensorOperand, TileKernel, TileType
from einsum_compiler.ir.types import is_float


@dataclass(frozen=True)
class Trim:
    """Statements of the body that is being emitted cover the spans ``name`` only: of each row of ``rows`` some columns of ``columns``.

    ``gathers``: so do loads that gather along the columns.
    """

    rows: Axis
    columns: Axis
    name: str
    gathers: bool = False

    def span(self, lane: Axis | None, positions: Mapping[str, str]) -> str | None:
        """The columns of a sweep over rows whose lanes run along the columns; None for other sweeps."""
        if lane is None or lane.rank != self.columns.rank or self.rows.rank not in positions:
            return None
        return f"{self.name}.of({positions[self.rows.rank]})"


@dataclass(frozen=True)
class Ahead:
    """The loop whose body is emitted, the variable with its next tile (-1 after its last), the tables that it reads, and the products that ask for them."""

    loop: Loop
    following: str
    tables: tuple[Load, ...] = ()
    products: tuple[str, ...] = ()


@dataclass
class Scope:
    """The state of one kernel's emission."""

    kernel: TileKernel
    names: Names
    writer: Writer
    scalars: dict[str, tuple[str, str]]
    extents: dict[str, str]
    tensors: dict[str, TensorOperand]
    coordinates: Coordinates
    indices: dict[str, str] = field(default_factory=dict)
    tiles: dict[str, View] = field(default_factory=dict)
    arena: Arena = field(default_factory=Arena)
    widened: frozenset[str] = frozenset()  # tiles that products read on the left
    trim: Trim | None = None
    program_lines: list[str] = field(default_factory=list)  # the indices of a program from its number
    ahead: Ahead | None = None  # what the body that is being emitted asks for
    packed: dict[tuple[str, str], str] = field(
        default_factory=dict
    )  # right operands of products packed before the loop, by tile and column rank
    in_place: dict[str, View] = field(
        default_factory=dict
    )  # tiles that take over a buffer that dies where they are made

    def known(self) -> Known:
        tiles = {name: view.ranks for name, view in self.tiles.items()}
        integers = {name for name, (_, dtype) in self.scalars.items() if dtype == "i64"}
        integers |= {name for name, view in self.tiles.items() if not is_float(view.dtype) and view.dtype != "bool"}
        return Known(tiles, integers)

    def expressions(
        self, positions: Mapping[str, str], lane: str | None, real: str, columns: Columns | None = None
    ) -> Expressions:
        """A printer of expressions for one sweep; with ``columns`` it computes what rows share before them."""
        visible = Visible(
            self.scalars, self.extents, self.indices, self.tiles, self.known(), self.coordinates, self.names.fresh
        )
        return Expressions(visible, positions, lane, real, columns)

    @contextmanager
    def columns(self, lane: Axis | None) -> Iterator[Columns | None]:
        """Buffers along an axis that live as long as one sweep."""
        found = None if lane is None else Columns(self.arena, self.names.fresh, lane.rank, lane.size)
        yield found
        if found is not None:
            found.release()

    def real_type(self, dtype: str | None, *nodes: Expression | None) -> str:
        """The type floats of a statement are computed in: f64 if its result or a tile it reads has it."""
        reads = (n.tensor for node in nodes if node is not None for n in walk(node) if isinstance(n, Read))
        return "f64" if dtype == "f64" or any(self.tiles[r].dtype == "f64" for r in reads if r in self.tiles) else "f32"

    def span(self, lane: Axis | None, positions: Mapping[str, str]) -> str | None:
        """The columns of a trimmed sweep (C++), at a row."""
        return self.trim.span(lane, positions) if self.trim else None

    def position(self, rank: str) -> str:
        """The loop variable of an axis."""
        return self.names.of("axis", rank)

    def create(self, name: str, kind: TileType) -> View:
        """The tile's place: a buffer that dies here (``in_place``), or fresh scratch."""
        if name in self.in_place:
            view = self.in_place.pop(name)
        else:
            view = self.allocate(name, kind)
        self.tiles[name] = view
        return view

    def allocate(self, name: str, kind: TileType) -> View:
        """Scratch for a tile; declares its pointer."""
        widens = name in self.widened and kind.dtype in ("f16", "bf16")
        plain = c_type(kind.dtype, f"tile {name}")
        ctype = f"tile::left_type<{plain}>" if widens else plain
        strides, size = strides_of(kind.axes, kind.dtype)
        offset = self.arena.allocate(size)
        pointer = self.names.fresh(name)
        self.writer.line(f"{ctype}* const {pointer} = ({ctype}*)(scratch + {offset});")
        return View(pointer, kind.dtype, ctype, kind.axes, strides, offset, rounds=widens)

    def forget(self, name: str) -> None:
        """The tile is read no more; its scratch is free unless another tile took it over."""
        view = self.tiles.pop(name, None)
        if view is not None and all(other.offset != view.offset for other in self.tiles.values()):
            self.arena.release(view.offset)
