"""Loads of ``T[x // s, x % s]``: where one axis lies inside of the other, the address is one of x.

    T + (x // s) * S1 + (x % s) * S2   =   T + x * S2   where S1 = s * S2

Law: division with remainder. Strides are known at run time, so that decides; then conditions on the two are bounds of x, as lanes have them: ``x // s < Q`` is ``x < s * Q``, and
``x % s < H`` holds where s <= H.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from einsum_compiler.ir.build import conjunction, conjuncts, multiply
from einsum_compiler.ir.expression import Binary, Comparison, Constant, Expression, children
from einsum_compiler.ir.tile import Load


@dataclass(frozen=True)
class RowMajor:
    """The load with one index in place of each quotient and its remainder, where ``inside`` holds and the stride of each of the axes ``split`` is its number times that of the next one."""

    load: Load
    split: tuple[tuple[int, int], ...]
    inside: tuple[Expression, ...]


def row_major(load: Load) -> RowMajor | None:
    """A load in this form, if indices of neighbouring axes are a quotient and its remainder."""
    indices, split, dividends = list(load.indices), [], []
    for d, pair in enumerate(zip(load.indices, load.indices[1:], strict=False)):
        match pair:
            case (
                Binary(operator="//", left=x, right=Constant(value=int() as size)),
                Binary(operator="%", left=y, right=Constant(value=int() as other)),
            ) if x == y and size == other and size > 0:
                indices[d], indices[d + 1] = Constant(0), x
                split.append((d, size))
                dividends.append((x, size))
    if not split:
        return None
    inside: list[Expression] = []

    def bound(node: Expression) -> Expression | None:
        for x, size in dividends:
            match node:
                case Comparison(operators=("<",), operands=(Binary("//", left, Constant(value=number)), limit)) if (
                    left == x and number == size
                ):
                    return Comparison(("<",), (x, multiply(Constant(size), limit)))
                case Comparison(operators=("<=",), operands=(Constant(value=0), Binary("//", left, Constant()))) if (
                    left == x
                ):
                    return Comparison(("<=",), (Constant(0), x))
                case Comparison(operators=("<",), operands=(Binary("%", left, Constant(value=number)), limit)) if (
                    left == x and number == size and not children(limit)
                ):
                    inside.append(Comparison(("<=",), (Constant(size), limit)))
                    return None
        return node

    where = conjunction(c for c in map(bound, conjuncts(load.where)) if c is not None)
    partial = conjunction(c for c in map(bound, conjuncts(load.partial_where)) if c is not None)
    merged = replace(load, indices=tuple(indices), where=where, partial_where=partial)
    return RowMajor(merged, tuple(split), tuple(inside))
