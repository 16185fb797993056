"""Statements of a tile program as lines of Triton."""

from __future__ import annotations

from dataclasses import replace

from einsum_compiler.backends.triton.address import address
from einsum_compiler.backends.triton.combine import Scope, as_computed, conjunction, converted, extreme, where
from einsum_compiler.backends.triton.descriptors import Box, box_of
from einsum_compiler.backends.triton.expressions import print_value
from einsum_compiler.backends.triton.frame import Frame, Tile
from einsum_compiler.backends.triton.products import print_product
from einsum_compiler.backends.triton.ranges import headed
from einsum_compiler.backends.triton.streaming import streamed
from einsum_compiler.backends.triton.value import SUM, TRITON_TYPES, Dimensions, Value, cast, filled, literal, spread
from einsum_compiler.ir.errors import BackendError
from einsum_compiler.ir.expression import Binary, Constant, Expression, Read, walk
from einsum_compiler.ir.operators import REDUCTIONS
from einsum_compiler.ir.tile import (
    Carry,
    Dot,
    Load,
    Loop,
    Map,
    Reduce,
    Select,
    Statement,
    Store,
    TileType,
)
from einsum_compiler.ir.tile_ranges import loop_body

SMALLEST_INTEGER = {"i64": -(2**63), "i32": -(2**31), "i16": -(2**15), "i8": -(2**7), "u8": 0}
LARGEST_INTEGER = {"i64": 2**63 - 1, "i32": 2**31 - 1, "i16": 2**15 - 1, "i8": 2**7 - 1, "u8": 255}


def print_statement(statement: Statement, frame: Frame) -> None:
    """Append the lines of a statement to the frame."""
    if isinstance(statement, Load | Map | Select):
        frame.sources[statement.target] = statement
    match statement:
        case Load():
            _load(statement, frame)
        case Map():
            scope = frame.scope(statement.type.axes, statement.value, dtype=statement.type.dtype)
            _assign(statement.target, statement.type, print_value(statement.value, scope), frame, scope)
        case Select():
            _select(statement, frame)
        case Dot():
            _dot(statement, frame)
        case Reduce():
            _reduce(statement, frame)
        case Store():
            _store(statement, frame)
        case Loop():
            _loop(statement, frame)
        case _:
            raise BackendError(f"{type(statement).__name__} has no Triton form")


def _assign(
    target: str, type_: TileType, value: Value, frame: Frame, scope: Scope, padding: Constant | None = None
) -> None:
    dims = frame.layout.of(type_.axes)
    block = filled(converted(value, type_.dtype, scope), dims)
    name = frame.names.of(target, "tile")
    if block.constant is not None and not dims:
        block = replace(block, code=filled_scalar(block))
    frame.emit(f"{name} = {block.code}")
    frame.tiles[target] = Tile(Value(name, type_.dtype, dims), padding)


def filled_scalar(value: Value) -> str:
    """A literal as a scalar of its type, so that a loop may carry it."""
    return f"tl.full((), {value.code}, {TRITON_TYPES[value.dtype]})"


def _mask(conditions: list[Expression | None], dims: Dimensions, frame: Frame, scope: Scope) -> Value | None:
    values = [print_value(c, scope) for c in conditions if c is not None and c != Constant(True)]
    return conjunction([*values, *(frame.inside(d) for d in dims if d.is_padded)], scope)


def _whole_pointer(pointer: Value, dims: Dimensions) -> Value:
    if all(d in pointer.dims for d in dims):
        return pointer
    zeros = f"tl.full([{', '.join(str(d.padded) for d in dims)}], 0, tl.int32)"
    return replace(pointer, code=f"{spread(pointer, dims).code} + {zeros}", dims=dims, level=SUM)


