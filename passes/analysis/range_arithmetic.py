"""Arithmetic on ranges of values: what an operation, a function or a conversion makes of the ranges of its operands."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from einsum_compiler.ir.expression import Constant, Expression
from einsum_compiler.ir.types import is_integer

INF = math.inf


@dataclass(frozen=True, slots=True)
class ValueRange:
    """``low <= x <= high``; ``infinite`` and ``nan`` say whether those values can occur, ``zero`` whether 0 can."""

    low: float = -INF
    high: float = INF
    infinite: bool = True
    nan: bool = True
    zero: bool = True
    integer: bool = False

    @property
    def finite(self) -> bool:
        """Every value is a finite number."""
        return not self.infinite and not self.nan

    @property
    def nonnegative(self) -> bool:
        return self.low >= 0

    @property
    def never_zero(self) -> bool:
        return not self.zero

    def hull(self, other: ValueRange) -> ValueRange:
        """The range of a value that is one of the two."""
        return ValueRange(
            min(self.low, other.low),
            max(self.high, other.high),
            self.infinite or other.infinite,
            self.nan or other.nan,
            self.zero or other.zero,
            self.integer and other.integer,
        )


ANYTHING = ValueRange()
NUMBER = ValueRange(infinite=False, nan=False)  # what a caller passes as a scalar
BOOLEAN = ValueRange(0, 1, False, False, True, True)
COUNT = ValueRange(0, INF, False, False, True, True)


def constant_range(value: float) -> ValueRange:
    """The range of one number."""
    if isinstance(value, float) and math.isnan(value):
        return ANYTHING
    return ValueRange(value, value, math.isinf(value), False, value == 0, float(value).is_integer())


def converted(found: ValueRange, dtype: str) -> ValueRange:
    if is_integer(dtype):
        return replace(found, low=math.floor(found.low) if found.low > -INF else -INF, integer=True, zero=True)
    # Rounding is monotone; it may overflow to infinity and underflow to zero.
    return replace(found, infinite=True, zero=True)


def negated(x: ValueRange) -> ValueRange:
    return replace(x, low=-x.high, high=-x.low)


def _can(x: ValueRange, infinity: float) -> bool:
    return x.infinite and (x.high == INF if infinity > 0 else x.low == -INF)


def added(a: ValueRange, b: ValueRange) -> ValueRange:
    low, high = a.low + b.low, a.high + b.high
    low = -INF if math.isnan(low) else low
    high = INF if math.isnan(high) else high
    nan = a.nan or b.nan or (_can(a, INF) and _can(b, -INF)) or (_can(a, -INF) and _can(b, INF))
    zero = low <= 0 <= high and not ((low == 0 and a.low >= 0 <= b.low) and not (a.zero and b.zero))
    integer = a.integer and b.integer
    return ValueRange(low, high, a.infinite or b.infinite, nan, zero, integer)


def _times(x: float, y: float) -> float:
    return 0.0 if x == 0 or y == 0 else x * y


def multiplied(a: ValueRange, b: ValueRange) -> ValueRange:
    corners = [_times(x, y) for x in (a.low, a.high) for y in (b.low, b.high)]
    nan = a.nan or b.nan or (a.infinite and b.zero) or (b.infinite and a.zero)
    integer = a.integer and b.integer
    # The product of two tiny numbers is 0 in floating point.
    return ValueRange(
        min(corners), max(corners), a.infinite or b.infinite, nan, a.zero or b.zero or not integer, integer
    )


def divided(a: ValueRange, b: ValueRange) -> ValueRange:
    nan = a.nan or b.nan or (a.zero and b.zero) or (a.infinite and b.infinite)
    signed = b.low >= 0 < b.high or b.low < 0 >= b.high  # 0 has either sign
    if not signed:
        return ValueRange(nan=nan, infinite=a.infinite or b.zero or True)
    if b.high <= 0:
        return divided(negated(a), negated(b))
    low = 0.0 if a.low >= 0 else (-INF if b.low == 0 else a.low / b.low)
    high = 0.0 if a.high <= 0 else (INF if b.low == 0 else a.high / b.low)
    infinite = a.infinite or b.low == 0
    return ValueRange(low, high, infinite, nan, True)


def raised(base: ValueRange, exponent: ValueRange, literal: Expression) -> ValueRange:
    if (
        isinstance(literal, Constant)
        and isinstance(literal.value, int)
        and literal.value > 0
        and literal.value % 2 == 0
    ):
        high = max(abs(base.low), abs(base.high)) ** literal.value
        return ValueRange(0.0, high, True, base.nan, True, base.integer)
    if base.low >= 0:
        return ValueRange(0.0, INF, True, base.nan or exponent.nan or exponent.infinite, True)
    return ANYTHING


def _monotone(f: Callable[[float], float], low: float, high: float, zero: bool = True) -> Callable[..., ValueRange]:
    """A function that rises from ``low`` to ``high``."""

    def apply(x: ValueRange) -> ValueRange:
        at = [
            low if x.low == -INF else _safe(f, x.low, low, high),
            high if x.high == INF else _safe(f, x.high, low, high),
        ]
        return ValueRange(at[0], at[1], max(abs(at[0]), abs(at[1])) == INF, x.nan, zero and at[0] <= 0 <= at[1])

    return apply


def _safe(f: Callable[[float], float], x: float, low: float, high: float) -> float:
    try:
        return f(x)
    except OverflowError:
        return high if x > 0 else low
    except ValueError:
        return low


def _bounded(low: float, high: float) -> Callable[..., ValueRange]:
    return lambda x: ValueRange(low, high, False, x.nan or x.infinite)


def _max(*xs: ValueRange) -> ValueRange:
    low, high = max(x.low for x in xs), max(x.high for x in xs)
    # An infinity below another operand's lower bound is never the result.
    infinite = any(_can(x, INF) for x in xs) or (low == -INF and all(x.infinite for x in xs))
    zero = low <= 0 <= high
    return ValueRange(low, high, infinite, any(x.nan for x in xs), zero, all(x.integer for x in xs))


def _min(*xs: ValueRange) -> ValueRange:
    return negated(_max(*map(negated, xs)))


def _abs(x: ValueRange) -> ValueRange:
    low = 0.0 if x.low <= 0 <= x.high else min(abs(x.low), abs(x.high))
    return replace(x, low=low, high=max(abs(x.low), abs(x.high)))


def _log(x: ValueRange) -> ValueRange:
    found = _monotone(math.log, -INF, INF)(x)
    return replace(found, infinite=x.infinite or x.low <= 0, nan=x.nan or x.low < 0)


def _sqrt(x: ValueRange) -> ValueRange:
    found = _monotone(math.sqrt, 0.0, INF)(x)
    return replace(found, infinite=x.infinite, nan=x.nan or x.low < 0, zero=x.zero)


def _rsqrt(x: ValueRange) -> ValueRange:
    high = INF if x.low <= 0 else x.low**-0.5
    return ValueRange(0.0, high, x.low <= 0, x.nan or x.low < 0, x.infinite)


def _rounded(f: Callable[[float], int]) -> Callable[..., ValueRange]:
    def apply(x: ValueRange) -> ValueRange:
        low, high = (v if abs(v) == INF else float(f(v)) for v in (x.low, x.high))
        return ValueRange(low, high, x.infinite, x.nan, low <= 0 <= high, True)

    return apply


def _relu(x: ValueRange) -> ValueRange:
    return ValueRange(max(x.low, 0.0), max(x.high, 0.0), _can(x, INF), x.nan, x.low <= 0, x.integer)


FUNCTIONS: Mapping[str, Callable[..., ValueRange]] = {
    # exp(-inf) and the exponential of a very negative number are 0 in floating point.
    "exp": _monotone(math.exp, 0.0, INF),
    "exp2": _monotone(lambda v: 2.0**v, 0.0, INF),
    "log": _log,
    "sqrt": _sqrt,
    "rsqrt": _rsqrt,
    "tanh": _bounded(-1.0, 1.0),
    "erf": _bounded(-1.0, 1.0),
    "sin": _bounded(-1.0, 1.0),
    "cos": _bounded(-1.0, 1.0),
    "sigmoid": _monotone(lambda v: 1 / (1 + math.exp(-v)), 0.0, 1.0),
    "softplus": lambda x: ValueRange(0.0, INF, _can(x, INF), x.nan),
    "relu": _relu,
    "abs": _abs,
    "sign": lambda x: ValueRange(-1.0, 1.0, False, x.nan, x.zero, True),
    "floor": _rounded(math.floor),
    "ceil": _rounded(math.ceil),
    "round": _rounded(round),
    "max": _max,
    "min": _min,
    "clamp": lambda x, low, high: _min(_max(x, low), high),
    "default": lambda x, y: x.hull(y),
    "stop_gradient": lambda x: x,
    "uniform": lambda *_: ValueRange(0.0, 1.0, False, False),
}  # fmt: skip
