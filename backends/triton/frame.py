"""What the statements of a kernel share while they are printed: names, arguments, lanes, lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from einsum_compiler.backends.triton.combine import Scope
from einsum_compiler.backends.triton.layout import Dimension, Layout
from einsum_compiler.backends.triton.names import Names
from einsum_compiler.backends.triton.value import TRITON_TYPES, Dimensions, Value, literal
from einsum_compiler.ir.errors import BackendError
from einsum_compiler.ir.expression import Constant, Expression, Read, walk
from einsum_compiler.ir.tile import Axis, Load, Map, Select, TensorOperand, TileKernel, TileType


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile as the generated code holds it: its block, and the value of its padding lanes where that is known."""

    value: Value
    padding: Constant | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """How the code is written. ``wide``: offsets inside a tile in 64 bits; ``interpreted``: for Triton's interpreter;
    ``tf32``: products of f32 may round their operands to tf32; ``persistent``: a program does the work of several in turn;
    ``descriptors``: boxes are copied through tensor descriptors.
    """

    wide: bool = False
    interpreted: bool = False
    tf32: bool = False
    persistent: bool = False
    descriptors: bool = False


@dataclass(slots=True)
class Frame:
    """The state of printing one kernel."""

    kernel: TileKernel
    layout: Layout
    settings: Settings
    names: Names = field(default_factory=Names)
    lines: list[str] = field(default_factory=list)
    indent: int = 1
    types: dict[str, TileType] = field(default_factory=dict)
    tiles: dict[str, Tile] = field(default_factory=dict)
    # The statement that made a tile, while everything it reads is unchanged.
    sources: dict[str, Load | Map | Select] = field(default_factory=dict)
    indices: set[str] = field(default_factory=set)
    helpers: set[str] = field(default_factory=set)
    # Arguments the code turned out to need, in order of first use.
    parameters: dict[str, set[str]] = field(default_factory=dict)
    extents: dict[str, None] = field(default_factory=dict)
    strides: dict[tuple[str, int], None] = field(default_factory=dict)
    arrays: dict[str, None] = field(default_factory=dict)
    # Positions of axes and masks of padding lanes that the code uses.
    positions: dict[Axis, None] = field(default_factory=dict)
    padded: dict[Dimension, None] = field(default_factory=dict)
    # Descriptors by what makes them, with the tensor they describe.
    descriptors: dict[str, tuple[str, str]] = field(default_factory=dict)
    # The largest distance in coordinates that offsets of 32 bits span, by tensor and axis.
    spans: dict[tuple[str, int], int] = field(default_factory=dict)

    def emit(self, line: str) -> None:
        self.lines.append("    " * self.indent + line)

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """Lines under ``head``, one step further in."""
        self.emit(head)
        self.indent += 1
        try:
            yield
        finally:
            self.indent -= 1

    def tensor(self, name: str) -> TensorOperand:
        for operand in (*self.kernel.inputs, *self.kernel.outputs):
            if operand.name == name:
                return operand
        raise BackendError(f"kernel '{self.kernel.name}' has no operand '{name}'")

    def pointer(self, name: str) -> str:
        return self.names.of(name, "tensor")

    def stride(self, tensor: str, axis: int) -> str:
        self.strides[(tensor, axis)] = None
        return self.names.of(f"{tensor}.stride{axis}", "stride")

    def described(self, tensor: str, made: str) -> str:
        """The name of the descriptor of a tensor that ``made`` makes."""
        if made not in self.descriptors:
            name = self.names.of(f"{tensor}.boxes", f"descriptor {len(self.descriptors)}")
            self.descriptors[made] = name, tensor
        return self.descriptors[made][0]

    def array(self, name: str) -> str:
        """A one-dimensional integer operand of a schedule."""
        self.arrays[name] = None
        return self.names.of(name, "tensor")

    def scope(
        self, axes: Iterable[Axis], *expressions: Expression | None, dims: Dimensions | None = None, dtype: str = "f32"
    ) -> Scope:
        """How names read in a statement over those axes that computes those expressions, into a tile of ``dtype``."""
        read = {n.tensor for e in expressions if e is not None for n in walk(e) if isinstance(n, Read)}
        real = "f64" if "f64" in (dtype, *(self.tile(name).dtype for name in read)) else "f32"
        by_rank = {a.rank: a for a in axes}

        def rank(name: str) -> Value:
            if name in by_rank:
                return self.position(by_rank[name])
            if name in self.indices:
                return Value(self.names.of(name, "rank"), "i32", nonnegative=True, coordinate=True)
            raise BackendError(f"rank '{name}' is neither an axis here nor an index of the kernel '{self.kernel.name}'")

        dims = self.layout.of(by_rank.values()) if dims is None else dims
        return Scope(self.parameter, self.extent, rank, self.tile, dims, real, self.helpers)

    def tile(self, name: str) -> Value:
        if name not in self.tiles:
            raise BackendError(f"kernel '{self.kernel.name}' reads the tile '{name}' before it is computed")
        return self.tiles[name].value

    def parameter(self, name: str, dtype: str) -> Value:
        declared = next((s.dtype for s in self.kernel.scalars if s.name == name), None)
        if declared is None:
            raise BackendError(f"kernel '{self.kernel.name}' has no scalar '{name}'")
        dtype = declared if declared in ("i64", "bool") else dtype
        self.parameters.setdefault(name, set()).add(dtype)
        return Value(self.names.of(name, f"scalar {dtype}"), dtype)

    def extent(self, rank: str) -> Value:
        self.extents[rank] = None
        return Value(self.names.of(rank.upper(), "extent"), "i32", nonnegative=True, coordinate=True)

    def position(self, axis: Axis) -> Value:
        """The coordinates along an axis, one for each lane of its dimension."""
        if axis.size == 1:
            return literal(0, "i32")
        (dimension,) = self.layout.of((axis,))
        self.positions[axis] = None
        name = self.names.of(f"{axis.rank}", f"axis {axis.size}")
        return Value(name, "i32", (dimension,), nonnegative=True, coordinate=True)

    def lanes(self, dimension: Dimension) -> str:
        if len(dimension.axes) == 1:
            return self.names.of(dimension.axes[0].rank, f"axis {dimension.axes[0].size}")
        return self.names.of("lane." + ".".join(a.rank for a in dimension.axes), str(dimension.padded))

    def inside(self, dimension: Dimension) -> Value:
        """Which lanes of a padded dimension hold coordinates."""
        self.padded[dimension] = None
        return Value(
            self.names.of("inside." + ".".join(a.rank for a in dimension.axes), str(dimension.size)),
            "bool",
            (dimension,),
        )

    def prologue(self) -> list[str]:
        """The lines before the body: scalars in their computing type, positions along the axes, padding masks."""
        lines: list[str] = []
        for name, dtypes in self.parameters.items():
            argument = self.names.of(name, "scalar")
            for dtype in sorted(dtypes):
                # The interpreter takes numbers at the width their value needs.
                typed = f"{argument} != 0" if dtype == "bool" else f"tl.full((), {argument}, {TRITON_TYPES[dtype]})"
                lines.append(f"{self.names.of(name, f'scalar {dtype}')} = {typed}")
        wanted = {self.layout.of((a,))[0] for a in self.positions} | set(self.padded)
        for dimension in (d for d in self.layout.dimensions if d in wanted):
            lanes = self.lanes(dimension)
            lines.append(f"{lanes} = tl.arange(0, {dimension.padded})")
            for axis in dimension.axes if len(dimension.axes) > 1 else ():
                if axis in self.positions:
                    stride, first = dimension.stride(axis), axis is dimension.axes[0]
                    code = lanes if stride == 1 else f"{lanes} // {stride}"
                    lines.append(f"{self.position(axis).code} = {code if first else f'{code} % {axis.size}'}")
            if dimension in self.padded:
                lines.append(f"{self.inside(dimension).code} = {lanes} < {dimension.size}")
        return lines
