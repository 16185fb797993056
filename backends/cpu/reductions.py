"""Reductions over several axes, or across rows; and what every fold ends with: the accumulator, and the store."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack

from einsum_compiler.backends.cpu.columns import Columns
from einsum_compiler.backends.cpu.expressions import STORED, Expressions
from einsum_compiler.backends.cpu.scope import Scope
from einsum_compiler.backends.cpu.spaces import Space, whole_vectors
from einsum_compiler.backends.cpu.values import REGISTER, scalar_type, to_type
from einsum_compiler.backends.cpu.view import C_TYPES, View
from einsum_compiler.ir.tile import Axis, Reduce
from einsum_compiler.ir.types import is_float

BLOCK_STEPS = 8  # from here on four chains side by side lose less than one (``fold_steps``)
FOLDS = {"sum": "sum", "prod": "prod", "max": "maximum", "min": "minimum", "any": "any_of", "all": "all_of"}
COMBINED = {
    "sum": "{0} + {1}", "prod": "{0} * {1}", "max": "tile::max({0}, {1})", "min": "tile::min({0}, {1})",
    "any": "{0} || {1}", "all": "{0} && {1}",
}  # fmt: skip
LANE_COMBINED = {**COMBINED, "any": "{0} | {1}", "all": "{0} & {1}"}


def emit_reduction(scope: Scope, statement: Reduce, space: Space, view: View, columns: Columns | None) -> None:
    """A reduction over several axes, or across rows."""
    real = scope.real_type(statement.type.dtype, statement.value, statement.accumulator)
    kept = tuple(a for a in space.outer if a in statement.type.axes)
    inner = space.inner or tuple(a for a in space.outer if a not in kept)
    positions = {a.rank: scope.position(a.rank) for a in (*kept, *inner)}
    outer_positions = {a.rank: positions[a.rank] for a in kept}
    printer = scope.expressions(positions, space.lane.rank if space.lane else None, real, columns)
    result = folded(printer, statement, real)
    fixed, row, lanes = printer.lines
    write = scope.writer
    lanes_kept = space.lane if space.inner else None  # lanes are results; otherwise they are folded too
    fold = f"tile::{FOLDS[statement.operator]}"
    identity = f"{fold}::identity<{_register(statement, real)}>"
    if lanes_kept:
        identity = f"tile::splat<{_register(statement, real)}>({identity})"
    if space.lane is None or lanes_kept:
        steps, loops = inner[-1], inner[:-1]
        skipped = ""
        if lanes_kept and scope.trim and scope.span(space.lane, positions):
            skipped = f"if (!{scope.trim.name}.sees({positions[scope.trim.rows.rank]}, j)) return {identity};"
        if lanes_kept and not skipped and steps.size < BLOCK_STEPS:
            _emit_blocks(scope, statement, view, (kept, inner, lanes_kept), positions, printer, result, identity, real)
            return
        i = positions[steps.rank]
        part = f"tile::fold_steps({fold}(), {identity}, tile::constant<{steps.size}>(), [&](long {i})"
        before, returned = [], [*row, *([skipped] if skipped else []), *lanes]
    else:
        loops = inner
        covered = scope.span(space.lane, positions) or f"tile::constant<{space.lane.size}>()"
        part = f"tile::fold_row({fold}(), {covered}, [&](auto j)"
        before, returned = row, lanes
    with write.block():
        write.extend(fixed)
        with ExitStack() as around:
            for axis in kept:
                around.enter_context(_loop(scope, axis, positions))
            if lanes_kept:
                vectors = (
                    f"tile::for_each_column({whole_vectors(lanes_kept)}, [&](auto j) __attribute__((always_inline))"
                )
                around.enter_context(write.block(vectors, "});"))
            if loops:
                write.line(f"auto total = {identity};")
            with ExitStack() as within:
                for axis in loops:
                    within.enter_context(_loop(scope, axis, positions))
                write.extend(before)
                name = "part" if loops else "total"
                with write.block(f"const auto {name} = {part} __attribute__((always_inline))", "});"):
                    write.extend(returned)
                    write.line(f"return {result};")
                if loops:
                    write.line(f"total = {fold}()(total, part);")
            if lanes_kept:
                _finish_lanes(scope, statement, view, outer_positions, lanes_kept, real)
            else:
                finish(scope, statement, view, outer_positions, "total", real)


def _emit_blocks(
    scope: Scope,
    statement: Reduce,
    view: View,
    space: tuple[tuple[Axis, ...], tuple[Axis, ...], Axis],
    positions: Mapping[str, str],
    printer: Expressions,
    result: str,
    identity: str,
    real: str,
) -> None:
    """A short reduction whose results are lanes: four vectors of results are folded together, so what the lanes of a step share is computed once for them."""
    kept, inner, lane = space
    fixed, row, lanes = printer.lines
    write, fold = scope.writer, f"tile::{FOLDS[statement.operator]}"
    with write.block():
        write.extend(fixed)
        with ExitStack() as around:
            for axis in kept:
                around.enter_context(_loop(scope, axis, positions))
            blocks = f"tile::for_each_block({whole_vectors(lane)}, [&](auto block) __attribute__((always_inline))"
            around.enter_context(write.block(blocks, "});"))
            write.line(f"decltype(block.all({identity})) totals = block.all({identity});")
            with ExitStack() as within:
                for axis in inner:
                    within.enter_context(_loop(scope, axis, positions))
                write.extend(row)
                with write.block("block.each([&](auto j, int u) __attribute__((always_inline))", "});"):
                    write.extend(lanes)
                    write.line(f"totals.part[u] = {fold}()(totals.part[u], {result});")
            with write.block("block.each([&](auto j, int u) __attribute__((always_inline))", "});"):
                write.line("const auto total = totals.part[u];")
                _finish_lanes(scope, statement, view, {a.rank: positions[a.rank] for a in kept}, lane, real)


def _loop(scope: Scope, axis: Axis, positions: Mapping[str, str]) -> AbstractContextManager[None]:
    i = positions[axis.rank]
    return scope.writer.block(f"for (long {i} = 0; {i} < {axis.size}; ++{i})")


def _register(statement: Reduce, real: str) -> str:
    """The C++ type a reduction folds in."""
    if statement.operator in ("any", "all"):
        return "int32_t"
    if is_float(statement.type.dtype):
        return REGISTER[real]
    return "int32_t" if STORED.get(statement.type.dtype, "i32") == "i32" else "int64_t"


def folded(printer: Expressions, statement: Reduce, real: str) -> str:
    """What is folded, as a vector (or a scalar where there are no lanes)."""
    register = _register(statement, real)
    if statement.operator in ("any", "all"):
        value = printer.condition(statement.value)
        return f"tile::as_mask({value.code})" if printer.lane is not None else f"int32_t(-({value.code}))"
    value = printer.number(statement.value)
    if printer.lane is None:
        return f"{register}({value.code})"
    return f"tile::lanes_as<{register}>({value.code})"


def finish(scope: Scope, statement: Reduce, view: View, positions: dict[str, str], total: str, real: str) -> None:
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
