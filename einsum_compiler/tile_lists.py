"""Tiles that a predicate needs, found at run time: the list of a schedule (``ir.tile.Schedule``).

The predicate is evaluated in three values over all tile boxes at once, one rule per operator (``box_values``), so the
cost is that of the tiles, not of their points. Imports numpy and nothing of the compiler but the IR: a warm call runs this.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from einsum_compiler import box_reads, box_values
from einsum_compiler.box_values import Array, Interval, Truth, compare, constant, monotone, real
from einsum_compiler.ir.build import ranks_of, reads_of
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.expression import (
    Binary,
    Call,
    Cast,
    Comparison,
    Conditional,
    Constant,
    Expression,
    Extent,
    Membership,
    Parameter,
    Rank,
    Read,
    Slice,
    Unary,
    children,
    walk,
)
from einsum_compiler.ir.tile import Schedule
from einsum_compiler.ir.types import is_integer
from einsum_compiler.kept_lists import Kept, kept_in_a_call

if TYPE_CHECKING:
    import torch

# Predicates of one integer are tabulated if it takes at most so many values.
LONGEST_TABLE = 1 << 22
# Boxes looked at together: arrays of so many numbers stay in a cache.
BOXES_AT_ONCE = 1 << 17


def build_tile_list(
    schedule: Schedule,
    tensors: Mapping[str, Any],
    scalars: Mapping[str, float],
    extents: Mapping[str, int],
    kept: Kept | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The operands ``s.offsets`` (i32[2 P + 1]) and ``s.tiles`` (i32[count]) of a schedule, on the host.

    Program p runs ``tiles[offsets[2p] : offsets[2p+1]]`` as full tiles and ``tiles[offsets[2p+1] : offsets[2p+2]]`` as
    partial ones, both ascending. A tile with a point where the predicate holds is always listed; one listed as full
    consists of such points, inside the extents, only. ``tensors``: at least those the predicate reads; ``extents`` by rank.
    ``kept``: of earlier calls that differ in the values of tensors only.
    """
    import torch

    kept = kept or kept_in_a_call(schedule, scalars, extents)
    full, touched = _in_pieces(schedule, tensors, scalars, extents, kept)
    both = np.empty((full.shape[0], 2, full.shape[1]), dtype=bool)
    both[:, 0] = full
    np.greater(touched, full, out=both[:, 1])
    offsets = np.zeros(2 * both.shape[0] + 1, dtype=np.int32)
    np.cumsum(both.sum(axis=2).reshape(-1), out=offsets[1:])
    tiles = (np.flatnonzero(both) % max(both.shape[2], 1)).astype(np.int32)
    return torch.from_numpy(offsets), torch.from_numpy(tiles)


