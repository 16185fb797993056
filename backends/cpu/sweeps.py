"""Maps, selects and reductions: one loop over rows, and inside it one over vectors, for statements that share their axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from einsum_compiler.backends.cpu.arithmetic import cast
from einsum_compiler.backends.cpu.columns import Columns
from einsum_compiler.backends.cpu.expressions import STORED, Expressions
from einsum_compiler.backends.cpu.reductions import FOLDS, emit_reduction, finish, folded
from einsum_compiler.backends.cpu.scope import Scope
from einsum_compiler.backends.cpu.spaces import Pointwise, Space, space_of, whole_vectors
from einsum_compiler.backends.cpu.values import LANE, REGISTER, Value, literal, to_type
from einsum_compiler.backends.cpu.view import View
from einsum_compiler.ir.expression import Cast, Expression
from einsum_compiler.ir.tile import Axis, Map, Reduce, Select
from einsum_compiler.ir.types import is_float


def emit_sweep(scope: Scope, group: Sequence[Pointwise | Reduce], live: set[str]) -> None:
    """The group as one sweep. Of its maps, those in ``live`` are stored; the others live in registers."""
    last = group[-1]
    space = space_of(scope, last, {s.target: s.type.axes for s in group})
    stored = [s.target for s in group if s.target in live]
    views = {s.target: scope.create(s.target, s.type) for s in group if s.target in stored}
    with scope.columns(space.lane) as columns:
        if isinstance(last, Reduce) and (space.inner or space.outer != last.type.axes):
            emit_reduction(scope, last, space, views[last.target], columns)
        else:
            _emit_rows(scope, group, space, views, columns)


def _emit_rows(
    scope: Scope,
    group: Sequence[Pointwise | Reduce],
    space: Space,
    views: Mapping[str, View],
    columns: Columns | None,
) -> None:
    """One loop over rows: maps, and perhaps a reduction of every row."""
    last = group[-1]
    positions = {a.rank: scope.position(a.rank) for a in space.outer}
    nodes = [e for s in group for e in _expressions(s)]
    real = scope.real_type("f64" if any(s.type.dtype == "f64" for s in group) else None, *nodes)
    printer = scope.expressions(positions, space.lane.rank if space.lane else None, real, columns)
    for statement in group:
        if isinstance(statement, Reduce):
            break
        value = _rounded(printer, statement, real)
        if statement.target in views:
            _store(printer, views[statement.target], value, space.lane)
        printer.locals[statement.target] = value
    result = folded(printer, last, real) if isinstance(last, Reduce) else None
    fixed, row, lanes = printer.lines
    write = scope.writer
    with write.block():
        write.extend(fixed)
        with ExitStack() as loops:
            for axis in space.outer:
                i = positions[axis.rank]
                loops.enter_context(write.block(f"for (long {i} = 0; {i} < {axis.size}; ++{i})"))
            write.extend(row)
            if space.lane is None:
                write.extend(lanes)
            elif result is None:
                covered = scope.span(space.lane, positions) or whole_vectors(space.lane)
                with write.block(f"tile::for_each_column({covered}, [&](auto j) __attribute__((always_inline))", "});"):
                    write.extend(lanes)
            elif isinstance(last, Reduce):
                covered = scope.span(space.lane, positions) or f"tile::constant<{space.lane.size}>()"
                fold = f"tile::fold_row(tile::{FOLDS[last.operator]}(), {covered}, [&](auto j) __attribute__((always_inline))"
                with write.block(f"const auto total = {fold}", "});"):
                    write.extend(lanes)
                    write.line(f"return {result};")
                finish(scope, last, views[last.target], positions, "total", real)


# -- values -----------------------------------------------------------------------------------------------------------------


def _expressions(statement: Pointwise | Reduce) -> list[Expression | None]:
    if isinstance(statement, Map):
        return [statement.value]
    if isinstance(statement, Select):
        return [statement.condition, statement.value]
    return [statement.value, statement.accumulator]


def _rounded(printer: Expressions, statement: Pointwise, real: str) -> Value:
    """The value of a map in the type its tile has in registers, rounded to the tile's type."""
    if isinstance(statement, Map):
        node = statement.value
        if isinstance(node, Cast) and node.dtype == statement.type.dtype and is_float(node.dtype):
            node = node.operand  # the tile's own rounding
        value = printer.value(node)
    else:
        value = printer.value(statement.value)
        fill = statement.fill.value
        if value.is_float and not isinstance(fill, float):
            fill = float(fill)
        value = printer.select(printer.condition(statement.condition), value, literal(fill, real))
    return rounded(printer, value, statement.type.dtype, statement.target)


def rounded(printer: Expressions, value: Value, dtype: str, name: str) -> Value:
    """A value as an element of a tile of type ``dtype``, held in a register."""
    kind = "bool" if dtype == "bool" else STORED.get(dtype, "i32")
    if dtype in ("f16", "bf16"):
        value = cast(to_type(value, printer.real), dtype, printer.real)
    elif kind == "i32":
        value = cast(value, dtype, printer.real) if dtype != "i32" else value
    return printer.bind(to_type(value, kind), name)


def _store(printer: Expressions, view: View, value: Value, lane: Axis | None) -> None:
    address = view.address({r: p for r, p in printer.positions.items() if lane is None or r != lane.rank})
    if lane is None:
        printer.lines[LANE].append(f"*({address}) = tile::narrow<{view.ctype}>({value.code});")
        return
    code = value.code
    if value.level < LANE:
        code = f"tile::as_mask({code})" if value.dtype == "bool" else f"tile::splat<{REGISTER[value.dtype]}>({code})"
    printer.lines[LANE].append(f"tile::store<{view.ctype}>({address}, j, {code});")
