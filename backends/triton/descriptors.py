"""Tensor descriptors: copies of whole boxes of a tensor, which hardware computes the addresses and bounds of.

Law: a tile is a box of its tensor where each of its axes is a position along one axis of the tensor, in the same order, and every other index is one number.
A descriptor reads zeros beyond the ends of the tensor and writes nothing there, so it may replace a masked load with fill 0, or a masked store, where the mask
says no more than that the indices lie before those ends. Lanes that pad a tile must lie beyond the end. Alignment is left to the launch: pointers and all strides but
the last are multiples of 16 bytes, the last is 1 (CUDA programming guide, tensor maps).
"""

from __future__ import annotations

from dataclasses import dataclass

from einsum_compiler.backends.triton.address import signed_terms
from einsum_compiler.backends.triton.expressions import print_value
from einsum_compiler.backends.triton.frame import Frame
from einsum_compiler.backends.triton.value import PRODUCT, Dimensions
from einsum_compiler.ir.build import conjuncts
from einsum_compiler.ir.expression import Binary, Comparison, Constant, Expression, Rank, Read, Unary, walk
from einsum_compiler.ir.tile import Axis, TensorOperand
from einsum_compiler.ir.types import bytes_of

TYPES = ("f16", "bf16", "f32")
LONGEST = 256  # coordinates of a box along one axis
SHORTEST = 16  # bytes of a row of a box
MOST_AXES = 5


@dataclass(frozen=True)
class Box:
    """A tile as a box: the name of the descriptor, the first coordinates, and the shape of what it copies, with axes of one coordinate in it."""

    name: str
    offsets: tuple[str, ...]
    shape: tuple[int, ...]

    @property
    def at(self) -> str:
        return f"[{', '.join(self.offsets)}]"


def box_of(
    tensor: str,
    indices: tuple[Expression, ...],
    axes: tuple[Axis, ...],
    conditions: list[Expression | None],
    dims: Dimensions,
    frame: Frame,
) -> Box | None:
    """The box that a tile is, its descriptor noted in the frame; None if it is none."""
    operand = frame.tensor(tensor)
    if operand.dtype not in TYPES or any(len(d.axes) != 1 for d in dims):
        return None
    by_rank = {d.axes[0].rank: d for d in dims}
    places = [_place(index, set(by_rank)) for index in indices]
    if any(p is None for p in places):
        return None
    spread = [p.rank for p in places if p is not None and p.rank]
    if len(spread) < 2 or spread != [d.axes[0].rank for d in dims] or not places[-1] or not places[-1].rank:
        return None
    if any(
        p is not None and p.rank and by_rank[p.rank].is_padded and not _is_whole(p, by_rank[p.rank].size, extent)
        for p, extent in zip(places, operand.extents, strict=True)
    ):
        return None
    inside = [n for n, p in enumerate(places) if p is not None and (p.rank or not _is_fixed(p.first, frame))]
    ends: set[tuple[Expression, ...]] = {(indices[n], operand.extents[n]) for n in inside}
    if any(not _is_bound(c, ends) for condition in conditions for c in conjuncts(condition)):
        return None
    shape = tuple(by_rank[p.rank].padded if (p := places[n]) is not None and p.rank else 1 for n in inside)
    if len(inside) > MOST_AXES or max(shape) > LONGEST or shape[-1] * bytes_of(operand.dtype) < SHORTEST:
        return None
    offsets = tuple(_scalar(p.first, frame) for n in inside if (p := places[n]) is not None)
    outside = [(n, p.first) for n, p in enumerate(places) if n not in inside and p is not None]
    return Box(_descriptor(operand, outside, inside, shape, frame), offsets, shape)


@dataclass(frozen=True)
class _Place:
    """``first + rank``; ``rank`` is empty where the index is one number."""

    first: Expression
    rank: str = ""


def _place(index: Expression, ranks: set[str]) -> _Place | None:
    """An index as a number and at most one position with factor 1; None for anything else."""
    first: Expression = Constant(0)
    rank = ""
    for sign, term in signed_terms(index):
        if isinstance(term, Rank) and term.name in ranks and sign == "+" and not rank:
            rank = term.name
        elif any(isinstance(n, Rank) and n.name in ranks for n in walk(term)):
            return None
        else:
            first = Unary("-", term) if sign == "-" and first == Constant(0) else _plus(first, sign, term)
    return _Place(first, rank)


def _is_whole(place: _Place, size: int, extent: Expression) -> bool:
    """Whether a tile holds all of an axis, so that the lanes behind its last coordinate lie beyond the end."""
    return place.first == Constant(0) and extent == Constant(size)


def _plus(first: Expression, sign: str, term: Expression) -> Expression:
    return term if first == Constant(0) else Binary(sign, first, term)


def _is_bound(condition: Expression, ends: set[tuple[Expression, ...]]) -> bool:
    """Whether a condition says that an index lies before the end of its axis."""
    return isinstance(condition, Comparison) and condition.operators == ("<",) and condition.operands in ends


def _is_fixed(index: Expression, frame: Frame) -> bool:
    """Whether a number is the same in all of a program."""
    programs = {p.rank for p in frame.kernel.program}
    return all(not isinstance(n, Read) and (not isinstance(n, Rank) or n.name in programs) for n in walk(index))


def _scalar(index: Expression, frame: Frame) -> str:
    return print_value(index, frame.scope(())).code


def _descriptor(
    operand: TensorOperand,
    outside: list[tuple[int, Expression]],
    inside: list[int],
    shape: tuple[int, ...],
    frame: Frame,
) -> str:
    terms = [frame.pointer(operand.name)]
    for axis, index in outside:
        if index != Constant(0):
            value = print_value(index, frame.scope(()))
            terms.append(f"tl.cast({value.code}, tl.int64) * {frame.stride(operand.name, axis)}")
    extents = [print_value(operand.extents[n], frame.scope(())).at(PRODUCT) for n in inside]
    strides = [*(frame.stride(operand.name, n) for n in inside[:-1]), "1"]
    arguments = (
        " + ".join(terms),
        f"shape=[{', '.join(extents)}]",
        f"strides=[{', '.join(strides)}]",
        f"block_shape=[{', '.join(map(str, shape))}]",
    )
    made = f"tl.make_tensor_descriptor({', '.join(arguments)})"
    return frame.described(operand.name, made)
