"""Exact traffic of a kernel between its programs and the memory they share: per tensor, counted without running it.

Law: an access touches, per program and tile it visits, the elements its conditions leave (masked lanes are not counted); loops
visit exactly the tiles of their ranges. The counts equal those of the tile interpreter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from einsum_compiler.ir.tile import TensorOperand, TileKernel
from einsum_compiler.ir.types import bytes_of
from einsum_compiler.passes.traffic.arrays import UnknownValues
from einsum_compiler.passes.traffic.counting import counted
from einsum_compiler.passes.traffic.space import Access, Space, accesses


@dataclass(frozen=True)
class TensorTraffic:
    """Elements of one tensor that a kernel loads and stores, repetitions included; ``size`` is how many the tensor has.

    None where the number depends on values that are not known: ``reason`` says on which.
    """

    tensor: str
    dtype: str
    size: int
    loaded: int | None = 0
    stored: int | None = 0
    reason: str = ""

    @property
    def loaded_bytes(self) -> int | None:
        return None if self.loaded is None else self.loaded * bytes_of(self.dtype)

    @property
    def stored_bytes(self) -> int | None:
        return None if self.stored is None else self.stored * bytes_of(self.dtype)

    @property
    def bytes(self) -> int | None:
        return _total((self.loaded_bytes, self.stored_bytes))


@dataclass(frozen=True)
class KernelTraffic:
    """The traffic of one launch, per tensor in the order of its operands; lists of tiles (``tiles.offsets``, ``tiles.tiles``) come last."""

    kernel: str
    tensors: tuple[TensorTraffic, ...]

    def __getitem__(self, tensor: str) -> TensorTraffic:
        return next(t for t in self.tensors if t.tensor == tensor)

    @property
    def loaded_bytes(self) -> int | None:
        return _total(t.loaded_bytes for t in self.tensors)

    @property
    def stored_bytes(self) -> int | None:
        return _total(t.stored_bytes for t in self.tensors)

    @property
    def bytes(self) -> int | None:
        return _total(t.bytes for t in self.tensors)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why some numbers are not known."""
        return tuple(dict.fromkeys(t.reason for t in self.tensors if t.reason))


def _total(values: Iterable[int | None]) -> int | None:
    known = list(values)
    return None if None in known else sum(v for v in known if v is not None)


def traffic_of(
    kernel: TileKernel, sizes: Mapping[str, int], scalars: Mapping[str, Any], tensors: Mapping[str, Any]
) -> KernelTraffic:
    """Elements and bytes between the programs of ``kernel`` and the memory they share.

    ``sizes``: extents by rank. ``tensors``: those whose values decide what is touched (lengths, segments, indices that a mask checks), lists of tiles under
    ``NAME.offsets`` and ``NAME.tiles``; where one is missing the numbers that depend on it are None.
    """
    space = Space.of(kernel, sizes, scalars, tensors)
    return summed(space, lambda access: counted(space, access))


def summed(space: Space, count: Callable[[Access], int]) -> KernelTraffic:
    """The sum of ``count`` over the accesses of every tensor."""
    found = {o.name: _untouched(o, space) for o in (*space.kernel.inputs, *space.kernel.outputs)}
    for access in accesses(space.kernel):
        try:
            number: int | None = count(access)
            reason = ""
        except UnknownValues as unknown:
            number, reason = None, f"{access.tensor}: {unknown}"
        found[access.tensor] = _more(found[access.tensor], access.stored, number, reason)
    return KernelTraffic(space.kernel.name, (*found.values(), *_lists(space)))


def _untouched(operand: TensorOperand, space: Space) -> TensorTraffic:
    return TensorTraffic(operand.name, operand.dtype, prod(map(space.values.number, operand.extents)))


def _more(traffic: TensorTraffic, stored: bool, number: int | None, reason: str) -> TensorTraffic:
    before = traffic.stored if stored else traffic.loaded
    after = None if before is None or number is None else before + number
    traffic = replace(traffic, reason=traffic.reason or reason)
    return replace(traffic, stored=after) if stored else replace(traffic, loaded=after)


def _lists(space: Space) -> list[TensorTraffic]:
    """What programs read of lists of tiles: two ends and the tiles between them for each class of tiles of each loop."""
    from einsum_compiler.ir.tile import Loop, TileList

    found: list[TensorTraffic] = []
    for schedule in space.kernel.schedules:
        ends = 0
        tiles: int | None = 0
        reason = ""
        for loop in (s for s in space.kernel.body if isinstance(s, Loop)):
            for part in (r for r in loop.ranges if isinstance(r, TileList) and r.schedule == schedule.name):
                ends += 2 * space.programs
                access = Access("", False, (), (), (), loop, part)
                try:
                    tiles = None if tiles is None else tiles + counted(space, access)
                except UnknownValues as unknown:
                    tiles, reason = None, str(unknown)
        listed = prod(space.values.number(p.count) for p in schedule.program)
        operand = space.values.tensors.get(f"{schedule.name}.tiles")
        found.append(TensorTraffic(f"{schedule.name}.offsets", "i32", 2 * listed + 1, ends))
        found.append(
            TensorTraffic(f"{schedule.name}.tiles", "i32", 0 if operand is None else len(operand), tiles, 0, reason)
        )
    return found
