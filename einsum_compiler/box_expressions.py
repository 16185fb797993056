"""Expressions over all tile boxes of a schedule at once: intervals of numbers, and conditions in three values.

One rule per operator (``box_values``); an integer expression of one rank that jumps, and a comparison of one integer
expression, are tabulated, which makes them exact.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from einsum_compiler import box_reads, box_values
from einsum_compiler.box_cores import core_of, is_simple, jumps, outside
from einsum_compiler.box_lookups import interval_of_read, truth_of_membership, truth_of_read
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
    Unary,
)
from einsum_compiler.ir.tile import Schedule
from einsum_compiler.ir.types import is_integer
from einsum_compiler.kept_lists import Kept

# Predicates of one integer are tabulated if it takes at most so many values.
LONGEST_TABLE = 1 << 22

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
class Boxes:
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

    def split(self, rank: str) -> tuple[int | None, int]:
        """The axis a rank is split along and the size of its tiles; no axis if every box holds the whole rank."""
        outer, size = next(((o, s) for r, o, s in self.schedule.ranks if r == rank), (rank, 1))
        return self._axes.get(outer), size

    def tiles(self, axis: int) -> Array:
        """The numbers of the tiles along an index."""
        outer = (*self.schedule.program, self.schedule.stream)[axis].rank
        return self.sampled.get(outer, np.arange(self.shape[axis], dtype=np.int64))

    def along(self, axis: int, values: Array) -> Array:
        return values.reshape([-1 if a == axis else 1 for a in range(len(self.shape))])

    def rank(self, rank: str) -> Interval:
        """The coordinates of a rank, cut to its extent; low > high where a tile lies beyond it."""
        axis, size = self.split(rank)
        extent = self.extents.get(rank)
        if axis is None:
            if extent is None:
                raise PlanError(f"rank '{rank}' of a schedule has neither an index nor an extent")
            return Interval(np.asarray(0), np.asarray(extent - 1))
        low = self.tiles(axis) * size
        high = low + size - 1
        if extent is not None:
            high = np.minimum(high, extent - 1)
        return Interval(self.along(axis, low), self.along(axis, high))

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
                return truth_of_membership(self, node)
            case Read(tensor=tensor) if self.tensors[tensor].dtype == np.bool_:
                return truth_of_read(self, node)
        return box_values.as_truth(self.number(node))

    def number(self, node: Expression) -> Interval:
        """The interval of a number, computed once for equal expressions."""
        return self._interval(node) if self.kept is None else self.kept.value(node, "number", self._interval)

    def _interval(self, node: Expression) -> Interval:
        if id(node) in self.tabulated:
            return self._extremes(self.tabulated[id(node)])
        if node not in self._numbers:
            table = self._of_one_rank(node) if jumps(node) and not self.pointwise else None
            self._numbers[node] = self._number(node) if table is None else self._extremes(table)
        return self._numbers[node]

    def _of_one_rank(self, node: Expression) -> Tabulated | None:
        """An integer expression of one rank at all its coordinates: where it jumps, rules for intervals are not exact."""
        (rank,) = ranks_of(node)
        axis, size = self.split(rank)
        extent = self.extents.get(rank)
        if axis is None or size == 1 or reads_of(node) or not extent or extent > LONGEST_TABLE:
            return None
        single = Boxes(self.schedule, (extent,), self.tensors, self.names, self.extents, pointwise=True)
        single._numbers[Rank(rank)] = Interval(np.arange(extent), np.arange(extent))
        values = single._number(node)
        if values.real or values.empty.any() or (values.low != values.high).any():
            return None
        table = self.tabulated[id(node)] = Tabulated(node, rank, np.broadcast_to(values.low, extent))
        return table

    def _extremes(self, table: Tabulated) -> Interval:
        axis, size = self.split(table.rank)
        assert axis is not None
        if size not in table.extremes:
            starts = np.arange(0, len(table.values), size)
            table.extremes[size] = tuple(f.reduceat(table.values, starts) for f in (np.minimum, np.maximum))
        tiles = np.minimum(self.tiles(axis), -(-len(table.values) // size) - 1)
        low, high = (self.along(axis, part[tiles]) for part in table.extremes[size])
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
                return box_values.as_number(truth_of_read(self, node))
            case Read():
                return interval_of_read(self, node)
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
        core = core_of(node)
        if core is not None and not is_simple(core, left, right):
            inner = self.number(core)
            first, last = int(inner.low.min()), int(inner.high.max())
            if not inner.real and last - first < LONGEST_TABLE and not reads_of(node) and self._whole(node, core):
                table = self._tabulated(node, core, first, last)
                low, high = inner.low - first, np.maximum(inner.high, inner.low) - first
                return box_reads.truth_of(table, (low,), (high,), inner.empty, inner.void)
        return compare(op, self.number(left), self.number(right))

    def _whole(self, node: Expression, core: Expression) -> bool:
        """No real arithmetic outside the core, so that a table holds what the kernel computes."""
        return all(not self.number(n).real for n in outside(node, core) if not isinstance(n, Comparison))

    def _tabulated(self, node: Expression, core: Expression, first: int, last: int) -> Array:
        """The truth of a comparison for each value of its core."""
        values = np.arange(first, last + 1, dtype=np.int64)
        single = Boxes(self.schedule, (len(values),), self.tensors, self.names, self.extents, pointwise=True)
        single._numbers[core] = Interval(values, values)
        assert isinstance(node, Comparison)
        left, right = (single.number(o) for o in node.operands)
        return np.broadcast_to(compare(node.operators[0], left, right).certain, values.shape)


def _plain(value: Any) -> float:
    """A Python number, also from a 0-d tensor."""
    return value.item() if hasattr(value, "item") else value  # type: ignore[no-any-return]
