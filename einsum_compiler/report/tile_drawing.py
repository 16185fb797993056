"""Pictures of visited tiles: a grid in which full and partial tiles are filled."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from einsum_compiler.box_values import Array
from einsum_compiler.report.svg import Element, add, drawing, markup, text_width
from einsum_compiler.report.tile_maps import FULL, PARTIAL, TileMap

WIDTH, HEIGHT = 300.0, 300.0  # the most that the tiles of one picture take
LARGEST_CELL = 22.0
SMALLEST_GRID = 6.0  # below that many pixels a tile, no lines are drawn between tiles
TEXT = 11.0


def tile_picture(tiles: TileMap) -> str:
    """The map of one loop as SVG: programs from top to bottom, the streamed rank from left to right."""
    rows, columns = tiles.cells.shape
    if not rows or not columns:
        return ""
    cell = min(LARGEST_CELL, WIDTH / columns, HEIGHT / rows)
    wide, high = max(cell, min(LARGEST_CELL, WIDTH / columns) if rows == 1 else cell), cell
    left, top = (34.0 if tiles.row_rank else 6.0), 24.0
    label = f"tiles of {tiles.column_rank} visited" + (f" by each {tiles.row_rank}" if tiles.row_rank else "")
    arrow = f"{tiles.column_rank} →"
    width = max(columns * wide, text_width(arrow, TEXT))
    height = max(rows * high, text_width(arrow, TEXT) if tiles.row_rank else 0.0)
    svg = drawing(left + width + 8, top + height + 8, label, "tiles")
    add(svg, "text", arrow, kind="axis", x=left, y=top - 8)
    if tiles.row_rank:
        inside = add(svg, "g", transform=f"translate({left - 13} {top}) rotate(90)")
        add(inside, "text", f"{tiles.row_rank} →", kind="axis", x=0, y=0)
    grid = add(svg, "g", transform=f"translate({left} {top})")
    add(grid, "rect", kind="empty", x=0, y=0, width=columns * wide, height=rows * high)
    for kind, name in ((FULL, "full"), (PARTIAL, "partial")):
        data = " ".join(
            f"M{x * wide:.2f} {y * high:.2f}h{n * wide:.2f}v{high:.2f}h{-n * wide:.2f}z"
            for y, x, n in _runs(tiles.cells == kind)
        )
        if data:
            add(grid, "path", kind=name, d=data)
    if min(wide, high) >= SMALLEST_GRID:
        _lines(grid, rows, columns, wide, high)
    add(grid, "rect", kind="frame", x=0, y=0, width=columns * wide, height=rows * high)
    return markup(svg)


def _runs(mask: Array) -> Iterable[tuple[int, int, int]]:
    """Row, first column and length of every run of true cells."""
    for row, line in enumerate(mask):
        edges = np.flatnonzero(np.diff(np.concatenate(([0], line.astype(np.int8), [0]))))
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            yield row, int(start), int(end - start)


def _lines(parent: Element, rows: int, columns: int, wide: float, high: float) -> None:
    data = [f"M{c * wide:.2f} 0v{rows * high:.2f}" for c in range(1, columns)]
    data += [f"M0 {r * high:.2f}h{columns * wide:.2f}" for r in range(1, rows)]
    if data:
        add(parent, "path", kind="lines", d=" ".join(data))
