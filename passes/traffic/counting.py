"""How many elements an access touches, exactly, without running the kernel.

Law: conditions that share no axis are independent, so the elements of a tile are a product over groups of axes. A group is counted once
for every program and tile that it depends on. A group that depends on the tile of the loop alone has one count per tile, and a
program's share is a difference of its prefix sums, so that dense and masked sweeps cost no more than one evaluation along the loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from einsum_compiler.ir.expression import Expression
from einsum_compiler.ir.tile import Axis
from einsum_compiler.passes.traffic.arrays import Array, Points, UnknownValues
from einsum_compiler.passes.traffic.space import Access, Rows, Space

# Points of conditions evaluated at a time, and all together.
CHUNK, MOST_POINTS = 1 << 22, 1 << 31


@dataclass(frozen=True)
class Group:
    """Conditions that share axes, and the indices (of programs and the loop) they depend on."""

    axes: tuple[Axis, ...]
    conditions: tuple[Expression, ...]
    depends: frozenset[str]


def groups_of(space: Space, access: Access) -> tuple[Group, ...]:
    """The conditions of an access by the axes they share; an axis without conditions is a group of its own."""
    sizes = {a.rank: a for a in access.axes}
    groups = [Group((a,), (), frozenset()) for a in access.axes]
    for condition in access.conditions:
        depends = space.values.depends(condition)
        joined = [g for g in groups if any(a.rank in depends for a in g.axes)]
        outer = depends - sizes.keys()
        groups = [g for g in groups if g not in joined]
        axes = tuple(a for g in joined for a in g.axes)
        conditions = tuple(c for g in joined for c in g.conditions)
        groups.append(Group(axes, (*conditions, condition), outer.union(*(g.depends for g in joined))))
    return tuple(groups)


def counted(space: Space, access: Access) -> int:
    """The elements that all programs touch at an access, repetitions included. Raises ``UnknownValues``."""
    if (access.loop is not None and not access.loop.ranges) or space.programs == 0:
        return 0
    groups = groups_of(space, access)
    needed = space.among(space.bounds(access).union(*(g.depends for g in groups)))
    rows = space.rows(access, needed)
    times = prod(n for r, n in space.counts.items() if r not in needed)
    return times * int(per_row(space, access, groups, rows).sum())


def per_row(space: Space, access: Access, groups: tuple[Group, ...], rows: Rows) -> Array:
    """The elements of every row of programs."""
    loop = access.loop.rank if access.loop else ""
    fixed = [g for g in groups if loop not in g.depends]
    moving = [g for g in groups if loop in g.depends]
    per_program = np.ones(rows.length, dtype=np.int64)
    for group in fixed:
        per_program = per_program * at_points(space, access, group, rows.indices, rows.length)
    if not any(g.depends - {loop} for g in moving):
        low, high = (int(rows.first.min(initial=0)), int(rows.last.max(initial=0)))
        positions = np.arange(low, high)
        per_tile = np.ones(len(positions), dtype=np.int64)
        for group in moving:
            per_tile = per_tile * at_points(space, access, group, {loop: rows.tile_at(positions)}, len(positions))
        sums = np.concatenate([[0], np.cumsum(per_tile)])
        in_loop: Array = sums[rows.last - low] - sums[rows.first - low]
        return per_program * in_loop
    row, positions = expanded(rows)
    points = {**{r: i[row] for r, i in rows.indices.items()}, loop: rows.tile_at(positions)}
    per_visit = np.ones(len(row), dtype=np.int64)
    for group in moving:
        per_visit = per_visit * at_points(space, access, group, points, len(row))
    visited: Array = np.bincount(row, weights=per_visit if len(row) else None, minlength=rows.length).astype(np.int64)
    return per_program * visited


def expanded(rows: Rows) -> tuple[Array, Array]:
    """Every visit of a tile: the row and the position of the tile."""
    lengths = np.maximum(0, rows.last - rows.first)
    total = int(lengths.sum())
    if total > MOST_POINTS // 16:
        raise UnknownValues(f"it visits {total} tiles, more than are looked at one by one")
    row = np.repeat(np.arange(rows.length), lengths)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]) if rows.length else np.zeros(0, np.int64)
    return row, np.arange(total) - np.repeat(starts - rows.first, lengths)


def at_points(space: Space, access: Access, group: Group, points: Mapping[str, Array], length: int) -> Array:
    """How many coordinates of a group's axes its conditions leave, at each of ``length`` points of the indices around."""
    whole = prod(a.size for a in group.axes)
    if not group.conditions:
        return np.full(length, whole, dtype=np.int64)
    if length == 0:
        return np.zeros(0, dtype=np.int64)
    used = [r for r in points if r in group.depends]
    distinct, back = distinct_rows([points[r] for r in used], length)
    many = len(distinct[0]) if used else 1
    if many * whole > MOST_POINTS:
        raise UnknownValues(f"its conditions have {many * whole} points, more than are looked at one by one")
    counts = np.empty(many, dtype=np.int64)
    step = max(1, CHUNK // max(1, whole))
    for start in range(0, many, step):
        here = {r: d[start : start + step] for r, d in zip(used, distinct, strict=True)}
        rows = min(step, many - start)
        mask = masks_at(space, access, group.axes, group.conditions, here, rows)
        counts[start : start + rows] = mask.sum(axis=1)
    return counts[back]


def masks_at(
    space: Space,
    access: Access,
    axes: tuple[Axis, ...],
    conditions: tuple[Expression, ...],
    points: Mapping[str, Array],
    length: int,
) -> Array:
    """Which coordinates of some axes conditions leave at each point: truth values of shape (length, product of the axes)."""
    dimensions = len(axes)
    shape = (length, *(a.size for a in axes))
    if length * prod(a.size for a in axes) > MOST_POINTS:
        raise UnknownValues(f"its conditions have {prod(shape)} points, more than are looked at one by one")
    ranks = {r: p.reshape((-1,) + (1,) * dimensions) for r, p in points.items()}
    for position, axis in enumerate(axes):
        ranks[axis.rank] = np.arange(axis.size).reshape([-1 if k == position else 1 for k in range(-1, dimensions)])
    mask = Points(space.values, ranks, access.partial).mask(conditions)
    return np.broadcast_to(mask, shape).reshape(length, prod(shape[1:]))


def distinct_rows(columns: list[Array], length: int) -> tuple[list[Array], Array]:
    """The different rows of some columns, and for every row which of them it is."""
    if not columns or not length:
        return columns, np.zeros(length, dtype=np.int64)
    key = np.zeros(length, dtype=np.int64)
    for column in columns:
        low = int(column.min())
        key = key * (int(column.max()) - low + 1) + (column - low)
    _, where, back = np.unique(key, return_index=True, return_inverse=True)
    return [c[where] for c in columns], back.reshape(-1)
