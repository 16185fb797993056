"""The classes of schedules of one group at one capacity, each with its bound."""

from __future__ import annotations

from dataclasses import dataclass

import sympy

from einsum_compiler.passes.bounds.found import Found, sum_of
from einsum_compiler.passes.bounds.fused import Anchor, atomic, no_spill, recomputed, stationary
from einsum_compiler.passes.bounds.groups import Group

PARTITION = "Hölder-Brascamp-Lieb (Christ et al. 2013; bounded loops Dinh & Demmel 2020; constants SOAP, Kwasniewski et al. 2021)"
ATOMISED = "partition bound with atomised ranks (after FlashAttention theorem 2, Saha & Ye 2024)"
TILED = "tiles of the intermediate (after Saha & Ye 2024 for small S), weighted means and Hölder-Brascamp-Lieb"
ONCE = "fused, each element once"


@dataclass(frozen=True)
class ScheduleClass:
    """A class of schedules of one group: its name, its bound, what it covers."""

    name: str
    found: Found
    schedules: str
    source: str
    roots: frozenset[str]


def with_rest(group: Group, found: Found | None, roots: frozenset[str]) -> Found:
    """A bound on the traffic of some tensors with the compulsory traffic of the other ones of a group."""
    rest = [p for p in group.parts if p.tensor not in roots]
    once = Found(float(sum(p.count for p in rest)), lambda: sympy.Add(*(p.formula for p in rest)))
    return once if found is None else sum_of(found, once)


def einsum_classes(group: Group, capacity: float) -> list[ScheduleClass]:
    """The class of the equation whose partition bound is largest."""
    found = [(e, f) for e in group.einsums if (f := e.at(capacity)) is not None]
    if not found:
        return []
    einsum, best = max(found, key=lambda item: item[1].value)
    text = f"every schedule that evaluates each point of {einsum.tensor} over {', '.join(d.name for d in einsum.digits)}, in any order"
    return [ScheduleClass(f"partition of {einsum.tensor}", best, text, PARTITION, einsum.roots)]


def anchor_classes(group: Group, capacity: float) -> list[ScheduleClass]:
    """The classes of the anchor that costs most."""
    best, chosen = -1.0, list[ScheduleClass]()
    for anchor in group.anchors:
        classes = _classes(anchor, capacity)
        if classes and (least := min(c.found.value for c in classes)) > best:
            best, chosen = least, classes
    return chosen


def _classes(anchor: Anchor, capacity: float) -> list[ScheduleClass]:
    what = ", ".join(anchor.tensors)
    found = []
    laws = (
        (
            atomic,
            f"fused, {anchor.name} atomic",
            f"{what} never stored; all that a point ({anchor.name}) needs is in fast memory at one moment",
            ATOMISED,
        ),
        (
            recomputed,
            f"fused, {anchor.name} atomic, recomputed",
            f"{what} never stored and computed several times; what a point ({anchor.name}) needs is in fast memory at one moment each time",
            ATOMISED,
        ),
        (
            stationary,
            f"fused, tiles of {anchor.name}",
            f"{what} never stored; a tile of points ({anchor.name}) is held whole and nothing else is kept from tile to tile",
            TILED,
        ),
    )
    for law, name, schedules, source in laws:
        result = law(anchor, capacity)
        if result is not None:
            found.append(ScheduleClass(name, result, schedules, source, anchor.roots))
    return found


def group_bound(group: Group, capacity: float, spilled: bool) -> tuple[Found, str]:
    """The bound of a group and its class; ``spilled``: for the class of all schedules without spills."""
    items: list[tuple[Found, str, frozenset[str]]] = []
    for einsum in group.einsums:
        found = einsum.at(capacity)
        if found is not None:
            items.append((found, f"partition of {einsum.tensor}", einsum.roots))
    for anchor in group.anchors:
        if spilled:
            found, name = no_spill(anchor, capacity), f"{anchor.name} never stored"
        else:
            least = min(_classes(anchor, capacity), key=lambda c: c.found.value, default=None)
            found, name = (None, "") if least is None else (least.found, least.name)
        if found is not None:
            items.append((found, name, anchor.roots))
    return _together(group, items)


def _together(group: Group, items: list[tuple[Found, str, frozenset[str]]]) -> tuple[Found, str]:
    """The largest sum found: problems that count different tensors add up, and what none counts is moved once."""
    items.sort(key=lambda item: item[0].value, reverse=True)
    best = (with_rest(group, None, frozenset()), ONCE)
    for start in range(min(len(items), 3)):
        total, name, roots = items[start]
        for found, _, others in items:
            if not others & roots:
                total, roots = sum_of(total, found), roots | others
        total = with_rest(group, total, roots)
        if total.value > best[0].value * (1 + 1e-9):
            best = (total, name)
    return best
