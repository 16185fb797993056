"""The bounds of a cascade at any capacity: the compulsory one, each class of schedules, every cut into groups, and the smallest of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from math import exp, log
from typing import Any

from einsum_compiler.ir.cascade import Cascade
from einsum_compiler.passes.bounds.classes import ATOMISED, anchor_classes, einsum_classes, with_rest
from einsum_compiler.passes.bounds.compulsory import Elements, compulsory, touched
from einsum_compiler.passes.bounds.cuts import Cut, Cuts
from einsum_compiler.passes.bounds.found import Found
from einsum_compiler.passes.bounds.groups import Group, Grouping
from einsum_compiler.passes.bounds.result import Bound, BoundReport, Crossover
from einsum_compiler.passes.bounds.spaces import Spaces

CUTS = "segmentation over cuts (Orojenesis, Huang et al. 2024)"
AS_WRITTEN = "the Einsums as written: no other order of contraction, no algebra that saves products"
CUT = "cut into groups"
LEAST_CAPACITY = 4.0


class Analysis:
    """The bounds of a normalized cascade at concrete sizes; everything that no capacity changes is kept.

    ``extents``: of every rank. ``scalars``: the parameters that are no extents, as numbers.
    """

    def __init__(self, cascade: Cascade, extents: Mapping[str, int], scalars: Mapping[str, Any]) -> None:
        self.spaces = Spaces(cascade, extents, scalars)
        self._elements = Elements(self.spaces)
        self.grouping = Grouping(self.spaces, self._elements)
        self.touched = touched(self.spaces, self._elements)
        self.compulsory = compulsory(self.touched)

    @cached_property
    def whole(self) -> Group:
        """All equations in one group."""
        return self.grouping.group(0, len(self.grouping))

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


class _At:
    """The bounds of one cascade at one capacity."""

    def __init__(self, analysis: Analysis, capacity: float) -> None:
        self._analysis, self._capacity = analysis, capacity
        self._cuts = Cuts(analysis.grouping, capacity)

    def report(self) -> BoundReport:
        analysis, whole = self._analysis, self._analysis.whole
        classes = anchor_classes(whole, self._capacity) or einsum_classes(whole, self._capacity)
        assumptions = self._assumptions(whole)
        bounds = [
            Bound(c.name, f.value, f.formula, c.schedules, assumptions, c.source)
            for c in classes
            for f in (with_rest(whole, c.found, c.roots),)
        ]
        found, optimal = self._cuts.whole()
        cut = self._cuts.smallest(False, True)
        no_spill = self._cuts.smallest(True, False)
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
        fused, name = self._cuts.whole()
        cut = self._cuts.smallest(False, True)
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

    def _stored(self, groups: Sequence[tuple[int, int]]) -> list[str]:
        """The intermediates that a cut stores."""
        outputs = self._analysis.spaces.outputs
        return [
            p.tensor
            for g in groups[:-1]
            for p in self._analysis.grouping.group(*g).parts
            if p.role == "written" and p.tensor not in outputs
        ]

    def _cut_bound(self, found: Found, groups: Cut) -> Bound:
        stored = ", ".join(self._stored(groups)) or "nothing"
        parts = "; ".join(
            f"{', '.join(s.tensor for s in self._analysis.grouping.group(*g).spaces)}: {self._cuts.group(*g, False)[1]}"
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

    def _no_spill_bound(self, found: Found, groups: Cut) -> Bound:
        least = self._analysis.compulsory
        assert least.value is not None
        stored = self._stored(groups)
        schedules = "every schedule that computes each point once and either stores an intermediate whole or never stores any of it"
        schedules += f" (smallest with {', '.join(stored)} stored)" if stored else ""
        assumptions = self._assumptions(self._analysis.whole)
        value, formula = (least.value, least.formula) if found.value <= least.value else (found.value, found.formula)
        return Bound("no spill, computed once", value, formula, schedules, assumptions, f"{ATOMISED}; {CUTS}")
