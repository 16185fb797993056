"""Divisors of ``//`` and ``%`` that only extents and parameters decide: a call in which one is 0 has no meaning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from einsum_compiler.ir.build import ranks_of, reads_of
from einsum_compiler.ir.cascade import Cascade
from einsum_compiler.ir.errors import ShapeError
from einsum_compiler.ir.expression import Binary, Conditional, Constant, Expression, Extent, Parameter, children, walk
from einsum_compiler.ir.scalar import evaluate_scalar


def divisions(cascade: Cascade) -> tuple[Binary, ...]:
    """The divisions whose divisor has neither ranks nor reads, but those that a condition may keep from being evaluated."""
    roots = (node for e in cascade.equations for node in (e.value, e.where) if node is not None)
    return tuple(n for root in roots for n in _always_evaluated(root) if _is_decided(n))


def check_divisions(found: tuple[Binary, ...], extents: Mapping[str, int], scalars: Mapping[str, Any]) -> None:
    """Raises ``ShapeError`` where a divisor is 0 for these extents (by rank) and parameters; a call without points divides nothing."""
    if not found or 0 in extents.values():
        return
    names = {**{rank.upper(): size for rank, size in extents.items()}, **scalars}
    from einsum_compiler.ir.printer import print_expression

    for division in found:
        if evaluate_scalar(division.right, names) == 0:
            used = sorted(
                n.name if isinstance(n, Parameter) else n.rank.upper()
                for n in set(walk(division.right))
                if isinstance(n, Extent | Parameter)
            )
            values = ", ".join(f"{name} = {names[name]}" for name in used)
            raise ShapeError(
                f"division by zero: {print_expression(division.right)} is 0", division.span, (f"in this call {values}",)
            )


def _is_decided(node: Expression) -> bool:
    return (
        isinstance(node, Binary)
        and node.operator in ("//", "%")
        and not isinstance(node.right, Constant)
        and not ranks_of(node.right)
        and not reads_of(node.right)
    )


def _always_evaluated(node: Expression) -> Iterator[Any]:
    yield node
    lazy = isinstance(node, Conditional) or (isinstance(node, Binary) and node.operator in ("and", "or"))
    for child in children(node)[: 1 if lazy else None]:
        yield from _always_evaluated(child)
