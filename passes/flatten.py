"""flatten: ranks that are always reduced together become one rank, so that one loop streams them.

    MX[m]  = max[v,u](S[m,v,u])          MX[m]    = max[v_u](S[m,v_u])
    S[m,v,u] = q[m] * K[v,u]      ->     S[m,v_u] = q[m] * K[v_u // U, v_u % U]          ; V_U = V * U

Law: a reduction over a product of ranks is one over its row-major order. Ranks are merged where two or more reductions are over them, that is, where a
stream pays; a tensor with only one of them keeps it and is read at the coordinate that the merged rank stands for. They stay apart where
some reduction is over one of them alone, or where an output or a read by an index expression needs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from einsum_compiler.ir.cascade import Cascade, Equation, Scalar
from einsum_compiler.ir.expression import (
    Binary,
    Expression,
    Extent,
    Rank,
    Read,
    Reduction,
    Selection,
    map_children,
    transform,
    walk,
)
from einsum_compiler.ir.extents import declared_equal
from einsum_compiler.passes.lateness import reduced_ranks
from einsum_compiler.passes.order import in_order
from einsum_compiler.passes.scope import all_ranks, fresh, plain, ranks_of_tensors, reads_in


@dataclass(frozen=True, slots=True)
class Flatten:
    """No options."""


def flatten(cascade: Cascade, options: Flatten = Flatten()) -> Cascade:
    """The normalized cascade with ranks merged that are reduced together."""
    for group in _groups(cascade):
        if _separable(cascade, group):
            equal = {rank: declared_equal(cascade, rank) or rank for rank in group}
            cascade = by_extents(_Merger(cascade, group).merged(), equal)
    return in_order(cascade)


def by_extents(cascade: Cascade, equal: Mapping[str, str]) -> Cascade:
    """The cascade with extents of other ranks that are equal: the bare reads that said so are no more (``X[i] - X[j]``)."""

    def change(node: Expression) -> Expression:
        return Extent(equal[node.rank]) if isinstance(node, Extent) and node.rank in equal else node

    def over(node: Expression | None) -> Expression | None:
        return None if node is None else transform(node, change)

    return replace(
        cascade,
        parameters=tuple(replace(p, default=over(p.default)) for p in cascade.parameters),
        equations=tuple(replace(e, value=transform(e.value, change), where=over(e.where)) for e in cascade.equations),
    )


def row_major(merged: str, group: tuple[str, ...]) -> dict[str, Expression]:
    """The coordinate of each rank of a group as a function of the merged one."""
    found: dict[str, Expression] = {}
    inner: Expression | None = None  # the product of the extents of the ranks behind
    for rank in reversed(group):
        place: Expression = Rank(merged)
        if inner is not None:
            place = Binary("//", place, inner)
        if rank != group[0]:
            place = Binary("%", place, Extent(rank))
        found[rank] = place
        inner = Extent(rank) if inner is None else Binary("*", Extent(rank), inner)
    return found


def merged_group(cascade: Cascade, rank: str | None) -> tuple[str, ...]:
    """The ranks that a rank was merged from: its extent is the product of theirs; none of any other rank, or where two have one extent."""
    for parameter in cascade.parameters:
        if rank is not None and parameter.name == rank.upper() and parameter.default is not None:
            nodes = list(walk(parameter.default))
            group = tuple(n.rank for n in nodes if isinstance(n, Extent))
            products = all(isinstance(n, Extent) or (isinstance(n, Binary) and n.operator == "*") for n in nodes)
            return group if products and len(set(group)) == len(group) > 1 else ()
    return ()


def _groups(cascade: Cascade) -> list[tuple[str, ...]]:
    """The lists of two or more ranks that at least two reductions are over, in any order."""
    count: dict[frozenset[str], int] = {}
    order: dict[frozenset[str], tuple[str, ...]] = {}
    for equation in cascade.equations:
        if isinstance(equation.value, Reduction) and len(equation.value.ranks) > 1:
            key = frozenset(equation.value.ranks)
            order.setdefault(key, equation.value.ranks)
            count[key] = count.get(key, 0) + 1
    return [order[key] for key, number in count.items() if number > 1]


def _separable(cascade: Cascade, group: tuple[str, ...]) -> bool:
    """Whether nothing needs one of the ranks apart from the others."""
    ranks, axes = set(group), ranks_of_tensors(cascade)
    if any(ranks & set(t.ranks) for t in cascade.outputs):
        return False
    computed = {t.tensor for e in cascade.equations for t in e.targets}
    for equation in cascade.equations:
        own = set(equation.target.ranks)
        reduced = reduced_ranks(equation)
        if reduced & ranks and not (ranks <= reduced and plain(equation)):
            return False
        if isinstance(equation.value, Selection) and own & ranks:
            return False
        if own & ranks and not plain(equation) and not equation.otherwise:
            return False
        for read in reads_in(equation):
            whole = ranks <= set(axes.get(read.tensor, ()))
            if read.tensor in computed and whole and not _bare(read, axes[read.tensor], ranks):
                return False
    return True


def _bare(read: Read, axes: tuple[str, ...], ranks: set[str]) -> bool:
    return len(axes) == len(read.indices) and all(
        index == Rank(axis) for axis, index in zip(axes, read.indices, strict=True) if axis in ranks
    )


class _Merger:
    def __init__(self, cascade: Cascade, group: tuple[str, ...]) -> None:
        self._cascade = cascade
        self._group = group
        self._axes = ranks_of_tensors(cascade)
        self._computed = {t.tensor for e in cascade.equations for t in e.targets}
        self._merged = fresh("_".join(group), all_ranks(cascade) | {p.name.lower() for p in cascade.parameters})
        self._coordinates = row_major(self._merged, group)

    def merged(self) -> Cascade:
        extent: Expression = Extent(self._group[0])
        for rank in self._group[1:]:
            extent = Binary("*", extent, Extent(rank))
        parameters = (*self._cascade.parameters, Scalar(self._merged.upper(), None, extent))
        equations = tuple(self._equation(e) for e in self._cascade.equations)
        return replace(self._cascade, parameters=parameters, equations=equations)

    def _whole(self, tensor: str) -> bool:
        return tensor in self._computed and set(self._group) <= set(self._axes.get(tensor, ()))

    def _equation(self, equation: Equation) -> Equation:
        carried = set(equation.target.ranks) | reduced_ranks(equation)
        if not set(self._group) <= carried:
            return equation
        targets = tuple(replace(t, indices=self._indices(t.indices)) for t in equation.targets)
        where = None if equation.where is None else self._expression(equation.where)
        return replace(equation, targets=targets, value=self._expression(equation.value), where=where)

    def _indices(self, indices: tuple[Expression, ...]) -> tuple[Expression, ...]:
        """The merged rank where the first of the group stands; the others leave."""
        members = [i for i in indices if isinstance(i, Rank) and i.name in self._group]
        found: list[Expression] = []
        for index in indices:
            if index not in members:
                found.append(index)
            elif index == members[0]:
                found.append(Rank(self._merged))
        return tuple(found)

    def _expression(self, node: Expression) -> Expression:
        if isinstance(node, Read) and self._whole(node.tensor):
            inner = tuple(i if isinstance(i, Rank) else self._expression(i) for i in node.indices)
            return replace(node, indices=self._indices(inner))
        if isinstance(node, Rank):
            return self._coordinates.get(node.name, node)
        changed = map_children(node, self._expression)
        if isinstance(changed, Reduction) and set(self._group) <= set(changed.ranks):
            rest = tuple(r for r in changed.ranks if r not in self._group)
            return replace(changed, ranks=(self._merged, *rest))
        return changed
