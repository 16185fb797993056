"""Plans to try: the chosen one first, then tiles around it, nearest first."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace

from einsum_compiler.derivation import Derivation
from einsum_compiler.ir.errors import EinsumError
from einsum_compiler.ir.plan import KernelPlan, Plan, RankTile
from einsum_compiler.planning import as_plan, plan_kernels

FACTORS = (1.0, 0.5, 2.0, 0.25, 4.0)
MOST = 64


@dataclass(frozen=True)
class Candidate:
    """A plan, and the seconds of a call that the cost model predicts."""

    plan: Plan
    predicted: float | None = None


def candidates(
    derivation: Derivation,
    extents: Mapping[str, int],
    backend: str,
    dtypes: Mapping[str, str],
    exhaustive: bool = False,
) -> list[Candidate]:
    """Legal plans for these sizes; the first is the one that is chosen without timing."""
    default = as_plan(derivation, plan_kernels(derivation, extents, backend, dtypes))
    found: dict[str, Candidate] = {str(default): Candidate(default)}
    for place, kernel in enumerate(default.kernels):
        for changed in _around(kernel, extents, backend):
            plan = replace(default, kernels=(*default.kernels[:place], changed, *default.kernels[place + 1 :]))
            try:
                plan_kernels(derivation, extents, backend, dtypes, plan)
            except EinsumError:
                continue
            found.setdefault(str(plan), Candidate(plan))
    return list(found.values())[: None if exhaustive else MOST]


def _around(kernel: KernelPlan, extents: Mapping[str, int], backend: str) -> list[KernelPlan]:
    tiled = [r for r in kernel.program if r.size > 1]
    axes = [*tiled, *((kernel.stream,) if kernel.stream else ())]
    choices = [
        [size for f in FACTORS if 1 <= (size := int(r.size * f)) < 2 * max(extents.get(r.rank, size), 16)] for r in axes
    ]
    found = []
    for sizes in sorted(
        itertools.product(*choices),
        key=lambda s: sum(abs(a.size.bit_length() - b.bit_length()) for a, b in zip(axes, s, strict=True)),
    ):
        tiles = {r.rank: n for r, n in zip(axes, sizes, strict=True)}
        program = tuple(RankTile(r.rank, tiles.get(r.rank, r.size)) for r in kernel.program)
        stream = RankTile(kernel.stream.rank, tiles[kernel.stream.rank]) if kernel.stream else None
        found.append(replace(kernel, program=program, stream=stream))
    if backend == "triton":
        found = [replace(k, warps=w) for k in found for w in (kernel.warps, 4, 8)]
    return found
