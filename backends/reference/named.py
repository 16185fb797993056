"""Tensors with named axes that broadcast by name: the one representation both interpreters compute with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Named:
    """A tensor and the rank of each axis. A rank it lacks is one it does not depend on."""

    ranks: tuple[str, ...]
    data: Tensor

    def aligned(self, ranks: tuple[str, ...]) -> Tensor:
        """The data with axes in the order of ``ranks`` (a superset), size 1 where a rank is missing."""
        if ranks == self.ranks:
            return self.data
        order = [self.ranks.index(r) for r in ranks if r in self.ranks]
        data = self.data if order == sorted(order) else self.data.permute(order)
        for axis, rank in enumerate(ranks):
            if rank not in self.ranks:
                data = data.unsqueeze(axis)
        return data

    def expanded(self, ranks: tuple[str, ...], extents: Mapping[str, int]) -> Tensor:
        """The data broadcast to every rank of ``ranks`` (a superset of its own)."""
        return self.aligned(ranks).expand([extents[r] for r in ranks])

    def without(self, ranks: Iterable[str], combine: Callable[[Tensor, tuple[int, ...]], Tensor]) -> Named:
        """``combine`` applied over the axes of ``ranks`` that it has."""
        axes = tuple(i for i, r in enumerate(self.ranks) if r in set(ranks))
        if not axes:
            return self
        rest = tuple(r for i, r in enumerate(self.ranks) if i not in axes)
        return Named(rest, combine(self.data, axes))


def union(*operands: Named | None) -> tuple[str, ...]:
    """Every rank of the operands, in order of first occurrence."""
    return tuple(dict.fromkeys(r for o in operands if o is not None for r in o.ranks))


def pointwise(function: Callable[..., Tensor], *operands: Named) -> Named:
    """``function`` of the operands, broadcast by rank."""
    if len(operands) == 1:
        return Named(operands[0].ranks, function(operands[0].data))
    ranks = union(*operands)
    return Named(ranks, function(*[o.aligned(ranks) if o.ranks else o.data for o in operands]))


def both(left: Named | None, right: Named | None) -> Named | None:
    """The conjunction of two masks; None stands for *true everywhere*."""
    if left is None or right is None:
        return right if left is None else left
    return left if left is right else pointwise(torch.logical_and, left, right)


def projected(mask: Named, ranks: Iterable[str]) -> Named:
    """Where some point over the ranks not in ``ranks`` is true."""
    kept = set(ranks)
    return mask.without([r for r in mask.ranks if r not in kept], lambda data, axes: data.any(dim=axes))


def everywhere(mask: Named | None) -> Named | None:
    """None if the mask is true everywhere, so that later steps skip it."""
    return None if mask is None or bool(mask.data.all()) else mask
