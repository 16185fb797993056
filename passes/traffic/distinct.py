"""How many different elements of a tensor some programs touch together.

Law: an element is named by its indices. Two touches are the same element if their indices agree: indices over programs alone
(``h // 4``) are compared as numbers, ``128*n.1 + n.0`` and bare axes by the tile and the axis they name, which no other tile shares.
An axis that one index alone uses otherwise (``(8*h.1 + h.0) // 4``) is taken apart first: a coordinate of a tile touches what one more program would.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from einsum_compiler.ir.build import ranks_of
from einsum_compiler.ir.expression import Binary, Constant, Expression, Rank, Read, walk
from einsum_compiler.passes.traffic.arrays import Array, Points
from einsum_compiler.passes.traffic.counting import at_points, counted, distinct_rows, expanded, groups_of, masks_at
from einsum_compiler.passes.traffic.space import Access, Space

# Programs, and coordinates of axes taken for programs, that are looked at one by one.
MOST_APART = 1 << 22


@dataclass(frozen=True)
class Family:
    """All accesses of a kernel to one tensor at the same indices; ``size`` is how many elements the tensor has."""

    members: tuple[Access, ...]
    size: int

    @property
    def tensor(self) -> str:
        return self.members[0].tensor

    @property
    def stored(self) -> bool:
        return self.members[0].stored


def distinct(space: Space, family: Family, fixed: Sequence[str]) -> int:
    """Different elements touched by the programs that agree in the ``fixed`` ranks, summed over those ranks. Raises ``UnknownValues``.

    Exact where every index is one of the two forms above; else at most what is touched, and at most the tensor.
    """
    space, family = taken_apart(space, family)
    first = family.members[0]
    programs = frozenset(space.counts)
    keys = [i for i in first.indices if space.values.depends(i) <= programs]
    places = [i for i in first.indices if i not in keys]
    groups = prod(space.counts[r] for r in fixed)
    if not is_exact(space, family):
        return min(sum(counted(space, a) for a in family.members), groups * family.size)
    held = space.values.depends(*places) & programs
    shape = held | frozenset().union(*(shape_of(space, a) for a in family.members)) & programs
    of_keys = space.values.depends(*keys)
    if of_keys & shape:
        shape, of_keys, inner, outer = shape | of_keys, frozenset(), keys, []
    else:
        inner, outer = [], keys
    times = prod(space.counts[r] for r in fixed if r not in shape | of_keys)
    return times * _different(space, first, outer, of_keys, fixed) * _visited(space, family, inner, shape, held, fixed)


def is_exact(space: Space, family: Family) -> bool:
    """Whether ``distinct`` is exact: every index is a number per program or names the coordinates of its axis."""
    first, programs = family.members[0], frozenset(space.counts)
    return all(space.values.depends(i) <= programs or _names_its_coordinates(i, first) for i in first.indices)


def taken_apart(space: Space, family: Family) -> tuple[Space, Family]:
    """The same touches with the axes that one index alone uses, neither naming their coordinates nor with the tile of a loop, as ranks of programs."""
    first, programs = family.members[0], frozenset(space.counts)
    sizes = {a.rank: a.size for a in first.axes}
    uses = [space.values.depends(i) for i in first.indices]
    apart = set[str]()
    for index, used in zip(first.indices, uses, strict=True):
        axes = used & sizes.keys()
        alone = all(sum(a in other for other in uses) == 1 for a in axes)
        if axes and alone and used - axes <= programs and not _names_its_coordinates(index, first):
            apart |= axes
    if not apart or prod(sizes[a] for a in apart) * space.programs > MOST_APART:
        return space, family
    members = tuple(replace(m, axes=tuple(a for a in m.axes if a.rank not in apart)) for m in family.members)
    counts = {**space.counts, **{a: sizes[a] for a in sorted(apart)}}
    return replace(space, counts=counts), replace(family, members=members)


def shape_of(space: Space, access: Access) -> frozenset[str]:
    """What the touched part of a program depends on."""
    return space.bounds(access).union(*(g.depends for g in groups_of(space, access)))


def _different(
    space: Space, access: Access, keys: list[Expression], ranks: frozenset[str], fixed: Sequence[str]
) -> int:
    """How many different values the keys take with the fixed ranks."""
    if not keys or not ranks:
        return 1
    rows = space.rows(Access(access.tensor, False, (), (), ()), space.among(ranks))
    return len(distinct_rows(_columns(space, rows.indices, keys, ranks, fixed, rows.length), rows.length)[0][0])


def _columns(
    space: Space,
    indices: Mapping[str, Array],
    keys: list[Expression],
    ranks: frozenset[str],
    fixed: Sequence[str],
    length: int,
) -> list[Array]:
    points = Points(space.values, indices)
    values = [np.broadcast_to(points.value(k), (length,)) for k in keys]
    return [*values, *(indices[r] for r in fixed if r in ranks)]


def _visited(
    space: Space,
    family: Family,
    keys: list[Expression],
    shape: frozenset[str],
    held: frozenset[str],
    fixed: Sequence[str],
) -> int:
    """Elements of the tiles that some program visits, for each value of the keys, the fixed ranks and the ranks that indices name."""
    named = [*fixed, *(r for r in sorted(held) if r not in fixed)]
    united = shape - set(named)
    # Conditions that differ among the programs whose touches are united: their axes are united coordinate by coordinate.
    differing = {a for m in family.members for g in groups_of(space, m) if g.depends & united for a in g.axes}
    axes = tuple(a for a in family.members[0].axes if a in differing)
    columns: list[list[Array]] = []
    counts: list[Array] = []
    masks: list[Array] = []
    for access in family.members:
        rows = space.rows(access, space.among(shape))
        row, positions = expanded(rows)
        loop = access.loop.rank if access.loop else ""
        here = {r: i[row] for r, i in rows.indices.items()}
        visits = {**here, loop: rows.tile_at(positions)}
        touched = np.ones(len(row), dtype=np.int64)
        conditions: list[Expression] = []
        for group in groups_of(space, access):
            if differing.intersection(group.axes) or group.depends & united:
                conditions += group.conditions
                touched = touched * prod(a.size for a in group.axes if a not in differing)
            else:
                touched = touched * at_points(space, access, group, visits, len(row))
        moves = access.loop is not None and loop in space.values.depends(*access.indices)
        columns.append([*_columns(space, here, keys, shape, named, len(row)), visits[loop] * int(moves)])
        counts.append(touched)
        masks.append(masks_at(space, access, axes, tuple(conditions), visits, len(row)))
    joined = [np.concatenate(c) for c in zip(*columns, strict=True)]
    together, mask = np.concatenate(counts), np.concatenate(masks)
    if not len(together):
        return 0
    _, back = distinct_rows(joined, len(together))
    united_mask = np.zeros((int(back.max()) + 1, mask.shape[1]), dtype=np.int64)
    np.maximum.at(united_mask, back, mask * together[:, None])
    return int(united_mask.sum())


def _names_its_coordinates(index: Expression, access: Access) -> bool:
    """Whether an index is ``size*tile + axis``, or an axis, up to what is the same for all programs: then tiles share no element."""
    sizes = {a.rank: a.size for a in access.axes}
    axes: list[str] = []
    for sign, term in _terms(index, 1):
        match term:
            case Rank(name=name) if name in sizes and sign > 0:
                axes.append(name)
            case Binary(operator="*", left=Constant(value=step), right=Rank(name=name)) if (
                name not in sizes and sign > 0
            ):
                if not any(f"{a.removesuffix('.0')}.1" == name and sizes[a] == step for a in sizes):
                    return False
            case _ if ranks_of(term) or any(isinstance(n, Read) for n in walk(term)):
                return False
    return len(axes) == 1


def _terms(node: Expression, sign: int) -> list[tuple[int, Expression]]:
    if isinstance(node, Binary) and node.operator in ("+", "-"):
        return [*_terms(node.left, sign), *_terms(node.right, sign if node.operator == "+" else -sign)]
    return [(sign, node)]
