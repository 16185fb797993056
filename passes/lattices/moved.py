"""Reductions that read their operands at other coordinates: which may, and the coordinates in closed form."""

from __future__ import annotations

from dataclasses import replace

from einsum_compiler.ir.build import reads_of
from einsum_compiler.ir.cascade import Cascade, Equation
from einsum_compiler.ir.expression import (
    Binary,
    Comparison,
    Constant,
    Expression,
    Extent,
    Parameter,
    Rank,
    Read,
    map_children,
    walk,
)
from einsum_compiler.passes.lattices.division import simplified
from einsum_compiler.passes.scope import definitions, free_ranks, ranks_of_tensors


def whole_parameters(cascade: Cascade) -> set[str]:
    """The parameters that are declared as whole numbers."""
    return {p.name for p in cascade.parameters if p.dtype == "int"}


class Movable:
    """Which reductions may read the tensors of a cascade at other coordinates."""

    def __init__(self, cascade: Cascade) -> None:
        self._defined, self._axes = definitions(cascade), ranks_of_tensors(cascade)
        self._kept = [set(t.ranks) for t in (*cascade.inputs, *cascade.outputs)]
        self._readers: dict[str, int] = {t.name: 1 for t in cascade.outputs}
        for equation in cascade.equations:
            for name in {r.tensor for r in equation.reads}:
                self._readers[name] = self._readers.get(name, 0) + 1
        self._inputs = {t.name for t in cascade.inputs}

    def along(self, equation: Equation, rank: str) -> bool:
        """Whether what an equation reads along a rank is given, small, or read by nothing else. Of two computed numbers that are compared each is found beside the
        other: stored ones may differ in a rounding."""
        if any(rank in free_ranks(n) for n in walk(equation.value) if self._is_comparison(n)):
            return False
        for read in equation.reads:
            if read.tensor in self._inputs or rank not in free_ranks(read):
                continue
            if any(set(self._axes.get(read.tensor, ())) <= kept for kept in self._kept):
                continue
            source = self._defined.get(read.tensor)
            if source is None or self._readers[read.tensor] > 1:
                return False
            along = {r for r, i in zip(source.target.ranks, read.indices, strict=True) if rank in free_ranks(i)}
            if not all(self.along(source, r) for r in along):
                return False
        return True

    def _is_comparison(self, node: Expression) -> bool:
        """Whether two computed tensors are compared."""
        if not isinstance(node, Comparison):
            return False
        computed = [any(r.tensor in self._defined for r in reads_of(o)) for o in node.operands]
        return sum(computed) > 1


class ClosedForms:
    """Expressions of one cascade with a new coordinate in them, in their simplest form."""

    def __init__(self, cascade: Cascade) -> None:
        self._axes, self._integers = ranks_of_tensors(cascade), whole_parameters(cascade)

    def __call__(self, node: Expression, place: Expression) -> Expression:
        """The expression, whose indices and conditions have the coordinate ``place``."""
        return self._of(node, set(free_ranks(place)))

    def _of(self, node: Expression, changed: set[str]) -> Expression:
        made = map_children(node, lambda child: self._of(child, changed))
        if isinstance(made, Binary) and self._is_whole(made) and changed & set(free_ranks(made)):
            return simplified(made)
        if isinstance(made, Read) and isinstance(node, Read):
            axes = self._axes.get(made.tensor, ())
            indices = zip(made.indices, node.indices, axes, strict=True)
            return replace(made, indices=tuple(i if i == old else _index(i, axis) for i, old, axis in indices))
        return made

    def _is_whole(self, node: Expression) -> bool:
        """Whether an expression is made of ranks and whole numbers, by the operators of indices."""
        for n in walk(node):
            match n:
                case Rank() | Extent() | Binary(operator="+" | "-" | "*" | "//" | "%"):
                    continue
                case Constant(value=value) if type(value) is int:
                    continue
                case Parameter(name=name) if name in self._integers:
                    continue
            return False
        return True


def _index(index: Expression, axis: str) -> Expression:
    """An index that was no bare rank before: as one it would say that both extents are one."""
    return Binary("+", index, Constant(0)) if isinstance(index, Rank) and index.name != axis else index
