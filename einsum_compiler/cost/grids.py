"""Sizes of tiles that are tried, and the plans of a kernel that have them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from math import prod

from einsum_compiler.ir.plan import KernelPlan
from einsum_compiler.passes.boxes import Reach
from einsum_compiler.passes.partition import VECTOR, Partition, Reuse, partition, tile_class

# Points beyond which a short streamed rank may have a tile of its own size: some tens of microseconds.
MUCH_WORK = 1 << 20


@dataclass(frozen=True)
class Grid:
    """The tile sizes that are tried: of rows, columns, the streamed rank, and the contiguous rank where nothing is reused."""

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    stream: tuple[int, ...]
    vector: tuple[int, ...]
    powers_of_two: bool = False


GRIDS = {
    "cpu": Grid((24, 48, 64, 96, 128, 192), (64, 128, 256), (32, 64, 128, 256, 512), (64, 256)),
    "triton": Grid((16, 32, 64, 128), (32, 64, 128), (32, 64, 128), (256, 1024), True),
}
EXHAUSTIVE = {
    "cpu": Grid((12, 24, 48, 64, 96, 128, 192), (64, 128, 256), (16, 32, 64, 128, 256, 512), (64, 256)),
    "triton": Grid((16, 32, 64, 128, 256), (16, 32, 64, 128, 256), (16, 32, 64, 128, 256), (64, 256, 1024), True),
}  # fmt: skip


def tilings(
    found: Reuse,
    extents: Mapping[str, int],
    grid: Grid,
    warps: int = 0,
    reach: Mapping[str, Reach] | None = None,
    batches: bool = True,
    lanes: int = 0,
) -> Iterator[KernelPlan]:
    """Every plan of a kernel whose tiles have the sizes of a grid, each once. ``reach``, ``lanes``: see ``passes.boxes``; ``batches``: see ``Partition``.

    With ``lanes`` boxes for filters that cut tiles come first, so that they are taken where the price, which does not know of cuts, is the same.
    """
    seen: set[KernelPlan] = set()
    streams = (*_short(found, extents, grid), *grid.stream) if found.kernel.stream else grid.stream[:1]
    # A matrix unit does the products of a batch one by one, and rows of several ranks are a batch of what has only one of them.
    # Elsewhere a tile of a batch shares what lacks its rank (a bias), and takes its products in turns: less, but for operands whose elements then lie apart.
    cascade = found.kernel.cascade
    innermost = {t.ranks[-1] for t in (*cascade.inputs, *cascade.outputs) if t.ranks}
    kinds = [(True, True), (False, True)] if batches and found.batched & innermost else [(True, True)]
    for in_batches, shared_rows in kinds if batches else [(False, True), (False, False)]:
        for rows, columns, stream, vector in product(grid.rows, grid.columns, streams, grid.vector):
            sizes = Partition(rows, columns, stream, vector, grid.powers_of_two, warps)
            for cut in dict.fromkeys((lanes, 0)):
                options = replace(sizes, batches=in_batches, shared_rows=shared_rows, lanes=cut)
                plan = partition(found, extents, options, reach)
                plans = (
                    [plan, partition(found, extents, replace(options, along=True))]
                    if _gathers(plan, found, extents)
                    else [plan]
                )
                for each in plans:
                    if each not in seen:
                        seen.add(each)
                        yield each
                if not plan.box:
                    break
    # Where streamed reads run along a rank that all of them have, none of these vectors lie along it: reads that differ by taps only (a convolution) reuse little.
    near = [r for r in found.steps if found.steps[r] == min(found.steps.values())]
    if found.taps and near and all(r in ranks for r in near for ranks in found.streamed):
        for stream, vector in product(streams, grid.vector):
            options = Partition(stream=stream, vector=vector, powers_of_two=grid.powers_of_two, warps=warps, alone=True)
            plan = partition(found, extents, options, reach)
            if plan not in seen:
                seen.add(plan)
                yield plan


def _short(found: Reuse, extents: Mapping[str, int], grid: Grid) -> Iterator[int]:
    """The size of a tile of a streamed rank with fewer coordinates than a vector, where there is so much work beside it that a kernel of its own pays.

    As the depth of a product such a rank costs what its tile has, not what it has: 4 heads in a tile of 16 are four times the work.
    """
    if len(found.kernel.streams) == 1 and not grid.powers_of_two:
        own = tile_class(extents[found.kernel.streams[0]], VECTOR)
        if own < VECTOR and _work(found, extents) >= MUCH_WORK:
            yield own


def _gathers(plan: KernelPlan, found: Reuse, extents: Mapping[str, int]) -> bool:
    """Whether programs have one coordinate each of a long rank along which most of what they read lies side by side: their lanes gather."""
    alone = any(t.rank == found.along and t.size == 1 for t in plan.program)
    return (
        alone and found.along is not None and extents[found.along] >= VECTOR and any(t.size > 1 for t in plan.program)
    )


def _work(found: Reuse, extents: Mapping[str, int]) -> int:
    """The points of the equation that has most, filters aside."""
    return max(prod(extents.get(r, 1) for r in e.carried) for e in found.kernel.cascade.equations)
