"""Traffic of a kernel at the level of main memory, behind a cache of given capacity.

The model, stated so that it can be recomputed by hand: programs run one after the other, the last program rank fastest; the cache keeps
the data used last (LRU, whole capacity, no conflicts) and starts cold with every kernel. What the programs of one step of a program rank
touch is found again by the next step exactly if one step's different data (its working set, the mean over all steps) fits. So the
outermost rank whose step fits decides: below it every element is fetched once per step of the ranks around it. If everything fits, that is each
touched element once (the compulsory traffic); if not even one program fits, every load of a tile is fetched. Stores are written back once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from einsum_compiler.ir.tile import TileKernel
from einsum_compiler.ir.types import bytes_of
from einsum_compiler.passes.traffic.arrays import UnknownValues
from einsum_compiler.passes.traffic.distinct import Family, distinct
from einsum_compiler.passes.traffic.exact import KernelTraffic, TensorTraffic, traffic_of
from einsum_compiler.passes.traffic.space import Access, Space, accesses


@dataclass(frozen=True)
class CachedTraffic:
    """``traffic``: elements moved between the cache and main memory. ``working_sets``: bytes touched by one step of each program rank, outermost
    first, before them those of the whole kernel (``""``). ``kept``: the outermost rank whose steps fit, "" if the kernel does, None if no program does.
    """

    traffic: KernelTraffic
    working_sets: tuple[tuple[str, int], ...]
    kept: str | None


def traffic_behind_cache(
    kernel: TileKernel, sizes: Mapping[str, int], scalars: Mapping[str, Any], tensors: Mapping[str, Any], capacity: int
) -> CachedTraffic:
    """What ``kernel`` moves from and to main memory behind a cache of ``capacity`` bytes; arguments as for ``traffic_of``.

    A tensor read at several index expressions counts once for each, at most its size. Raises ``UnknownValues`` where tiles depend on values that are
    not known.
    """
    space = Space.of(kernel, sizes, scalars, tensors)
    exact = traffic_of(kernel, sizes, scalars, tensors)
    for reason in exact.reasons:
        raise UnknownValues(reason)
    families = families_of(space)
    order = tuple(space.counts)
    found: dict[int, dict[str, int]] = {}

    def touched(depth: int) -> dict[str, int]:
        """Different elements per tensor, one step of the first ``depth`` ranks at a time, all steps together."""
        if depth not in found:
            totals: dict[str, int] = {}
            for family in families:
                totals[family.tensor] = totals.get(family.tensor, 0) + distinct(space, family, order[:depth])
            steps = prod(space.counts[r] for r in order[:depth])
            found[depth] = {t: min(n, steps * exact[t].size) for t, n in totals.items()}
        return found[depth]

    sets = []
    fits: int | None = None
    for depth in range(len(order) + 1):
        steps = prod(space.counts[r] for r in order[:depth])
        total = sum(n * bytes_of(exact[t].dtype) for t, n in touched(depth).items())
        sets.append((order[depth - 1] if depth else "", total // max(1, steps)))
        if fits is None and total <= capacity * steps:
            fits = depth
    if fits is None:
        return CachedTraffic(exact, tuple(sets), None)
    fetched = touched(max(0, fits - 1))
    moved = tuple(_fetched(t, fetched.get(t.tensor)) for t in exact.tensors)
    return CachedTraffic(KernelTraffic(exact.kernel, moved), tuple(sets), order[fits - 1] if fits else "")


def _fetched(tensor: TensorTraffic, elements: int | None) -> TensorTraffic:
    if not tensor.loaded or elements is None:
        return tensor
    return replace(tensor, loaded=min(elements, tensor.loaded))


def families_of(space: Space) -> list[Family]:
    """The accesses of a kernel by tensor and indices."""
    sizes = {o.name: prod(map(space.values.number, o.extents)) for o in (*space.kernel.inputs, *space.kernel.outputs)}
    return [Family(members, sizes[members[0].tensor]) for members in families_of_accesses(space.kernel)]


def families_of_accesses(kernel: TileKernel) -> list[tuple[Access, ...]]:
    """The accesses of a kernel by tensor, direction and indices."""
    found: dict[tuple[object, ...], list[Access]] = {}
    for access in accesses(kernel):
        if access.loop is None or access.loop.ranges:
            found.setdefault((access.tensor, access.stored, access.indices), []).append(access)
    return [tuple(members) for members in found.values()]
