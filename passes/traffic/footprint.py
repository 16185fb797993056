"""The live footprint of one program: bytes of the tiles that must exist at the same time.

Law: a tile lives from its definition to its last reader. Carried tiles, and tiles from before a loop that are read in it or after it, live through the
whole loop. The next value of a carried tile takes its place where nothing reads the old value afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

from einsum_compiler.ir.tile import Dot, Load, Loop, Map, Reduce, Select, Statement, TileKernel, TileType
from einsum_compiler.ir.tile_ranges import loop_body, reads_in
from einsum_compiler.ir.types import bytes_of


@dataclass(frozen=True)
class Footprint:
    """Bytes of one program. ``total`` is the peak over all its statements.

    At the loop with the largest peak: ``state`` of carried tiles, ``resident`` of tiles that live through it, ``step`` of the tiles of one
    step (their peak), ``streamed`` of what one step loads; ``packed`` of loaded operands of products, which a back end may hold a second time in the
    layout of its products (not part of ``total``). ``tiles``: bytes of each tile that lives at the peak, in the order they are made; they add up to ``total``.
    """

    total: int
    state: int = 0
    resident: int = 0
    step: int = 0
    streamed: int = 0
    packed: int = 0
    tiles: Mapping[str, int] = field(default_factory=dict)


def footprint_of(kernel: TileKernel) -> Footprint:
    """The live footprint of one program of ``kernel``: sizes of tiles are constants, so it holds for all lengths."""
    sizes = {name: tile_bytes(kind) for name, kind in _types(kernel.body).items()}
    best = Footprint(0)
    for position, statement in enumerate(kernel.body):
        after = _reads(kernel.body[position + 1 :])
        before = _defined(kernel.body[:position])
        if not isinstance(statement, Loop):
            needed = reads_in(statement) | after | _defined((statement,))
            tiles = {t: n for t, n in sizes.items() if t in (before | _defined((statement,))) & needed}
            live = sum(tiles.values())
            best = max(best, Footprint(live, resident=live, tiles=tiles), key=lambda f: f.total)
            continue
        carried = {c.name for c in statement.carries}
        inside = _reads(statement.body) | {c.next for c in statement.carries}
        through = before & (inside | after) - carried
        resident = sum(sizes[t] for t in through)
        state = sum(tile_bytes(c.type) for c in statement.carries)
        peaks = [_peak(statement, loop_body(statement, p), sizes) for p in (False, True)]
        made = max(peaks, key=lambda live: sum(sizes[t] for t in live))
        step = sum(sizes[t] for t in made)
        loads = [s for s in statement.body if isinstance(s, Load)]
        streamed = sum(sizes[s.target] for s in loads)
        operands = {name for s in _all(kernel.body) if isinstance(s, Dot) for name in (s.left, s.right)}
        packed = sum(sizes[s.target] for s in _all(kernel.body) if isinstance(s, Load) and s.target in operands)
        tiles = {t: n for t, n in sizes.items() if t in carried | through | made}
        found = Footprint(state + resident + step, state, resident, step, streamed, packed, tiles)
        best = max(best, found, key=lambda f: f.total)
    return best


def tile_bytes(kind: TileType) -> int:
    """Bytes of a tile, padding included."""
    return bytes_of(kind.dtype) * prod(a.size for a in kind.axes)


def _peak(loop: Loop, body: tuple[Statement, ...], sizes: dict[str, int]) -> frozenset[str]:
    """The tiles made in one step at the moment when those that live have the most bytes; a next value in the place of the old one costs nothing."""
    following = {c.next: c.name for c in loop.carries}
    live: set[str] = set()
    most: frozenset[str] = frozenset()
    for position, statement in enumerate(body):
        (made,) = _defined((statement,)) or {""}
        later = _reads(body[position + 1 :]) | following.keys()
        in_place = made in following and following[made] not in _reads(body[position + 1 :])
        if made and not in_place:
            live.add(made)
        most = max(most, frozenset(live), key=lambda tiles: sum(sizes[t] for t in tiles))
        live &= later
    return most


def _types(body: tuple[Statement, ...]) -> dict[str, TileType]:
    found: dict[str, TileType] = {}
    for statement in _all(body):
        if isinstance(statement, (Load, Map, Select, Dot, Reduce)):
            found[statement.target] = statement.type
        elif isinstance(statement, Loop):
            found |= {c.name: c.type for c in statement.carries}
    return found


def _all(body: tuple[Statement, ...]) -> list[Statement]:
    return [s for o in body for s in ((o, *_all(o.body)) if isinstance(o, Loop) else (o,))]


def _defined(body: tuple[Statement, ...]) -> set[str]:
    """The tiles that exist after some statements: of a loop, its carried ones."""
    found: set[str] = set()
    for statement in body:
        if isinstance(statement, Loop):
            found |= {c.name for c in statement.carries}
        elif isinstance(statement, (Load, Map, Select, Dot, Reduce)):
            found.add(statement.target)
    return found


def _reads(body: tuple[Statement, ...]) -> set[str]:
    found: set[str] = set()
    for statement in body:
        found |= reads_in(statement)
    return found
