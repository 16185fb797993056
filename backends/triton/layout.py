"""Which axes of the tiles share one dimension of a Triton block.

A matrix unit takes operands of two dimensions, and Triton wants every dimension to be a power of two. So axes are
merged into *dimensions*, each padded as a whole: the 60 queries of 4 heads and 15 rows take one dimension of 64 rather
than 4 x 16. Two axes share a dimension if a product puts both into one class (rows, columns, contracted, batch) and no
product and no reduction tells them apart. A tile that lacks some axes of a dimension repeats its values along it.
Every other axis is a dimension of its own, and axes of one coordinate need none.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from einsum_compiler.ir.tile import Axis, Dot, Load, Loop, Map, Reduce, Select, Statement, Store, TileKernel, TileType
from einsum_compiler.ir.types import is_float

SMALLEST_DOT = 16
SMALLEST_DOT_8_BIT_DEPTH = 32
MOST_ELEMENTS = 1 << 20  # of a block, intermediate values included: TRITON_MAX_TENSOR_NUMEL of triton.language.core


@dataclass(frozen=True, slots=True)
class Dimension:
    """Axes merged into one dimension of a block, the last one fastest, padded to ``padded`` lanes."""

    axes: tuple[Axis, ...]
    padded: int

    @property
    def size(self) -> int:
        return math.prod(a.size for a in self.axes)

    @property
    def is_padded(self) -> bool:
        return self.size != self.padded

    def stride(self, axis: Axis) -> int:
        """Lanes from one coordinate of the axis to the next."""
        return math.prod(a.size for a in self.axes[self.axes.index(axis) + 1 :])


@dataclass(frozen=True, slots=True)
class DotClasses:
    """The axes of a product by their part in it."""

    batch: tuple[Axis, ...]
    rows: tuple[Axis, ...]
    columns: tuple[Axis, ...]
    contracted: tuple[Axis, ...]


def dot_classes(dot: Dot, left: TileType, right: TileType) -> DotClasses:
    """The axes of more than one coordinate of a product, by class, in the order of the result or the left operand."""
    result = set(dot.type.ranks)
    kept = [a for a in dot.type.axes if a.size > 1]
    in_left, in_right = set(left.ranks), set(right.ranks)
    contracted = [a for a in (*left.axes, *(a for a in right.axes if a.rank not in in_left)) if a.rank not in result]
    return DotClasses(
        batch=tuple(a for a in kept if a.rank in in_left and a.rank in in_right),
        rows=tuple(a for a in kept if a.rank in in_left and a.rank not in in_right),
        columns=tuple(a for a in kept if a.rank in in_right and a.rank not in in_left),
        contracted=tuple(a for a in contracted if a.size > 1),
    )


def is_matrix_product(classes: DotClasses, left: TileType, right: TileType) -> bool:
    """Whether ``tl.dot`` can do it: rows, columns and depth are there, depth in both operands, one type it takes."""
    if not (classes.rows and classes.columns and classes.contracted) or left.dtype != right.dtype:
        return False
    if not all(a.rank in left.ranks and a.rank in right.ranks for a in classes.contracted):
        return False
    return is_float(left.dtype) or left.dtype == "i8"


def statements(body: Iterable[Statement]) -> Iterator[Statement]:
    """Every statement, those inside loops included."""
    for statement in body:
        yield statement
        if isinstance(statement, Loop):
            yield from statements(statement.body)


def tile_types(kernel: TileKernel) -> dict[str, TileType]:
    """The type of every tile by name."""
    found: dict[str, TileType] = {}
    for s in statements(kernel.body):
        match s:
            case Load() | Map() | Select() | Dot() | Reduce():
                found[s.target] = s.type
            case Loop():
                found.update({c.name: c.type for c in s.carries})
    return found


@dataclass(frozen=True, slots=True)
class Layout:
    """The dimensions of a kernel's blocks, and the dimension each axis lies in."""

    dimensions: tuple[Dimension, ...]

    def of(self, axes: Iterable[Axis]) -> tuple[Dimension, ...]:
        """The dimensions of a block with those axes, in the order in which the axes first need them."""
        found: list[Dimension] = []
        for axis in axes:
            if axis.size > 1:
                dimension = next(d for d in self.dimensions if axis in d.axes)
                if dimension not in found:
                    found.append(dimension)
        return tuple(found)


def layout_of(kernel: TileKernel) -> Layout:
    """The dimensions of the kernel's blocks (see the head of this file)."""
    types = tile_types(kernel)
    axes: list[Axis] = []
    parts: dict[Axis, list[object]] = {}
    together: list[tuple[Axis, ...]] = []
    products: list[tuple[DotClasses, str]] = []
    for number, s in enumerate(statements(kernel.body)):
        axes.extend(_axes_of(s))
        match s:
            case Dot():
                classes = dot_classes(s, types[s.left], types[s.right])
                for name in ("batch", "rows", "columns", "contracted"):
                    own: tuple[Axis, ...] = getattr(classes, name)
                    together.append(own)
                    for a in own:
                        parts.setdefault(a, []).append((number, name))
                if is_matrix_product(classes, types[s.left], types[s.right]):
                    products.append((classes, types[s.left].dtype))
            case Reduce():
                for a in s.over:
                    parts.setdefault(a, []).append(number)
    groups = _merge(dict.fromkeys(a for a in axes if a.size > 1), parts, together)
    padded = {g: 1 << (math.prod(a.size for a in g) - 1).bit_length() for g in groups}
    for classes, dtype in products:
        for name, least in (
            ("rows", SMALLEST_DOT),
            ("columns", SMALLEST_DOT),
            ("contracted", SMALLEST_DOT_8_BIT_DEPTH if dtype in ("i8", "f8e4m3", "f8e5m2") else SMALLEST_DOT),
        ):
            held = [g for g in groups if set(g) & set(getattr(classes, name))]
            while math.prod(padded[g] for g in held) < least:
                padded[held[-1]] *= 2
    return Layout(tuple(Dimension(g, padded[g]) for g in groups))


def _axes_of(statement: Statement) -> tuple[Axis, ...]:
    match statement:
        case Load() | Map() | Select() | Dot():
            return statement.type.axes
        case Reduce():
            return (*statement.type.axes, *statement.over)
        case Store():
            return statement.axes
        case Loop():
            return tuple(a for c in statement.carries for a in c.type.axes)
    return ()


def _merge(
    axes: Iterable[Axis], parts: dict[Axis, list[object]], together: list[tuple[Axis, ...]]
) -> list[tuple[Axis, ...]]:
    """Groups of axes: those that some product puts ``together`` and that play the same ``parts`` everywhere."""
    group_of = {a: [a] for a in axes}
    for wanted in together:
        for first, second in itertools.pairwise(wanted):
            target, other = group_of[first], group_of[second]
            if target is not other and parts[first] == parts[second]:
                target.extend(other)
                for a in other:
                    group_of[a] = target
    return [tuple(g) for g in {id(g): g for g in group_of.values()}.values()]
