"""The part that every axis of a product plays."""

from __future__ import annotations

from dataclasses import dataclass

from einsum_compiler.ir.tile import Axis, Dot, TileType

# A product of no more rows uses the right operand once or twice: packing it would cost as much as the product.
FEW_ROWS = 4


@dataclass(frozen=True)
class Roles:
    """The operands of a product with the part every axis plays. ``column`` is the last axis of the result."""

    left: str
    right: str
    row: Axis | None
    column: Axis | None
    depth: Axis | None
    loops: tuple[Axis, ...]
    deep_loops: tuple[Axis, ...]


def roles_of(dot: Dot, left: TileType, right: TileType) -> Roles:
    """Columns come from the operand that has the result's last axis: it stands on the right."""
    names = (dot.left, dot.right)
    last = dot.type.axes[-1] if dot.type.axes else None
    if last is not None and last in left.axes and last not in right.axes:
        left, right, names = right, left, (dot.right, dot.left)
    column = last if last is not None and last in right.axes and last not in left.axes else None
    rows = [a for a in dot.type.axes if a in left.axes and a not in right.axes]
    row = max(rows, key=lambda a: a.size, default=None)
    over = [a for a in (*right.axes, *left.axes) if a.rank in dot.over]
    over = list(dict.fromkeys(over))
    depth = right.axes[-1] if right.axes and right.axes[-1] in over else max(over, key=lambda a: a.size, default=None)
    loops = tuple(a for a in dot.type.axes if a not in (row, column))
    return Roles(names[0], names[1], row, column, depth, loops, tuple(a for a in over if a != depth))
