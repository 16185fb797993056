"""The least and the greatest entry in each tile of a long table, read once by all threads (``tables.cpp``)."""

from __future__ import annotations

import ctypes
import functools
from math import prod
from pathlib import Path
from typing import Any

from einsum_compiler.backends.cpu.build import Toolchain, instruction_set, load_function, shared_object

SOURCE = Path(__file__).resolve().parent / "tables.cpp"
TYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float32", "float64")


def serves(table: Any) -> bool:
    """Whether the rows of a numpy array can be read in their order: a known type, and no gaps."""
    return str(table.dtype) in TYPES and bool(table.flags.c_contiguous) and table.size > 0


def fill_tile_extremes(
    table: Any,
    least: Any,
    greatest: Any,
    axis: int,
    sizes: tuple[int, int],
    *,
    folder: Path,
    compiler: str,
    threads: int,
) -> None:
    """Fill ``least`` and ``greatest``, arrays of the type of ``table``, with the extremes of tiles of ``sizes[0]`` along ``axis`` and ``sizes[1]`` along the last.

    ``axis`` is not the last one; the last tile of an axis may be shorter. A NaN is the extreme of its tile.
    Raises ``BackendError`` without a C++ compiler.
    """
    shape = table.shape
    numbers = (prod(shape[:axis]), shape[axis], prod(shape[axis + 1 : -1]), shape[-1], *sizes)
    tables = (ctypes.c_void_p * 3)(table.ctypes.data, least.ctypes.data, greatest.ctypes.data)
    _function(f"extremes_{table.dtype}", folder, compiler)(tables, None, (ctypes.c_int64 * 6)(*numbers), None, threads)


@functools.cache
def _function(name: str, folder: Path, compiler: str) -> ctypes._FuncPointer:
    text = SOURCE.read_text(encoding="utf-8")
    return load_function(shared_object(text, Toolchain(compiler, instruction_set("native")), folder, "tables"), name)
