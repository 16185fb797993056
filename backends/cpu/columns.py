"""Values that change along lanes only: computed once for a sweep, before its rows, and loaded in every row.

A place in a box costs divisions (``n // 7``, ``n % 7``), and so does the window or the residue a coordinate lies in; the rows of a tile share them.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass, field

from einsum_compiler.backends.cpu.affine import Known, depends, separate
from einsum_compiler.backends.cpu.storage import Arena
from einsum_compiler.backends.cpu.view import padded
from einsum_compiler.ir.expression import Binary, Call, Expression, Rank, Read, walk

COSTLY = ("//", "%", "**", "/")


@dataclass
class Columns:
    """Buffers of one sweep, as long as its lanes; ``release`` gives their scratch back."""

    arena: Arena
    fresh: Callable[[str], str]
    lane: str
    size: int
    _offsets: list[int] = field(default_factory=list)

    def allocate(self, ctype: str) -> tuple[str, str]:
        """A pointer's name and its declaration. Eight bytes an element hold every type."""
        offset = self.arena.allocate(padded(self.size) * 8)
        self._offsets.append(offset)
        name = self.fresh("column")
        return name, f"{ctype}* const {name} = ({ctype}*)(scratch + {offset});"

    def loop(self, lines: list[str]) -> list[str]:
        """``lines`` for every vector of the lanes; they may run into the padding."""
        head = f"tile::for_each_column(tile::constant<{padded(self.size)}>(), [&](auto j) __attribute__((always_inline)) {{"
        return [head, *(f"    {line}" for line in lines), "});"]

    def release(self) -> None:
        for offset in self._offsets:
            self.arena.release(offset)
        self._offsets.clear()


def is_column(node: Expression, lane: str, known: Known, registers: Container[str]) -> bool:
    """Whether a value changes along the lanes and nowhere else in the sweep, and costs more than a load.

    ``registers``: tiles that the sweep makes itself. An integer of a tile in a sum costs more: it is widened.
    """
    ranks: set[str] = set()
    costly = False
    for n in walk(node):
        if isinstance(n, Read):
            if n.indices or n.tensor in registers or known.tiles.get(n.tensor) != (lane,):
                return False
            ranks.add(lane)
            costly |= n is not node and n.tensor in known.integers
        if isinstance(n, Rank):
            ranks.add(n.name)
        costly |= isinstance(n, Call) or (isinstance(n, Binary) and n.operator in COSTLY)
    return costly and lane in ranks


def columns_of(node: Expression, lanes: set[str], rows: set[str], known: Known) -> tuple[Expression, Expression] | None:
    """A sum as what changes along the lanes plus what does not; None if a term changes along lanes and rows."""
    column, rest = separate(node, lanes, known)
    return None if depends(column, rows, known) else (column, rest)
