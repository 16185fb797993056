"""Operands of products in the layout that register blocks read: packed, or copied where their rows lie badly."""

from __future__ import annotations

from einsum_compiler.backends.cpu.roles import FEW_ROWS, Roles, roles_of
from einsum_compiler.backends.cpu.scope import Scope
from einsum_compiler.backends.cpu.view import C_TYPES, View, strides_of
from einsum_compiler.ir.tile import Axis, Dot, Load, Loop, Map, Reduce, Select, TileType
from einsum_compiler.ir.tile_ranges import loop_body
from einsum_compiler.ir.types import bytes_of

# Columns of a register block of the widest vectors: a copy by panels has room for whole ones.
WIDEST_PANEL = 64


def is_packed(right: View, column: Axis) -> bool:
    """Whether products read a copy of their right operand: its columns are not adjacent, its rows lie anywhere, or it is widened."""
    return bool(right.rows) or right.axes[-1].rank != column.rank or right.dtype in ("f16", "bf16")


def pack(scope: Scope, roles: Roles, right: View, start: str, packed: list[int], within: str = "") -> str:
    """Scratch with the right operand as products read it; ``packed`` gets its offset, to be freed after the last of them."""
    column, depth = roles.column, roles.depth
    assert column is not None
    steps = depth.size if depth else 1
    _, size = strides_of((Axis("rows", max(steps, 1)), Axis("columns", column.size)), right.dtype)
    offset = scope.arena.allocate(size)
    packed.append(offset)
    buffer = scope.names.fresh(f"{roles.right}_packed")
    scope.writer.line(f"char* const {buffer} = scratch + {offset};")
    inner = right.stride(depth.rank) if depth else "0"
    if right.rows:
        how = "pack" if right.axes[-1].rank == column.rank else "pack_transposed"
        b = f"tile::row_table<const {right.ctype}>{{{right.rows}}}"
        scope.writer.line(f"tile::{how}({column.size}, {steps}, {b}, {buffer}{within});")
    elif right.axes[-1].rank == column.rank:
        b = f"tile::matrix<const {right.ctype}>{{{start}, {inner}}}"
        scope.writer.line(f"tile::pack({column.size}, {steps}, {b}, {buffer}{within});")
    else:
        b = f"tile::strided<const {right.ctype}>{{{start}, {right.stride(column.rank)}, {inner}}}"
        scope.writer.line(f"tile::pack_transposed({column.size}, {steps}, {b}, {buffer}{within});")
    return buffer


def may_be_copied(operand: View, result: str, roles: Roles) -> bool:
    """Whether a product asks, at run time, how the rows of an operand lie in a tensor."""
    return operand.aliased and operand.ctype == result and roles.depth is not None


def copy(scope: Scope, roles: Roles, right: View, matrix: str, packed: list[int]) -> str:
    """The name of a right operand in a tensor, copied where its rows lie badly (Note [Panels] in panels.hpp)."""
    row, column, depth = roles.row, roles.column, roles.depth
    assert row is not None and column is not None and depth is not None
    columns = -(-column.size // WIDEST_PANEL) * WIDEST_PANEL
    offset = scope.arena.allocate(columns * depth.size * bytes_of(right.dtype))
    packed.append(offset)
    name = scope.names.fresh(f"{roles.right}_nearby")
    sizes = f"{row.size}, {column.size}, {depth.size}"
    scope.writer.line(f"const auto {name} = tile::nearby({sizes}, {matrix}, scratch + {offset});")
    return name


def copy_left(scope: Scope, roles: Roles, left: View, start: str, packed: list[int]) -> str:
    """The name of a left operand that is read down its columns, copied where those lie badly."""
    row, column, depth = roles.row, roles.column, roles.depth
    assert row is not None and column is not None and depth is not None
    _, size = strides_of((depth, row), left.dtype)
    offset = scope.arena.allocate(size)
    packed.append(offset)
    name = scope.names.fresh(f"{roles.left}_nearby")
    sizes = f"{row.size}, {column.size}, {depth.size}"
    scope.writer.line(f"const auto {name} = tile::nearby_left({sizes}, {start}, scratch + {offset});")
    return name


def pack_before(scope: Scope, loop: Loop) -> list[int]:
    """Packs, before a loop, the right operands of its products that it does not change; gives the scratch to free after the loop."""
    packed: list[int] = []
    changed = {c.name for c in loop.carries}
    for partial in dict.fromkeys(r.partial for r in loop.ranges):
        body = loop_body(loop, partial)
        kinds = {n: TileType(v.dtype, v.axes) for n, v in scope.tiles.items()}
        kinds |= {s.target: s.type for s in body if isinstance(s, Load | Map | Select | Dot | Reduce)}
        for dot in body:
            if not isinstance(dot, Dot) or not {dot.left, dot.right} <= kinds.keys():
                continue
            roles = roles_of(dot, kinds[dot.left], kinds[dot.right])
            right, column = scope.tiles.get(roles.right), roles.column
            if roles.right in changed:
                continue
            rows = roles.row.size if roles.row else 1
            whole = right is not None and set(right.axes) == {roles.column, roles.depth}
            if (
                right is None
                or column is None
                or rows <= FEW_ROWS
                or not whole
                or (roles.right, column.rank) in scope.packed
            ):
                continue
            if is_packed(right, column):
                scope.packed[roles.right, column.rank] = pack(scope, roles, right, right.pointer, packed)
            elif may_be_copied(right, C_TYPES[dot.type.dtype], roles) and roles.depth is not None:
                matrix = f"tile::matrix<const {right.ctype}>{{{right.pointer}, {right.stride(roles.depth.rank)}}}"
                scope.packed[roles.right, column.rank] = copy(scope, roles, right, matrix, packed)
    return packed
