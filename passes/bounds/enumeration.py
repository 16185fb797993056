"""The ski-slope of one Einsum, exact for tiled loop nests: every divisor tile, every order of loops, the least traffic for each buffer.

The nest has one loop per rank over tiles, and the tile itself is done in fast memory. A buffer holds one tile of every operand and of the result. A tile is fetched
again when a loop that moves it steps, so an operand is loaded as often as the loops at and outside its innermost moving loop run. A result is loaded
and stored that often, but for the first load of each of its tiles. Source: Orojenesis (Huang et al. 2024), whose two-level machine this is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from math import factorial, prod

from einsum_compiler.ir.expression import Rank, Selection
from einsum_compiler.passes.bounds.spaces import Spaces

MOST_NESTS = 500_000

Row = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Operand:
    """A tensor of an affine Einsum: one row of coefficients for each axis; ``result`` if it is summed up."""

    rows: tuple[Row, ...]
    result: bool = False

    @property
    def ranks(self) -> frozenset[str]:
        """The ranks that move it."""
        return frozenset(r for row in self.rows for r, _ in row)

    def footprint(self, tile: Mapping[str, int]) -> int:
        """The elements of a tile: exact for one rank per axis, the hull of what is reached where an axis mixes ranks."""
        return prod(_reached(row, tile) for row in self.rows)


def _reached(row: Row, tile: Mapping[str, int]) -> int:
    """The coordinates that an axis takes over a tile."""
    if len(row) <= 1:
        return prod(tile[r] for r, _ in row)
    return len({sum(p) for p in product(*([c * x for x in range(tile[r])] for r, c in row))})


@dataclass(frozen=True, slots=True)
class Nest:
    """A point of the ski-slope: what must fit, what moves, and the tiles and loops (outermost first) that do it."""

    buffer: int
    accesses: int
    tile: tuple[tuple[str, int], ...]
    loops: tuple[str, ...]


def ski_slope(lengths: Mapping[str, int], operands: Sequence[Operand]) -> tuple[Nest, ...]:
    """The Pareto front of buffer against accesses, smallest buffer first.

    Raises ``ValueError`` where there are more than ``MOST_NESTS`` tilings.
    """
    ranks = tuple(r for r, n in lengths.items() if n > 1)
    divisors = {r: [d for d in range(1, lengths[r] + 1) if lengths[r] % d == 0] for r in ranks}
    if prod(map(len, divisors.values())) * factorial(len(ranks)) > MOST_NESTS:
        raise ValueError(f"more than {MOST_NESTS:,} tilings: give smaller sizes, or fewer ranks")
    best: dict[int, Nest] = {}
    for choice in product(*(divisors[r] for r in ranks)):
        tile = {**dict.fromkeys(lengths, 1), **dict(zip(ranks, choice, strict=True))}
        trips = {r: lengths[r] // tile[r] for r in ranks}
        sizes = [o.footprint(tile) for o in operands]
        buffer = sum(sizes)
        running = [r for r in ranks if trips[r] > 1]
        for order in permutations(running):
            accesses = sum(_accesses(o, n, order, trips) for o, n in zip(operands, sizes, strict=True))
            known = best.get(buffer)
            if known is None or accesses < known.accesses:
                best[buffer] = Nest(buffer, accesses, tuple(tile.items()), order)
    front: list[Nest] = []
    for buffer in sorted(best):
        if not front or best[buffer].accesses < front[-1].accesses:
            front.append(best[buffer])
    return tuple(front)


def _accesses(operand: Operand, size: int, order: Sequence[str], trips: Mapping[str, int]) -> int:
    """Elements of one operand that cross, in one nest."""
    moving = [k for k, r in enumerate(order) if r in operand.ranks]
    visits = prod(trips[r] for r in order[: moving[-1] + 1]) if moving else 1
    if not operand.result:
        return size * visits
    return size * (2 * visits - prod(trips[r] for r in order if r in operand.ranks))


def operands_of(spaces: Spaces, tensor: str) -> tuple[dict[str, int], tuple[Operand, ...]]:
    """The lengths and operands of one equation of a cascade.

    Raises ``ValueError`` for an index that is no integer combination of ranks, for a filter, and for a selection.
    """
    space = spaces.by_tensor[tensor]
    if space.conditions or space.opaque or isinstance(space.equation.value, Selection):
        raise ValueError(f"{tensor} is not an affine Einsum over a box")
    found: dict[tuple[str, tuple[Row, ...]], Operand] = {}
    for access, result in (*((a, False) for a in space.reads), (space.write, True)):
        rows: list[Row] = []
        for index in access.indices:
            part = spaces.digits.projection((index,))
            if isinstance(index, Rank):
                rows.append(((index.name, 1),))
            elif part.rows:
                rows.append(part.rows[0])
            elif not part.exact or part.digits:
                raise ValueError(f"an index of {access.tensor} is no integer combination of ranks")
        found[access.tensor, tuple(rows)] = Operand(tuple(rows), result)
    return {r: spaces.extents[r] for r in space.ranks}, tuple(found.values())