def _load(s: Load, frame: Frame) -> None:
    scope = frame.scope(s.type.axes)
    dims = frame.layout.of(s.type.axes)
    if frame.settings.descriptors and s.fill.value == 0:
        box = box_of(s.tensor, s.indices, s.type.axes, [s.where, s.partial_where], dims, frame)
        if box is not None:
            loaded = Value(_shaped(f"{box.name}.load({box.at})", box, dims), frame.tensor(s.tensor).dtype, dims)
            _assign(s.target, s.type, loaded, frame, scope, padding=s.fill)
            return
    pointer = address(s.tensor, s.indices, s.type.axes, frame, scope)
    mask = _mask([s.where, s.partial_where], dims, frame, scope)
    code, covered = pointer.code, pointer.dims
    if mask is not None:
        covered = tuple(d for d in dims if d in mask.dims or d in pointer.dims)
        whole = pointer if pointer.dims else _whole_pointer(pointer, covered)
        fill = literal(s.fill.value, s.type.dtype)
        # Triton's interpreter makes integers of a scalar condition that it spreads, and then refuses them as a mask.
        masked = spread(mask, covered).code if mask.dims or not covered else f"{filled(mask, covered).code} != 0"
        code = f"{spread(whole, covered).code}, mask={masked}, other={fill.code}"
    loaded = Value(f"tl.load({code})", frame.tensor(s.tensor).dtype, covered)
    _assign(s.target, s.type, loaded, frame, scope, padding=s.fill)


def _shaped(code: str, box: Box, dims: Dimensions) -> str:
    """What a box holds without its axes of one coordinate."""
    return code if len(box.shape) == len(dims) else f"tl.reshape({code}, [{', '.join(str(d.padded) for d in dims)}])"


def _select(s: Select, frame: Frame) -> None:
    scope = frame.scope(s.type.axes, s.condition, s.value, dtype=s.type.dtype)
    value = print_value(s.value, scope)
    condition = cast(print_value(s.condition, scope), "bool")
    value = converted(value, s.type.dtype, scope)
    _assign(s.target, s.type, where(condition, value, literal(s.fill.value, s.type.dtype), scope), frame, scope)


def _dot(s: Dot, frame: Frame) -> None:
    scope = frame.scope(s.type.axes, s.accumulator, dtype=s.type.dtype)
    product = print_product(s, frame, scope)
    if product is not None:
        _assign(s.target, s.type, product, frame, scope)
        return
    # A product without rows, columns or depth, or of a type the matrix unit lacks: products and their sum.
    body = Binary("*", Read(s.left), Read(s.right))
    sizes = {a.rank: a for t in (s.left, s.right) for a in frame.types[t].axes}
    _reduce(Reduce(s.target, s.type, "sum", tuple(sizes[r] for r in s.over), body, s.accumulator), frame)


def identity_of(operator: str, dtype: str) -> Value:
    """The value a reduction of no points has."""
    if operator in ("max", "min") and dtype in SMALLEST_INTEGER:
        return literal((SMALLEST_INTEGER if operator == "max" else LARGEST_INTEGER)[dtype], dtype)
    return literal(REDUCTIONS[operator].identity, dtype)


def _reduce(s: Reduce, frame: Frame) -> None:
    pieces = streamed(s, frame.sources, frame.types, frame.indices, frame.layout)
    if pieces is not None:
        for piece in pieces:
            print_statement(piece, frame)
        return
    kept = frame.layout.of(s.type.axes)
    over = tuple(d for d in frame.layout.of(s.over) if d not in kept)
    held = _held(s, frame)
    whole = tuple(sorted((*kept, *over), key=lambda d: held.index(d) if d in held else len(held)))
    scope = frame.scope((*s.type.axes, *s.over), s.value, dims=whole, dtype=s.type.dtype)
    value = as_computed(print_value(s.value, scope))
    if s.operator in ("any", "all"):
        value = cast(value, "bool")
    elif not value.is_float:
        value = cast(value, "i64") if s.operator in ("sum", "prod") or value.dtype == "bool" else value
    covered = tuple(d for d in whole if d in value.dims or d in over)
    value = filled(value, covered)
    inside = conjunction([frame.inside(d) for d in over if d.is_padded], scope)
    if inside is not None:
        value = where(inside, value, identity_of(s.operator, value.dtype), scope)
    for dimension in reversed(over):
        frame.helpers.add(f"reduce_{s.operator}")
        axis = value.dims.index(dimension)
        dims = tuple(d for d in value.dims if d is not dimension)
        value = Value(f"reduce_{s.operator}({value.code}, {axis})", value.dtype, dims)
    scope = frame.scope(s.type.axes, s.accumulator, dtype=s.type.dtype)
    if s.accumulator is not None:
        value = _combined(s.operator, print_value(s.accumulator, scope), value, scope)
    _assign(s.target, s.type, value, frame, scope)


