"""What is known of an expression over many boxes at once: intervals of numbers, and truth in three values.

Arrays have one axis per index of the boxes, of length 1 where the value does not depend on it. Every rule is conservative: the interval
holds all values that occur, and a truth value that occurs is marked as possible. A read outside its tensor is *empty*
(no value); logic over it is Kleene's.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
NEVER: Array = np.zeros((), dtype=bool)

# A kernel computes reals in f32: a comparison is certain only beyond this relative distance.
ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Interval:
    """Numbers between ``low`` and ``high``; ``empty`` where some point has no value, ``void`` where none has one."""

    low: Array
    high: Array
    empty: Array = field(default_factory=lambda: NEVER)
    void: Array = field(default_factory=lambda: NEVER)

    @property
    def real(self) -> bool:
        return self.low.dtype.kind == "f" or self.high.dtype.kind == "f"


@dataclass(frozen=True, slots=True)
class Truth:
    """Whether some point of the box may be true, may be false, may be empty."""

    true: Array
    false: Array
    empty: Array = field(default_factory=lambda: NEVER)

    @property
    def certain(self) -> Array:
        """True at every point."""
        return ~self.false & ~self.empty


def constant(value: float) -> Interval:
    array = np.asarray(int(value) if isinstance(value, int) else value)
    return Interval(array, array)


def negate(a: Truth) -> Truth:
    return Truth(a.false, a.true, a.empty)


def both(a: Truth, b: Truth) -> Truth:
    empty = NEVER
    if _somewhere(a.empty) or _somewhere(b.empty):
        empty = (a.empty & (b.true | b.empty)) | (b.empty & (a.true | a.empty))
    return Truth(a.true & b.true, a.false | b.false, empty)


def _somewhere(flag: Array) -> bool:
    """Whether a flag may be set: most are one value for all boxes, and arrays of all boxes are what costs."""
    return flag.ndim > 0 or bool(flag)


def either(a: Truth, b: Truth) -> Truth:
    return negate(both(negate(a), negate(b)))


def choose_truth(condition: Truth, then: Truth, otherwise: Truth) -> Truth:
    """``if``: the branch that is not taken is not evaluated."""
    yes, no = condition.true, condition.false
    return Truth(
        (yes & then.true) | (no & otherwise.true),
        (yes & then.false) | (no & otherwise.false),
        (yes & then.empty) | (no & otherwise.empty) | condition.empty,
    )


def choose(condition: Truth, then: Interval, otherwise: Interval) -> Interval:
    yes, no = condition.true, condition.false
    low = np.where(yes & no, np.minimum(then.low, otherwise.low), np.where(no, otherwise.low, then.low))
    high = np.where(yes & no, np.maximum(then.high, otherwise.high), np.where(no, otherwise.high, then.high))
    empty = (yes & then.empty) | (no & otherwise.empty) | condition.empty
    return Interval(low, high, empty, (~yes | then.void) & (~no | otherwise.void))


def as_number(a: Truth) -> Interval:
    return Interval((~a.false).astype(np.int64), a.true.astype(np.int64), a.empty, ~a.true & ~a.false)


def as_truth(a: Interval) -> Truth:
    return compare("!=", a, constant(0))


def compare(op: str, a: Interval, b: Interval) -> Truth:
    empty, void = a.empty | b.empty, a.void | b.void
    if op in (">", ">="):
        a, b, op = b, a, "<" if op == ">" else "<="
    # A point may make the left side as small as a.low and the right side as large as b.high, or the other way round.
    below, above = _slack(a.low, b.high), _slack(a.high, b.low)
    if op == "<":
        true, false = a.low < b.high + below, a.high >= b.low - above
    elif op == "<=":
        true, false = a.low <= b.high + below, a.high > b.low - above
    else:
        true = (a.low <= b.high + below) & (b.low <= a.high + above)
        false = (a.low != b.high) | (a.high != b.low) | (below > 0)
        if op == "!=":
            true, false = false, true
    return Truth(true & ~void, false & ~void, empty)


def _slack(a: Array, b: Array) -> Array:
    """How far reals may be off from each other's true place; whole numbers are taken to be exact."""
    if a.dtype.kind != "f" and b.dtype.kind != "f":
        return np.zeros((), dtype=np.int64)
    with np.errstate(invalid="ignore"):
        whole = (np.floor(a) == a) & (np.floor(b) == b)
        size = np.maximum(np.abs(a), np.abs(b))
    return np.where(whole | ~np.isfinite(size), 0.0, ROUNDING * np.maximum(size, 1e-30))


def monotone(function: Callable[..., Array], *arguments: Interval) -> Interval:
    """A function that rises in every argument."""
    low = function(*(a.low for a in arguments))
    high = function(*(a.high for a in arguments))
    return Interval(low, high, *_emptiness(arguments))


