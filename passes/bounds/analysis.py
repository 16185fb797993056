"""The bounds of a cascade at any capacity: the compulsory one, each class of schedules, every cut into groups, and the smallest of them.

A schedule either computes neighbouring equations together, their intermediates in fast memory, or stores an intermediate and reads it again. So
the cascade is cut into groups, the bound of a cut is the sum over its groups, and the smallest over all cuts is a bound for every schedule of that kind
(Orojenesis calls this segmentation). A cut is a path over the positions between equations; groups are looked at only where a path that may be
shortest needs them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import exp, inf, log
from typing import Any

import sympy

from einsum_compiler.ir.cascade import Cascade
from einsum_compiler.passes.bounds.compulsory import Elements, compulsory, touched
from einsum_compiler.passes.bounds.fused import Anchor, atomic, no_spill, recomputed, stationary
from einsum_compiler.passes.bounds.groups import Group, Grouping
from einsum_compiler.passes.bounds.hbl import Found
from einsum_compiler.passes.bounds.result import Bound, Touched
from einsum_compiler.passes.bounds.spaces import Spaces

PARTITION = "Hölder-Brascamp-Lieb (Christ et al. 2013; bounded loops Dinh & Demmel 2020; constants SOAP, Kwasniewski et al. 2021)"
ATOMISED = "partition bound with atomised ranks (after FlashAttention theorem 2, Saha & Ye 2024)"
TILED = "tiles of the intermediate (after Saha & Ye 2024 for small S), weighted means and Hölder-Brascamp-Lieb"
CUTS = "segmentation over cuts (Orojenesis, Huang et al. 2024)"
AS_WRITTEN = "the Einsums as written: no other order of contraction, no algebra that saves products"
ONCE = "fused, each element once"
CUT = "cut into groups"
LEAST_CAPACITY = 4.0

Groups = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Crossover:
    """At this capacity the best class changes."""

    capacity: float
    below: str
    above: str

    def __str__(self) -> str:
        return f"S = {self.capacity:,.0f}: below it {self.below}, above it {self.above}"


@dataclass(frozen=True)
class BoundReport:
    """Everything known about one cascade at one capacity.

    ``best``: the largest bound that holds for every class at once. ``classes``: one bound for each class, ``optimal`` names the smallest.
    ``no_spill``: for a larger class of the schedules that compute each point once. ``touched``: the compulsory elements by tensor. ``notes``: what has no bound, and why.
    """

    capacity: float
    best: Bound
    compulsory: Bound
    classes: tuple[Bound, ...]
    optimal: str
    no_spill: Bound
    touched: tuple[Touched, ...]
    notes: tuple[str, ...]

    @property
    def value(self) -> float:
        """Elements moved at least."""
        assert self.best.value is not None
        return self.best.value

    @property
    def formula(self) -> Any:
        """The formula of the best bound, a SymPy expression."""
        return self.best.formula

    @property
    def schedules(self) -> str:
        """The class of schedules the best bound covers."""
        return self.best.schedules

    @property
    def source(self) -> str:
        """Where the law of the best bound comes from."""
        return self.best.source


@dataclass(frozen=True)
class _Class:
    """A class of schedules of one group: its name, its bound, what it covers."""

    name: str
    found: Found
    schedules: str
    source: str
    roots: frozenset[str]


class Analysis:
    """The bounds of a normalized cascade at concrete sizes; everything that no capacity changes is kept.

    ``extents``: of every rank. ``scalars``: the parameters that are no extents, as numbers.
    """

    def __init__(self, cascade: Cascade, extents: Mapping[str, int], scalars: Mapping[str, Any]) -> None:
        self.spaces = Spaces(cascade, extents, scalars)
        self._elements = Elements(self.spaces)
        self._grouping = Grouping(self.spaces, self._elements)
        self._groups: dict[tuple[int, int], Group] = {}
        self._parts: dict[tuple[int, int], float] = {}
        self.touched = touched(self.spaces, self._elements)
        self.compulsory = compulsory(self.touched)

    # -- groups

    def group(self, start: int, stop: int) -> Group:
        """The group of the equations from ``start`` to before ``stop``."""
        if (start, stop) not in self._groups:
            self._groups[start, stop] = self._grouping.group(start, stop)
        return self._groups[start, stop]

    @cached_property
    def whole(self) -> Group:
        """All equations in one group."""
        return self.group(0, len(self._grouping))

    def _moved(self, start: int, stop: int) -> float:
        if (start, stop) not in self._parts:
            self._parts[start, stop] = float(self._grouping.moved(start, stop))
        return self._parts[start, stop]

    # -- one capacity

    def at(self, capacity: float) -> BoundReport:
        """All bounds with a fast memory of ``capacity`` elements. Raises ``ValueError`` below 4 elements."""
        if not capacity >= LEAST_CAPACITY:
            raise ValueError(
                f"a fast memory of {capacity} elements holds no operands and result: expected at least {LEAST_CAPACITY:.0f}"
            )
        return _At(self, float(capacity)).report()

    def curve(self, capacities: Iterable[float]) -> tuple[tuple[float, float], ...]:
        """The bound against the capacity: the ski-slope, as pairs (elements, elements moved)."""
        return tuple((float(c), _At(self, float(c)).smallest()[0].value) for c in capacities)

    def crossovers(self, low: float = 64.0, high: float = 2.0**28, steps: int = 22) -> tuple[Crossover, ...]:
        """The capacities at which another class becomes the best, between ``low`` and ``high``."""

        def best(capacity: float) -> str:
            return _At(self, capacity).smallest()[1]

        grid = [exp(log(low) + (log(high) - log(low)) * k / steps) for k in range(steps + 1)]
        names = [best(c) for c in grid]
        found = []
        for (a, one), (b, other) in pairwise(zip(grid, names, strict=True)):
            if one != other:
                for _ in range(18):
                    middle = (a * b) ** 0.5
                    a, b = (middle, b) if best(middle) == one else (a, middle)
                found.append(Crossover(b, one, best(b)))
        return tuple(found)


def _sum(*parts: Found) -> Found:
    return Found(sum(p.value for p in parts), lambda: sympy.Add(*(p.formula for p in parts)))


def _with_rest(group: Group, found: Found | None, roots: frozenset[str]) -> Found:
    """A bound on the traffic of some tensors with the compulsory traffic of the other ones of a group."""
    rest = [p for p in group.parts if p.tensor not in roots]
    once = Found(float(sum(p.count for p in rest)), lambda: sympy.Add(*(p.formula for p in rest)))
    return once if found is None else _sum(found, once)


class _At:
    """The bounds of one cascade at one capacity."""

    def __init__(self, analysis: Analysis, capacity: float) -> None:
        self._analysis, self._capacity = analysis, capacity
        self._size = len(analysis._grouping)
        self._known: dict[tuple[int, int, bool], tuple[Found, str]] = {}

    def report(self) -> BoundReport:
        analysis, whole = self._analysis, self._analysis.whole
        classes = self._anchor_classes(whole) or self._einsum_classes(whole)
        assumptions = self._assumptions(whole)
        bounds = [
            Bound(c.name, f.value, f.formula, c.schedules, assumptions, c.source)
            for c in classes
            for f in (_with_rest(whole, c.found, c.roots),)
        ]
        found, optimal = self._group(0, self._size, False)
        cut = self._path(False, True)
        no_spill = self._path(True, False)
        if cut is not None:
            bounds.append(self._cut_bound(*cut))
            if cut[0].value < found.value:
                found, optimal = cut[0], bounds[-1].name
        best, formula = found.value, found.formula
        least = analysis.compulsory
        assert least.value is not None
        source = next((b.source for b in bounds if b.name == optimal), least.source)
        if best <= least.value:
            headline = least.named(optimal)
        else:
            schedules = (
                "one of these classes: " + "; ".join(f"{b.name} ({b.schedules})" for b in bounds)
                if bounds
                else least.schedules
            )
            headline = Bound(optimal, best, formula, schedules, assumptions, source)
        return BoundReport(
            self._capacity,
            headline,
            least,
            tuple(bounds),
            optimal,
            self._no_spill_bound(*no_spill) if no_spill is not None else least,
            analysis.touched,
            whole.unknown,
        )

    def smallest(self) -> tuple[Found, str]:
        """The smallest class and its kind, without names of what is stored: ``CUT`` for every cut."""
        fused, name = self._group(0, self._size, False)
        cut = self._path(False, True)
        return (cut[0], CUT) if cut is not None and cut[0].value < fused.value else (fused, name)

    def _assumptions(self, group: Group) -> tuple[str, ...]:
        found = dict.fromkeys((AS_WRITTEN, *self._analysis.compulsory.assumptions))
        found.update({f"{value} is finite wherever a filter asks": None for value in self._analysis.spaces.finite})
        for anchor in group.anchors:
            if anchor.linear:
                found[
                    f"nothing non-linear stands between making and using {', '.join(anchor.tensors)}: another order of contraction has bounds of its own"
                ] = None
        return tuple(found)

    # -- classes of the whole cascade

    def _einsum_classes(self, group: Group) -> list[_Class]:
        found = [(e, f) for e in group.einsums if (f := e.at(self._capacity)) is not None]
        if not found:
            return []
        einsum, best = max(found, key=lambda item: item[1].value)
        text = f"every schedule that evaluates each point of {einsum.tensor} over {', '.join(d.name for d in einsum.digits)}, in any order"
        return [_Class(f"partition of {einsum.tensor}", best, text, PARTITION, einsum.roots)]

    def _anchor_classes(self, group: Group) -> list[_Class]:
        """The classes of the anchor that costs most."""
        best, chosen = -1.0, list[_Class]()
        for anchor in group.anchors:
            classes = self._classes(anchor)
            if classes and (least := min(c.found.value for c in classes)) > best:
                best, chosen = least, classes
        return chosen

    def _classes(self, anchor: Anchor) -> list[_Class]:
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
            result = law(anchor, self._capacity)
            if result is not None:
                found.append(_Class(name, result, schedules, source, anchor.roots))
        return found

    # -- groups and cuts

    def _group(self, start: int, stop: int, spilled: bool) -> tuple[Found, str]:
        """The bound of a group and its class; ``spilled``: for the class of all schedules without spills."""
        key = (start, stop, spilled)
        if key in self._known:
            return self._known[key]
        group = self._analysis.group(start, stop)
        items: list[tuple[Found, str, frozenset[str]]] = []
        for einsum in group.einsums:
            found = einsum.at(self._capacity)
            if found is not None:
                items.append((found, f"partition of {einsum.tensor}", einsum.roots))
        for anchor in group.anchors:
            if spilled:
                found, name = no_spill(anchor, self._capacity), f"{anchor.name} never stored"
            else:
                least = min(self._classes(anchor), key=lambda c: c.found.value, default=None)
                found, name = (None, "") if least is None else (least.found, least.name)
            if found is not None:
                items.append((found, name, anchor.roots))
        best = self._together(group, items)
        self._known[key] = best
        return best

    def _together(self, group: Group, items: list[tuple[Found, str, frozenset[str]]]) -> tuple[Found, str]:
        """The largest sum found: problems that count different tensors add up, and what none counts is moved once."""
        items.sort(key=lambda item: item[0].value, reverse=True)
        best = (_with_rest(group, None, frozenset()), ONCE)
        for start in range(min(len(items), 3)):
            total, name, roots = items[start]
            for found, _, others in items:
                if not others & roots:
                    total, roots = _sum(total, found), roots | others
            total = _with_rest(group, total, roots)
            if total.value > best[0].value * (1 + 1e-9):
                best = (total, name)
        return best

    def _path(self, spilled: bool, cut: bool) -> tuple[Found, Groups] | None:
        """The smallest sum over groups; ``cut``: at least two of them. Groups are evaluated only on paths that may be shortest."""
        size = self._size
        if size < 2 and cut:
            return None
        while True:
            cost = [0.0] + [inf] * size
            back = [0] * (size + 1)
            for stop in range(1, size + 1):
                for start in range(stop):
                    if cut and start == 0 and stop == size:
                        continue
                    known = self._known.get((start, stop, spilled))
                    step = cost[start] + (known[0].value if known else self._analysis._moved(start, stop))
                    if step < cost[stop]:
                        cost[stop], back[stop] = step, start
            groups, at = [], size
            while at:
                groups.append((back[at], at))
                at = back[at]
            groups.reverse()
            missing = [g for g in groups if (*g, spilled) not in self._known]
            if not missing:
                parts = [self._known[(*g, spilled)][0] for g in groups]
                return _sum(*parts), tuple(groups)
            for group in missing:
                self._group(*group, spilled)

    def _stored(self, groups: Sequence[tuple[int, int]]) -> list[str]:
        """The intermediates that a cut stores."""
        outputs = self._analysis.spaces.outputs
        return [
            p.tensor
            for g in groups[:-1]
            for p in self._analysis.group(*g).parts
            if p.role == "written" and p.tensor not in outputs
        ]

    def _cut_bound(self, found: Found, groups: Groups) -> Bound:
        stored = ", ".join(self._stored(groups)) or "nothing"
        parts = "; ".join(
            f"{', '.join(s.tensor for s in self._analysis.group(*g).spaces)}: {self._known[(*g, False)][1]}"
            for g in groups
        )
        schedules = f"cut into groups of neighbouring equations that store {stored} between them ({parts})"
        return Bound(
            f"cut, {stored} stored",
            found.value,
            found.formula,
            schedules,
            self._assumptions(self._analysis.whole),
            CUTS,
        )

    def _no_spill_bound(self, found: Found, groups: Groups) -> Bound:
        least = self._analysis.compulsory
        assert least.value is not None
        stored = self._stored(groups)
        schedules = "every schedule that computes each point once and either stores an intermediate whole or never stores any of it"
        schedules += f" (smallest with {', '.join(stored)} stored)" if stored else ""
        assumptions = self._assumptions(self._analysis.whole)
        value, formula = (least.value, least.formula) if found.value <= least.value else (found.value, found.formula)
        return Bound("no spill, computed once", value, formula, schedules, assumptions, f"{ATOMISED}; {CUTS}")
