"""Loops: one function for the body in full ranges, one for partial ranges, and the ranges in their order."""

from __future__ import annotations

from einsum_compiler.backends.cpu.bodies import emit_body
from einsum_compiler.backends.cpu.products import pack_before
from einsum_compiler.backends.cpu.scope import Scope
from einsum_compiler.backends.cpu.spans import bounds_of
from einsum_compiler.backends.cpu.sweeps import emit_sweep
from einsum_compiler.ir.errors import BackendError
from einsum_compiler.ir.expression import Expression, Read
from einsum_compiler.ir.tile import Loop, Map, Range, TileList
from einsum_compiler.ir.tile_ranges import loop_body


def emit_loop(scope: Scope, loop: Loop) -> None:
    """The carried tiles with their initial values, the bodies, and the calls in order of the ranges."""
    if any(isinstance(s, Loop) for s in loop.body):
        raise BackendError(f"the CPU backend runs no loop inside a loop (loop {loop.rank})")
    for carry in loop.carries:
        emit_sweep(scope, [Map(carry.name, carry.type, carry.initial)], {carry.name})
    classes = dict.fromkeys(part.partial for part in loop.ranges)
    packed = pack_before(scope, loop)
    functions = {partial: _emit_function(scope, loop, partial) for partial in classes}
    for part in loop.ranges:
        _emit_range(scope, part, functions[part.partial])
    scope.packed.clear()
    for offset in packed:
        scope.arena.release(offset)


def _emit_function(scope: Scope, loop: Loop, partial: bool) -> str:
    """The body for one class of ranges as a function of the index."""
    index = scope.names.of("rank", loop.rank)
    name = scope.names.fresh(f"{'partial' if partial else 'full'}_{loop.rank}")
    outside = dict(scope.tiles)
    scope.indices[loop.rank] = index
    with scope.writer.block(f"auto {name} = [&](const long {index})", "};"):
        emit_body(scope, loop_body(loop, partial), loop.carries, emit_loop, bounds_of(scope, loop) if partial else None)
        _advance(scope, loop)
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
        head = f"for (long {index} = {lower}, {index}_end = {upper}; {index} < {index}_end; ++{index}) {function}({index});"
    else:
        position = printer.integer(part.position)
        offsets, tiles = (scope.names.of("tensor", f"{part.schedule}.{n}") for n in ("offsets", "tiles"))
        slot = f"{offsets} + 2 * ({position}) + {int(part.partial)}"
        head = f"for (long {index} = ({slot})[0], {index}_end = ({slot})[1]; {index} < {index}_end; ++{index}) {function}({tiles}[{index}]);"
    with write.block():
        for lines in printer.lines:
            write.extend(lines)
        write.line(head)
