"""Expressions of tile programs on named tiles: one type for all floats of a statement, int64 for integers."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from einsum_compiler.backends.reference.functions import COMPARISONS, FUNCTIONS, OPERATORS, TORCH_TYPES
from einsum_compiler.backends.reference.named import Named, pointwise
from einsum_compiler.ir.errors import VerifyError
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
    children,
    walk,
)
from einsum_compiler.ir.types import is_float

BOOLEAN = ("and", "or")
BITWISE = ("&", "|", "^")


@dataclass
class TileScope:
    """What names mean while a kernel runs: tiles, the current indices, scalars and extents."""

    scalars: Mapping[str, bool | int | float]
    extents: Mapping[str, int]
    exact: bool = False
    tiles: dict[str, Named] = field(default_factory=dict)
    indices: dict[str, int] = field(default_factory=dict)
    _tiles_of: dict[int, tuple[Expression, tuple[str, ...]]] = field(
        default_factory=dict
    )  # by identity: they run often

    def real_type(self, node: Expression, dtype: str | None = None) -> torch.dtype:
        """The type floats are computed in: f64 if a tile read or the result has it (or always, if ``exact``)."""
        if self.exact or dtype == "f64":
            return torch.float64
        if id(node) not in self._tiles_of:
            self._tiles_of[id(node)] = node, tuple(n.tensor for n in walk(node) if isinstance(n, Read))
        wide = any(self.tiles[name].data.dtype == torch.float64 for name in self._tiles_of[id(node)][1])
        return torch.float64 if wide else torch.float32

    def value(self, node: Expression, axes: Mapping[str, int], dtype: str | None = None) -> Named:
        """``node`` at every coordinate of ``axes`` (sizes by rank) that it depends on."""
        return _Evaluation(self, axes, self.real_type(node, dtype)).visit(node)

    def integer(self, node: Expression) -> int:
        """A scalar expression over indices, extents and scalars."""
        value = self.value(node, {}).data
        if value.is_floating_point() or value.ndim:
            raise VerifyError(f"a tile program needs an integer here, not {node}")
        return int(value)


@dataclass(frozen=True)
class _Evaluation:
    scope: TileScope
    axes: Mapping[str, int]
    real: torch.dtype

    def visit(self, node: Expression) -> Named:
        match node:
            case Constant(value=value):
                return Named((), self._scalar(value))
            case Parameter(name=name):
                return Named((), self._scalar(self.scope.scalars[name]))
            case Extent(rank=rank):
                return Named((), _whole(self.scope.extents[rank]))
            case Rank(name=name):
                return self._coordinate(name)
            case Read(tensor=name, indices=()):
                return self._tile(name)
            case Unary(operator="not", operand=operand):
                return pointwise(torch.logical_not, self.visit(operand))
            case Unary(operand=operand):
                return pointwise(torch.neg, self._number(operand))
            case Binary(operator=operator, left=left, right=right):
                if operator in BOOLEAN or operator in BITWISE:
                    return pointwise(OPERATORS[operator], self.visit(left), self.visit(right))
                return self._typed(pointwise(OPERATORS[operator], self._number(left), self._number(right)))
            case Comparison(operators=operators, operands=operands):
                values = [self.visit(o) for o in operands]
                links = [pointwise(COMPARISONS[o], values[i], values[i + 1]) for i, o in enumerate(operators)]
                result = links[0]
                for link in links[1:]:
                    result = pointwise(torch.logical_and, result, link)
                return result
            case Conditional():
                return pointwise(torch.where, *(self.visit(c) for c in children(node)))
            case Cast(operand=operand, dtype=dtype):
                return self._cast(self.visit(operand), dtype)
            case Call(function=function, arguments=arguments) if function in FUNCTIONS:
                return self._typed(pointwise(FUNCTIONS[function], *(self._number(a) for a in arguments)))
        raise VerifyError(f"a tile program cannot hold {type(node).__name__}: {node}")

    def _scalar(self, value: bool | float) -> Tensor:
        if isinstance(value, bool):
            return torch.tensor(value)
        return _whole(value) if isinstance(value, int) else _real(value, math.copysign(1, value), self.real)

    def _coordinate(self, name: str) -> Named:
        if name in self.axes:
            return Named((name,), _positions(self.axes[name]))
        if name in self.scope.indices:
            return Named((), _whole(self.scope.indices[name]))
        raise VerifyError(f"rank {name} is neither an axis here nor an index of the program or a loop around")

    def _tile(self, name: str) -> Named:
        tile = self.scope.tiles[name]
        unknown = [r for r in tile.ranks if r not in self.axes]
        if unknown:
            raise VerifyError(f"tile {name} has axis {unknown[0]}, which its use here lacks")
        return Named(tile.ranks, self._computed(tile.data))

    def _computed(self, data: Tensor) -> Tensor:
        if data.dtype == torch.bool:
            return data
        return data.to(self.real if data.is_floating_point() else torch.int64)

    def _typed(self, value: Named) -> Named:
        """Real functions of integers give f64 of their own accord; all floats of a statement have one type."""
        return Named(value.ranks, value.data.to(self.real)) if value.data.is_floating_point() else value

    def _number(self, node: Expression) -> Named:
        value = self.visit(node)
        return Named(value.ranks, value.data.to(torch.int64)) if value.data.dtype == torch.bool else value

    def _cast(self, value: Named, dtype: str) -> Named:
        if is_float(dtype) and self.scope.exact:
            return Named(value.ranks, value.data.to(self.real))
        return Named(value.ranks, self._computed(value.data.to(TORCH_TYPES[dtype])))


# Constants and coordinates occur in every statement of every program: each is made once. Nothing writes into them.
@functools.lru_cache(maxsize=4096, typed=True)
def _whole(value: int) -> Tensor:
    return torch.tensor(value)


@functools.lru_cache(maxsize=4096)
def _real(value: float, sign: float, dtype: torch.dtype) -> Tensor:
    """``sign`` tells 0.0 and -0.0 apart, which are equal."""
    return torch.tensor(value, dtype=dtype)


@functools.lru_cache(maxsize=256)
def _positions(size: int) -> Tensor:
    return torch.arange(size)


def operators_in(node: Expression) -> int:
    """Operators of an expression, each one operation per element; names, literals and coordinates are free."""
    count = 0
    for n in walk(node):
        match n:
            case Comparison(operators=operators):
                count += len(operators)
            case Unary() | Binary() | Conditional() | Call() | Cast():
                count += 1
    return count
