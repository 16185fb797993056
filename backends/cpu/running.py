"""Reductions up to a bound that moves with the result: running sums, products and extrema.

    R[n] = sum[k](X[k] where k > n + t)     is     R[n] = R[n + 1] + X[n + t + 1]

Law: if the bound does not fall from result to result, what one result folds is what the next folds and a little more. So a tile of N results over K values
takes N + K steps in place of N * K. Sums of f32 are kept in f64 on the way, which costs nothing there: every step waits for the one before.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from einsum_compiler.backends.cpu.affine import Known, affine, depends, links, position_bound
from einsum_compiler.backends.cpu.reductions import FOLDS
from einsum_compiler.backends.cpu.scope import Scope
from einsum_compiler.backends.cpu.sweeps import emit_sweep
from einsum_compiler.ir.build import add, conjunction, conjuncts
from einsum_compiler.ir.expression import Binary, Call, Conditional, Constant, Expression, Read
from einsum_compiler.ir.operators import REDUCTIONS
from einsum_compiler.ir.tile import Axis, Map, Reduce, TileType

FEWEST = 4  # results and values from which on this pays
FOLDED = ("sum", "prod", "max", "min")


@dataclass(frozen=True)
class Running:
    """A reduction of ``value`` over ``along``: of those below all ``bounds`` (of those from them on, if ``falls``), which grow along ``results``.

    ``where``: the results that have any.
    """

    results: Axis
    along: Axis
    falls: bool
    bounds: tuple[Expression, ...]
    value: Expression
    where: Expression | None


def running_of(statement: Reduce, known: Known) -> Running | None:
    """How a reduction of floats over one axis runs along its results; None if it does not."""
    value = statement.value
    identity = Constant(REDUCTIONS[statement.operator].identity)
    if not isinstance(value, Conditional) or value.otherwise != identity or len(statement.over) != 1:
        return None
    if statement.type.dtype not in ("f32", "f64") or statement.operator not in FOLDED:
        return None
    along = statement.over[0]
    parts = [link for c in conjuncts(value.condition) for link in links(c) or (c,)]
    over = [p for p in parts if depends(p, {along.rank}, known)]
    for results in statement.type.axes:
        moving = [p for p in over if depends(p, {results.rank}, known)]
        if not moving or depends(value.then, {results.rank}, known) or min(results.size, along.size) < FEWEST:
            continue
        found = [_bound(p, along.rank, results.rank, known) for p in moving]
        bounds = [b for b in found if b is not None]
        if len(bounds) < len(found) or len({falls for falls, _ in bounds}) > 1:
            return None
        kept = conjunction([p for p in over if p not in moving])
        inside = value.then if kept is None else Conditional(kept, value.then, identity)
        where = conjunction([p for p in parts if p not in over])
        return Running(results, along, bounds[0][0], tuple(b for _, b in bounds), inside, where)
    return None


def _bound(part: Expression, along: str, results: str, known: Known) -> tuple[bool, Expression] | None:
    """A comparison as a bound on values that does not fall along the results, and whether the values lie from it on."""
    found = position_bound(part, along, known)
    if found is None or found[0] in ("==", "!="):
        return None
    operator, bound = found
    form = affine(bound, {results}, known)
    if form is None or form[0].get(results, 0) <= 0:
        return None
    return operator in (">", ">="), add(bound, Constant(1)) if operator in ("<=", ">") else bound


def emit_running(scope: Scope, statement: Reduce, running: Running) -> None:
    """The values in rows, their running folds, and what these are combined with."""
    known, dtype = scope.known(), statement.type.dtype
    others = tuple(a for a in statement.type.axes if a != running.results)
    own = tuple(a for a in others if depends(running.value, {a.rank}, known))
    values = Map(f"{statement.target}.values", TileType(dtype, (*own, running.along)), running.value)
    emit_sweep(scope, [values], {values.target})
    folds = f"{statement.target}.folds"
    _emit_folds(scope, statement, running, values, (folds, TileType(dtype, (*others, running.results))))
    result: Expression = Read(folds)
    if running.where is not None:
        result = Conditional(running.where, result, Constant(REDUCTIONS[statement.operator].identity))
    if statement.accumulator is not None:
        combine = REDUCTIONS[statement.operator].combine
        operands = (statement.accumulator, result)
        result = Call(combine, operands) if combine in ("max", "min") else Binary(combine, *operands)
    emit_sweep(scope, [Map(statement.target, statement.type, result)], {statement.target})
    scope.forget(values.target)
    scope.forget(folds)


def _emit_folds(scope: Scope, statement: Reduce, running: Running, values: Map, made: tuple[str, TileType]) -> None:
    """One row of folds after the other."""
    name, kind = made
    read, written, write = scope.tiles[values.target], scope.create(name, kind), scope.writer
    positions = {a.rank: scope.position(a.rank) for a in kind.axes}
    rows = {rank: i for rank, i in positions.items() if rank != running.results.rank}
    printer = scope.expressions(positions, None, "f32")
    bounds = [f"int64_t({printer.integer(b)})" for b in running.bounds]
    bound = bounds[0]
    for other in bounds[1:]:
        bound = f"tile::{'most' if running.falls else 'least'}({bound}, {other})"
    fixed, row, lanes = printer.lines
    with write.block():
        write.extend(fixed)
        with ExitStack() as loops:
            for axis in kind.axes[:-1]:
                i = rows[axis.rank]
                loops.enter_context(write.block(f"for (long {i} = 0; {i} < {axis.size}; ++{i})"))
            source = read.address({a.rank: rows[a.rank] for a in values.type.axes[:-1]})
            way = "falling" if running.falls else "rising"
            head = f"tile::running_{way}(tile::{FOLDS[statement.operator]}(), {source}, {running.along.size}, {written.address(rows)}, {running.results.size},"
            with write.block(f"{head} [&](long {positions[running.results.rank]})", "});"):
                write.extend([*row, *lanes])
                write.line(f"return {bound};")
