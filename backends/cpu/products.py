"""Products of tiles: loops over all but one row, one column and one contracted axis, and a call of the runtime inside."""

from __future__ import annotations

from contextlib import ExitStack

from einsum_compiler.backends.cpu.ahead import emit_ahead
from einsum_compiler.backends.cpu.joined import joined
from einsum_compiler.backends.cpu.operands import copy, copy_left, is_packed, may_be_copied, pack
from einsum_compiler.backends.cpu.roles import FEW_ROWS, Roles, roles_of
from einsum_compiler.backends.cpu.scope import Scope
from einsum_compiler.backends.cpu.sweeps import emit_sweep
from einsum_compiler.backends.cpu.view import View
from einsum_compiler.ir.expression import Binary, Expression, Read
from einsum_compiler.ir.tile import Axis, Dot, Map, TileType


def left_operands(dot: Dot, types: dict[str, TileType]) -> str:
    """The operand that the runtime reads element by element."""
    return roles_of(dot, types[dot.left], types[dot.right]).left


def emit_dot(scope: Scope, dot: Dot) -> None:
    """The product into the result's tile, in place of the accumulator where that dies here."""
    kinds = {n: TileType(scope.tiles[n].dtype, scope.tiles[n].axes) for n in (dot.left, dot.right)}
    roles = roles_of(dot, kinds[dot.left], kinds[dot.right])
    accumulator = dot.accumulator
    carried = scope.in_place.get(dot.target)
    scale: str | None = None
    if accumulator is not None:
        scale = _row_scale(scope, accumulator, carried, roles)
    if accumulator is not None and scale is None and not _is_place(scope, accumulator, carried):
        emit_sweep(scope, [Map(dot.target, dot.type, accumulator)], {dot.target})
    else:
        scope.create(dot.target, dot.type)
    _emit_product(scope, dot, roles, scope.tiles[dot.target], accumulator is not None, scale)


def scales_sum(dot: Dot, name: str, types: dict[str, TileType]) -> bool:
    """Whether a product's accumulator is the tile ``name``, as it is or times one number for every row, and one call writes it all."""
    roles = roles_of(dot, types[dot.left], types[dot.right])
    if roles.row is None or roles.column is None or roles.loops or roles.deep_loops:
        return False
    match dot.accumulator:
        case Read(tensor=tensor):
            return tensor == name
        case Binary(operator="*", left=Read(tensor=a), right=Read(tensor=b)) if name in (a, b) and a != b:
            factor = types[b if a == name else a]
            return factor.axes == (roles.row,) and factor.dtype == dot.type.dtype
    return False


def emit_product(scope: Scope, dot: Dot, how: str) -> None:
    """A product of one row, one column and perhaps one contracted axis into the result's tile, which is there; ``how``: C++."""
    kinds = {n: TileType(scope.tiles[n].dtype, scope.tiles[n].axes) for n in (dot.left, dot.right)}
    roles = roles_of(dot, kinds[dot.left], kinds[dot.right])
    _emit_product(scope, dot, roles, scope.tiles[dot.target], True, None, how)


def _is_place(scope: Scope, node: Expression, carried: View | None) -> bool:
    """Whether an accumulator is the tile whose buffer the result takes over."""
    return carried is not None and isinstance(node, Read) and scope.tiles[node.tensor].offset == carried.offset


def _row_scale(scope: Scope, node: Expression, carried: View | None, roles: Roles) -> str | None:
    """The tile ``s`` of an accumulator ``acc * s`` in place with one number for every row; else None."""
    if roles.row is None or roles.column is None or not (isinstance(node, Binary) and node.operator == "*"):
        return None
    for accumulated, factor in ((node.left, node.right), (node.right, node.left)):
        if _is_place(scope, accumulated, carried) and isinstance(factor, Read):
            axes = scope.tiles[factor.tensor].axes
            same = carried is not None and scope.tiles[factor.tensor].ctype == carried.ctype
            if same and axes and axes[-1] == roles.row and all(a in (roles.row, *roles.loops) for a in axes):
                return factor.tensor
    return None


def _emit_product(
    scope: Scope, dot: Dot, roles: Roles, result: View, accumulates: bool, scale: str | None, how: str = ""
) -> None:
    write = scope.writer
    left, right = scope.tiles[roles.left], scope.tiles[roles.right]
    if scope.trim is None and not (scope.ahead and dot.target in scope.ahead.products):
        roles = joined(roles, left, right, result, scope.tiles[scale] if scale else None)
    positions = {a.rank: scope.position(a.rank) for a in (*roles.loops, *roles.deep_loops)}
    how = how or f"tile::{'accumulate' if accumulates else 'overwrite'}()"
    if scale is not None:
        how = f"tile::rescale<{result.ctype}>{{{scope.tiles[scale].address(positions)}}}"
    if result.started:
        how = f"{result.started} ? tile::update_of<{result.ctype}>({how}) : tile::update<{result.ctype}>{{false, nullptr}}"
    if roles.deep_loops and (not accumulates or scale is not None):
        # The first slice of depth starts the sum, the others add to it.
        first = " && ".join(f"{positions[a.rank]} == 0" for a in roles.deep_loops)
        start = f"tile::update_of<{result.ctype}>({how})"
        how = f"({first}) ? {start} : tile::update<{result.ctype}>{{true, nullptr}}"
    packed: list[int] = []
    with write.block(), ExitStack() as nest:
        ahead = scope.ahead if scope.ahead and dot.target in scope.ahead.products else None
        asked = emit_ahead(scope, ahead, dot.target) if ahead else None
        for axis in (*roles.loops, *roles.deep_loops):
            i = positions[axis.rank]
            nest.enter_context(write.block(f"for (long {i} = 0; {i} < {axis.size}; ++{i})"))
        if roles.column is None:
            _emit_strided(scope, roles, left, right, result, positions, accumulates)
        else:
            _emit_call(scope, roles, left, right, result, positions, how, packed, asked)
    if result.started:
        write.line(f"{result.started} = true;")
    for offset in packed:
        scope.arena.release(offset)


