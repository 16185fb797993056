"""Inequalities between affine forms that hold for all values of their terms.

``floor(x / k)`` lies between ``(x - k + 1) / k`` and ``x / k``. So the difference of two forms is bounded below by a rational form
over ranks, extents and parameters; being an integer, it is non-negative if that bound is above -1.
"""

from __future__ import annotations

from fractions import Fraction

from einsum_compiler.ir.expression import Binary, Constant, Expression
from einsum_compiler.passes.analysis.affine import Affine, alternatives, is_nonnegative, reopened, term

Rational = dict[Expression | None, Fraction]  # coefficient of each term; None is the constant


class Order:
    """Proves inequalities, each once; ranks and extents are non-negative, other terms any integers."""

    def __init__(self) -> None:
        self._known: dict[tuple[Affine, Affine], bool] = {}

    def at_least(self, left: Affine, right: Affine) -> bool:
        """Whether ``left >= right`` is proved."""
        known = self._known.get((left, right))
        if known is None:
            known = self._known[left, right] = left == right or self._prove(left, right)
        return known

    def _prove(self, left: Affine, right: Affine) -> bool:
        # All alternatives must hold first (min on the left, max on the right), then one is enough.
        if (parts := alternatives(left, "min")) is not None:
            return all(self.at_least(part, right) for part in parts)
        if (parts := alternatives(right, "max")) is not None:
            return all(self.at_least(left, part) for part in parts)
        if (parts := alternatives(left, "max")) is not None and any(self.at_least(part, right) for part in parts):
            return True
        if (parts := alternatives(right, "min")) is not None and any(self.at_least(left, part) for part in parts):
            return True
        difference = left - right
        if is_nonnegative(difference):
            return True
        low: Rational = {None: Fraction(0)}
        _add_lower_bound(difference, Fraction(1), low)
        constant = low.pop(None)
        return constant > -1 and all(c >= 0 and is_nonnegative(term(t)) for t, c in low.items() if c and t is not None)


def _add_lower_bound(form: Affine, factor: Fraction, low: Rational) -> None:
    """Adds a lower bound of ``factor * form``, floor divisions opened."""
    low[None] += factor * form.constant
    for node, coefficient in form.terms:
        scaled = factor * coefficient
        match node:
            case Binary(operator="//", left=left, right=Constant(value=int() as divisor)):
                if scaled > 0:
                    low[None] -= scaled * Fraction(divisor - 1, divisor)
                _add_lower_bound(reopened(left), scaled / divisor, low)
            case _:
                low[node] = low.get(node, Fraction(0)) + scaled
