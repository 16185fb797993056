"""How many tiles a program visits, and how many of them need their mask: cheap interval rules, no closed forms.

Filters that read tensors are judged by the values where these are at hand (tuning), else from the filter alone (plans are chosen by sizes).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from math import prod
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from einsum_compiler.cost.shape import Visited
from einsum_compiler.ir.build import ceil_divide, conjunction, conjuncts, less, parameters_of, ranks_of, reads_of
from einsum_compiler.ir.expression import Constant, Expression, Extent, Rank
from einsum_compiler.ir.plan import KernelPlan, RankTile
from einsum_compiler.ir.tile import ProgramRank, Schedule
from einsum_compiler.passes.analysis.index_sets import NotAffine, Split, tile_ranges
from einsum_compiler.passes.lowering.loops import by_places, place

ROWS, COLUMNS = 6, 8  # of the blocks that the CPU backend leaves out
MOST_ROWS = 48  # tiles along a program rank that are looked at; beyond that every k-th
# A filter that reads tensors is judged without them: each row is taken to see one run of this share of the streamed rank.
UNKNOWN_SHARE = 0.25


@dataclass(frozen=True)
class Filter:
    """The conjuncts of a loop's filter: those that sizes and the tensors at hand decide, and whether there are others."""

    known: Expression
    ranks: frozenset[str]
    reads: bool


NOWHERE = Filter(Constant(False), frozenset(), False)


def filter_of(
    rank: str, predicate: frozenset[Expression], numbers: Mapping[str, float], tensors: Collection[str] = ()
) -> Filter:
    """The filter of a loop over tiles of ``rank``, sorted into what can be evaluated with these numbers and tensors, and the rest."""
    known = [
        c
        for c in predicate
        if all(r.tensor in tensors for r in reads_of(c)) and numbers.keys() >= set(parameters_of(c))
    ]
    combined = conjunction(sorted(known, key=str)) or Constant(True)
    # A filter that holds nowhere does so for tiles of any size: its loop is never written.
    found = tile_ranges(combined, Split(rank, f"{rank}.1", 1), ())
    if not isinstance(found, NotAffine) and not found.ranges:
        return NOWHERE
    return Filter(combined, frozenset(ranks_of(combined)), len(known) < len(predicate))


def trimmed(
    condition: Filter,
    plan: KernelPlan,
    rank: str,
    extents: Mapping[str, int],
    scalars: Mapping[str, float],
    seen: Visited,
) -> Visited:
    """The same tiles with the share of the partial ones that the CPU backend computes: blocks of rows by vectors (backends/cpu/spans.py)."""
    from einsum_compiler.backends.cpu.affine import Known, links, position_bound
    from einsum_compiler.backends.cpu.roles import FEW_ROWS

    size = plan.tile(rank)
    rows = any(t.size > FEW_ROWS for t in plan.program) and not plan.box
    if rows and rank not in condition.ranks and not condition.reads:
        # Only the last tile is partial; what lies inside of the extent is computed.
        inside = -(-(extents[rank] % size) // COLUMNS) * COLUMNS
        cut = bool(inside) and size % COLUMNS == 0
        return replace(seen, share=inside / size, axes=frozenset((f"{rank}.0",))) if cut else seen
    integers = {n for n, v in scalars.items() if isinstance(v, int)}
    pairs = [p for c in conjuncts(condition.known) for p in links(c) or ()]
    bounds = [p for p in pairs if rank in ranks_of(p) and position_bound(p, rank, Known({}, integers))]
    tiled = [t for t in plan.program if t.size > FEW_ROWS and t.rank in ranks_of(*bounds)]
    if (
        len(tiled) != 1
        or plan.rows
        or seen.partial <= 0
        or size % COLUMNS
        or set(ranks_of(*bounds)) != {rank, tiled[0].rank}
    ):
        return seen
    # The same tiles in blocks: every column block that a row block meets is computed.
    plan = replace(plan, program=(replace(tiled[0], size=ROWS),), stream=RankTile(rank, COLUMNS), later=(), box=())
    whole = conjunction(bounds)
    assert whole is not None
    blocks = visited(Filter(whole, frozenset(ranks_of(whole)), False), plan, rank, extents, scalars)
    columns = (blocks.full + blocks.partial) * COLUMNS - seen.full * size
    share = min(1.0, max(0.0, columns / (seen.partial * size)))
    return replace(seen, share=share, axes=frozenset((f"{tiled[0].rank}.0", f"{rank}.0")))


def _read(predicate: Expression, tensors: Mapping[str, Any]) -> dict[str, Any]:
    return {r.tensor: tensors[r.tensor] for r in reads_of(predicate)}


def visited(
    condition: Filter,
    plan: KernelPlan,
    rank: str,
    extents: Mapping[str, int],
    scalars: Mapping[str, float],
    tensors: Mapping[str, Any] = MappingProxyType({}),
) -> Visited:
    """The tiles of a streamed rank that one program visits."""
    from einsum_compiler.tile_lists import classify

    size = plan.tile(rank)
    total = -(-extents[rank] // size)
    if condition == NOWHERE:
        return Visited(0.0, 0.0, 0.0)
    if set(conjuncts(condition.known)) <= {less(Rank(rank), Extent(rank))} and not condition.reads:
        full = extents[rank] // size
        return Visited(full, total - full, total)
    tiles = [t for t in plan.program if t.rank in condition.ranks]
    sampled: dict[str, npt.NDArray[np.int64]] = {}
    program = []
    for t in tiles:
        count = -(-(extents[t.rank] - t.start) // t.size)
        name = f"{t.rank}.1" if t.size > 1 else t.rank
        if count > MOST_ROWS:
            sampled[name] = np.unique(np.linspace(0, count - 1, MOST_ROWS).astype(np.int64))
            count = len(sampled[name])
        program.append(ProgramRank(name, Constant(count)))
    ranks = (*((place(t), p.rank, t.size) for t, p in zip(tiles, program, strict=True)), (rank, f"{rank}.1", size))
    stream = ProgramRank(f"{rank}.1", ceil_divide(Extent(rank), size))
    if prod(int(p.count.value) for p in program if isinstance(p.count, Constant)) * total > 1 << 22:
        return Visited(0.0, total, total)
    known = by_places(condition.known, tiles, Extent)
    schedule = Schedule("", known, ranks, tuple(program), stream)
    whole, touched = classify(schedule, _read(known, tensors), scalars, extents, sampled)
    rows = max(1, whole.shape[0])
    seen = touched.sum(axis=1)
    all_full, all_seen, most = whole.sum() / rows, seen.sum() / rows, float(seen.max(initial=0))
    if condition.reads:
        # One run of keys: its tiles are full but for the two at its ends.
        run = min(all_seen, UNKNOWN_SHARE * extents[rank] / size + 1 + sum(t.size for t in tiles[-1:]) / size)
        return Visited(max(0.0, min(all_full, run - 2)), run - max(0.0, min(all_full, run - 2)), run)
    return Visited(float(all_full), float(all_seen - all_full), most)
