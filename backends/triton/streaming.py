"""Reductions whose body would not fit the registers, as loops over a reduced rank.

``sum[e](abs(q - k))`` over tiles of 64 x 64 and 64 is a block of 2^18 values. One coordinate of a block cannot be
taken out of registers, but where the operands are loads, each coordinate can be loaded by itself:

    s = reduce sum over e:64 (abs(q - k))   ->   loop e in [0, 64) carry s = 0 { load q, k at e; s = s + abs(q - k) }

Law: a reduction over a rank is a fold over its coordinates, and a load gives the same element whatever tile it is part of.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from einsum_compiler.backends.triton.layout import Layout
from einsum_compiler.ir.expression import Cast, Conditional, Constant, Expression, Rank, Read, transform, walk
from einsum_compiler.ir.operators import REDUCTIONS
from einsum_compiler.ir.tile import Axis, Carry, Load, Loop, Map, Range, Reduce, Select, Statement, TileType
from einsum_compiler.ir.tile_ranges import expressions_of

# What 128 threads hold in all their registers, in values of 32 bits.
LARGEST_BLOCK = 2**15
COMPUTED = ("f32", "f64", "i64", "bool")  # types a map computes in: they round nothing

Sources = Mapping[str, Load | Map | Select]


def streamed(
    s: Reduce, sources: Sources, types: Mapping[str, TileType], scalars: set[str], layout: Layout
) -> tuple[Statement, ...] | None:
    """Statements that compute the reduction coordinate by coordinate; None if its body fits or cannot be loaded so.

    ``sources`` gives the statement that made a tile (none for what a loop carries or a product made), ``types`` that of every tile,
    ``scalars`` the ranks that are indices here.
    """
    block = math.prod(d.padded for d in layout.of((*s.type.axes, *s.over)))
    if block <= LARGEST_BLOCK or s.type.dtype not in COMPUTED:
        return None
    axis = max(s.over, key=lambda a: a.size)
    body = _opened(s.value, axis, sources)
    loads: list[Load] = []
    for name in sorted({n.tensor for n in walk(body) if isinstance(n, Read)}):
        source = sources.get(name)
        if name in types and axis not in types[name].axes:
            continue
        if not isinstance(source, Load) or not _repeatable(source, axis, scalars):
            return None
        loads.append(_at_one_coordinate(source, axis))
    here = {load.target.removesuffix(".at"): load.target for load in loads}
    body = transform(body, lambda n: Read(here[n.tensor]) if isinstance(n, Read) and n.tensor in here else n)
    rest = tuple(a for a in s.over if a != axis)
    held, following = f"{s.target}.held", f"{s.target}.following"
    step = Reduce(following, s.type, s.operator, rest, body, Read(held))
    carry = Carry(held, s.type, Constant(_identity(s)), following)
    loop = Loop(axis.rank, (Range(Constant(0), Constant(axis.size), False),), (carry,), (*loads, step))
    return loop, Reduce(s.target, s.type, s.operator, (), Read(held), s.accumulator)


def _opened(body: Expression, axis: Axis, sources: Sources) -> Expression:
    """The body with what maps and selects computed along the axis in place of their tiles."""

    def change(node: Expression) -> Expression:
        source = sources.get(node.tensor) if isinstance(node, Read) else None
        if isinstance(source, Select) and axis in source.type.axes:
            return Conditional(source.condition, _opened(source.value, axis, sources), source.fill)
        if isinstance(source, Map) and axis in source.type.axes:
            value = _opened(source.value, axis, sources)
            return value if source.type.dtype in COMPUTED else Cast(value, source.type.dtype)
        return node

    return transform(body, change)


def _repeatable(load: Load, axis: Axis, scalars: set[str]) -> bool:
    """Whether the load can stand here again: it reads no tiles, and its ranks are its axes or indices here."""
    nodes = [n for e in expressions_of(load) for n in walk(e)]
    known = scalars | set(load.type.ranks)
    return not any(isinstance(n, Read) for n in nodes) and all(n.name in known for n in nodes if isinstance(n, Rank))


def _at_one_coordinate(load: Load, axis: Axis) -> Load:
    kept = TileType(load.type.dtype, tuple(a for a in load.type.axes if a != axis))
    return replace(load, target=f"{load.target}.at", type=kept)


def _identity(s: Reduce) -> bool | float:
    if s.type.dtype == "i64" and s.operator in ("max", "min"):
        return -(2**63) if s.operator == "max" else 2**63 - 1
    return REDUCTIONS[s.operator].identity
