"""Intervals of coordinates with symbolic ends, and their union over the programs of a rank.

Laws: clipping distributes over unions. Intervals that share an end are nested, so their union is the longest. Intervals whose ends do not fall from one
program to the next, and that leave no gap (each begins no later than the one before it ends), unite to the one from the first beginning to the last end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sympy as sp

Formula = Any  # sympy has no types


@dataclass(frozen=True)
class Interval:
    """The integers from the largest of ``lowers`` up to, not including, the smallest of ``uppers``."""

    lowers: tuple[Formula, ...]
    uppers: tuple[Formula, ...]

    @property
    def length(self) -> Formula:
        """How many integers it holds."""
        return sp.Max(0, sp.Min(*self.uppers) - sp.Max(*self.lowers))

    def united(self, symbol: Formula, count: Formula) -> Interval | None:
        """The union over ``0 <= symbol < count``, where count is at least 1; None if no law applies."""
        begins = [x for x in self.lowers if x.has(symbol)]
        ends = [x for x in self.uppers if x.has(symbol)]
        if not begins and not ends:
            return self
        signs = {direction(x, symbol) for x in (*begins, *ends)}
        if len(signs) != 1 or not (sign := signs.pop()):
            return None
        if begins and ends:
            if sign < 0 or len(begins) > 1 or len(ends) > 1:
                return None
            step = sp.expand(begins[0].subs(symbol, symbol + 1) - ends[0])
            if not step.is_nonpositive:
                return None
            return self._at(symbol, sp.Integer(0), count - 1)
        longest = count - 1 if (sign > 0) == bool(ends) else sp.Integer(0)
        return self._at(symbol, longest, longest)

    def _at(self, symbol: Formula, first: Formula, last: Formula) -> Interval:
        return Interval(
            tuple(x.subs(symbol, first) for x in self.lowers), tuple(x.subs(symbol, last) for x in self.uppers)
        )


def direction(formula: Formula, symbol: Formula) -> int | None:
    """1 if a formula never falls as the symbol grows, -1 if it never rises, 0 if it does not depend on it, None if that is not seen."""
    if not formula.has(symbol):
        return 0
    if formula == symbol:
        return 1
    if isinstance(formula, (sp.Add, sp.Min, sp.Max, sp.floor, sp.ceiling)):
        signs = {direction(a, symbol) for a in formula.args} - {0}
        return signs.pop() if len(signs) == 1 else None
    if isinstance(formula, sp.Mul):
        moving = [a for a in formula.args if a.has(symbol)]
        factor = sp.Mul(*(a for a in formula.args if not a.has(symbol)))
        inner = direction(moving[0], symbol) if len(moving) == 1 else None
        if inner is None or not (factor.is_nonnegative or factor.is_nonpositive):
            return None
        return inner if factor.is_nonnegative else -inner
    return None
