"""Addresses of tiles: scalar terms in 64 bits on the base pointer, offsets inside the tile in 32 bits.

Indices that count tiles or come from tensors may be large: their terms are 64-bit. Positions inside a tile are
small; times a stride they fit 32 bits for all but extreme strides, which the launch recognises from ``Frame.spans``
and answers with the ``wide`` form of the kernel.
"""

from __future__ import annotations

from dataclasses import replace

from einsum_compiler.backends.triton.combine import Scope
from einsum_compiler.backends.triton.expressions import print_value
from einsum_compiler.backends.triton.frame import Frame
from einsum_compiler.backends.triton.value import PRODUCT, SUM, Value, cast, spread, union
from einsum_compiler.ir.errors import BackendError
from einsum_compiler.ir.expression import Binary, Constant, Expression, Rank, Unary
from einsum_compiler.ir.tile import Axis


def address(tensor: str, indices: tuple[Expression, ...], axes: tuple[Axis, ...], frame: Frame, scope: Scope) -> Value:
    """The pointers to ``tensor[indices]``, a block over the dimensions of the axes that the indices use."""
    operand = frame.tensor(tensor)
    if len(indices) != len(operand.extents):
        raise BackendError(f"'{tensor}' has {len(operand.extents)} axes and is read with {len(indices)} indices")
    sizes = {a.rank: a.size for a in axes}
    scalar: list[str] = []
    vector: list[Value] = []
    for axis, index in enumerate(indices):
        near, far, fixed = [], [], []
        span = 0
        for sign, term in signed_terms(index):
            value = print_value(term, scope)
            if not value.dims:
                if value.constant != 0:
                    fixed.append((sign, value))
            elif (extent := _span(term, sizes)) is not None:
                near.append((sign, value))
                span += extent
            else:
                far.append((sign, value))
        stride = frame.stride(tensor, axis) if fixed or near or far else ""
        if fixed:
            scalar.append(f"{cast(_wide(_sum(fixed, scope)), 'i64').at(PRODUCT)} * {stride}")
        if near:
            frame.spans[(tensor, axis)] = max(span, frame.spans.get((tensor, axis), 0))
            offsets = _sum(near, scope)
            offsets = _wide(offsets) if frame.settings.wide else offsets
            vector.append(replace(offsets, code=f"{offsets.at(PRODUCT)} * {stride}", level=PRODUCT))
        if far:
            offsets = _wide(_sum(far, scope))
            vector.append(replace(offsets, code=f"{offsets.at(PRODUCT)} * {stride}", level=PRODUCT))
    base = " + ".join((frame.pointer(tensor), *scalar))
    if not vector:
        return Value(base, operand.dtype, level=SUM)
    dims = union(tuple(vector), scope.dims)
    offsets_code = " + ".join(spread(v, dims).at(PRODUCT) for v in vector)
    return Value(
        f"{base} + ({offsets_code})" if len(vector) > 1 else f"{base} + {offsets_code}", operand.dtype, dims, SUM
    )


def _wide(value: Value) -> Value:
    if value.dtype == "i64" and not value.coordinate:
        return value
    return replace(
        value, code=f"tl.cast({value.code}, tl.int64)", dtype="i64", level=8, coordinate=False, constant=None
    )


def _sum(terms: list[tuple[str, Value]], scope: Scope) -> Value:
    # Terms are written plainly: a sum of coordinates that is an index fits the type its terms have.
    dims = union(tuple(v for _, v in terms), scope.dims)
    widest = "i64" if any(not v.coordinate for _, v in terms) else "i32"
    values = [(s, _wide(v) if widest == "i64" and v.constant is None else v) for s, v in terms]
    code = ""
    for sign, value in values:
        text = spread(value, dims).at(PRODUCT)
        code = (f"-{text}" if sign == "-" else text) if not code else f"{code} {sign} {text}"
    single = len(values) == 1 and values[0][0] == "+"
    level = values[0][1].level if single else SUM
    return Value(code, widest, dims, level, coordinate=widest == "i32")


def signed_terms(index: Expression) -> list[tuple[str, Expression]]:
    """``a + (b - c)`` as its signed terms."""
    match index:
        case Binary(operator="+" | "-" as op, left=left, right=right):
            flipped = {"+": "-", "-": "+"}
            return [*signed_terms(left), *((s if op == "+" else flipped[s], t) for s, t in signed_terms(right))]
        case Unary(operator="-", operand=operand):
            return [("-" if s == "+" else "+", t) for s, t in signed_terms(operand)]
    return [("+", index)]


def _span(term: Expression, sizes: dict[str, int]) -> int | None:
    """How far apart the coordinates of a term inside the tile can lie; None unless it is a multiple of a position."""
    match term:
        case Rank(name=name) if name in sizes:
            return sizes[name]
        case Binary(operator="*", left=Constant(value=factor), right=Rank(name=name)) if name in sizes:
            return abs(int(factor)) * sizes[name]
        case Binary(operator="*", left=Rank(name=name), right=Constant(value=factor)) if name in sizes:
            return abs(int(factor)) * sizes[name]
    return None
