"""Tile maps with their captions."""

from __future__ import annotations

from dataclasses import dataclass

from einsum_compiler.compilation import Compilation
from einsum_compiler.ir.hints import listed
from einsum_compiler.report.tile_drawing import tile_picture
from einsum_compiler.report.tile_maps import EMPTY, FULL, PARTIAL, TileMap, Unknown, tile_maps


@dataclass(frozen=True)
class TileView:
    """A picture (none where tiles depend on values that are not there), its heading, and what it shows in words."""

    heading: str
    svg: str
    words: str


def tile_views(compiled: Compilation) -> list[TileView]:
    """The tile maps of every kernel."""
    several = len(compiled.parts) > 1
    return [_view(m, several) for m in tile_maps(compiled)]


def _view(found: TileMap | Unknown, several: bool) -> TileView:
    kernel = f"kernel {found.kernel}, " if several else ""
    heading = f"{kernel}sweep {found.sweep}"
    if isinstance(found, Unknown):
        reads = listed(list(found.reads))
        words = f"Which tiles are visited depends on the values of {reads}, which were not given."
        return TileView(heading[0].upper() + heading[1:], "", words)
    if found.at:
        heading += " at " + ", ".join(f"{r} = {i}" for r, i in found.at)
    total = found.cells.size
    full, partial, empty = (found.count(k) for k in (FULL, PARTIAL, EMPTY))
    share = f"{(full + partial) / total:.0%}" if total else "none"
    words = f"{full:,} full, {partial:,} partial, {empty:,} skipped: {share} visited."
    if found.same_for:
        words += f" The same for every {listed(list(found.same_for))}."
    if found.merged > 1:
        words += f" A row stands for {found.merged} tiles of {found.row_rank}; the counts are of rows."
    return TileView(heading[0].upper() + heading[1:], tile_picture(found), words)
