"""Axes of a product that lie behind one another in every tile, as one axis: fewer and larger calls of the runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from einsum_compiler.backends.cpu.roles import Roles
from einsum_compiler.backends.cpu.view import View
from einsum_compiler.ir.tile import Axis


def joined(roles: Roles, left: View, right: View, result: View, scale: View | None = None) -> Roles:
    """The roles with loops taken into the row, the column or the depth where a step of the loop is that axis's whole length in every tile that has both.

    Law: coordinates (i, j) with strides (s J, s) are the coordinate i J + j with stride s. ``scale``: a number for every row.
    """
    of_rows = (left, result) if scale is None else (left, result, scale)
    row, loops = _largest(roles.row, roles.loops, of_rows, (right,))
    column, loops = _grown(roles.column, loops, (right, result), (left,))
    along_depth = roles.depth is not None and right.axes[-1].rank == roles.depth.rank
    grow = _grown if along_depth else _largest
    depth, deep_loops = grow(roles.depth, roles.deep_loops, (left, right), ())
    return replace(roles, row=row, column=column, depth=depth, loops=loops, deep_loops=deep_loops)


def _largest(
    axis: Axis | None, loops: tuple[Axis, ...], having: Sequence[View], lacking: Sequence[View]
) -> tuple[Axis | None, tuple[Axis, ...]]:
    """The largest axis that comes of the one given or of a loop in its place, and the loops left."""
    if axis is None:
        return None, loops
    same = [a for a in loops if all(v.has(a.rank) for v in having) and not any(v.has(a.rank) for v in lacking)]
    found = [_grown(inner, tuple(a for a in (axis, *loops) if a != inner), having, lacking) for inner in (axis, *same)]
    return max(found, key=lambda grown: grown[0].size if grown[0] else 0)


def _grown(
    axis: Axis | None, loops: tuple[Axis, ...], having: Sequence[View], lacking: Sequence[View]
) -> tuple[Axis | None, tuple[Axis, ...]]:
    """The axis with all loops that it can take in, and the loops left."""
    while axis is not None:
        found = next((a for a in loops if _continues(a, axis, having, lacking)), None)
        if found is None:
            break
        axis, loops = Axis(axis.rank, axis.size * found.size), tuple(a for a in loops if a != found)
    return axis, loops


def _continues(outer: Axis, inner: Axis, having: Sequence[View], lacking: Sequence[View]) -> bool:
    if any(view.has(outer.rank) or view.has(inner.rank) for view in lacking):
        return False
    if not all(view.has(outer.rank) and view.has(inner.rank) and not view.rows for view in having):
        return False
    steps = [(view.stride(outer.rank), view.stride(inner.rank)) for view in having]
    return all(o.isdigit() and i.isdigit() and int(o) == inner.size * int(i) for o, i in steps)
