"""What each statement of a tile program does to the tiles and tensors of one launch, and how much that is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from einsum_compiler.backends.reference.functions import COMBINE, TORCH_TYPES, reduce
from einsum_compiler.backends.reference.named import Named, pointwise
from einsum_compiler.backends.reference.tile_expressions import TileScope, operators_in
from einsum_compiler.ir.errors import VerifyError
from einsum_compiler.ir.expression import Expression
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
    TileKernel,
    TileList,
    TileType,
)
from einsum_compiler.ir.tile_ranges import loop_body
from einsum_compiler.ir.types import is_float


@dataclass
class Counts:
    """What a run did. Elements masked off or out of range are not counted.

    ``loads`` and ``stores`` count elements by tensor; of a list of tiles, two ends per class of tiles and each tile. A full range
    does not load what only its partial ranges need (``ir.tile_ranges.loop_body``), as in generated code. ``operations``: a dot is 2 per
    point, a map, select or body of a reduction one per element and operator, a reduction one more per point. ``iterations``: tiles by loop rank.
    """

    loads: Counter[str] = field(default_factory=Counter)
    stores: Counter[str] = field(default_factory=Counter)
    operations: int = 0
    iterations: Counter[str] = field(default_factory=Counter)

    def add(self, other: Counts) -> None:
        self.loads.update(other.loads)
        self.stores.update(other.stores)
        self.operations += other.operations
        self.iterations.update(other.iterations)


@dataclass
class Run:
    """The state of one launch."""

    kernel: TileKernel
    tensors: Mapping[str, Tensor]
    scope: TileScope
    counts: Counts = field(default_factory=Counts)
    ranges: list[range] = field(default_factory=list)
    bodies: dict[int, dict[bool, tuple[Statement, ...]]] = field(
        default_factory=dict
    )  # of each loop, by class of range
    operators: dict[int, tuple[Expression, int]] = field(default_factory=dict)  # of each expression, by identity

    def statements(self, body: tuple[Statement, ...]) -> None:
        for statement in body:
            match statement:
                case Load():
                    self.scope.tiles[statement.target] = self._load(statement)
                case Map(type=kind, value=value):
                    self.scope.tiles[statement.target] = self._tile(self._value(value, kind.axes, kind.dtype), kind)
                    self._work(value, kind.axes)
                case Select():
                    self.scope.tiles[statement.target] = self._select(statement)
                case Dot():
                    self.scope.tiles[statement.target] = self._dot(statement)
                case Reduce():
                    self.scope.tiles[statement.target] = self._reduce(statement)
                case Store():
                    self._store(statement)
                case Loop():
                    self._loop(statement)
                case _:
                    raise VerifyError(f"unknown statement {type(statement).__name__}")

    # ---- values

    def _value(self, node: Expression, axes: tuple[Axis, ...], dtype: str | None = None) -> Named:
        return self.scope.value(node, {a.rank: a.size for a in axes}, dtype)

    def _tile(self, value: Named, kind: TileType) -> Named:
        """The value broadcast to the axes of the type and rounded to its element type."""
        dtype = torch.float64 if self.scope.exact and is_float(kind.dtype) else TORCH_TYPES[kind.dtype]
        data = value.expanded(kind.ranks, {a.rank: a.size for a in kind.axes})
        return Named(kind.ranks, data.to(dtype))

    def _work(self, node: Expression, axes: tuple[Axis, ...], extra: int = 0) -> None:
        if id(node) not in self.operators:
            self.operators[id(node)] = node, operators_in(node)
        self.counts.operations += (self.operators[id(node)][1] + extra) * _points(axes)

    # ---- memory

    def _places(
        self, tensor: str, indices: tuple[Expression, ...], axes: tuple[Axis, ...], where: tuple[Expression | None, ...]
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """The coordinates of every element of a tile and which of them are touched."""
        ranks = tuple(a.rank for a in axes)
        sizes = {a.rank: a.size for a in axes}
        shape = self.tensors[tensor].shape
        if len(indices) != len(shape):
            raise VerifyError(f"{tensor} has {len(shape)} axes and is used with {len(indices)} indices")
        mask = torch.ones([a.size for a in axes], dtype=torch.bool)
        for predicate in where:
            if predicate is not None:
                mask = mask & self._value(predicate, axes).expanded(ranks, sizes)
        places = []
        for axis, index in enumerate(indices):
            value = self._value(index, axes)
            if value.data.is_floating_point():
                raise VerifyError(f"index {axis} of {tensor} is not an integer")
            place = value.expanded(ranks, sizes)
            least, most = (int(b) for b in value.data.aminmax()) if value.data.numel() else (0, 0)
            if least < 0 or most >= shape[axis]:
                outside = mask & ((place < 0) | (place >= shape[axis]))
                if bool(outside.any()):
                    first = int(place[outside][0])
                    raise VerifyError(
                        f"coordinate {first} on axis {axis} of {tensor} is outside its extent {shape[axis]}"
                    )
                place = torch.where(mask, place, 0)
            places.append(place)
        return tuple(places), mask

    def _load(self, load: Load) -> Named:
        where = (load.where, load.partial_where)  # in a full range the second is gone
        places, mask = self._places(load.tensor, load.indices, load.type.axes, where)
        source = self.tensors[load.tensor].detach()
        data = torch.full(mask.shape, load.fill.value, dtype=source.dtype)
        data[mask] = source[tuple(p[mask] for p in places)]
        self.counts.loads[load.tensor] += int(mask.sum())
        return self._tile(Named(load.type.ranks, data), load.type)

    def _store(self, store: Store) -> None:
        places, mask = self._places(store.tensor, store.indices, store.axes, (store.where,))
        target = self.tensors[store.tensor]
        dtype = "f64" if target.dtype == torch.float64 else None
        ranks = tuple(a.rank for a in store.axes)
        value = self._value(store.value, store.axes, dtype).expanded(ranks, {a.rank: a.size for a in store.axes})
        at = tuple(p[mask] for p in places)
        if store.adds:
            target.index_put_(at, value[mask].to(target.dtype), accumulate=True)
            self.counts.loads[store.tensor] += int(mask.sum())
            self.counts.operations += _points(store.axes)
        else:
            target[at] = value[mask].to(target.dtype)
        self.counts.stores[store.tensor] += int(mask.sum())
        self._work(store.value, store.axes)

    # ---- arithmetic

    def _select(self, select: Select) -> Named:
        value = self._value(select.value, select.type.axes, select.type.dtype)
        self._work(select.value, select.type.axes)
        condition = self._value(select.condition, select.type.axes)
        fill = Named((), torch.tensor(select.fill.value).to(value.data.dtype))
        self._work(select.condition, select.type.axes, extra=1)
        return self._tile(pointwise(torch.where, condition, value, fill), select.type)

    def _dot(self, dot: Dot) -> Named:
        left, right = self.scope.tiles[dot.left], self.scope.tiles[dot.right]
        if left.data.dtype != right.data.dtype:
            raise VerifyError(f"dot({dot.left}, {dot.right}): operands of types {left.data.dtype}, {right.data.dtype}")
        letters = {r: i for i, r in enumerate(dict.fromkeys((*left.ranks, *right.ranks)))}
        missing = [r for r in letters if r not in dot.type.ranks and r not in dot.over]
        if missing:
            raise VerifyError(f"dot({dot.left}, {dot.right}): rank {missing[0]} is neither kept nor contracted")
        floating = left.data.is_floating_point()
        wide = torch.float64 if left.data.dtype == torch.float64 else torch.float32 if floating else torch.int64
        kept = [r for r in dot.type.ranks if r in letters]
        product = torch.einsum(
            left.data.to(wide), [letters[r] for r in left.ranks],
            right.data.to(wide), [letters[r] for r in right.ranks],
            [letters[r] for r in kept],
        )  # fmt: skip
        sizes = {r: size for tile in (left, right) for r, size in zip(tile.ranks, tile.data.shape, strict=True)}
        contracted = 1
        for rank in dot.over:
            contracted *= sizes[rank]
        self.counts.operations += 2 * _points(dot.type.axes) * contracted
        return self._accumulated(Named(tuple(kept), product), dot.accumulator, "sum", dot.type)

    def _reduce(self, statement: Reduce) -> Named:
        axes = (*statement.type.axes, *statement.over)
        sizes = {a.rank: a.size for a in axes}
        value = self._value(statement.value, axes, statement.type.dtype)
        ranks = tuple(a.rank for a in axes)
        data = value.expanded(ranks, sizes)
        if data.dtype == torch.bool and statement.operator in ("sum", "prod"):
            data = data.to(torch.int64)
        over = tuple(range(len(statement.type.axes), len(axes)))
        self._work(statement.value, axes, extra=1)
        reduced = Named(statement.type.ranks, reduce(statement.operator, data, over))
        return self._accumulated(reduced, statement.accumulator, statement.operator, statement.type)

    def _accumulated(self, value: Named, accumulator: Expression | None, operator: str, kind: TileType) -> Named:
        if accumulator is not None:
            before = self._value(accumulator, kind.axes, kind.dtype)
            value = pointwise(COMBINE[operator], before, value)
            self._work(accumulator, kind.axes)  # adding it is the last of the points' own additions
        return self._tile(value, kind)

    # ---- control

    def _tiles(self, loop: Loop) -> Iterator[tuple[int, bool]]:
        for part in loop.ranges:
            if isinstance(part, Range):
                indices = range(self.scope.integer(part.lower), self.scope.integer(part.upper))
                yield from ((i, part.partial) for i in indices)
            else:
                yield from ((i, part.partial) for i in self._listed(part))

    def _listed(self, part: TileList) -> list[int]:
        slot = 2 * self.scope.integer(part.position) + int(part.partial)
        offsets = self.tensors[f"{part.schedule}.offsets"]
        first, last = int(offsets[slot]), int(offsets[slot + 1])
        self.counts.loads[f"{part.schedule}.offsets"] += 2
        self.counts.loads[f"{part.schedule}.tiles"] += last - first
        return [int(t) for t in self.tensors[f"{part.schedule}.tiles"][first:last]]

    def _loop(self, loop: Loop) -> None:
        if id(loop) not in self.bodies:
            self.bodies[id(loop)] = {partial: loop_body(loop, partial) for partial in (False, True)}
        bodies = self.bodies[id(loop)]
        for carry in loop.carries:
            initial = self._value(carry.initial, carry.type.axes, carry.type.dtype)
            self.scope.tiles[carry.name] = self._tile(initial, carry.type)
        for index, partial in self._tiles(loop):
            self.scope.indices[loop.rank] = index
            self.counts.iterations[loop.rank] += 1
            self.statements(bodies[partial])
            following = {c.name: self.scope.tiles[c.next] for c in loop.carries}
            self.scope.tiles.update(following)
        self.scope.indices.pop(loop.rank, None)


def _points(axes: tuple[Axis, ...]) -> int:
    points = 1
    for axis in axes:
        points *= axis.size
    return points