def corners(function: Callable[[Array, Array], Array], a: Interval, b: Interval) -> Interval:
    """A function of two arguments that is monotone in each, rising or falling: extremes lie at the corners."""
    values = [function(x, y) for x in (a.low, a.high) for y in (b.low, b.high)]
    low = np.minimum(np.minimum(values[0], values[1]), np.minimum(values[2], values[3]))
    high = np.maximum(np.maximum(values[0], values[1]), np.maximum(values[2], values[3]))
    return Interval(low, high, *_emptiness((a, b)))


def unknown(*arguments: Interval, low: float = -np.inf, high: float = np.inf) -> Interval:
    """A function without a rule: any value."""
    return Interval(np.asarray(low), np.asarray(high), *_emptiness(arguments))


def _emptiness(arguments: tuple[Interval, ...]) -> tuple[Array, Array]:
    empty, void = NEVER, NEVER
    for a in arguments:
        empty, void = empty | a.empty, void | a.void
    return empty, void


def minus(a: Interval) -> Interval:
    return Interval(-a.high, -a.low, a.empty, a.void)


def magnitude(a: Interval) -> Interval:
    low = np.maximum(np.maximum(a.low, -a.high), 0)
    return Interval(low, np.maximum(a.high, -a.low), a.empty, a.void)


def power(a: Interval, b: Interval) -> Interval:
    exponent = b.low
    if exponent.ndim == 0 and b.high.ndim == 0 and exponent == b.high and exponent >= 0 and exponent % 1 == 0:
        if exponent % 2 == 0:
            a = magnitude(a)
        return monotone(lambda x: x ** exponent.astype(x.dtype), a)
    if bool(np.all(a.low > 0)):
        found = corners(lambda x, y: np.asarray(x, dtype=float) ** y, a, b)
        return found if a.real or b.real else rounded(np.floor, found)  # of integers 2 ** -1 is 0
    return unknown(a, b)


def multiply(a: Interval, b: Interval) -> Interval:
    with np.errstate(invalid="ignore"):
        return without_nan(corners(operator.mul, a, b))


def divide(a: Interval, b: Interval) -> Interval:
    """``/``: any value where the divisor may be zero."""
    zero = (b.low <= 0) & (b.high >= 0)
    safe = Interval(np.where(zero, 1, b.low), np.where(zero, 1, b.high), b.empty, b.void)
    with np.errstate(invalid="ignore"):
        value = without_nan(corners(np.true_divide, a, safe))
    return Interval(np.where(zero, -np.inf, value.low), np.where(zero, np.inf, value.high), value.empty, value.void)


def floor_divide(a: Interval, b: Interval) -> Interval:
    if a.real or b.real or bool(np.any((b.low <= 0) & (b.high >= 0))):
        return rounded(np.floor, divide(a, b))
    return corners(np.floor_divide, a, b)


def remainder(a: Interval, b: Interval) -> Interval:
    """``%`` by a positive integer: the interval itself moved into place where it does not wrap, else all remainders."""
    if a.real or b.real or bool(np.any(b.low <= 0)):
        return unknown(a, b)
    steady = (a.low // b.low == a.high // b.low) & (b.low == b.high)
    low = np.where(steady, a.low % b.low, 0)
    return Interval(low, np.where(steady, a.high % b.low, b.high - 1), *_emptiness((a, b)))


def bitwise(function: Callable[[Array, Array], Array], a: Interval, b: Interval) -> Interval:
    """Exact for single values; else between 0 and all ones if nothing is negative."""
    single = (a.low == a.high) & (b.low == b.high)
    exact = function(a.low.astype(np.int64), b.low.astype(np.int64))
    if single.all():
        return Interval(exact, exact, *_emptiness((a, b)))
    top = np.maximum(np.maximum(a.high, b.high), 1).astype(float)
    ones = (2 ** (np.floor(np.log2(top)) + 1) - 1).astype(np.int64)
    signed = (a.low < 0) | (b.low < 0)
    wide = np.iinfo(np.int64)
    low = np.where(single, exact, np.where(signed, wide.min // 2, 0))
    high = np.where(single, exact, np.where(signed, wide.max // 2, ones))
    return Interval(low, high, *_emptiness((a, b)))


def rounded(function: Callable[[Array], Array], a: Interval) -> Interval:
    """``floor``, ``ceil`` or ``round``, as integers; reals are widened by their rounding errors first."""
    if not a.real:
        return a
    low, high = function(a.low - _slack(a.low, a.low)), function(a.high + _slack(a.high, a.high))
    if bool(np.all(np.isfinite(low) & np.isfinite(high) & (np.abs(low) < 2**53) & (np.abs(high) < 2**53))):
        low, high = low.astype(np.int64), high.astype(np.int64)
    return Interval(low, high, a.empty, a.void)


def without_nan(a: Interval) -> Interval:
    if not a.real:
        return a
    bad = np.isnan(a.low) | np.isnan(a.high)
    return Interval(np.where(bad, -np.inf, a.low), np.where(bad, np.inf, a.high), a.empty, a.void)


def real(function: Callable[[Array], Array], a: Interval) -> Interval:
    """A rising function of the reals; any value where it is not defined."""
    with np.errstate(all="ignore"):
        return without_nan(monotone(lambda x: function(np.asarray(x, dtype=float)), a))
