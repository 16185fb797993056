"""Reductions of the points that belong to one result each: every point is met once, and goes to its result.

    G[v,d] = sum[t](X[t,d] where y[t] == v)     is     for every t: G[y[t], d] += X[t,d]

Law: an equality that gives the coordinate of a result as a function of what is reduced leaves one result for every point. So a tile of V results over T
points takes T steps in place of V * T: gradients of gathered rows, histograms, means of groups.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace

from einsum_compiler.backends.cpu.affine import Known, depends, links, position_bound
from einsum_compiler.backends.cpu.reductions import COMBINED, LANE_COMBINED
from einsum_compiler.backends.cpu.running import FEWEST, FOLDED
from einsum_compiler.backends.cpu.scope import Scope
from einsum_compiler.backends.cpu.sweeps import emit_sweep
from einsum_compiler.backends.cpu.values import LANE, REGISTER, scalar_type, to_type
from einsum_compiler.backends.cpu.view import View
from einsum_compiler.ir.build import conjunction, conjuncts
from einsum_compiler.ir.expression import Binary, Call, Cast, Conditional, Constant, Expression, Read
from einsum_compiler.ir.operators import REDUCTIONS
from einsum_compiler.ir.tile import Axis, Map, Reduce, TileType

FEWEST_SCALARS = 16  # results from which on this pays where points are met one by one


@dataclass(frozen=True)
class Buckets:
    """A reduction of ``value`` whose points along ``points``, where ``where`` holds, belong to the result at ``place`` along ``results``.

    ``folded``: axes along which the place is the same; they are reduced first. ``others``: axes of the result besides ``results`` that the place depends on.
    """

    results: Axis
    place: Expression
    points: tuple[Axis, ...]
    folded: tuple[Axis, ...]
    others: tuple[Axis, ...]
    value: Expression
    where: Expression | None


def buckets_of(statement: Reduce, known: Known) -> Buckets | None:
    """The result that every point of a reduction of floats belongs to; None if points belong to several."""
    value, operator = statement.value, REDUCTIONS[statement.operator]
    identity = Constant(operator.identity)
    if not isinstance(value, Conditional) or value.otherwise != identity or not statement.over:
        return None
    if statement.type.dtype not in ("f32", "f64") or statement.operator not in FOLDED:
        return None
    parts = [link for c in conjuncts(value.condition) for link in links(c) or (c,)]
    for results in statement.type.axes:
        moving = [p for p in parts if depends(p, {results.rank}, known)]
        beside = statement.type.axes[-1] != results  # vectors lie along another axis
        if (
            len(moving) != 1
            or depends(value.then, {results.rank}, known)
            or results.size < (FEWEST if beside else FEWEST_SCALARS)
        ):
            continue
        found = position_bound(moving[0], results.rank, known)
        if found is None or found[0] != "==":
            continue
        points = tuple(a for a in statement.over if depends(found[1], {a.rank}, known))
        if not points:
            continue
        folded = tuple(a for a in statement.over if a not in points)
        others = tuple(a for a in statement.type.axes if depends(found[1], {a.rank}, known))
        early = {a.rank for a in statement.type.axes if a not in others} | {a.rank for a in folded}
        where = [p for p in parts if p not in moving and not depends(p, early, known)]
        late = conjunction([p for p in parts if p not in moving and p not in where])
        inside = value.then if late is None else Conditional(late, value.then, identity)
        return Buckets(results, found[1], points, folded, others, inside, conjunction(where))
    return None


def emit_buckets(scope: Scope, statement: Reduce, buckets: Buckets) -> None:
    """Results of nothing, every point into its result, and what these are combined with.

    A tile has results of its own: one result may get all points, and a chain through all tiles would lose digits. Numbers met one by one are summed in f64.
    """
    operator = REDUCTIONS[statement.operator]
    values = _folded(scope, statement, buckets)
    wide = statement.operator == "sum" and _lane(statement, buckets) is None
    made = Map(
        f"{statement.target}.folds",
        TileType("f64" if wide else statement.type.dtype, statement.type.axes),
        Constant(operator.identity),
    )
    emit_sweep(scope, [made], {made.target})
    _emit_points(
        scope, statement, buckets if values is None else replace(buckets, value=Read(values)), scope.tiles[made.target]
    )
    if values is not None:
        scope.forget(values)
    result: Expression = Cast(Read(made.target), "f32") if wide and statement.type.dtype == "f32" else Read(made.target)
    if statement.accumulator is not None:
        operands = (statement.accumulator, result)
        named = operator.combine in ("max", "min")
        result = Call(operator.combine, operands) if named else Binary(operator.combine, *operands)
    emit_sweep(scope, [Map(statement.target, statement.type, result)], {statement.target})
    scope.forget(made.target)


def _folded(scope: Scope, statement: Reduce, buckets: Buckets) -> str | None:
    """The values reduced over the axes along which their place is the same, if there are any."""
    if not buckets.folded:
        return None
    axes = (*buckets.points, *(a for a in statement.type.axes if a != buckets.results))
    own = tuple(a for a in axes if depends(buckets.value, {a.rank}, scope.known()))
    name = f"{statement.target}.values"
    kind = TileType(statement.type.dtype, own)
    emit_sweep(scope, [Reduce(name, kind, statement.operator, buckets.folded, buckets.value)], {name})
    return name


def _lane(statement: Reduce, buckets: Buckets) -> Axis | None:
    """The axis of results that vectors lie along, if there is one."""
    last = statement.type.axes[-1]
    return None if last == buckets.results or last in buckets.others else last


def _emit_points(scope: Scope, statement: Reduce, buckets: Buckets, target: View) -> None:
    axes, results, write = statement.type.axes, buckets.results, scope.writer
    outer = (*buckets.others, *buckets.points)
    rest = tuple(a for a in axes if a != results and a not in outer)
    lane = _lane(statement, buckets)
    rows = rest[:-1] if lane else rest
    positions = {a.rank: scope.position(a.rank) for a in (*outer, *rest)}
    real = scope.real_type(statement.type.dtype, statement.value)
    first = scope.expressions({a.rank: positions[a.rank] for a in outer}, None, real)
    met = None if buckets.where is None else first.condition(buckets.where).code
    place = first.integer(buckets.place)
    printer = scope.expressions(positions, lane.rank if lane else None, real)
    value = to_type(printer.number(buckets.value), target.dtype)
    at = scope.names.fresh("place")
    with write.block():
        write.extend(first.lines[0])
        write.extend(printer.lines[0])
        with ExitStack() as loops:
            for axis in outer:
                loops.enter_context(write.block(_head(axis, positions)))
            write.extend([*first.lines[1], *first.lines[2]])
            write.line(f"const int64_t {at} = {place};")
            seen = f"{at} >= 0 && {at} < {results.size}"
            loops.enter_context(write.block(f"if ({seen if met is None else f'{seen} && ({met})'})"))
            for axis in rows:
                loops.enter_context(write.block(_head(axis, positions)))
            write.extend(printer.lines[1])
            address = target.address(
                {results.rank: at, **{a.rank: positions[a.rank] for a in (*buckets.others, *rows)}}
            )
            write.line(f"{target.ctype}* const to = {address};")
            if lane is None:
                write.extend(printer.lines[2])
                write.line(
                    f"*to = {COMBINED[statement.operator].format('*to', scalar_type(value.dtype) + f'({value.code})')};"
                )
                return
            vectors = f"tile::for_each_column({lane.size}, [&](auto j) __attribute__((always_inline))"
            with write.block(vectors, "});"):
                write.extend(printer.lines[2])
                code = value.code if value.level == LANE else f"tile::splat<{REGISTER[value.dtype]}>({value.code})"
                write.line(
                    f"tile::store<{target.ctype}>(to, j, {LANE_COMBINED[statement.operator].format('tile::load(to, j)', f'({code})')});"
                )


def _head(axis: Axis, positions: dict[str, str]) -> str:
    i = positions[axis.rank]
    return f"for (long {i} = 0; {i} < {axis.size}; ++{i})"
