"""Loops: one function for the body in full ranges, one for partial ranges, and the ranges in their order."""

from __future__ import annotations

from dataclasses import replace

from einsum_compiler.backends.cpu.ahead import asks
from einsum_compiler.backends.cpu.bodies import emit_body
from einsum_compiler.backends.cpu.operands import pack_before
from einsum_compiler.backends.cpu.products import scales_sum
from einsum_compiler.backends.cpu.scope import Ahead, Scope
from einsum_compiler.backends.cpu.spans import bounds_of
from einsum_compiler.backends.cpu.sweeps import emit_sweep
from einsum_compiler.ir.errors import BackendError
from einsum_compiler.ir.expression import Constant, Expression, Read
from einsum_compiler.ir.tile import Carry, Dot, Load, Loop, Map, Range, Reduce, Select, TileList, TileType
from einsum_compiler.ir.tile_ranges import loop_body, reads_in


def emit_loop(scope: Scope, loop: Loop) -> None:
    """The carried tiles with their initial values, the bodies, and the calls in order of the ranges."""
    if any(isinstance(s, Loop) for s in loop.body):
        raise BackendError(f"the CPU backend runs no loop inside a loop (loop {loop.rank})")
    classes = dict.fromkeys(part.partial for part in loop.ranges)
    sums = [c for c in loop.carries if all(_starts_with_product(scope, loop, c, partial) for partial in classes)]
    for carry in loop.carries:
        if carry in sums:
            _emit_unstarted(scope, carry)
        else:
            emit_sweep(scope, [Map(carry.name, carry.type, carry.initial)], {carry.name})
    packed = pack_before(scope, loop)
    functions = {partial: _emit_function(scope, loop, partial) for partial in classes}
    for part in loop.ranges:
        _emit_range(scope, part, functions[part.partial])
    scope.packed.clear()
    for offset in packed:
        scope.arena.release(offset)
    for carry in sums:
        view = scope.tiles[carry.name]
        scope.in_place[carry.name] = replace(view, started="")
        with scope.writer.block(f"if (!{view.started})"):
            emit_sweep(scope, [Map(carry.name, carry.type, carry.initial)], {carry.name})


def _starts_with_product(scope: Scope, loop: Loop, carry: Carry, partial: bool) -> bool:
    """Whether a sum that starts at 0 is only ever rescaled and added to by one product: the first one then writes it, and nothing is filled or rescaled."""
    nexts = [c.next for c in loop.carries]
    if carry.initial != Constant(0) or carry.name in nexts or nexts.count(carry.next) != 1:
        return False
    body = loop_body(loop, partial)
    readers = [s for s in body if carry.name in reads_in(s)]
    if len(readers) != 1:
        return False
    dot = readers[0]
    if (
        not isinstance(dot, Dot)
        or dot.target != carry.next
        or carry.name in (dot.left, dot.right)
        or dot.type != carry.type
    ):
        return False
    types = {n: TileType(v.dtype, v.axes) for n, v in scope.tiles.items()}
    types |= {s.target: s.type for s in body if isinstance(s, Load | Map | Select | Dot | Reduce)}
    return scales_sum(dot, carry.name, types)


def _emit_unstarted(scope: Scope, carry: Carry) -> None:
    """Room for a sum, and the flag that says whether it is there."""
    view = scope.allocate(carry.name, carry.type)
    flag = scope.names.fresh(f"{carry.name}_started")
    scope.writer.line(f"bool {flag} = false;")
    scope.tiles[carry.name] = replace(view, started=flag)


def _emit_function(scope: Scope, loop: Loop, partial: bool) -> str:
    """The body for one class of ranges as a function of the index, and of the next one of the range: -1 behind the last."""
    index = scope.names.of("rank", loop.rank)
    name = scope.names.fresh(f"{'partial' if partial else 'full'}_{loop.rank}")
    outside = dict(scope.tiles)
    scope.indices[loop.rank] = index
    following = scope.names.fresh("following")
    scope.ahead = Ahead(loop, following) if asks(scope, loop) else None
    with scope.writer.block(f"auto {name} = [&](const long {index}, [[maybe_unused]] const long {following})", "};"):
        emit_body(scope, loop_body(loop, partial), loop.carries, emit_loop, bounds_of(scope, loop) if partial else None)
        _advance(scope, loop)
    scope.ahead = None
    del scope.indices[loop.rank]
    for tile in [t for t in scope.tiles if t not in outside]:
        scope.forget(tile)
    scope.tiles.update(outside)
    return name


def _advance(scope: Scope, loop: Loop) -> None:
    """The next values into the carried tiles, all at once, where they are not there already."""
    names = {c.name for c in loop.carries}
    sources: dict[str, Expression] = {}
    for carry in loop.carries:
        moved = carry.next != carry.name and scope.tiles[carry.next].offset != scope.tiles[carry.name].offset
        if not moved:
            continue
        sources[carry.name] = Read(carry.next)
        if carry.next in names:  # this value is about to be overwritten
            held = f"{carry.name}.held"
            emit_sweep(scope, [Map(held, carry.type, Read(carry.next))], {held})
            sources[carry.name] = Read(held)
    for carry in loop.carries:
        if carry.name in sources:
            scope.writer.line(f"// {carry.name} = {carry.next}")
            scope.in_place[carry.name] = scope.tiles[carry.name]
            emit_sweep(scope, [Map(carry.name, carry.type, sources[carry.name])], {carry.name})


def _emit_range(scope: Scope, part: Range | TileList, function: str) -> None:
    write = scope.writer
    index = scope.names.fresh("i")
    printer = scope.expressions({}, None, "f32")
    if isinstance(part, Range):
        lower, upper = printer.integer(part.lower), printer.integer(part.upper)
        head = f"for (long {index} = {lower}, {index}_end = {upper}; {index} < {index}_end; ++{index}) {function}({index}, {index} + 1 < {index}_end ? {index} + 1 : -1);"
    else:
        position = printer.integer(part.position)
        offsets, tiles = (scope.names.of("tensor", f"{part.schedule}.{n}") for n in ("offsets", "tiles"))
        slot = f"{offsets} + 2 * ({position}) + {int(part.partial)}"
        following = f"{index} + 1 < {index}_end ? {tiles}[{index} + 1] : -1"
        head = f"for (long {index} = ({slot})[0], {index}_end = ({slot})[1]; {index} < {index}_end; ++{index}) {function}({tiles}[{index}], {following});"
    with write.block():
        for lines in printer.lines:
            write.extend(lines)
        write.line(head)
