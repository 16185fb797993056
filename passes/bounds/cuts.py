"""Cuts of a cascade into groups of neighbouring equations, at one capacity.

A schedule either computes neighbouring equations together, their intermediates in fast memory, or stores an intermediate and reads it again. So
the cascade is cut into groups, the bound of a cut is the sum over its groups, and the smallest over all cuts is a bound for every schedule of that kind
(Orojenesis calls this segmentation). A cut is a path over the positions between equations; groups are looked at only where a path that may be
shortest needs them.
"""

from __future__ import annotations

from math import inf

from einsum_compiler.passes.bounds.classes import group_bound
from einsum_compiler.passes.bounds.found import Found, sum_of
from einsum_compiler.passes.bounds.groups import Grouping

Cut = tuple[tuple[int, int], ...]


class Cuts:
    """The bounds of groups and of cuts of one cascade at one capacity."""

    def __init__(self, grouping: Grouping, capacity: float) -> None:
        self._grouping, self._capacity = grouping, capacity
        self._known: dict[tuple[int, int, bool], tuple[Found, str]] = {}

    def whole(self) -> tuple[Found, str]:
        """The bound of everything in one group, and its class."""
        return self.group(0, len(self._grouping), False)

    def group(self, start: int, stop: int, spilled: bool) -> tuple[Found, str]:
        """The bound of a group and its class; ``spilled``: for the class of all schedules without spills."""
        key = (start, stop, spilled)
        if key not in self._known:
            self._known[key] = group_bound(self._grouping.group(start, stop), self._capacity, spilled)
        return self._known[key]

    def smallest(self, spilled: bool, cut: bool) -> tuple[Found, Cut] | None:
        """The smallest sum over groups; ``cut``: at least two of them. Groups are evaluated only on paths that may be shortest."""
        size = len(self._grouping)
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
                    step = cost[start] + (known[0].value if known else self._grouping.moved(start, stop))
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
                return sum_of(*parts), tuple(groups)
            for group in missing:
                self.group(*group, spilled)
