"""How many different elements of a tensor some programs touch together, as a formula (``distinct`` counts the same).

Laws: elements that indices name, by the program or by the coordinate, differ from program to program, and are summed over those programs; over the others what is
touched is united: an interval in closed form where ``Interval.united`` knows one, else every tile of the loop that some program visits, as a sum.
"""

from __future__ import annotations

from dataclasses import replace

import sympy as sp

from einsum_compiler.ir.expression import Binary, Constant, Expression, Rank
from einsum_compiler.ir.tile import Range
from einsum_compiler.passes.traffic.arrays import UnknownValues
from einsum_compiler.passes.traffic.counting import Group, groups_of
from einsum_compiler.passes.traffic.distinct import Family, is_exact, shape_of, taken_apart
from einsum_compiler.passes.traffic.space import Access, Space
from einsum_compiler.passes.traffic.symbolic import AccessFormulas, Formula, merged


def steps_formula(space: Space, ranks: tuple[str, ...]) -> Formula:
    """How many programs differ in some ranks."""
    form = AccessFormulas(space, Access("", False, (), (), ()))
    return sp.Mul(*(form.of(p.count) for p in space.kernel.program if p.rank in ranks))


def distinct_formula(space: Space, family: Family, size: Formula, fixed: tuple[str, ...]) -> Formula:
    """Different elements touched by the programs that agree in the ``fixed`` ranks, summed over those ranks, for extents of at least 1.

    ``size``: how many elements the tensor has. Raises ``UnknownValues`` where no formula is known.
    """
    if not is_exact(space, family):
        if taken_apart(space, family)[1] is not family:
            raise UnknownValues(f"{family.tensor}: coordinates of a tile share elements")
        every = sp.Add(*(AccessFormulas(space, a).elements() for a in merged(list(family.members))))
        return sp.Min(every, steps_formula(space, fixed) * size, evaluate=not every.has(sp.Sum))
    depends, programs = space.values.depends, frozenset(space.counts)
    indices = family.members[0].indices
    of_programs = [i for i in indices if depends(i) <= programs]
    named = frozenset(fixed) | (depends(*(i for i in indices if i not in of_programs)) & programs)
    named |= {k.name for k in of_programs if isinstance(k, Rank)}
    shape = frozenset().union(*(shape_of(space, a) for a in family.members)) & programs
    times = sp.Integer(1)
    used: frozenset[str] = frozenset()
    for key in of_programs:
        ranks = depends(key)
        if ranks <= named:
            continue
        if len(ranks) > 1 or ranks & (shape | used):
            raise UnknownValues(f"{family.tensor}: programs share {key} and differ in what they touch")
        used |= ranks
        times = times * _different(space, key, steps_formula(space, tuple(ranks)))
    return times * _united(space, _sets(space, family), named, tuple(r for r in space.counts if r in shape - named))


def _different(space: Space, key: Expression, count: Formula) -> Formula:
    """The different values of an index over one rank of ``count`` programs."""
    form = AccessFormulas(space, Access("", False, (), (), ()))
    match key:
        case Rank():
            return count
        case Binary(operator="//", left=Rank(), right=divisor) if not space.values.depends(divisor):
            return sp.ceiling(count / form.of(divisor))
        case Binary(operator="%", left=Rank(), right=divisor) if not space.values.depends(divisor):
            return sp.Min(count, form.of(divisor))
        case Binary(operator="+" | "-", left=left, right=right) if not space.values.depends(right):
            return _different(space, left, count)
        case Binary(operator="+", left=left, right=right) if not space.values.depends(left):
            return _different(space, right, count)
    raise UnknownValues(f"no formula is made of the different values of {key}")


def _sets(space: Space, family: Family) -> list[Access]:
    """The accesses of a family without those that touch the same as another one, and ranges that continue each other as one."""
    found: list[Access] = []
    for access in merged(list(family.members)):
        plain = replace(access, loop=None)
        if not any(replace(other, loop=None) == plain for other in found):
            found.append(access)
    return found


