"""Tiles where they lie: a pointer, an element type and a stride for every axis."""

from __future__ import annotations

from dataclasses import dataclass

from einsum_compiler.ir.errors import BackendError
from einsum_compiler.ir.tile import Axis
from einsum_compiler.ir.types import bytes_of

C_TYPES = {
    "f64": "double", "f32": "float", "f16": "tile::f16", "bf16": "tile::bf16",
    "i64": "int64_t", "i32": "int32_t", "i16": "int16_t", "i8": "int8_t", "u8": "uint8_t", "bool": "bool",
}  # fmt: skip

# Scratch rows are padded for the widest vector (16 lanes), so that one source serves every instruction set.
WIDEST = 16


def c_type(dtype: str, where: str) -> str:
    """The C++ element type; BackendError if the CPU back end has none."""
    if dtype not in C_TYPES:
        raise BackendError(f"{where} has element type {dtype}, which the CPU backend does not compute with")
    return C_TYPES[dtype]


@dataclass(frozen=True, slots=True)
class View:
    """A tile: element (i, j, ...) is ``pointer[i * strides[0] + j * strides[1] + ...]``.

    Strides are C++ expressions; the last is ``"1"``. Rows may be read up to the next multiple of ``WIDEST``. ``offset`` is the
    tile's place in scratch. ``aliased``: the pointer may lead into a tensor, so nothing may be written there.
    ``rounds``: the element type in memory may be wider than ``dtype``, so stores round first.
    ``started``: a C++ flag that says whether the tile holds its sum yet; until then nothing is there and it counts as 0.
    ``rows``: a C++ array of pointers; row i of two axes begins at ``rows[i]``, anywhere in a tensor, and only packing reads it.
    """

    pointer: str
    dtype: str
    ctype: str
    axes: tuple[Axis, ...]
    strides: tuple[str, ...]
    offset: int
    aliased: bool = False
    rounds: bool = False
    started: str = ""
    rows: str = ""

    @property
    def ranks(self) -> tuple[str, ...]:
        return tuple(a.rank for a in self.axes)

    def has(self, rank: str) -> bool:
        return any(a.rank == rank for a in self.axes)

    def stride(self, rank: str) -> str:
        """Elements between neighbours along that rank; ``"0"`` if the tile lacks it."""
        return next((s for a, s in zip(self.axes, self.strides, strict=True) if a.rank == rank), "0")

    def address(self, positions: dict[str, str]) -> str:
        """The pointer at some coordinates (C++ by rank); ranks not given are at 0."""
        terms = [
            product(positions[a.rank], s) for a, s in zip(self.axes, self.strides, strict=True) if a.rank in positions
        ]
        return sum_of([self.pointer, *terms])


def product(left: str, right: str) -> str:
    """``left * right`` without factors of 0 and 1."""
    if "0" in (left, right):
        return "0"
    if left == "1":
        return right
    return left if right == "1" else f"{atom(left)} * {atom(right)}"


def sum_of(terms: list[str]) -> str:
    """The sum without zeros."""
    kept = [t for t in terms if t != "0"]
    return " + ".join(kept) if kept else "0"


def atom(code: str) -> str:
    return code if code.replace("_", "").isalnum() else f"({code})"


def strides_of(axes: tuple[Axis, ...], dtype: str) -> tuple[tuple[str, ...], int]:
    """Row-major strides of a tile in scratch, and its bytes; a narrow float may be held as f32."""
    if not axes:
        return (), 64
    width = max(bytes_of(dtype), 4) if dtype in ("f16", "bf16") else bytes_of(dtype)
    # An odd number of cache lines from row to row (Note [Odd strides] in product.hpp), whole vectors of the widest machine.
    lines = -(-padded(axes[-1].size) * width // 64)
    step = (lines | 1) * (64 // width)
    strides = ["1"]
    for axis in reversed(axes[:-1]):
        strides.insert(0, str(step))
        step *= axis.size
    return tuple(strides), step * width


def padded(columns: int) -> int:
    return -(-columns // WIDEST) * WIDEST
