"""Scalar expressions of a tile program at many points at once: masks, indices and bounds of loops, with the interpreter's arithmetic."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from einsum_compiler.ir.build import conjunction
from einsum_compiler.ir.expression import (
    Binary,
    Call,
    Cast,
    Comparison,
    Conditional,
    Constant,
    Expression,
    Extent,
    Parameter,
    Rank,
    Read,
    Unary,
    walk,
)
from einsum_compiler.ir.tile import Load, Loop, Map, Reduce, Select, Statement, TileKernel
from einsum_compiler.ir.types import is_float, is_integer

Array = npt.NDArray[Any]


class UnknownValues(Exception):
    """What is counted depends on values that are not known; the message says on which."""


def _power(x: Array, n: Array) -> Array:
    """As kernels have it: of integers 2 ** -1 is 0."""
    if x.dtype.kind == "f" or n.dtype.kind == "f" or not np.any(n < 0):
        return np.asarray(np.power(x, n))
    signs = np.where(np.abs(x) == 1, np.power(x, n % 2), 0)
    return np.where(n < 0, signs, np.power(x, np.maximum(n, 0)))


BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "//": np.floor_divide, "%": np.mod, "**": _power,
    "&": np.bitwise_and, "|": np.bitwise_or, "^": np.bitwise_xor, "<<": np.left_shift, ">>": np.right_shift,
}  # fmt: skip
COMPARISON: dict[str, Callable[[Array, Array], Array]] = {
    "<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal, "==": np.equal, "!=": np.not_equal,
}  # fmt: skip
# Functions that round nowhere: others may differ in their last digit from one library to the next, and a mask would follow.
EXACT: dict[str, Callable[..., Array]] = {
    "abs": np.abs, "sign": np.sign, "floor": np.floor, "ceil": np.ceil, "round": np.round,
    "max": lambda *x: functools.reduce(np.maximum, x), "min": lambda *x: functools.reduce(np.minimum, x),
    "clamp": lambda x, low, high: np.minimum(np.maximum(x, low), high), "relu": lambda x: np.maximum(x, 0), "default": lambda x, _: x,
}  # fmt: skip
REDUCTION: dict[str, Callable[..., Array]] = {"any": np.any, "all": np.all, "max": np.max, "min": np.min, "sum": np.sum}


@dataclass(frozen=True)
class Values:
    """What names of a kernel mean: scalars and extents by name (``N``), tensors whose values are known, statements that define tiles."""

    names: Mapping[str, Any]
    tensors: Mapping[str, Any]
    tiles: Mapping[str, Statement]

    @classmethod
    def of(
        cls, kernel: TileKernel, sizes: Mapping[str, int], scalars: Mapping[str, Any], tensors: Mapping[str, Any]
    ) -> Values:
        return cls({**scalars, **{r.upper(): n for r, n in sizes.items()}}, tensors, definitions(kernel.body))

    def depends(self, *nodes: Expression | None) -> frozenset[str]:
        """The indices and axes that expressions depend on, through the tiles they read."""
        found: set[str] = set()
        for node in (n for root in nodes if root is not None for n in walk(root)):
            if isinstance(node, Rank):
                found.add(node.name)
            elif isinstance(node, Read):
                found |= self._depends_of_tile(node.tensor)
        return frozenset(found)

    def _depends_of_tile(self, name: str) -> frozenset[str]:
        match self.tiles.get(name):
            case Load(indices=indices, where=where, partial_where=partial):
                return self.depends(*indices, where, partial)
            case Map(value=value):
                return self.depends(value)
            case Select(condition=condition, value=value):
                return self.depends(condition, value)
            case Reduce(over=over, value=value, accumulator=None):
                return self.depends(value) - {a.rank for a in over}
        raise UnknownValues(f"it depends on {name}, which the kernel computes")

    def number(self, node: Expression) -> int:
        """An expression over extents and scalars."""
        return int(Points(self, {}).value(node))


def definitions(body: Iterable[Statement]) -> dict[str, Statement]:
    """The statement that defines each tile. Names of carried tiles have none: their values change."""
    found: dict[str, Statement] = {}
    for statement in body:
        if isinstance(statement, Loop):
            found |= definitions(statement.body)
        elif (name := getattr(statement, "target", None)) is not None:
            found[name] = statement
    return found


@dataclass(frozen=True)
class Points:
    """Many points: an integer array per index and axis, all of shapes that broadcast. ``partial``: in a partial range, or outside of loops."""

    values: Values
    ranks: Mapping[str, Array]
    partial: bool = True
    _known: dict[str, Array] = field(default_factory=dict, repr=False, compare=False)

    def mask(self, conditions: Iterable[Expression]) -> Array:
        found: Array = np.ones((), dtype=bool)
        for condition in conditions:
            found = found & self.value(condition)
        return found

    def value(self, node: Expression) -> Array:
        """Integers in 64 bits, truth values, and reals in the type that the interpreter computes this expression in."""
        return self._visit(node, self._real(node))

    def _real(self, node: Expression) -> type[np.floating[Any]]:
        reads = [self.values.tiles.get(n.tensor) for n in walk(node) if isinstance(n, Read)]
        wide = any(isinstance(s, (Load, Map, Select, Reduce)) and s.type.dtype == "f64" for s in reads)
        return np.float64 if wide else np.float32

    def _visit(self, node: Expression, real: type[np.floating[Any]]) -> Array:
        match node:
            case Constant(value=value):
                return self._scalar(value, real)
            case Parameter(name=name):
                return self._scalar(self._named(name), real)
            case Extent(rank=rank):
                return self._scalar(self._named(rank.upper()), real)
            case Rank(name=name):
                return self.ranks[name]
            case Read(tensor=name, indices=()):
                return self._computed(self._tile(name), real)
            case Unary(operator="not", operand=operand):
                return np.logical_not(self._visit(operand, real))
            case Unary(operand=operand):
                return np.negative(_number(self._visit(operand, real)))
            case Binary(operator="and", left=left, right=right):
                return np.logical_and(self._visit(left, real), self._visit(right, real))
            case Binary(operator="or", left=left, right=right):
                return np.logical_or(self._visit(left, real), self._visit(right, real))
            case Binary(operator=operator, left=left, right=right):
                operands = self._alike(map(_number, (self._visit(left, real), self._visit(right, real))), real)
                if operator == "/":
                    operands = [o.astype(real if o.dtype.kind == "f" else np.float32) for o in operands]
                with np.errstate(all="ignore"):
                    return self._computed(BINARY[operator](*operands), real)
            case Comparison(operators=operators, operands=nodes):
                compared = self._alike((self._visit(o, real) for o in nodes), real)
                links = (COMPARISON[o](a, b) for o, a, b in zip(operators, compared, compared[1:], strict=False))
                return functools.reduce(np.logical_and, links)
            case Conditional(condition=condition, then=then, otherwise=otherwise):
                branches = self._alike((self._visit(then, real), self._visit(otherwise, real)), real)
                return np.where(self._visit(condition, real), *branches)
            case Cast(operand=operand, dtype=dtype) if is_integer(dtype) or dtype == "bool":
                return self._visit(operand, real).astype(bool if dtype == "bool" else np.int64)
            case Call(function=function, arguments=arguments) if function in EXACT:
                return EXACT[function](*self._alike((_number(self._visit(a, real)) for a in arguments), real))
        raise UnknownValues(f"it depends on {node}, which is rounded")

    def _named(self, name: str) -> Any:
        if name not in self.values.names:
            raise UnknownValues(f"it depends on {name}, which has no value")
        value = self.values.names[name]
        return value.item() if hasattr(value, "item") else value

    @staticmethod
    def _scalar(value: bool | float, real: type[np.floating[Any]]) -> Array:
        return np.asarray(
            value, dtype=bool if isinstance(value, bool) else np.int64 if isinstance(value, int) else real
        )

    @staticmethod
    def _computed(value: Array, real: type[np.floating[Any]]) -> Array:
        return value if value.dtype == bool else value.astype(real if value.dtype.kind == "f" else np.int64, copy=False)

    def _alike(self, values: Iterable[Array], real: type[np.floating[Any]]) -> list[Array]:
        """Integers beside reals become reals of the same type, as in PyTorch."""
        found = list(values)
        return [v.astype(real) for v in found] if any(v.dtype.kind == "f" for v in found) else found

    # -- tiles

    def _tile(self, name: str) -> Array:
        if name not in self._known:
            self._known[name] = self._evaluated(name)
        return self._known[name]

    def _evaluated(self, name: str) -> Array:
        match self.values.tiles.get(name):
            case Load() as load:
                return self._loaded(load)
            case Map(type=kind, value=value) if not is_float(kind.dtype):
                return self.value(value)
            case Select(type=kind, condition=condition, value=value, fill=fill, partial=partial) if not is_float(
                kind.dtype
            ):
                if partial and not self.partial:
                    return self.value(value)
                return np.where(self.value(condition), self.value(value), fill.value)
            case Reduce(type=kind, operator=operator, over=over, value=value, accumulator=None) if not is_float(
                kind.dtype
            ):
                inside = self
                for axis in over:
                    dimensions = max((a.ndim for a in inside.ranks.values()), default=0)
                    inside = replace(
                        inside,
                        ranks={**inside.ranks, axis.rank: np.arange(axis.size).reshape((-1,) + (1,) * dimensions)},
                        _known={},
                    )
                body = inside.value(value)
                dimensions = max((a.ndim for a in self.ranks.values()), default=0)
                shape = tuple(a.size for a in reversed(over))
                body = np.broadcast_to(body, (*shape, *body.shape[max(0, body.ndim - dimensions) :]))
                return REDUCTION[operator](body, axis=tuple(range(len(over))))
        raise UnknownValues(f"it depends on {name}, which the kernel computes")

    def _loaded(self, load: Load) -> Array:
        tensor = self.values.tensors.get(load.tensor)
        if tensor is None or getattr(getattr(tensor, "device", None), "type", "cpu") == "meta":
            raise UnknownValues(f"it depends on the values of {load.tensor}, which are not known")
        source = host_array(tensor)
        where = conjunction([load.where, load.partial_where if self.partial else None])
        mask = self.value(where) if where is not None else np.ones((), dtype=bool)
        places = [np.where(mask, self.value(i), 0) for i in load.indices]
        if source.size == 0:
            return np.broadcast_to(
                np.asarray(load.fill.value, dtype=source.dtype), np.broadcast_shapes(*(p.shape for p in places))
            )
        return np.where(mask, source[tuple(places)], np.asarray(load.fill.value).astype(source.dtype))


def host_array(tensor: Any) -> Array:
    """The values of a tensor; narrow floats, which numpy lacks, become f32."""
    if isinstance(tensor, np.ndarray):
        return tensor
    host = tensor.detach().cpu()
    return np.asarray((host.float() if host.is_floating_point() and host.element_size() < 4 else host).numpy())


def _number(value: Array) -> Array:
    return value.astype(np.int64) if value.dtype == bool else value
