"""Products of tiles on the matrix unit: ``tl.dot`` of two blocks of two dimensions, three with a batch."""

from __future__ import annotations

import math
from dataclasses import replace

from einsum_compiler.backends.triton.combine import Scope, converted
from einsum_compiler.backends.triton.expressions import print_value
from einsum_compiler.backends.triton.frame import Frame
from einsum_compiler.backends.triton.layout import dot_classes, is_matrix_product
from einsum_compiler.backends.triton.value import Dimensions, Value, filled, permuted, spread
from einsum_compiler.ir.tile import Dot


def print_product(s: Dot, frame: Frame, scope: Scope) -> Value | None:
    """The product as ``tl.dot``, or None where it has no rows, columns or depth, or no type for it."""
    left_type, right_type = frame.types[s.left], frame.types[s.right]
    classes = dot_classes(s, left_type, right_type)
    if not is_matrix_product(classes, left_type, right_type):
        return None
    batch, rows, columns, depth = (
        frame.layout.of(axes) for axes in (classes.batch, classes.rows, classes.columns, classes.contracted)
    )
    left, right = s.left, s.right
    result = frame.layout.of(s.type.axes)
    if next(d for d in result if d not in batch) in columns:
        left, right, rows, columns = right, left, columns, rows
    first = _matrix(_operand(left, depth, frame, scope), (batch, rows, depth))
    second = _matrix(_operand(right, depth, frame, scope), (batch, depth, columns))
    dtype = "i32" if left_type.dtype == "i8" else ("f64" if left_type.dtype == "f64" else "f32")
    arguments = [first.code, second.code]
    if s.accumulator is not None:
        value = converted(print_value(s.accumulator, scope), dtype, scope)
        arguments.append(_matrix(filled(value, result), (batch, rows, columns)).code)
    if left_type.dtype == "f32":
        arguments.append(f'input_precision="{"tf32" if frame.settings.tf32 else "ieee"}"')
    if left_type.dtype.startswith("f8"):
        arguments.append("max_num_imprecise_acc=0")
    if dtype == "f64":
        arguments.append("out_dtype=tl.float64")
    name = "tl.dot"
    if frame.settings.interpreted:
        name = "dot"
        frame.helpers.add("dot")
        arguments = [*arguments[:2], *(a for a in arguments[2:] if "=" not in a.split("(")[0])]
    product = Value(f"{name}({', '.join(arguments)})", dtype, ())
    whole = (*batch, *rows, *columns)
    if len(whole) > sum(1 for c in (batch, rows, columns) if c):
        shape = ", ".join(str(d.padded) for d in whole)
        product = replace(product, code=f"tl.reshape({product.code}, [{shape}])")
    return permuted(replace(product, dims=whole), result)


def _operand(name: str, depth: Dimensions, frame: Frame, scope: Scope) -> Value:
    """The tile with zeros in the padding lanes that the product sums over."""
    tile = frame.tiles[name]
    padded = [d for d in depth if d.is_padded]
    if not padded or (tile.padding is not None and tile.padding.value == 0):
        return tile.value
    inside = " & ".join(spread(frame.inside(d), tile.value.dims).code for d in padded)
    zero = "0" if tile.value.dtype == "i8" else "0.0"
    return replace(tile.value, code=f"tl.where({inside}, {tile.value.code}, {zero})")


def _matrix(value: Value, classes: tuple[Dimensions, Dimensions, Dimensions]) -> Value:
    """The block with one dimension for each class that has any."""
    order = tuple(d for dims in classes for d in dims)
    value = permuted(value, order)
    sizes = [math.prod(d.padded for d in dims) for dims in classes if dims]
    if len(sizes) == len(order):
        return value
    return replace(value, code=f"tl.reshape({value.code}, {sizes})")
