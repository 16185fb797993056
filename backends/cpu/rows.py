"""Tiles as tables of rows: each row where it lies in its tensor, for operands that products pack anyway.

Law: packing reads every row once, so where its rows lie anywhere (boxes of a grid, pages) a copy into scratch before it only moves them twice. A row that a condition
hides, beyond the extents or behind a filter, is a row of zeros elsewhere: hiding it changes a pointer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from einsum_compiler.backends.cpu.roles import FEW_ROWS, roles_of
from einsum_compiler.backends.cpu.scope import Scope
from einsum_compiler.backends.cpu.view import C_TYPES, WIDEST, View
from einsum_compiler.ir.expression import Read, walk
from einsum_compiler.ir.tile import Axis, Dot, Load, Loop, Map, Reduce, Select, Statement, TileType
from einsum_compiler.ir.tile_ranges import reads_in


def tables_of(scope: Scope, body: Sequence[Statement]) -> frozenset[str]:
    """The loads of a body that may be tables of rows, and the selects that hide rows of such a table."""
    types = {n: TileType(v.dtype, v.axes) for n, v in scope.tiles.items()}
    types |= {s.target: s.type for s in body if isinstance(s, Load | Map | Select | Dot | Reduce)}
    types |= {c.name: c.type for s in body if isinstance(s, Loop) for c in s.carries}
    found: set[str] = set()
    for statement in body:
        if isinstance(statement, Load) and statement.fill.value == 0 and statement.type.dtype[0] in "fb":
            names = _readers(statement.target, statement.type, body, types)
            if names is not None and statement.target not in scope.widened:
                found |= names
    return frozenset(found)


def _readers(name: str, kind: TileType, body: Sequence[Statement], types: Mapping[str, TileType]) -> set[str] | None:
    """The tile and the selects that read it, if they and packed operands of products are all that does; else None."""
    if len(kind.axes) != 2 or kind.axes[-1].size % WIDEST:
        return None
    found = {name}
    for statement in body:
        if name not in reads_in(statement):
            continue
        if isinstance(statement, Dot):
            if not _packs(statement, name, kind, types):
                return None
        elif isinstance(statement, Select) and hides_rows(statement, name, kind, types):
            further = _readers(statement.target, kind, body, types)
            if further is None:
                return None
            found |= further
        else:
            return None
    return found


def _packs(dot: Dot, name: str, kind: TileType, types: Mapping[str, TileType]) -> bool:
    """Whether a product takes the whole tile as its right operand, for more rows than are read without packing."""
    if dot.accumulator is not None and any(isinstance(n, Read) and n.tensor == name for n in walk(dot.accumulator)):
        return False
    roles = roles_of(dot, types[dot.left], types[dot.right])
    whole = roles.right == name and roles.left != name and {roles.column, roles.depth} == set(kind.axes)
    return whole and not roles.loops and not roles.deep_loops and roles.row is not None and roles.row.size > FEW_ROWS


def hides_rows(select: Select, name: str, kind: TileType, types: Mapping[str, TileType]) -> bool:
    """Whether a select zeroes whole rows of a tile, by a tile of truth values."""
    condition = select.condition
    if select.value != Read(name) or select.type != kind or select.fill.value != 0 or not isinstance(condition, Read):
        return False
    return types[condition.tensor] == TileType("bool", kind.axes[:1])


def emit_hidden(scope: Scope, select: Select) -> None:
    """The table of a select: that of its tile with the rows of zeros in it."""
    assert isinstance(select.value, Read) and isinstance(select.condition, Read)
    view, seen = scope.tiles[select.value.tensor], scope.tiles[select.condition.tensor]
    row = view.axes[0]
    i = scope.position(row.rank)
    table = declare(scope, select.target, view, row)
    with scope.writer.block(f"for (long {i} = 0; {i} < {row.size}; ++{i})"):
        scope.writer.line(f"{table}[{i}] = *({seen.address({row.rank: i})}) ? {view.rows}[{i}] : {zeros(view)};")
    scope.tiles[select.target] = replace(view, rows=table)


def declare(scope: Scope, name: str, view: View, row: Axis) -> str:
    """The name of a new table for the rows of a tile."""
    table = scope.names.fresh(f"{name}_rows")
    scope.writer.line(f"const {view.ctype}* {table}[{row.size}];")
    return table


def zeros(view: View) -> str:
    """A row of zeros as long as those of a tile."""
    return f"tile::zeros<{C_TYPES[view.dtype]}, {view.axes[-1].size}>"