def _emit_strided(
    scope: Scope, roles: Roles, left: View, right: View, result: View, positions: dict[str, str], accumulates: bool
) -> None:
    """Results whose last axis belongs to both operands or to none: any strides, no packing."""
    row, depth = roles.row.rank if roles.row else "", roles.depth.rank if roles.depth else ""
    sizes = f"{roles.row.size if roles.row else 1}, 1, {roles.depth.size if roles.depth else 1}"
    a = f"tile::strided<const {left.ctype}>{{{left.address(positions)}, {left.stride(row)}, {left.stride(depth)}}}"
    b = f"tile::strided<const {right.ctype}>{{{right.address(positions)}, {right.stride(depth)}, 0}}"
    c = f"tile::strided<{result.ctype}>{{{result.address(positions)}, {result.stride(row)}, 0}}"
    accumulate = "true" if accumulates else "false"
    if roles.deep_loops and not accumulates:
        accumulate = " || ".join(f"{positions[a.rank]} != 0" for a in roles.deep_loops)
    scope.writer.line(f"tile::product_strided({sizes}, {a}, {b}, {c}, {accumulate});")


def _emit_call(
    scope: Scope,
    roles: Roles,
    left: View,
    right: View,
    result: View,
    positions: dict[str, str],
    how: str,
    packed: list[int],
    asked: tuple[str, str] | None = None,
) -> None:
    write = scope.writer
    row, column, depth = roles.row, roles.column, roles.depth
    assert column is not None
    rows, steps = row.size if row else 1, depth.size if depth else 1
    a_row = left.stride(row.rank) if row else "0"
    a_depth = left.stride(depth.rank) if depth else "0"
    a_start, b_start, c_start = (v.address(positions) for v in (left, right, result))
    c = f"tile::matrix<{result.ctype}>{{{c_start}, {result.stride(row.rank) if row else '0'}}}"
    a = f"tile::strided<const {left.ctype}>{{{a_start}, {a_row}, {a_depth}}}"
    if may_be_copied(left, result.ctype, roles) and row is not None and left.axes[-1] == row and rows > FEW_ROWS:
        a = copy_left(scope, roles, left, a, packed)
    columns = f"tile::padded({column.size})"
    within = _within(scope, row, column, depth)
    along_depth = depth is not None and right.axes[-1].rank == depth.rank
    if along_depth and rows <= FEW_ROWS and a_depth == "1" and right.dtype[0] in "fb":
        write.line(
            f"tile::product_rows_with_rows<{rows}>({how}, {column.size}, {steps}, tile::matrix<const {left.ctype}>{{{a_start}, {a_row}}}, "
            f"tile::matrix<const {right.ctype}>{{{b_start}, {right.stride(column.rank)}}}, {c});"
        )
        return
    if rows <= FEW_ROWS and right.axes[-1].rank == column.rank:
        b = f"tile::matrix<const {right.ctype}>{{{b_start}, {right.stride(depth.rank) if depth else '0'}}}"
        write.line(f"tile::product_few_rows<{rows}>({how}, {columns}, {steps}, {a}, {b}, {c});")
        return
    if not is_packed(right, column):
        b = f"tile::matrix<const {right.ctype}>{{{b_start}, {right.stride(depth.rank) if depth else '0'}}}"
        if may_be_copied(right, result.ctype, roles):
            b = scope.packed.get((roles.right, column.rank)) or copy(scope, roles, right, b, packed)
        where = _where(within, asked, result.ctype, rows, column)
        write.line(f"tile::product({how}, {rows}, {columns}, {steps}, {a}, {b}, {c}{where});")
        return
    buffer = scope.packed.get((roles.right, column.rank))
    if buffer is None:
        buffer = pack(scope, roles, right, b_start, packed, within)
    where = _where(within, asked, result.ctype, rows, column)
    write.line(
        f"tile::product_packed<{right.ctype}>({how}, {rows}, {column.size}, {steps}, {a}, {buffer}, {c}{where});"
    )


def _where(within: str, asked: tuple[str, str] | None, ctype: str, rows: int, column: Axis) -> str:
    """The last argument of a product that asks for rows between its blocks."""
    if asked is None:
        return within
    count, ask = asked
    return f", tile::asking_for<{ctype}>({rows}, {column.size}, {count}, {ask}{within})"


def _within(scope: Scope, row: Axis | None, column: Axis, depth: Axis | None) -> str:
    """The last argument of a product that leaves out what lies outside of spans."""
    trim = scope.trim
    if trim is None or row != trim.rows:
        return ""
    if column == trim.columns:
        return f", tile::columns_within<{row.size}>{{{trim.name}}}"
    return f", tile::depth_within<{row.size}>{{{trim.name}}}" if depth == trim.columns else ""
