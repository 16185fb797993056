"""The ranges of a loop over tiles: closed forms where the filter has them, a list found at run time where not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce

from einsum_compiler.ir.build import add, ceil_divide, conjunction, multiply
from einsum_compiler.ir.expression import Call, Comparison, Constant, Expression, Rank, transform
from einsum_compiler.ir.plan import KernelPlan, RankTile
from einsum_compiler.ir.tile import ProgramRank, Range, Schedule, TileList
from einsum_compiler.passes.analysis.index_sets import NotAffine, Split, tile_ranges
from einsum_compiler.passes.lowering.tiles import TileWriter
from einsum_compiler.passes.lowering.tiling import Tiling
from einsum_compiler.passes.lowering.translate import Domain


def loop_ranges(
    predicate: Domain, stream: RankTile, plan: KernelPlan, tiling: Tiling, writer: TileWriter, number: int
) -> tuple[tuple[Range | TileList, ...], Schedule | None]:
    """Full and partial ranges for the tiles of a streamed rank where ``predicate`` holds somewhere, and the schedule that lists them if need be."""
    rank, size = stream.rank, stream.size
    combined = conjunction(sorted(predicate, key=str)) or Constant(True)
    combined = by_places(combined, plan.program, tiling.extent)
    others = tuple(Split(place(t), f"{t.rank}.1" if t.size > 1 else t.rank, t.size) for t in plan.program)
    found = tile_ranges(combined, Split(rank, f"{rank}.1", size), others, {**writer.dtypes, **writer.scalars})
    if isinstance(found, NotAffine):
        return _listed(combined, stream, plan, tiling, number)
    translator = writer.translator

    def placed(node: Expression) -> Expression:
        return translator.place(translator.prepare(node))

    return tuple(replace(r, lower=placed(r.lower), upper=placed(r.upper)) for r in found.ranges), None


def place(tile: RankTile) -> str:
    """The name of a rank's coordinates counted from where its first tile starts; its own where that is 0."""
    return f"{tile.rank}.place" if tile.start else tile.rank


def by_places(predicate: Expression, program: Sequence[RankTile], extent: Callable[[str], Expression]) -> Expression:
    """A predicate over places, so that every tile starts at a multiple of its size. Places outside of the extent count as the nearest one inside."""
    places: dict[Expression, Expression] = {}
    for tile in program:
        if tile.start:
            inside = Call("max", (add(Rank(place(tile)), Constant(tile.start)), Constant(0)))
            places[Rank(tile.rank)] = Call("min", (inside, add(extent(tile.rank), Constant(-1))))
    return transform(predicate, lambda node: places.get(node, node)) if places else predicate


def common_consequences(domains: Sequence[Domain]) -> Domain:
    """What holds at every point that one of the domains has: conjuncts of all of them, or bounds that conjuncts of each imply.

    ``x < y`` and ``x == y`` both imply ``x <= y``: the past blocks of one sum and the own block of another end at the same tile.
    """
    if not domains:
        return frozenset()
    common = frozenset.intersection(*domains)
    implied = frozenset.intersection(*(d | {w for c in d for w in _weaker(c)} for d in domains))
    return common | (implied - {w for c in common for w in _weaker(c)})


def _weaker(conjunct: Expression) -> tuple[Expression, ...]:
    """Bounds that a comparison of two values implies."""
    match conjunct:
        case Comparison(operators=(operator,)):
            implied = {"<": ("<=",), ">": (">=",), "==": ("<=", ">=")}.get(operator, ())
            return tuple(replace(conjunct, operators=(o,)) for o in implied)
    return ()


def _listed(
    predicate: Expression, streamed: RankTile, plan: KernelPlan, tiling: Tiling, number: int
) -> tuple[tuple[TileList, ...], Schedule]:
    rank, size = streamed.rank, streamed.size
    from einsum_compiler.ir.build import ranks_of

    # Programs that differ only in ranks the filter does not name share a row of the list.
    used = set(ranks_of(predicate))
    tiles = tuple(t for t in plan.program if place(t) in used)
    program = tuple(p for t, p in zip(plan.program, tiling.program, strict=True) if place(t) in used)
    ranks = (*((place(t), p.rank, t.size) for t, p in zip(tiles, program, strict=True)), (rank, f"{rank}.1", size))
    stream = ProgramRank(f"{rank}.1", ceil_divide(tiling.extent(rank), size))
    schedule = Schedule(f"tiles{number or ''}", predicate, ranks, program, stream)
    position = reduce(lambda p, q: add(multiply(p, q.count), Rank(q.rank)), program, _zero())
    return (TileList(schedule.name, position, False), TileList(schedule.name, position, True)), schedule


def _zero() -> Expression:
    return Constant(0)
