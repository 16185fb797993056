"""The iteration space of a sweep: loops over rows, and the axis along which lanes run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from einsum_compiler.backends.cpu.scope import Scope
from einsum_compiler.backends.cpu.view import WIDEST, padded
from einsum_compiler.ir.expression import Read, walk
from einsum_compiler.ir.tile import Axis, Map, Reduce, Select

Pointwise = Map | Select


@dataclass(frozen=True)
class Space:
    """The iteration space of a sweep: loops outside, then lanes; ``inner`` are loops of a reduction inside the lanes' position."""

    outer: tuple[Axis, ...]
    lane: Axis | None
    inner: tuple[Axis, ...] = ()


def space_of(scope: Scope, statement: Pointwise | Reduce, made: Mapping[str, tuple[Axis, ...]] | None = None) -> Space:
    """Where lanes run: along the last axis of a map; in a reduction along the axis that fewest operands have to gather.

    ``made`` gives the axes of tiles that are about to be made.
    """
    axes = statement.type.axes
    if not isinstance(statement, Reduce):
        return Space(axes[:-1], axes[-1] if axes else None)
    known = {**{n: v.axes for n, v in scope.tiles.items()}, **(made or {})}
    reads = [known[n.tensor] for n in walk(statement.value) if isinstance(n, Read) and n.tensor in known]

    def gathers(axis: Axis) -> int:
        return sum(axis in found and found[-1] != axis for found in reads)

    candidates = [*reversed(statement.over), *axes[-1:]]
    best = min(candidates, key=lambda a: (gathers(a), a.size < WIDEST // 2), default=None)
    if best in statement.over:
        assert best is not None
        rest = tuple(a for a in statement.over if a != best)
        return Space((*axes, *rest), best)
    return Space(axes[:-1], axes[-1] if axes else None, statement.over)


def joins(
    scope: Scope,
    group: Sequence[Pointwise | Reduce],
    statement: Pointwise | Reduce,
    made: Mapping[str, tuple[Axis, ...]],
) -> bool:
    """Whether a statement may run in the loops of a group; reductions fold one row of them."""
    spaces = [space_of(scope, s, made) for s in (*group, statement)]
    folds = [(s, x) for s, x in zip((*group, statement), spaces, strict=True) if isinstance(s, Reduce)]
    if any(x.inner or x.outer != s.type.axes for s, x in folds):
        return False
    return all(x == spaces[0] for x in spaces)


def whole_vectors(lane: Axis) -> str:
    """Whole vectors, into the padding of scratch rows."""
    size = f"tile::padded({lane.size})" if padded(lane.size) != lane.size else str(lane.size)
    return f"tile::constant<{size}>()"
