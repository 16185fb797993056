"""Partial tiles cut down to what some row sees (Note [Spans] in spans.hpp): which statements may leave out points, and the spans themselves.

Law: points where the ``where`` of a loop is false add nothing to what leaves the tile. So they may be left out of every statement, if all
statements that make, read or fold tiles of rows and columns leave out the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from einsum_compiler.backends.cpu.affine import Known, depends, links, position_bounds
from einsum_compiler.backends.cpu.roles import FEW_ROWS, roles_of
from einsum_compiler.backends.cpu.running import running_of
from einsum_compiler.backends.cpu.scope import Scope, Trim
from einsum_compiler.backends.cpu.spaces import space_of
from einsum_compiler.backends.cpu.view import WIDEST
from einsum_compiler.ir.build import add, conjuncts
from einsum_compiler.ir.expression import Constant, Expression, Read, walk
from einsum_compiler.ir.tile import Axis, Dot, Load, Loop, Map, Reduce, Select, Statement, TileType
from einsum_compiler.ir.tile_ranges import reads_in


@dataclass(frozen=True)
class Bounds:
    """Of the columns that a row sees: ``lower <= column < upper`` for all of them; ``rows``: the axes the bounds may change along."""

    rows: tuple[str, ...]
    columns: str
    lower: tuple[Expression, ...]
    upper: tuple[Expression, ...]


def bounds_of(scope: Scope, loop: Loop) -> Bounds | None:
    """The bounds that the loop's ``where`` puts on its axis, row by row; None if there are none or they change along several axes.

    Bounds that change along no axis, as the end of the rank, are bounds of the rows of any.
    """
    columns = loop.rank.removesuffix(".1") + ".0"
    known = scope.known()
    found: list[tuple[bool, Expression]] = []
    for conjunct in conjuncts(loop.where):
        for pair in links(conjunct) or ():
            for operator, value in position_bounds(pair, columns, known):
                if depends(value, {columns}, known) or not _is_known(scope, value):
                    continue
                if operator in (">", ">=", "=="):
                    found.append((False, add(value, Constant(1)) if operator == ">" else value))
                if operator in ("<", "<=", "=="):
                    found.append((True, value if operator == "<" else add(value, Constant(1))))
    axes = _axes(loop, columns)
    used = {r for r in axes if any(depends(b, {r}, known) for _, b in found)}
    if len(used) > 1 or not found:
        return None
    lower, upper = (tuple(b for above, b in found if above is side) for side in (False, True))
    return Bounds(tuple(used) or tuple(sorted(axes)), columns, lower, upper)


def _is_known(scope: Scope, node: Expression) -> bool:
    return all(n.tensor in scope.tiles for n in walk(node) if isinstance(n, Read))


def _axes(loop: Loop, columns: str) -> set[str]:
    """The axes that tiles of the loop have beside that of its columns."""
    kinds = [s.type for s in loop.body if isinstance(s, Load | Map | Select | Dot | Reduce)]
    return {a.rank for k in kinds for a in k.axes} - {columns}


def trim_of(scope: Scope, bounds: Bounds, body: Sequence[Statement], kept: set[str]) -> Trim | None:
    """Whether every statement of a body can leave out what lies outside of the spans; None if one cannot. Loads do where their readers all can."""
    attempts = ((rows, gathers) for rows in bounds.rows for gathers in (True, False))
    found = (_trim_of(scope, rows, bounds.columns, body, kept, gathers) for rows, gathers in attempts)
    return next((trim for trim in found if trim), None)


def _trim_of(
    scope: Scope, rows: str, columns: str, body: Sequence[Statement], kept: set[str], gathers: bool
) -> Trim | None:
    types = {n: TileType(v.dtype, v.axes) for n, v in scope.tiles.items()}
    wide: set[str] = set()  # tiles that hold values inside of the spans only
    sizes: dict[str, int] = {}
    trims = False
    for s in body:
        if not isinstance(s, Load | Map | Select | Dot | Reduce):
            if reads_in(s) & wide:
                return None
            continue
        axes = s.type.axes
        sizes.update({a.rank: a.size for a in axes})
        both = {rows, columns} <= set(s.type.ranks)
        reads = reads_in(s) & wide
        if isinstance(s, Dot):
            if both or reads:
                if not _product_fits(s, rows, columns, types, wide):
                    return None
                trims = True
        elif isinstance(s, Map | Select) and both:
            if axes[-1].rank != columns:
                return None
        elif isinstance(s, Reduce) and reads:
            if running_of(s, Known({n: t.ranks for n, t in types.items()}, scope.known().integers)):
                return None  # its steps are fewer than points that are cut
            space = space_of(scope, s, {n: t.axes for n, t in types.items()})
            along = {a.rank for a in (*space.outer, *space.inner)}
            if both or space.lane is None or space.lane.rank != columns or rows not in along:
                return None
        elif reads:
            return None
        types[s.target] = s.type
        if both and (gathers or not isinstance(s, Load)):
            wide.add(s.target)
    if not trims or wide & kept or sizes.get(columns, 0) % WIDEST:
        return None
    return Trim(Axis(rows, sizes[rows]), Axis(columns, sizes[columns]), "", gathers)


def _product_fits(dot: Dot, rows: str, columns: str, types: dict[str, TileType], wide: set[str]) -> bool:
    """A product that makes columns of the spans, or sums over them: rows are those of the spans in both."""
    roles = roles_of(dot, types[dot.left], types[dot.right])
    if roles.row is None or roles.column is None or roles.row.rank != rows or roles.row.size <= FEW_ROWS:
        return False
    if columns in dot.type.ranks:
        makes = roles.column.rank == columns and dot.accumulator is None
        return makes and not {roles.left, roles.right} & wide
    sums = roles.depth is not None and roles.depth.rank == columns and not roles.deep_loops
    return sums and roles.left in wide and roles.right not in wide


def emit_spans(scope: Scope, bounds: Bounds, trim: Trim) -> Trim:
    """Declares the spans of the tile and fills them."""
    write = scope.writer
    name = scope.names.fresh(f"{bounds.columns}_spans")
    row = scope.position(trim.rows.rank)
    printer = scope.expressions({trim.rows.rank: row}, None, "f32")
    lower = [f"int64_t({printer.integer(b)})" for b in bounds.lower]
    upper = [f"int64_t({printer.integer(b)})" for b in bounds.upper]
    begin, end = "int64_t(0)", f"int64_t({trim.columns.size})"
    for code in lower:
        begin = f"tile::most({begin}, {code})"
    for code in upper:
        end = f"tile::least({end}, {code})"
    fixed, of_row, lanes = printer.lines
    write.line(f"tile::spans<{trim.rows.size}> {name};")
    with write.block():
        write.extend(fixed)
        with write.block(f"for (long {row} = 0; {row} < {trim.rows.size}; ++{row})"):
            write.extend([*of_row, *lanes])
            write.line(f"{name}.see({row}, {begin}, {end});")
        write.line(f"{name}.close();")
    return replace(trim, name=name)