def _in_pieces(
    schedule: Schedule,
    tensors: Mapping[str, Any],
    scalars: Mapping[str, float],
    extents: Mapping[str, int],
    kept: Kept,
) -> tuple[Array, Array]:
    """``classify`` for some tiles of the longest index at a time, so that what it computes with stays in a cache."""
    counts = kept.counts
    axis = max(range(len(counts) - 1), key=counts.__getitem__, default=None)
    boxes = math.prod(counts)
    if axis is None or boxes <= BOXES_AT_ONCE:
        return classify(schedule, tensors, scalars, extents, kept=kept)
    step = max(counts[axis] * BOXES_AT_ONCE // boxes, 1)
    tensors = {name: _host(tensors[name]) for name in kept.reads}
    tabulated: dict[int, Tabulated] = {}
    coarse = np.ones((*counts[:axis], -(-counts[axis] // step), *counts[axis + 1 :]), dtype=bool)
    if all(tensor.size < boxes for tensor in tensors.values()):
        # A tile is touched only if the union of the tiles of its piece is: one look more, where it does not read more than it saves.
        coarse = classify(_coarse(schedule, axis, step), tensors, scalars, extents, None, tabulated)[1].reshape(
            coarse.shape
        )
    full, touched = (np.zeros(counts, dtype=bool) for _ in range(2))
    for number, first in enumerate(range(0, counts[axis], step)):
        last = min(first + step, counts[axis])
        seen = np.flatnonzero(coarse.take(number, axis).reshape(-1, counts[-1]).any(axis=0))
        if not seen.size:
            continue
        piece, sampled = schedule, {}
        for at, tiles in ((axis, np.arange(first, last, dtype=np.int64)), (len(counts) - 1, seen)):
            piece, rank = _with_count(piece, at, len(tiles))
            sampled[rank] = tiles
        found = classify(piece, tensors, scalars, extents, sampled, tabulated)
        place = (slice(None),) * axis + (slice(first, last),) + (slice(None),) * (len(counts) - axis - 2) + (seen,)
        for whole, part in zip((full, touched), found, strict=True):
            whole[place] = part.reshape(*counts[:axis], last - first, *counts[axis + 1 : -1], len(seen))
    return full.reshape(-1, counts[-1]), touched.reshape(-1, counts[-1])


def _coarse(schedule: Schedule, axis: int, step: int) -> Schedule:
    """The schedule with ``step`` tiles in one along an index of the program."""
    outer = schedule.program[axis]
    merged = replace(outer, count=Call("ceil", (Binary("/", outer.count, Constant(step)),)))
    ranks = tuple((r, o, size * step if o == outer.rank else size) for r, o, size in schedule.ranks)
    if outer.rank not in (o for _, o, _ in ranks):
        ranks = (*ranks, (outer.rank, outer.rank, step))
    program = (*schedule.program[:axis], merged, *schedule.program[axis + 1 :])
    return replace(schedule, program=program, ranks=ranks)


def _with_count(schedule: Schedule, axis: int, count: int) -> tuple[Schedule, str]:
    """The schedule with another number of tiles along an index, the last one being the stream's; and the rank of that index."""
    indices = [*schedule.program, schedule.stream]
    indices[axis] = replace(indices[axis], count=Constant(count))
    return replace(schedule, program=tuple(indices[:-1]), stream=indices[-1]), indices[axis].rank


def count_tiles(offsets: torch.Tensor) -> tuple[int, int]:
    """How many full and how many partial tiles all programs of a list visit."""
    lengths = (offsets[1:] - offsets[:-1]).tolist()
    return sum(lengths[0::2]), sum(lengths[1::2])


def classify(
    schedule: Schedule,
    tensors: Mapping[str, Any],
    scalars: Mapping[str, float],
    extents: Mapping[str, int],
    sampled: Mapping[str, Array] | None = None,
    tabulated: dict[int, Tabulated] | None = None,
    kept: Kept | None = None,
) -> tuple[Array, Array]:
    """Which tiles are full and which have a point at all: two arrays of shape (programs, tiles of the stream).

    ``sampled``: the tiles to look at along an index, in place of the first ones; the count of the index is their number.
    ``tabulated``: what is known of expressions of one rank, kept from one call to the next; ``kept``: see ``build_tile_list``.
    """
    names = {**{rank.upper(): size for rank, size in extents.items()}, **scalars}
    kept = kept or kept_in_a_call(schedule, scalars, extents)
    shape = kept.counts
    programs = math.prod(shape[:-1])
    if 0 in shape:
        nothing = np.zeros((programs, shape[-1]), dtype=bool)
        return nothing, nothing
    read = {name: _host(tensors[name]) for name in kept.reads}
    known = {} if tabulated is None else tabulated
    boxes = _Boxes(schedule, shape, read, names, extents, sampled or {}, {}, known, kept=kept)
    truth = boxes.truth(schedule.predicate)
    if kept.inside is None:
        kept.inside = _inside(schedule, boxes)
    exists, whole = kept.inside
    touched, full = np.empty(shape, dtype=bool), np.empty(shape, dtype=bool)
    np.logical_and(truth.true, exists, out=touched)
    np.logical_and(truth.certain, whole, out=full)
    full &= touched
    return full.reshape(programs, shape[-1]), touched.reshape(programs, shape[-1])


def _inside(schedule: Schedule, boxes: _Boxes) -> tuple[Array, Array]:
    """Which tiles have a point inside the extents, and which of them are whole along the stream."""
    exists: Array = np.ones((), dtype=bool)
    whole: Array = np.ones((), dtype=bool)
    for rank, outer, size in schedule.ranks:
        box = boxes.rank(rank)
        exists = exists & (box.low <= box.high)
        if outer == schedule.stream.rank:
            whole = whole & (box.high - box.low + 1 == size)
    return exists, exists & whole


def _host(tensor: Any) -> Array:
    """The values of a tensor as an array; narrow floats, which numpy lacks, become f32."""
    if isinstance(tensor, np.ndarray):
        return tensor
    host = tensor.detach().cpu()
    return np.asarray((host.float() if host.is_floating_point() and host.element_size() < 4 else host).numpy())


REAL: dict[str, Callable[[Array], Array]] = {
    "exp": np.exp,
    "exp2": np.exp2,
    "log": np.log,
    "sqrt": np.sqrt,
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softplus": lambda x: np.logaddexp(x, 0),
}

BITWISE: dict[str, Callable[[Array, Array], Array]] = {"&": operator.and_, "|": operator.or_, "^": operator.xor}

SHIFTS: dict[str, Callable[[Array, Array], Array]] = {"<<": np.left_shift, ">>": np.right_shift}

ROUNDINGS: dict[str, Callable[[Array], Array]] = {"floor": np.floor, "ceil": np.ceil, "round": np.round}


@dataclass(frozen=True, eq=False)
class Tabulated:
    """An integer expression of one rank: its value at every coordinate, and the least and greatest in every tile, by the size of tiles."""

    node: Expression
    rank: str
    values: Array
    extremes: dict[int, tuple[Array, ...]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ReadBoxes:
    """The entries of a tensor that a read may take in each box: low and high per axis, whether some index is outside, whether all are.

    Along the axes in ``sizes`` indices are numbers of tiles of that size.
    """

    low: list[Array]
    high: list[Array]
    empty: Array
    void: Array
    sizes: dict[int, int]


@dataclass(frozen=True, eq=False)
class _Boxes:
    """All tile boxes of a schedule: one array axis per program index, the last for the stream."""

    schedule: Schedule
    shape: tuple[int, ...]
    tensors: Mapping[str, Array]
    names: Mapping[str, Any]
    extents: Mapping[str, int]
    sampled: Mapping[str, Array] = field(default_factory=dict)
    _numbers: dict[Expression, Interval] = field(default_factory=dict)
    tabulated: dict[int, Tabulated] = field(
        default_factory=dict
    )  # by the identity of an expression, which the table keeps
    pointwise: bool = False  # a box is one value, of a rank or of an expression, not a tile
    kept: Kept | None = None

    @functools.cached_property
    def _axes(self) -> dict[str, int]:
        return {index.rank: axis for axis, index in enumerate((*self.schedule.program, self.schedule.stream))}

    def _split(self, rank: str) -> tuple[int | None, int]:
        """The axis a rank is split along and the size of its tiles; no axis if every box holds the whole rank."""
        outer, size = next(((o, s) for r, o, s in self.schedule.ranks if r == rank), (rank, 1))
        return self._axes.get(outer), size

    def _tiles(self, axis: int) -> Array:
        """The numbers of the tiles along an index."""
        outer = (*self.schedule.program, self.schedule.stream)[axis].rank
        return self.sampled.get(outer, np.arange(self.shape[axis], dtype=np.int64))

    def _along(self, axis: int, values: Array) -> Array:
        return values.reshape([-1 if a == axis else 1 for a in range(len(self.shape))])

    def rank(self, rank: str) -> Interval:
        """The coordinates of a rank, cut to its extent; low > high where a tile lies beyond it."""
        axis, size = self._split(rank)
        extent = self.extents.get(rank)
        if axis is None:
            if extent is None:
                raise PlanError(f"rank '{rank}' of a schedule has neither an index nor an extent")
            return Interval(np.asarray(0), np.asarray(extent - 1))
        low = self._tiles(axis) * size
        high = low + size - 1
        if extent is not None:
            high = np.minimum(high, extent - 1)
        return Interval(self._along(axis, low), self._along(axis, high))

    def truth(self, node: Expression) -> Truth:
        return self._truth(node) if self.kept is None else self.kept.value(node, "truth", self._truth)

    def _truth(self, node: Expression) -> Truth:
        match node:
            case Constant(value=bool() as value):
                return Truth(np.asarray(value), np.asarray(not value))
            case Unary(operator="not", operand=operand):
                return box_values.negate(self.truth(operand))
            case Binary(operator="and", left=left, right=right):
                return box_values.both(self.truth(left), self.truth(right))
            case Binary(operator="or", left=left, right=right):
                return box_values.either(self.truth(left), self.truth(right))
            case Conditional(condition=condition, then=then, otherwise=otherwise):
                return box_values.choose_truth(self.truth(condition), self.truth(then), self.truth(otherwise))
            case Comparison(operators=operators, operands=operands):
                pairs = zip(operators, operands[:-1], operands[1:], strict=True)
                return functools.reduce(box_values.both, (self._compare(op, a, b) for op, a, b in pairs))
            case Membership():
                return self._membership(node)
            case Read(tensor=tensor) if self.tensors[tensor].dtype == np.bool_:
                return self._truth_table(node)
        return box_values.as_truth(self.number(node))

    def number(self, node: Expression) -> Interval:
        """The interval of a number, computed once for equal expressions."""
        return self._interval(node) if self.kept is None else self.kept.value(node, "number", self._interval)

    def _interval(self, node: Expression) -> Interval:
        if id(node) in self.tabulated:
            return self._extremes(self.tabulated[id(node)])
        if node not in self._numbers:
            table = self._of_one_rank(node) if _jumps(node) and not self.pointwise else None
            self._numbers[node] = self._number(node) if table is None else self._extremes(table)
        return self._numbers[node]

    def _of_one_rank(self, node: Expression) -> Tabulated | None:
        """An integer expression of one rank at all its coordinates: where it jumps, rules for intervals are not exact."""
        (rank,) = ranks_of(node)
        axis, size = self._split(rank)
        extent = self.extents.get(rank)
        if axis is None or size == 1 or reads_of(node) or not extent or extent > LONGEST_TABLE:
            return None
        single = _Boxes(self.schedule, (extent,), self.tensors, self.names, self.extents, pointwise=True)
        single._numbers[Rank(rank)] = Interval(np.arange(extent), np.arange(extent))
        values = single._number(node)
        if values.real or values.empty.any() or (values.low != values.high).any():
            return None
        table = self.tabulated[id(node)] = Tabulated(node, rank, np.broadcast_to(values.low, extent))
        return table

    def _extremes(self, table: Tabulated) -> Interval:
        axis, size = self._split(table.rank)
        assert axis is not None
        if size not in table.extremes:
            starts = np.arange(0, len(table.values), size)
            table.extremes[size] = tuple(f.reduceat(table.values, starts) for f in (np.minimum, np.maximum))
        tiles = np.minimum(self._tiles(axis), -(-len(table.values) // size) - 1)
        low, high = (self._along(axis, part[tiles]) for part in table.extremes[size])
        return Interval(low, high)

    def _number(self, node: Expression) -> Interval:
        match node:
            case Constant(value=value):
                return constant(value)
            case Parameter(name=name):
                return constant(_plain(self.names[name]))
            case Extent(rank=rank):
                return constant(_plain(self.names[rank.upper()]))
            case Rank(name=name):
                return self.rank(name)
            case Unary(operator="-", operand=operand):
                return box_values.minus(self.number(operand))
            case Binary(operator="and" | "or") | Unary(operator="not") | Comparison() | Membership():
                return box_values.as_number(self.truth(node))
            case Binary(operator=operator_, left=left, right=right):
                return self._binary(operator_, left, right)
            case Conditional(condition=condition, then=then, otherwise=otherwise):
                return box_values.choose(self.truth(condition), self.number(then), self.number(otherwise))
            case Cast(operand=operand, dtype=dtype):
                inner = self.number(operand)
                return box_values.rounded(np.trunc, inner) if is_integer(dtype) else inner
            case Call(function=function, arguments=arguments):
                return self._call(function, arguments)
            case Read(tensor=tensor) if self.tensors[tensor].dtype == np.bool_:
                return box_values.as_number(self._truth_table(node))
            case Read():
                return self._read(node)
        raise PlanError(f"a schedule cannot evaluate a {type(node).__name__.lower()} over tiles")

    def _binary(self, op: str, left: Expression, right: Expression) -> Interval:
        a, b = self.number(left), self.number(right)
        match op:
            case "+":
                return monotone(operator.add, a, b)
            case "-":
                return monotone(operator.add, a, box_values.minus(b))
            case "*":
                return box_values.power(a, constant(2)) if left == right else box_values.multiply(a, b)
            case "/":
                return box_values.divide(a, b)
            case "//":
                return box_values.floor_divide(a, b)
            case "%":
                return box_values.remainder(a, b)
            case "**":
                return box_values.power(a, b)
            case "<<" | ">>":
                return box_values.corners(SHIFTS[op], a, b)
        return box_values.bitwise(BITWISE[op], a, b)

    def _call(self, function: str, arguments: tuple[Expression, ...]) -> Interval:
        values = [self.number(a) for a in arguments]
        match function:
            case "max":
                return functools.reduce(lambda a, b: monotone(np.maximum, a, b), values)
            case "min":
                return functools.reduce(lambda a, b: monotone(np.minimum, a, b), values)
            case "clamp":
                return monotone(lambda x, low, high: np.minimum(np.maximum(x, low), high), *values)
            case "relu":
                return monotone(lambda x: np.maximum(x, 0), *values)
            case "sign":
                return monotone(np.sign, *values)
            case "abs":
                return box_values.magnitude(*values)
            case "floor" | "ceil" | "round":
                return box_values.rounded(ROUNDINGS[function], *values)
            case "stop_gradient":
                return values[0]
            case "default":
                filled = Truth(np.asarray(True), values[0].empty)
                value = box_values.choose(filled, values[0], values[1])
                low = np.where(values[0].void, values[1].low, value.low)
                high = np.where(values[0].void, values[1].high, value.high)
                return Interval(low, high, values[0].empty & values[1].empty, values[0].void & values[1].void)
            case "uniform":
                return box_values.unknown(*values, low=0.0, high=1.0)
        return real(REAL[function], *values) if function in REAL else box_values.unknown(*values)

    def _compare(self, op: str, left: Expression, right: Expression) -> Truth:
        """A comparison; exact if all ranks stand in one integer expression, whose values are then tabulated."""
        node = Comparison((op,), (left, right))
        core = _core(node)
        if core is not None and not _simple(core, left, right):
            inner = self.number(core)
            first, last = int(inner.low.min()), int(inner.high.max())
            if not inner.real and last - first < LONGEST_TABLE and not reads_of(node) and self._whole(node, core):
                table = self._tabulated(node, core, first, last)
                low, high = inner.low - first, np.maximum(inner.high, inner.low) - first
                return box_reads.truth_of(table, (low,), (high,), inner.empty, inner.void)
        return compare(op, self.number(left), self.number(right))

    def _whole(self, node: Expression, core: Expression) -> bool:
        """No real arithmetic outside the core, so that a table holds what the kernel computes."""
        return all(not self.number(n).real for n in _outside(node, core) if not isinstance(n, Comparison))

    def _tabulated(self, node: Expression, core: Expression, first: int, last: int) -> Array:
        """The truth of a comparison for each value of its core."""
        values = np.arange(first, last + 1, dtype=np.int64)
        single = _Boxes(self.schedule, (len(values),), self.tensors, self.names, self.extents, pointwise=True)
        single._numbers[core] = Interval(values, values)
        assert isinstance(node, Comparison)
        left, right = (single.number(o) for o in node.operands)
        return np.broadcast_to(compare(node.operators[0], left, right).certain, values.shape)

    def _indices(
        self, indices: tuple[Expression, ...], shape: tuple[int, ...]
    ) -> tuple[list[Array], list[Array], Array, Array]:
        """The index box of a read: low and high per axis, whether some index is outside, whether all are."""
        low: list[Array] = []
        high: list[Array] = []
        empty, void = box_values.NEVER, box_values.NEVER
        for index, size in zip(indices, shape, strict=True):
            first, last, outside, nothing = box_reads.inside(self.number(index), size)
            low.append(first)
            high.append(np.maximum(last, first))
            empty, void = empty | outside, void | nothing
        return low, high, empty, void

    def _read_boxes(self, node: Read) -> ReadBoxes:
        """Where a read looks: tiles along the axes that a bare rank indexes, indices along the others."""
        if self.kept is None or not node.indices:
            return self._boxes_of(node)
        return self.kept.value(node, "boxes", self._boxes_of, node.indices)

    def _boxes_of(self, node: Read) -> ReadBoxes:
        shape = self.tensors[node.tensor].shape
        low, high, empty, void = self._indices(node.indices, shape)
        sizes: dict[int, int] = {}
        for axis, index in enumerate(node.indices):
            if not isinstance(index, Rank) or node.indices.count(index) > 1:
                continue
            along, size = self._split(index.name)
            if along is not None and self.extents.get(index.name, shape[axis]) == shape[axis]:
                sizes[axis] = size
                tiles = np.minimum(self._tiles(along), -(-shape[axis] // size) - 1)
                low[axis] = high[axis] = self._along(along, tiles)
        return ReadBoxes(low, high, empty, void, sizes)

    def _truth_table(self, node: Read) -> Truth:
        table = self.tensors[node.tensor]
        if 0 in table.shape:
            return Truth(box_values.NEVER, box_values.NEVER, ~box_values.NEVER)
        at = self._read_boxes(node)
        every, some = box_reads.tile_extremes(table, table, at.sizes)
        if some is every:
            return box_reads.truth_of(table, at.low, at.high, at.empty, at.void)
        true = box_reads.count_true(some, at.low, at.high) > 0
        false = box_reads.count_true(~every, at.low, at.high) > 0
        return Truth(true & ~at.void, false & ~at.void, at.empty)

    def _membership(self, node: Membership) -> Truth:
        """``item in T[i, :]``, from the table of the values that each fibre holds."""
        collection, item = self.tensors[node.collection.tensor], self.number(node.item)
        if not node.collection.indices or not isinstance(node.collection.indices[-1], Slice):
            raise PlanError("a schedule takes 'in' over the last axis of a tensor only")
        values = max(int(item.high.max()), int(collection.max(initial=-1)), 0) + 1
        table = box_reads.members(collection, values)
        low, high, outside, nowhere = self._indices(node.collection.indices[:-1], collection.shape[:-1])
        first, last = np.clip(item.low, 0, values - 1), np.clip(item.high, 0, values - 1)
        found = box_reads.truth_of(table, [*low, first], [*high, np.maximum(first, last)], item.empty, item.void)
        # A coordinate outside the collection has no members, and no coordinate is negative.
        none = (outside | (item.low < 0)) & ~item.void
        truth = Truth(found.true & (item.high >= 0) & ~nowhere, found.false | none, found.empty)
        return box_values.negate(truth) if node.negated else truth

    def _read(self, node: Read) -> Interval:
        """Extremes of a tensor per tile for axes indexed by a bare rank, then over the boxes of the other indices."""
        least = self.tensors[node.tensor]
        if least.size == 0:
            return Interval(np.asarray(0), np.asarray(0), ~box_values.NEVER, ~box_values.NEVER)
        at = self._read_boxes(node)
        least, greatest = box_reads.tile_extremes(least, least, at.sizes)
        smallest = box_reads.extremes(least, at.low, at.high)[0]
        largest = box_reads.extremes(greatest, at.low, at.high)[1]
        kind = float if least.dtype.kind == "f" else np.int64
        value = Interval(smallest.astype(kind), largest.astype(kind), at.empty, at.void)
        return box_values.without_nan(value)


def _plain(value: Any) -> float:
    """A Python number, also from a 0-d tensor."""
    return value.item() if hasattr(value, "item") else value  # type: ignore[no-any-return]


@functools.lru_cache(maxsize=1024)
def _core(node: Expression) -> Expression | None:
    """The smallest subexpression that holds all ranks and reads of the node, or None if there are none."""
    if isinstance(node, (Rank, Read)):
        return node
    inner = [child for child in children(node) if _depends(child)]
    if len(set(inner)) == 1:
        return _core(inner[0])
    if not inner:
        return None
    # Several different operands: they may still be functions of one smaller expression, as in d & (d - 1).
    for candidate in sorted({n for c in inner for n in walk(c) if _depends(n)}, key=lambda n: -sum(1 for _ in walk(n))):
        if not any(_depends(n) for n in _outside(node, candidate) if not children(n)):
            return candidate
    return node


@functools.lru_cache(maxsize=1024)
def _jumps(node: Expression) -> bool:
    """Whether a number of one rank goes back and forth as its coordinate rises: a remainder or single bits."""
    inner = {n.operator for n in walk(node) if isinstance(n, Binary)}
    return bool(inner & {"%", "<<", ">>", *BITWISE}) and len(set(ranks_of(node))) == 1


def _depends(node: Expression) -> bool:
    return bool(ranks_of(node)) or bool(reads_of(node))


def _outside(node: Expression, core: Expression) -> list[Expression]:
    """The subexpressions of the node that do not lie inside a copy of the core."""
    if node == core:
        return []
    return [node, *(n for child in children(node) for n in _outside(child, core))]


def _simple(core: Expression, left: Expression, right: Expression) -> bool:
    """Whether interval rules are exact anyway: the core, or its distance from 0, is compared as it is."""
    exact = (core, Call("abs", (core,)))
    return left in exact or right in exact or isinstance(core, Comparison)
