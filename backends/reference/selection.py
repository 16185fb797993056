"""topk and argsort: coordinates in the order of values."""

from __future__ import annotations

import torch

from einsum_compiler.backends.reference.named import Named, both
from einsum_compiler.backends.reference.scope import Scope
from einsum_compiler.backends.reference.values import Value
from einsum_compiler.ir.cascade import Target
from einsum_compiler.ir.errors import SpecError
from einsum_compiler.ir.expression import Selection


def select(node: Selection, target: Target, scope: Scope) -> Value:
    """The coordinates (of several ranks: positions in their row-major order) of the chosen points.

    topk falls, ties to the lower coordinate; argsort rises and is stable. Filtered and empty points come last and
    are empty entries; so are those past the number of candidates.
    """
    inner = scope.binding(node.ranks)
    kept = None if node.where is None else inner.value(node.where).truth()
    body = inner.within(kept).value(node.body)
    mask = both(body.present, kept)
    rest = tuple(r for r in target.ranks if r in body.ranks or (mask is not None and r in mask.ranks))
    rest = tuple(r for r in rest if r not in node.ranks)
    new = [r for r in target.ranks if r not in rest and r not in scope.fixed]
    if len(new) != 1:
        raise SpecError(f"{node.operator} gives one new rank, and the left side has {len(new)} besides", node.span)
    order = (*rest, *node.ranks)
    values = body.data.expanded(order, scope.extents).flatten(len(rest)).detach()
    if values.dtype == torch.bool:
        values = values.to(torch.int8)
    places = values.sort(dim=-1, descending=node.operator == "topk", stable=True).indices
    present = None
    if mask is not None:
        empty = ~mask.expanded(order, scope.extents).flatten(len(rest))
        behind = empty.gather(-1, places).to(torch.int8).sort(dim=-1, stable=True).indices
        places = places.gather(-1, behind)
        present = ~empty.gather(-1, places)
    return _cut(places, present, scope.extents[new[0]], (*rest, new[0]))


def _cut(places: torch.Tensor, present: torch.Tensor | None, count: int, ranks: tuple[str, ...]) -> Value:
    """The first ``count`` entries; empty ones where there are fewer."""
    lacking = count - places.shape[-1]
    if lacking > 0:
        if present is None:
            present = torch.ones_like(places, dtype=torch.bool)
        places = torch.nn.functional.pad(places, (0, lacking))
        present = torch.nn.functional.pad(present, (0, lacking))
    mask = None if present is None else Named(ranks, present[..., :count])
    return Value(Named(ranks, places[..., :count]), mask)
