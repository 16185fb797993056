"""How many tiles a program visits, and how many of them need their mask, from the filter alone: cheap interval rules, no closed forms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from einsum_compiler.cost.shape import Visited
from einsum_compiler.ir.build import ceil_divide, conjunction, parameters_of, ranks_of, reads_of
from einsum_compiler.ir.expression import Constant, Expression, Extent
from einsum_compiler.ir.plan import KernelPlan
from einsum_compiler.ir.tile import ProgramRank, Schedule

MOST_ROWS = 48  # tiles along a program rank that are looked at; beyond that every k-th
# A filter that reads tensors is judged without them: each row is taken to see one run of this share of the streamed rank.
UNKNOWN_SHARE = 0.25


@dataclass(frozen=True)
class Filter:
    """The conjuncts of a loop's filter: those that sizes decide, and whether there are others, which read tensors."""

    known: Expression
    ranks: frozenset[str]
    reads: bool


def filter_of(predicate: frozenset[Expression], numbers: Mapping[str, float]) -> Filter:
    """A loop's filter, sorted into what can be evaluated with these numbers, and the rest."""
    known = [c for c in predicate if not reads_of(c) and numbers.keys() >= set(parameters_of(c))]
    combined = conjunction(sorted(known, key=str)) or Constant(True)
    return Filter(combined, frozenset(ranks_of(combined)), len(known) < len(predicate))


def visited(
    condition: Filter, plan: KernelPlan, rank: str, extents: Mapping[str, int], scalars: Mapping[str, float]
) -> Visited:
    """The tiles of a streamed rank that one program visits."""
    from einsum_compiler.tile_lists import classify

    size = plan.tile(rank)
    total = -(-extents[rank] // size)
    if condition.ranks <= {rank} and not condition.reads:
        full = extents[rank] // size
        return Visited(full, total - full, total)
    tiles = [t for t in plan.program if t.rank in condition.ranks]
    sampled: dict[str, npt.NDArray[np.int64]] = {}
    program = []
    for t in tiles:
        count = -(-extents[t.rank] // t.size)
        name = f"{t.rank}.1" if t.size > 1 else t.rank
        if count > MOST_ROWS:
            sampled[name] = np.unique(np.linspace(0, count - 1, MOST_ROWS).astype(np.int64))
            count = len(sampled[name])
        program.append(ProgramRank(name, Constant(count)))
    ranks = (*((t.rank, p.rank, t.size) for t, p in zip(tiles, program, strict=True)), (rank, f"{rank}.1", size))
    stream = ProgramRank(f"{rank}.1", ceil_divide(Extent(rank), size))
    if prod(int(p.count.value) for p in program if isinstance(p.count, Constant)) * total > 1 << 22:
        return Visited(0.0, total, total)
    schedule = Schedule("", condition.known, ranks, tuple(program), stream)
    whole, touched = classify(schedule, {}, scalars, extents, sampled)
    rows = max(1, whole.shape[0])
    seen = touched.sum(axis=1)
    all_full, all_seen, most = whole.sum() / rows, seen.sum() / rows, float(seen.max(initial=0))
    if condition.reads:
        # One run of keys: its tiles are full but for the two at its ends.
        run = min(all_seen, UNKNOWN_SHARE * extents[rank] / size + 1 + sum(t.size for t in tiles[-1:]) / size)
        return Visited(max(0.0, min(all_full, run - 2)), run - max(0.0, min(all_full, run - 2)), run)
    return Visited(float(all_full), float(all_seen - all_full), most)
