"""Values of expressions: data together with the mask of points that are not empty (language.md, *Filters and emptiness*)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from einsum_compiler.backends.reference.named import Named, both, everywhere, pointwise, projected, union


def scalar_tensor(value: bool | float | Tensor, real: torch.dtype, device: torch.device) -> Tensor:
    """A number as a 0-d tensor: floats in the type ``real``, integers int64. A tensor keeps its gradient."""
    if isinstance(value, Tensor):
        return value.to(device, real if value.is_floating_point() else value.dtype)
    dtype = torch.bool if isinstance(value, bool) else torch.int64 if isinstance(value, int) else real
    return torch.tensor(value, dtype=dtype, device=device)


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """``data`` where ``present`` (None: everywhere); elsewhere the point is empty and the data means nothing."""

    data: Named
    present: Named | None = None

    @property
    def ranks(self) -> tuple[str, ...]:
        return union(self.data, self.present)

    def truth(self) -> Named:
        """Where a predicate is true: neither false nor unknown."""
        return self.data if self.present is None else pointwise(torch.logical_and, self.data, self.present)

    def filled(self, fill: bool | float) -> Named:
        """The data, with ``fill`` at empty points."""
        return self.data if self.present is None else chosen(self.present, self.data, fill)


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """A whole tensor, an axis per index: its data and mask, and whether it holds coordinates (empty: -1)."""

    data: Tensor
    present: Tensor | None = None
    coordinate: bool = False

    def output(self) -> Tensor:
        """The tensor a caller sees: 0 at empty points, -1 for an empty coordinate."""
        if self.present is None:
            return self.data
        fill = torch.full((), -1 if self.coordinate else 0, dtype=self.data.dtype, device=self.data.device)
        return torch.where(self.present, self.data, fill)


def chosen(mask: Named, data: Named, otherwise: bool | float) -> Named:
    """``data`` where ``mask``, else a constant. No gradient flows to the data where the mask is false."""
    ranks = union(data, mask)
    other = torch.full((), otherwise, dtype=data.data.dtype, device=data.data.device)
    return Named(ranks, torch.where(mask.aligned(ranks), data.aligned(ranks), other))


def harmless(data: Named, mask: Named | None, ranks: tuple[str, ...]) -> Named:
    """``data`` with 1 at the points no one looks at, so that neither a value nor a derivative there is NaN.

    ``mask`` may have ranks besides ``ranks``: a coordinate is kept if some point over those needs it.
    """
    return data if mask is None else chosen(projected(mask, ranks), data, 1)


def strict(
    function: Callable[..., Tensor], operands: tuple[Value, ...], domain: Named | None, linear: bool = False
) -> Value:
    """A pointwise function, empty where an operand is.

    The operands are made harmless outside of ``domain`` first, unless ``linear`` says that derivatives are constants.
    """
    present = None
    for operand in operands:
        present = both(present, operand.present)
    datas = [o.data for o in operands]
    if not linear:
        ranks = union(*datas)
        mask = both(present, domain)
        datas = [harmless(d, mask, ranks) for d in datas]
    return Value(pointwise(function, *datas), present)


def conjunction(left: Value, right: Value) -> Value:
    """Three-valued ``and``: false where one side is false, though the other be empty."""
    if left.present is None and right.present is None:
        return Value(pointwise(torch.logical_and, left.data, right.data))
    true = pointwise(torch.logical_and, left.truth(), right.truth())
    false = pointwise(torch.logical_or, negation(left).truth(), negation(right).truth())
    return Value(true, everywhere(pointwise(torch.logical_or, true, false)))


def negation(value: Value) -> Value:
    """Three-valued ``not``."""
    return Value(pointwise(torch.logical_not, value.data), value.present)


def disjunction(left: Value, right: Value) -> Value:
    """Three-valued ``or``: true where one side is true, though the other be empty."""
    return negation(conjunction(negation(left), negation(right)))


def conditional(condition: Value, then: Value, otherwise: Value) -> Value:
    """``if(c, a, b)``: empty where the condition or the branch taken is."""
    data = pointwise(torch.where, condition.data, then.data, otherwise.data)
    if then.present is None and otherwise.present is None:
        return Value(data, condition.present)
    always = Named((), torch.ones((), dtype=torch.bool, device=data.data.device))
    branch = pointwise(torch.where, condition.data, then.present or always, otherwise.present or always)
    return Value(data, everywhere(both(condition.present, branch)))


def default(value: Value, fill: Value) -> Value:
    """``default(x, y)``: x where it is not empty, else y."""
    if value.present is None:
        return value
    data = pointwise(torch.where, value.present, value.data, fill.data)
    return Value(data, None if fill.present is None else pointwise(torch.logical_or, value.present, fill.present))