def _united(space: Space, sets: list[Access], named: frozenset[str], united: tuple[str, ...]) -> Formula:
    loop = sets[0].loop.rank if sets[0].loop else ""
    moves = loop in space.values.depends(*sets[0].indices)
    if (
        not united and moves and all(a.loop is sets[0].loop for a in sets)
    ):  # the ranges of a loop have no tile in common
        return sp.Add(*(AccessFormulas(space, a).elements(named) for a in sets))
    differ = any(g.depends & set(united) for g in groups_of(space, sets[0]))
    if len(sets) == 1 and (moves or not loop) and (loop or not differ):
        try:
            return AccessFormulas(space, sets[0]).elements(named, united)
        except UnknownValues:
            if not united:
                raise
    return _visited(space, sets, named, united)


def _visited(space: Space, sets: list[Access], named: frozenset[str], united: tuple[str, ...]) -> Formula:
    """The tiles of a loop that some range of some of the united programs visits, each with what is touched of it."""
    tensor, groups = sets[0].tensor, _groups(space, sets, united)
    loops = {a.loop.rank if a.loop else "" for a in sets}
    if len(loops) != 1 or "" in loops:
        raise UnknownValues(f"{tensor}: no formula is made of the union of its accesses")
    (loop,) = loops
    form = AccessFormulas(space, sets[0])
    tile, visits = form.index(loop), sp.Integer(0)
    for access in sets:
        if not isinstance(access.part, Range):
            raise UnknownValues("which tiles are visited is found at run time")
        lower, upper = form.of(access.part.lower), form.of(access.part.upper)
        # 1 or 0, without cases: SymPy tears cases of sums apart.
        inside = sp.Min(upper - tile, tile + 1 - lower, evaluate=False)
        visits = visits + sp.Max(0, sp.Min(1, inside, evaluate=False), evaluate=False)
    counts = {p.rank: form.of(p.count) for p in space.kernel.program}
    for rank in united:
        visits = sp.Sum(visits, (form.index(rank), 0, counts[rank] - 1))
    count = sp.Mul(*(form.count(g) for g in groups))
    total = sp.Sum(count * sp.Min(1, visits, evaluate=False), (tile, 0, _tiles(space, sets[0], loop) - 1))
    for rank in reversed(tuple(counts)):
        if rank in named:
            total = (
                sp.Sum(total, (form.index(rank), 0, counts[rank] - 1))
                if total.has(form.index(rank))
                else total * counts[rank]
            )
    return total


def _groups(space: Space, sets: list[Access], united: tuple[str, ...]) -> tuple[Group, ...]:
    """The conditions of accesses at one tile: those of partial tiles, which hold in full ones too."""
    partial = [a for a in sets if a.partial] or sets
    full = [a for a in sets if not a.partial]
    same = all(a.conditions == partial[0].conditions and a.axes == partial[0].axes for a in partial)
    groups = groups_of(space, partial[0])
    if not same or any(not set(a.conditions) <= set(partial[0].conditions) for a in full):
        raise UnknownValues(f"{sets[0].tensor}: its accesses differ in their conditions")
    if any(g.depends & set(united) for g in groups):
        raise UnknownValues(f"{sets[0].tensor}: programs that share tiles of it differ in what they touch of a tile")
    return groups


def _tiles(space: Space, access: Access, loop: str) -> Formula:
    """How many tiles of a loop a tensor has along the index ``size*tile + axis``."""
    form = AccessFormulas(space, access)
    operands = {o.name: o for o in (*space.kernel.inputs, *space.kernel.outputs)}
    for index, extent in zip(access.indices, operands[access.tensor].extents, strict=True):
        match index:
            case Binary(
                operator="+", left=Binary(operator="*", left=Constant(value=size), right=Rank(name=name)), right=Rank()
            ) if name == loop:
                return sp.ceiling(form.of(extent) / size)
            case Rank(name=name) if name == loop:
                return form.of(extent)
    raise UnknownValues(f"{access.tensor}: no formula is made of the tiles that its indices name")
