"""A sum of products as a product of two tiles, where its ranks allow one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from einsum_compiler.ir.build import multiply
from einsum_compiler.ir.expression import Binary, Constant, Expression, Unary

Axes = frozenset[str]


@dataclass(frozen=True)
class Factor:
    """A factor of the body and the axes it has."""

    value: Expression
    axes: Axes


@dataclass(frozen=True)
class Product:
    """``scale * sum over the reduced axes of left * right``; ``right`` is None where no matrix product is to be had."""

    left: Factor
    right: Factor | None
    scale: Expression | None = None


def factors_of(body: Expression) -> list[Expression]:
    """The factors of a product; a quotient gives its numerator's factors and the reciprocal stays with the first."""
    if isinstance(body, Binary) and body.operator == "*":
        return factors_of(body.left) + factors_of(body.right)
    if isinstance(body, Unary) and body.operator == "-":
        return [Constant(-1), *factors_of(body.operand)]
    return [body]


def as_product(
    body: Expression, over: Axes, axes_of: Callable[[Expression], Axes], size: Callable[[str], int]
) -> Product:
    """The body of a sum over the axes ``over`` as two factors with rows and columns of their own, or as one.

    Factors without a reduced axis leave the sum (distributivity). A factor whose axes another one has is multiplied into it; of more than
    two, the two with the smallest common tile are multiplied first. A body without a reduced axis is counted: it stays whole.
    """
    scale: Expression | None = None
    inner: list[Factor] = []
    for value in factors_of(body):
        axes = axes_of(value)
        if axes & over:
            inner.append(Factor(value, axes))
        else:
            scale = value if scale is None else multiply(scale, value)
    if not inner:
        return Product(Factor(body, axes_of(body)), None)
    while len(inner) > 1:
        pairs = [(a, b) for i, a in enumerate(inner) for b in inner[i + 1 :]]
        nested = [(a, b) for a, b in pairs if a.axes <= b.axes or b.axes <= a.axes]
        if not nested and len(inner) == 2:
            break
        a, b = min(nested or pairs, key=lambda p: prod(size(r) for r in p[0].axes | p[1].axes))
        merged = Factor(multiply(a.value, b.value), a.axes | b.axes)
        position = inner.index(a)
        inner = [f for f in inner if f is not a and f is not b]
        inner.insert(position, merged)
    if len(inner) == 2 and over <= inner[0].axes and over <= inner[1].axes:
        return Product(inner[0], inner[1], scale)
    value = inner[0].value if len(inner) == 1 else multiply(inner[0].value, inner[1].value)
    return Product(Factor(value, frozenset().union(*(f.axes for f in inner))), None, scale)
