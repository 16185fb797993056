"""Intervals of tiles with symbolic bounds: unions of them as ranges that visit no tile twice.

An interval is ``max(lower) <= index < min(upper)``, empty where the bounds cross; so every operation here holds for
empty operands too, and no case distinction reaches the program.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from einsum_compiler.ir.tile import Range
from einsum_compiler.passes.analysis.affine import Affine, alternatives, maximum, minimum
from einsum_compiler.passes.analysis.order import Order
from einsum_compiler.passes.analysis.tile_box import Opaque

# Beyond this the bounds cost a program more than reading a list of its tiles.
MOST_RANGES = 8


@dataclass(frozen=True, slots=True)
class Interval:
    lower: tuple[Affine, ...]
    upper: tuple[Affine, ...]


def disjoint_ranges(full: Iterable[Interval], any_: Iterable[Interval]) -> tuple[Range, ...]:
    """Ranges that visit each tile of the union once: full ones first, then what is left as partial ones.

    Raises ``Opaque`` if there would be more than ``MOST_RANGES``.
    """
    order = Order()
    seen: list[Interval] = []
    ranges: list[Range] = []
    for intervals, partial in ((full, False), (any_, True)):
        for interval in _united(intervals, order):
            pieces = [interval]
            for earlier in seen:
                pieces = [rest for piece in pieces for rest in _without(piece, earlier, order)]
                if len(ranges) + len(pieces) > MOST_RANGES:
                    raise Opaque(f"the tiles of the union are more than {MOST_RANGES} ranges")
            ranges.extend(
                Range(maximum(*p.lower).expression(), minimum(*p.upper).expression(), partial) for p in pieces
            )
            seen.append(interval)
    return tuple(ranges)


def _united(intervals: Iterable[Interval], order: Order) -> list[Interval]:
    """The intervals that can be non-empty, those with a common bound joined into one."""
    found: list[Interval] = []
    for interval in intervals:
        new = _simplified(interval, order)
        if new is None:
            continue
        for i, old in enumerate(found):
            joined = _joined(old, new)
            if joined is not None:
                found[i] = _simplified(joined, order) or joined
                break
        else:
            found.append(new)
    return found


def _joined(left: Interval, right: Interval) -> Interval | None:
    """The union of two intervals that share their lower or their upper bound, whichever of them is empty."""
    if set(left.lower) == set(right.lower):
        common = tuple(u for u in left.upper if u in right.upper)
        mine, others = (tuple(u for u in s.upper if u not in common) for s in (left, right))
        if not mine or not others:
            return Interval(left.lower, common)
        return Interval(left.lower, (*common, maximum(minimum(*mine), minimum(*others))))
    if set(left.upper) == set(right.upper):
        common = tuple(low for low in left.lower if low in right.lower)
        mine, others = (tuple(low for low in s.lower if low not in common) for s in (left, right))
        if not mine or not others:
            return Interval(common, left.upper)
        return Interval((*common, minimum(maximum(*mine), maximum(*others))), left.upper)
    return None


def _without(interval: Interval, cut: Interval, order: Order) -> list[Interval]:
    """The parts below and above the cut. An empty cut splits the interval at its lower bound and loses nothing."""
    below = Interval(interval.lower, (*interval.upper, maximum(*cut.lower)))
    above = Interval((*interval.lower, *cut.lower, minimum(*cut.upper)), interval.upper)
    return [s for s in (_simplified(below, order), _simplified(above, order)) if s is not None]


def _simplified(interval: Interval, order: Order) -> Interval | None:
    """The interval without bounds that others imply; None if it is always empty."""
    if any(order.at_least(low, up) for low in interval.lower for up in interval.upper):
        return None
    lower = _strongest(_opened(interval.lower, "max"), order.at_least)
    return Interval(lower, _strongest(_opened(interval.upper, "min"), lambda a, b: order.at_least(b, a)))


def _opened(values: Iterable[Affine], function: str) -> list[Affine]:
    """The values with every outer ``function`` replaced by its arguments."""
    found: list[Affine] = []
    for value in values:
        parts = alternatives(value, function)
        found.extend([value] if parts is None else _opened(parts, function))
    return found


def _strongest(values: Iterable[Affine], stronger: Callable[[Affine, Affine], bool]) -> tuple[Affine, ...]:
    kept: list[Affine] = []
    for value in values:
        if any(stronger(k, value) for k in kept):
            continue
        kept = [k for k in kept if not stronger(value, k)] + [value]
    return tuple(kept)
