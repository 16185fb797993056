"""The same program at some coordinates of its rows: what the reference can check of a call that is too large for it.

Law: let a rank be free if every output has it, no reduction or recurrence runs over it, and each axis that it names is read at its own coordinate. Then
outputs at one coordinate do not depend on the others, and

    O[m, f] = F(m, Q[m, e], ...)    ->    O[m, f] = F(m.sample[m], Q[m, e], ...)

with Q cut down to the sampled coordinates computes the same values there. Elsewhere the rank is read as a number: ``n <= m`` becomes
``n <= m.sample[m]``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from einsum_compiler.ir.binding import Binding
from einsum_compiler.ir.cascade import Cascade, Equation, Tensor
from einsum_compiler.ir.expression import (
    Constant,
    Expression,
    Extent,
    Rank,
    Read,
    Reduction,
    Selection,
    map_children,
    walk,
)
from einsum_compiler.ir.extents import axis_ranks

FEWEST = 4  # coordinates of a rank


@dataclass(frozen=True)
class Sample:
    """A cascade over sampled coordinates, and which they are; no ranks: all of them."""

    cascade: Cascade
    coordinates: Mapping[str, Any]  # rank: i64 tensor

    def binding(self, whole: Binding) -> Binding:
        """The arguments of the sampled program from those of the whole one."""
        tensors = {}
        device = next(iter(whole.tensors.values())).device
        for declared in self.cascade.inputs:
            name = declared.name
            tensors[name] = (
                self.coordinates[declared.ranks[0]].to(device)
                if name not in whole.tensors
                else self.rows(declared, whole.tensors[name])
            )
        extents = {**whole.extents, **{r: len(c) for r, c in self.coordinates.items()}}
        return Binding(tensors, whole.scalars, extents)

    def rows(self, declared: Tensor, value: Any) -> Any:
        """A tensor at the sampled coordinates."""
        for axis, rank in enumerate(declared.ranks):
            if rank in self.coordinates:
                value = value.index_select(axis, self.coordinates[rank].to(value.device))
        return value

    def outputs(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs of the whole program at the sampled coordinates."""
        return {t.name: self.rows(t, found[t.name]) for t in self.cascade.outputs}


def sample(cascade: Cascade, extents: Mapping[str, int], points: int, seed: int = 0) -> Sample:
    """The cascade with fewer coordinates of its free ranks, until no equation has more than ``points`` (or nothing is left to leave out).

    ``cascade``: without calls of other cascades. First and last coordinates are always taken, the others at random.
    """
    import torch

    sizes = dict(extents)
    free = free_ranks(cascade)
    while _points(cascade, sizes) > points:
        widest = max(free, key=lambda r: sizes[r], default=None)
        if widest is None or sizes[widest] <= FEWEST:
            break
        sizes[widest] = max(FEWEST, sizes[widest] // 2)
    generator = torch.Generator().manual_seed(seed)
    coordinates = {}
    for rank in free:
        if sizes[rank] < extents[rank]:
            inner = 1 + torch.randperm(extents[rank] - 2, generator=generator)[: sizes[rank] - 2].sort().values
            coordinates[rank] = torch.cat([torch.tensor([0]), inner, torch.tensor([extents[rank] - 1])])
    if not coordinates:
        return Sample(cascade, {})
    axes = axis_ranks(cascade)

    def visit(node: Expression) -> Expression:
        match node:
            case Rank(name=name) if name in coordinates:
                return Read(f"{name}.sample", (node,))
            case Extent(rank=rank) if rank in coordinates:
                return Constant(extents[rank])
            case Read(tensor=tensor, indices=indices):
                kept = [
                    i if _is_row(i, a, coordinates) else visit(i) for i, a in zip(indices, axes[tensor], strict=True)
                ]
                return replace(node, indices=tuple(kept))
        return map_children(node, visit)

    equations = tuple(
        replace(e, value=visit(e.value), where=visit(e.where) if e.where is not None else None)
        for e in cascade.equations
    )
    inputs = (*cascade.inputs, *(Tensor(f"{r}.sample", (r,), "i64") for r in coordinates))
    return Sample(replace(cascade, inputs=inputs, equations=equations), coordinates)


def free_ranks(cascade: Cascade) -> list[str]:
    """The ranks of which any coordinates can be computed alone."""
    if not cascade.outputs:
        return []
    free = set(cascade.outputs[0].ranks).intersection(*(t.ranks for t in cascade.outputs))
    axes = axis_ranks(cascade)
    for equation in cascade.equations:
        targets = [i for t in equation.targets for i in t.indices]
        free -= {n.name for i in targets if not isinstance(i, Rank) for n in walk(i) if isinstance(n, Rank)}
        kept = {i.name for i in targets if isinstance(i, Rank)}
        for node in _nodes(equation):
            match node:
                case Reduction(ranks=ranks) | Selection(ranks=ranks):
                    free -= set(ranks)
                case Rank(name=name) if name not in kept:
                    free.discard(name)
                case Read(tensor=tensor, indices=indices):
                    for index, axis in zip(indices, axes[tensor], strict=True):
                        if axis in free and not _is_row(index, axis, free):
                            free.discard(axis)
    return [r for r in cascade.outputs[0].ranks if r in free]


def _is_row(index: Expression, axis: str | None, ranks: Iterable[str]) -> bool:
    return isinstance(index, Rank) and index.name == axis and axis in ranks


def _points(cascade: Cascade, extents: Mapping[str, int]) -> int:
    """The points of the largest equation."""
    most = 1
    for equation in cascade.equations:
        ranks = {
            n.name
            for root in (*equation.targets[0].indices, *_roots(equation))
            for n in walk(root)
            if isinstance(n, Rank)
        }
        most = max(most, prod(extents.get(r, 1) for r in ranks))
    return most


def _roots(equation: Equation) -> tuple[Expression, ...]:
    return (equation.value,) if equation.where is None else (equation.value, equation.where)


def _nodes(equation: Equation) -> Iterable[Expression]:
    return (n for root in _roots(equation) for n in walk(root))
