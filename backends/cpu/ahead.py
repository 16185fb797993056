"""Rows that are read next, asked for while a product runs (Note [Rows ahead] in spans.hpp).

Law: a program knows its next tile from the ranges of its loop, and the one after its last from the number of the program behind it. Rows that lie anywhere are
those of tables (rows.py); where a loop reads such, its next tile is asked for in the products of its body, an equal share in each, and in those of its last tile
what the next program reads first and what this one writes too. An address that is asked for is never read, so it may lie anywhere.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from einsum_compiler.backends.cpu.accesses import access_of, base_address
from einsum_compiler.backends.cpu.roles import FEW_ROWS, roles_of
from einsum_compiler.backends.cpu.scope import Ahead, Scope
from einsum_compiler.backends.cpu.view import product, sum_of
from einsum_compiler.ir.build import reads_of
from einsum_compiler.ir.expression import Expression
from einsum_compiler.ir.tile import Axis, Dot, Load, Loop, Map, Range, Reduce, Select, Statement, Store, TileType
from einsum_compiler.ir.types import bytes_of


def asks(scope: Scope, loop: Loop) -> bool:
    """Whether what a program reads first is known from its number: one loop, whose ranges no tensor decides."""
    bounds: list[Expression] = []
    for part in loop.ranges:
        bounds += [part.lower, part.upper] if isinstance(part, Range) else [part.position]
    alone = [s for s in scope.kernel.body if isinstance(s, Loop)] == [loop] and not scope.kernel.ordered
    return alone and not reads_of(*bounds)


def products_that_ask(
    scope: Scope, body: Sequence[Statement], tables: Collection[str]
) -> tuple[tuple[Load, ...], tuple[str, ...]]:
    """The tables of a body whose rows are known before they are read, and its products of many rows."""
    types = {n: TileType(v.dtype, v.axes) for n, v in scope.tiles.items()}
    types |= {s.target: s.type for s in body if isinstance(s, Load | Map | Select | Dot | Reduce)}
    loads = [s for s in body if isinstance(s, Load) and s.target in tables and not reads_of(*s.indices)]
    found = tuple(
        s for s in loads if access_of(scope, s.tensor, s.indices, s.type.axes).strides[s.type.axes[0].rank] is None
    )
    products: list[str] = []
    for s in body:
        if isinstance(s, Dot):
            roles = roles_of(s, types[s.left], types[s.right])
            many = roles.row is not None and roles.row.size > FEW_ROWS and roles.column is not None
            if many and not roles.loops and not roles.deep_loops:
                products.append(s.target)
    return found, tuple(products)


def emit_ahead(scope: Scope, ahead: Ahead, product: str) -> tuple[str, str]:
    """Declares, in a block of their own, the indices of the next tile and a function that asks for one row.

    Gives the number of rows that a product asks for (C++), and the function.
    """
    write, fresh = scope.writer, scope.names.fresh
    last, program = fresh("last_tile"), fresh("program_ahead")
    index = scope.indices[ahead.loop.rank]
    write.line(f"const bool {last} = {ahead.following} < 0;")
    write.line(f"const long {program} = {last} && program + 1 < programs ? program + 1 : program;")
    written = [s for s in scope.kernel.body if isinstance(s, Store) and not s.adds and not reads_of(*s.indices)]
    first = [s for s in scope.kernel.body if isinstance(s, Load) and not reads_of(*s.indices)]
    here = [f for s in written if (f := _function(scope, s.tensor, s.indices, s.axes, 1))]
    # From here on the indices are those of the next tile.
    write.line(f"const long program = {program};")
    write.extend(scope.program_lines)
    write.line(f"const long {index} = {last} ? {_first_tile(scope, ahead.loop)} : {ahead.following};")
    tables = [f for s in ahead.tables if (f := _function(scope, s.tensor, s.indices, s.type.axes, 0))]
    whole = [f for s in first if (f := _function(scope, s.tensor, s.indices, s.type.axes, 0))]
    ask, row, rows = fresh("ask"), fresh("row"), fresh("rows")
    inside, outside = (sum(size for _, size in asked) for asked in (tables, (*whole, *here)))
    write.line(f"const long {rows} = {last} ? {inside + outside} : {inside};")
    share, shares = ahead.products.index(product), len(ahead.products)
    count = rows if share + 1 == shares else f"{rows} * {share + 1} / {shares}"
    before = fresh("before") if share else ""
    if before:
        write.line(f"const long {before} = {rows} * {share} / {shares};  // asked for by earlier products")
        count = f"{count} - {before}"
    with write.block(f"const auto {ask} = [&](long {row}) __attribute__((always_inline))", "};"):
        if before:
            write.line(f"{row} += {before};")
        for name, size in (*tables, *whole, *here):
            write.line(f"if ({row} < {size}) return {name}({row});")
            write.line(f"{row} -= {size};")
    return count, ask


def _function(
    scope: Scope, tensor: str, indices: tuple[Expression, ...], axes: tuple[Axis, ...], write: int
) -> tuple[str, int] | None:
    """A function that asks for a row of a tile of rows, and their number; None for other tiles."""
    if len(axes) != 2:
        return None
    row, lane = axes
    access = access_of(scope, tensor, indices, axes)
    size = lane.size * bytes_of(scope.tensors[tensor].dtype)
    if access.strides[lane.rank] is None or size < 64:
        return None
    i = scope.position(row.rank)
    printer = scope.expressions({row.rank: i}, None, "f32")
    address = base_address(scope, printer, tensor, access)
    if (step := access.strides[row.rank]) is not None:
        address = sum_of([address, product(i, step)])
    fixed, of_row, _ = printer.lines
    name = scope.names.fresh(f"ask_{tensor}")
    scope.writer.extend(fixed)
    with scope.writer.block(f"const auto {name} = [&](const long {i}) __attribute__((always_inline))", "};"):
        scope.writer.extend(of_row)
        scope.writer.line(f"tile::ask_for_row<{size}, {write}>({address});")
    return name, row.size


def _first_tile(scope: Scope, loop: Loop) -> str:
    """The first tile of a program (C++)."""
    found = "0"
    for part in reversed(loop.ranges):
        printer = scope.expressions({}, None, "f32")
        if isinstance(part, Range):
            begin, end = printer.integer(part.lower), printer.integer(part.upper)
            first = begin
        else:
            offsets, tiles = (scope.names.of("tensor", f"{part.schedule}.{n}") for n in ("offsets", "tiles"))
            slot = f"({offsets} + 2 * ({printer.integer(part.position)}) + {int(part.partial)})"
            begin, end = f"{slot}[0]", f"{slot}[1]"
            first = f"{tiles}[{begin}]"
        for lines in printer.lines:
            scope.writer.extend(lines)
        found = f"{begin} < {end} ? long({first}) : {found}"
    return f"({found})"
