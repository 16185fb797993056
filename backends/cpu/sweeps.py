"""Maps, selects and reductions: one loop over rows, and inside it one over vectors, for statements that share their axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from einsum_compiler.backends.cpu.arithmetic import cast
from einsum_compiler.backends.cpu.columns import Columns
from einsum_compiler.backends.cpu.expressions import STORED, Expressions
from einsum_compiler.backends.cpu.scope import Scope
from einsum_compiler.backends.cpu.values import LANE, REGISTER, Value, literal, scalar_type, to_type
from einsum_compiler.backends.cpu.view import C_TYPES, WIDEST, View, padded
from einsum_compiler.ir.expression import Cast, Expression, Read, walk
from einsum_compiler.ir.tile import Axis, Map, Reduce, Select
from einsum_compiler.ir.types import is_float

FOLDS = {"sum": "sum", "prod": "prod", "max": "maximum", "min": "minimum", "any": "any_of", "all": "all_of"}
COMBINED = {
    "sum": "{0} + {1}", "prod": "{0} * {1}", "max": "tile::max({0}, {1})", "min": "tile::min({0}, {1})",
    "any": "{0} || {1}", "all": "{0} && {1}",
}  # fmt: skip
LANE_COMBINED = {**COMBINED, "any": "{0} | {1}", "all": "{0} & {1}"}

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


def emit_sweep(scope: Scope, group: Sequence[Pointwise | Reduce], live: set[str]) -> None:
    """The group as one sweep. Of its maps, those in ``live`` are stored; the others live in registers."""
    last = group[-1]
    space = space_of(scope, last, {s.target: s.type.axes for s in group})
    stored = [s.target for s in group if s.target in live]
    views = {s.target: scope.create(s.target, s.type) for s in group if s.target in stored}
    with scope.columns(space.lane) as columns:
        if isinstance(last, Reduce) and (space.inner or space.outer != last.type.axes):
            _emit_reduction(scope, last, space, views[last.target], columns)
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
    result = _folded(printer, last, real) if isinstance(last, Reduce) else None
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
                covered = scope.span(space.lane, positions) or _columns(space.lane)
                with write.block(f"tile::for_each_column({covered}, [&](auto j) __attribute__((always_inline))", "});"):
                    write.extend(lanes)
            elif isinstance(last, Reduce):
                covered = scope.span(space.lane, positions) or str(space.lane.size)
                fold = f"tile::fold_row(tile::{FOLDS[last.operator]}(), {covered}, [&](auto j) __attribute__((always_inline))"
                with write.block(f"const auto total = {fold}", "});"):
                    write.extend(lanes)
                    write.line(f"return {result};")
                _finish(scope, last, views[last.target], positions, "total", real)


def _emit_reduction(scope: Scope, statement: Reduce, space: Space, view: View, columns: Columns | None) -> None:
    """A reduction over several axes, or across rows."""
    real = scope.real_type(statement.type.dtype, statement.value, statement.accumulator)
    kept = tuple(a for a in space.outer if a in statement.type.axes)
    inner = space.inner or tuple(a for a in space.outer if a not in kept)
    positions = {a.rank: scope.position(a.rank) for a in (*kept, *inner)}
    outer_positions = {a.rank: positions[a.rank] for a in kept}
    printer = scope.expressions(positions, space.lane.rank if space.lane else None, real, columns)
    result = _folded(printer, statement, real)
    fixed, row, lanes = printer.lines
    write = scope.writer
    register = _register(statement, real)
    across = bool(space.inner)  # lanes are results; otherwise they are folded too
    with write.block():
        write.extend(fixed)
        with ExitStack() as loops:
            for axis in kept:
                i = positions[axis.rank]
                loops.enter_context(write.block(f"for (long {i} = 0; {i} < {axis.size}; ++{i})"))
            fold = f"tile::{FOLDS[statement.operator]}"
            identity = f"{fold}::identity<{register}>"
            if across and space.lane is not None:
                identity = f"tile::splat<{register}>({identity})"
                columns_of = f"tile::for_each_column({_columns(space.lane)}, [&](auto j) __attribute__((always_inline))"
                loops.enter_context(write.block(columns_of, "});"))
            steps, rest = (inner[-1], inner[:-1]) if across or space.lane is None else (None, inner)
            if rest:
                write.line(f"auto total = {identity};")
            with ExitStack() as within:
                for axis in rest:
                    i = positions[axis.rank]
                    within.enter_context(write.block(f"for (long {i} = 0; {i} < {axis.size}; ++{i})"))
                if steps:
                    i = positions[steps.rank]
                    part = f"tile::fold_steps({fold}(), {identity}, {steps.size}, [&](long {i}) __attribute__((always_inline))"
                    with write.block(f"const auto {'part' if rest else 'total'} = {part}", "});"):
                        write.extend(row)
                        if across and scope.trim and scope.span(space.lane, positions):
                            write.line(
                                f"if (!{scope.trim.name}.sees({positions[scope.trim.rows.rank]}, j)) return {identity};"
                            )
                        write.extend(lanes)
                        write.line(f"return {result};")
                else:
                    write.extend(row)
                    covered = scope.span(space.lane, positions) or str(space.lane.size)
                    part = f"tile::fold_row({fold}(), {covered}, [&](auto j) __attribute__((always_inline))"
                    with write.block(f"const auto part = {part}", "});"):
                        write.extend(lanes)
                        write.line(f"return {result};")
                if rest:
                    write.line(f"total = {fold}()(total, part);")
            if across and space.lane is not None:
                _finish_lanes(scope, statement, view, outer_positions, space.lane, real)
            else:
                _finish(scope, statement, view, outer_positions, "total", real)


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


def _register(statement: Reduce, real: str) -> str:
    """The C++ type a reduction folds in."""
    if statement.operator in ("any", "all"):
        return "int32_t"
    if is_float(statement.type.dtype):
        return REGISTER[real]
    return "int32_t" if STORED.get(statement.type.dtype, "i32") == "i32" else "int64_t"


def _folded(printer: Expressions, statement: Reduce, real: str) -> str:
    """What is folded, as a vector (or a scalar where there are no lanes)."""
    register = _register(statement, real)
    if statement.operator in ("any", "all"):
        value = printer.condition(statement.value)
        return f"tile::as_mask({value.code})" if printer.lane is not None else f"int32_t(-({value.code}))"
    value = printer.number(statement.value)
    if printer.lane is None:
        return f"{register}({value.code})"
    return f"tile::lanes_as<{register}>({value.code})"


# -- results ----------------------------------------------------------------------------------------------------------------


def _finish(scope: Scope, statement: Reduce, view: View, positions: dict[str, str], total: str, real: str) -> None:
    """Combine a fold with the accumulator and write it, one element."""
    printer = scope.expressions(positions, None, real)
    kind = {"int32_t": "i64", "int64_t": "i64", "float": "f32", "double": "f64"}[_register(statement, real)]
    if statement.operator in ("any", "all"):
        total, kind = f"{total} != 0", "bool"
    if statement.accumulator is not None:
        before = to_type(printer.value(statement.accumulator), kind)
        after = total if kind == "bool" else f"{scalar_type(kind)}({total})"
        total = COMBINED[statement.operator].format(before.atom, f"({after})")
    for lines in printer.lines:
        scope.writer.extend(lines)
    scope.writer.line(f"*({view.address(positions)}) = tile::narrow<{view.ctype}>({_round_scalar(view, total)});")


def _finish_lanes(
    scope: Scope, statement: Reduce, view: View, positions: dict[str, str], lane: Axis, real: str
) -> None:
    """The same for a vector of results."""
    printer = scope.expressions({**positions}, lane.rank, real)
    total = "total"
    register = _register(statement, real)
    if statement.accumulator is not None:
        if statement.operator in ("any", "all"):
            before = f"tile::as_mask({printer.condition(statement.accumulator).code})"
        else:
            before = f"tile::lanes_as<{register}>({printer.value(statement.accumulator).code})"
        total = LANE_COMBINED[statement.operator].format(before, total)
    for lines in printer.lines:
        scope.writer.extend(lines)
    if view.rounds:
        total = f"tile::round_to<{_plain(view)}>({total})"
    scope.writer.line(f"tile::store<{view.ctype}>({view.address(positions)}, j, {total});")


def _round_scalar(view: View, code: str) -> str:
    return f"tile::round_to<{_plain(view)}>({code})" if view.rounds else code


def _plain(view: View) -> str:
    return C_TYPES[view.dtype]


def _columns(lane: Axis) -> str:
    """Whole vectors, into the padding of scratch rows."""
    return f"tile::padded({lane.size})" if padded(lane.size) != lane.size else str(lane.size)
