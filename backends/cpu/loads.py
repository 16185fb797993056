"""Loads: a pointer into the tensor where the tile is adjacent and whole there, else a copy into scratch."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import reduce

from einsum_compiler.backends.cpu.accesses import (
    Access,
    access_of,
    base_address,
    bound_of,
    index_code,
    split_conditions,
)
from einsum_compiler.backends.cpu.affine import Known, depends
from einsum_compiler.backends.cpu.columns import Columns, columns_of
from einsum_compiler.backends.cpu.row_major import RowMajor, row_major
from einsum_compiler.backends.cpu.rows import declare, zeros
from einsum_compiler.backends.cpu.scope import Scope
from einsum_compiler.backends.cpu.values import FIXED, LANE, ROW, operand, real_literal
from einsum_compiler.backends.cpu.view import C_TYPES, WIDEST, View, atom, product, sum_of
from einsum_compiler.ir.build import conjunction
from einsum_compiler.ir.expression import Comparison, Constant, Expression, Rank
from einsum_compiler.ir.tile import Axis, Load
from einsum_compiler.ir.types import is_float


def emit_load(scope: Scope, load: Load, table: bool = False) -> None:
    """The tile of a load; ``table``: it may be a table of rows."""
    where = conjunction([load.where, load.partial_where])
    axes = load.type.axes
    access = access_of(scope, load.tensor, load.indices, axes)
    bounds, others = split_conditions(scope, where, axes)
    known = scope.known()
    ranks = {a.rank for a in axes}
    uniform = [c for c in others if not depends(c, ranks, known)]
    others = [c for c in others if c not in uniform]
    view = scope.allocate(load.target, load.type)
    if (merged := row_major(load)) is not None:
        with _is_row_major(scope, merged):
            _emit_elements(scope, merged.load, view)
        with scope.writer.block("else"):
            _emit_elements(scope, load, view)
        scope.tiles[load.target] = view
        return
    simple = all(s is not None for s in access.strides.values()) and not others
    write = scope.writer
    if simple and axes and axes[-1].size % WIDEST == 0 and not view.rounds:
        view = _emit_alias(scope, load, access, bounds, uniform, view)
    elif (
        table
        and access.strides[axes[-1].rank] is not None
        and not any(depends(c, {axes[-1].rank}, known) for c in others)
    ):
        view = _emit_table(scope, load, access, bounds, [*uniform, *others], view)
    else:
        with write.block():
            _emit_copy(scope, load, access, bounds, [*uniform, *others], view)
    scope.tiles[load.target] = view


def _is_row_major(scope: Scope, merged: RowMajor) -> AbstractContextManager[None]:
    """The block of a load whose quotients and remainders are one index each, entered where they are."""
    printer = scope.expressions({}, None, "f32")
    steps = [[scope.names.of("stride", f"{merged.load.tensor}.{axis}") for axis in (d, d + 1)] for d, _ in merged.split]
    checks = [f"{step} == {size} * {inner}" for (step, inner), (_, size) in zip(steps, merged.split, strict=True)]
    checks += [printer.condition(c).atom for c in merged.inside]
    for lines in printer.lines:
        scope.writer.extend(lines)
    return scope.writer.block(f"if ({' && '.join(checks)})")


def _emit_elements(scope: Scope, load: Load, view: View) -> None:
    """A copy of the tile."""
    axes, where = load.type.axes, conjunction([load.where, load.partial_where])
    bounds, conditions = split_conditions(scope, where, axes)
    _emit_copy(scope, load, access_of(scope, load.tensor, load.indices, axes), bounds, conditions, view)


def _emit_alias(
    scope: Scope, load: Load, access: Access, bounds: dict[str, list[Expression]], uniform: list[Expression], view: View
) -> View:
    """The tile as it lies in the tensor if its rows are adjacent there and all of it is in range; decided at run time."""
    write = scope.writer
    axes = load.type.axes
    printer = scope.expressions({}, None, "f32")
    address = base_address(scope, printer, load.tensor, access)
    checks = [f"{atom(str(access.strides[axes[-1].rank]))} == 1"]
    for axis in axes:
        checks += [f"{atom(printer.integer(b))} >= {axis.size}" for b in bounds.get(axis.rank, [])]
    checks += [printer.condition(c).atom for c in uniform]
    flag = scope.names.fresh(f"{load.target}_in_place")
    for lines in printer.lines:
        write.extend(lines)
    write.line(f"const bool {flag} = {' && '.join(checks)};")
    pointer = scope.names.fresh(load.target)
    write.line(f"const {view.ctype}* const {pointer} = {flag} ? {address} : {view.pointer};")
    strides: list[str] = []
    for axis, stride in list(zip(axes, view.strides, strict=True))[:-1]:
        name = scope.names.fresh(f"{load.target}_{axis.rank}")
        write.line(f"const long {name} = {flag} ? {access.strides[axis.rank]} : {stride};")
        strides.append(name)
    with write.block(f"if (!{flag})"):
        _emit_copy(scope, load, access, bounds, uniform, view)
    return replace(view, pointer=pointer, strides=(*strides, "1"), aliased=True)


def _emit_table(
    scope: Scope,
    load: Load,
    access: Access,
    bounds: dict[str, list[Expression]],
    conditions: list[Expression],
    view: View,
) -> View:
    """The rows where they lie if their elements are adjacent and none lies beyond a bound; decided at run time."""
    write = scope.writer
    row, lane = load.type.axes
    i = scope.position(row.rank)
    printer = scope.expressions({row.rank: i}, None, "f32")
    adjacent = [f"{atom(str(access.strides[lane.rank]))} == 1"]
    adjacent += [f"{atom(printer.integer(b))} >= {lane.size}" for b in bounds.get(lane.rank, [])]
    live = [printer.condition(c).atom for c in conditions]
    live += [f"{i} < {atom(printer.integer(b))}" for b in bounds.get(row.rank, [])]
    address = base_address(scope, printer, load.tensor, access)
    if (step := access.strides[row.rank]) is not None:
        address = sum_of([address, product(i, step)])
    fixed, of_row, _ = printer.lines
    table = declare(scope, load.target, view, row)
    write.extend(fixed)
    with write.block(f"if ({' && '.join(adjacent)})"), write.block(f"for (long {i} = 0; {i} < {row.size}; ++{i})"):
        write.extend(of_row)
        hidden = f"({' && '.join(live)}) ? {address} : {zeros(view)}" if live else address
        write.line(f"{table}[{i}] = {hidden};")
    with write.block("else"):
        _emit_copy(scope, load, access, bounds, conditions, view)
        write.line(f"for (long {i} = 0; {i} < {row.size}; ++{i}) {table}[{i}] = {view.address({row.rank: i})};")
    return replace(view, rows=table)


def _emit_copy(
    scope: Scope,
    load: Load,
    access: Access,
    bounds: dict[str, list[Expression]],
    conditions: list[Expression],
    view: View,
) -> None:
    """Element by element, or row by row where rows are affine and conditions do not change inside of them."""
    write = scope.writer
    axes = load.type.axes
    known = scope.known()
    fill = _fill(load)
    lane = axes[-1] if axes else None
    ends: list[Expression] = []  # bounds of the lanes that change from row to row (``x + j < Q``)
    starts: list[Expression] = []  # and those from below (``0 <= x - j``)
    along = {c: bound_of(c, lane.rank, known) for c in conditions if lane and depends(c, {lane.rank}, known)}
    by_row = lane is not None and access.strides[lane.rank] is not None and None not in along.values()
    if by_row:
        conditions = [c for c in conditions if c not in along]
        for is_end, bound in filter(None, along.values()):
            (ends if is_end else starts).append(bound)
    if lane is not None and not by_row and len(axes) > 1 and (parts := _by_offsets(load, lane, known)) is not None:
        with scope.columns(lane) as columns:
            assert columns is not None
            _emit_gather(scope, load, parts, bounds, conditions, view, columns)
        return
    loops = axes[:-1] if by_row else axes
    positions = {a.rank: scope.position(a.rank) for a in loops}
    printer = scope.expressions(positions, None, "f32")
    live = [printer.condition(c).atom for c in conditions]
    for axis in loops:
        live += [f"{positions[axis.rank]} < {atom(printer.integer(b))}" for b in bounds.get(axis.rank, [])]
    terms = [product(index_code(printer, node), step) for node, step in access.base]
    terms += [product(positions[a.rank], s) for a in loops if (s := access.strides[a.rank]) is not None]
    source = sum_of([scope.names.of("tensor", load.tensor), *terms])
    count = ""
    if by_row and lane is not None:
        count = str(lane.size)
        for bound in (*bounds.get(lane.rank, []), *ends):
            count = f"tile::count_below({printer.integer(bound)}, {count})"
    first = [atom(printer.integer(b)) for b in starts]
    fixed, row, _ = printer.lines
    write.extend(fixed)
    with ExitStack() as nest:
        for axis in loops:
            i = positions[axis.rank]
            nest.enter_context(write.block(f"for (long {i} = 0; {i} < {axis.size}; ++{i})"))
        write.extend(row)
        target = view.address(positions)
        if by_row and lane is not None:
            if live:
                count = f"{' && '.join(live)} ? {count} : 0"
            step = access.strides[lane.rank]
            copied = f"copy_row_from({reduce('tile::later({}, {})'.format, first)}, " if first else "copy_row("
            write.line(f"tile::{copied}{target}, {source}, {step}, {count}, {lane.size}, {fill});")
        else:
            if live:
                # All conditions are computed, and the address is chosen by them: a branch for each would be mispredicted at every edge of the filter.
                tensor = C_TYPES[load.type.dtype]
                write.line(f"const {tensor} nothing = tile::narrow<{tensor}>({fill});")
                source = f"({' & '.join(f'({c})' for c in live)}) ? {source} : &nothing"
            write.line(f"*({target}) = tile::narrow<{view.ctype}>(tile::widen(*({source})));")


def _by_offsets(load: Load, lane: Axis, known: Known) -> list[tuple[Expression, Expression]] | None:
    """Every index as a part that rows share and one that lanes share; None if one has no such parts."""
    rows = {a.rank for a in load.type.axes} - {lane.rank}
    found = [columns_of(index, {lane.rank}, rows, known) for index in load.indices]
    return [parts for parts in found if parts is not None] if None not in found else None


def _emit_gather(
    scope: Scope,
    load: Load,
    parts: list[tuple[Expression, Expression]],
    bounds: dict[str, list[Expression]],
    conditions: list[Expression],
    view: View,
    columns: Columns,
) -> None:
    """A pointer for every row and a distance for every lane: ``T[y - y2, x - x2]`` is ``T + f(y, x) + g(y2, x2)``. Lanes side by side are one load."""
    write, known = scope.writer, scope.known()
    *rows, lane = load.type.axes
    positions = {a.rank: scope.position(a.rank) for a in rows}
    printer = scope.expressions(positions, lane.rank, "f32", columns)
    steps = [scope.names.of("stride", f"{load.tensor}.{d}") for d in range(len(parts))]
    inner = scope.expressions({}, lane.rank, "f32")
    terms = [
        f"{operand(inner.value(column), 'i64')} * {step}"
        for (column, _), step in zip(parts, steps, strict=True)
        if column != Constant(0)
    ]
    offsets, declaration = columns.allocate("int64_t")
    runs, declared_runs = columns.allocate("tile::lane_run")
    filled = columns.loop([*inner.lines[LANE], f"tile::store<int64_t>({offsets}, j, {' + '.join(terms)});"])
    filled.append(f"tile::find_runs({runs}, {offsets}, {lane.size});")
    base = [product(index_code(printer, rest), step) for (_, rest), step in zip(parts, steps, strict=True)]
    source = sum_of([scope.names.of("tensor", load.tensor), *base])
    along = [c for c in conditions if depends(c, {lane.rank}, known)]
    along += [Comparison(("<",), (Rank(lane.rank), b)) for b in bounds.get(lane.rank, [])]
    live = [printer.condition(c).atom for c in conditions if not depends(c, {lane.rank}, known)]
    for axis in rows:
        live += [f"{positions[axis.rank]} < {atom(printer.integer(b))}" for b in bounds.get(axis.rank, [])]
    seen = " & ".join(operand(printer.condition(c), "bool") for c in along)
    fixed, row, lanes = printer.lines
    write.extend([declaration, declared_runs, *inner.lines[FIXED], *inner.lines[ROW], *filled, *fixed])
    with ExitStack() as nest:
        for axis in rows:
            i = positions[axis.rank]
            nest.enter_context(write.block(f"for (long {i} = 0; {i} < {axis.size}; ++{i})"))
        write.extend(row)
        count = f"{' && '.join(live)} ? {lane.size} : 0" if live else str(lane.size)
        covered = scope.span(lane, positions) if scope.trim and scope.trim.gathers else None
        arguments = (
            f"{view.address(positions)}, {source}, {offsets}, {runs}, {count}, {covered or lane.size}, {_fill(load)}"
        )
        if not along:
            write.line(f"tile::gather_row({arguments});")
            return
        with write.block(f"tile::gather_row_where({arguments}, [&](auto j) __attribute__((always_inline))", "});"):
            write.extend(lanes)
            write.line(f"return {seen};")


def _fill(load: Load) -> str:
    """The fill in the computed type of the tile's elements."""
    value = load.fill.value
    kind = f"tile::computed_type<{C_TYPES[load.type.dtype]}>"
    if is_float(load.type.dtype):
        return f"{kind}({real_literal(float(value), 'f64')})"
    return f"{kind}({int(value)})"
