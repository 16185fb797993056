"""Reductions: empty points are skipped, and a reduction of no points gives the identity."""

from __future__ import annotations

import math

import torch

from einsum_compiler.backends.reference.contraction import contract
from einsum_compiler.backends.reference.functions import identity, reduce
from einsum_compiler.backends.reference.named import Named, both, union
from einsum_compiler.backends.reference.scope import Scope
from einsum_compiler.backends.reference.values import Value, chosen
from einsum_compiler.ir.expression import Reduction


def reduction(node: Reduction, scope: Scope) -> Value:
    """``op[ranks](body where predicate)``; a value at every point but for argmax, which is empty over nothing."""
    inner = scope.binding(node.ranks)
    kept = None if node.where is None else inner.value(node.where).truth()
    inner = inner.within(kept)
    if node.operator == "sum":
        product = contract(node, inner, kept)
        if product is not None:
            return Value(product)
    body = inner.value(node.body)
    mask = both(body.present, kept)
    if node.operator == "argmax":
        return _argmax(node, body, mask, scope)
    if node.operator == "mean":
        total, count = _reduced("sum", node, body, mask, scope), _count(node, mask, scope)
        ranks = union(total, count)
        return Value(Named(ranks, total.aligned(ranks) / count.aligned(ranks).to(scope.real)))
    return Value(_reduced(node.operator, node, body, mask, scope))


def _spread(data: Named, mask: Named | None, ranks: tuple[str, ...], scope: Scope) -> Named:
    """The data on the axes of the mask and of every reduced rank."""
    axes = tuple(dict.fromkeys((*union(data, mask), *ranks)))
    return Named(axes, data.aligned(axes).expand(scope.sizes(axes)))


def _reduced(operator: str, node: Reduction, body: Value, mask: Named | None, scope: Scope) -> Named:
    data = body.data
    if data.data.dtype == torch.bool and operator in ("sum", "prod"):
        data = Named(data.ranks, data.data.to(torch.int64))
    if mask is not None:
        data = chosen(mask, data, identity(operator, data.data.dtype))
    data = _spread(data, mask, node.ranks, scope)
    return data.without(node.ranks, lambda values, axes: reduce(operator, values, axes))


def _count(node: Reduction, mask: Named | None, scope: Scope) -> Named:
    """How many points are not empty."""
    if mask is None:
        return Named((), torch.tensor(math.prod(scope.sizes(node.ranks)), device=scope.device))
    return _spread(mask, None, node.ranks, scope).without(node.ranks, lambda values, axes: values.sum(dim=axes))


def _argmax(node: Reduction, body: Value, mask: Named | None, scope: Scope) -> Value:
    """The first coordinate of the largest value; over several ranks the position in their row-major order."""
    data = body.data if mask is None else chosen(mask, body.data, identity("max", body.data.data.dtype))
    spread = _spread(data, mask, node.ranks, scope)
    rest = tuple(r for r in spread.ranks if r not in node.ranks)
    order = (*rest, *node.ranks)
    flat = spread.aligned(order).flatten(len(rest))
    some = (_count(node, mask, scope)).expanded(rest, scope.extents) > 0
    if flat.shape[-1] == 0:
        return Value(
            Named(rest, torch.zeros(scope.sizes(rest), dtype=torch.int64, device=scope.device)), Named(rest, some)
        )
    if mask is None:
        return Value(Named(rest, flat.argmax(-1)))
    # Empty points never win, not even against a value equal to the identity.
    inside = mask.expanded(order, scope.extents).flatten(len(rest))
    best = inside & ((flat == flat.amax(-1, keepdim=True)) | flat.isnan())
    return Value(Named(rest, best.to(torch.int8).argmax(-1)), Named(rest, some))