def _held(s: Reduce, frame: Frame) -> Dimensions:
    """The dimensions of the largest tile that a reduction reads, in their order: a sum needs no transposition."""
    reads = [n.tensor for n in walk(s.value) if isinstance(n, Read) and n.tensor in frame.tiles]
    return max((frame.tiles[name].value.dims for name in reads), key=len, default=())


def _combined(operator: str, left: Value, right: Value, scope: Scope) -> Value:
    if operator in ("max", "min"):
        return extreme(operator, left, right, scope)
    names = {"sum": "+", "prod": "*", "any": "or", "all": "and"}
    held = {"left": left, "right": right}
    inner = replace(scope, tile=held.__getitem__)
    return print_value(Binary(names[operator], Read("left"), Read("right")), inner)


def _store(s: Store, frame: Frame) -> None:
    scope = frame.scope(s.axes, s.value, s.where, dtype=frame.tensor(s.tensor).dtype)
    dims = frame.layout.of(s.axes)
    value = converted(as_computed(print_value(s.value, scope)), frame.tensor(s.tensor).dtype, scope)
    if frame.settings.descriptors and not s.adds:
        box = box_of(s.tensor, s.indices, s.axes, [s.where], dims, frame)
        if box is not None:
            code = filled(value, dims).code
            whole = code if len(box.shape) == len(dims) else f"tl.reshape({code}, {list(box.shape)})"
            frame.emit(f"{box.name}.store({box.at}, {whole})")
            return
    pointer = _whole_pointer(address(s.tensor, s.indices, s.axes, frame, scope), dims)
    mask = _mask([s.where], dims, frame, scope)
    masked = f", mask={filled(mask, dims).code if mask.dims or dims else mask.code}" if mask is not None else ""
    frame.emit(f"tl.store({pointer.code}, {filled(value, dims).code}{masked})")


def _loop(s: Loop, frame: Frame) -> None:
    if any(isinstance(inner, Loop) for inner in s.body):
        raise BackendError(f"loop '{s.rank}' holds another loop; the Triton backend wants one flattened loop")
    for carry in s.carries:
        scope = frame.scope(carry.type.axes, carry.initial, dtype=carry.type.dtype)
        _assign(carry.name, carry.type, print_value(carry.initial, scope), frame, scope)
    index = frame.names.of(s.rank, "rank")
    frame.indices.add(s.rank)
    for head, first, partial in headed(s, index, frame):
        with frame.block(head):
            for line in first:
                frame.emit(line)
            for statement in loop_body(s, partial):
                print_statement(statement, frame)
            _advance(s.carries, frame)
    frame.indices.discard(s.rank)
    for carry in s.carries:
        name = frame.names.of(carry.name, "tile")
        frame.tiles[carry.name] = Tile(Value(name, carry.type.dtype, frame.layout.of(carry.type.axes)))


def _advance(carries: tuple[Carry, ...], frame: Frame) -> None:
    """Assign every carried name its next value, all at once."""
    nexts = {c.name: frame.tile(c.next).code for c in carries}
    overwritten: set[str] = set()
    for carry in carries:
        if nexts[carry.name] in overwritten:
            raise BackendError(f"'{carry.name}' takes the old value of a carried tile that changes before it")
        name = frame.names.of(carry.name, "tile")
        if nexts[carry.name] != name:
            frame.emit(f"{name} = {nexts[carry.name]}")
            overwritten.add(name)
