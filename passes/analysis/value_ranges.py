"""Value ranges: bounds, infinities, NaN, zeros and integers of every tensor, over all its non-empty points.

One abstract interpretation serves several questions: may a divisor be zero, may a running factor vanish, is ``exp`` bounded by 1. Inputs may hold
anything, NaN included; so "may be NaN" says whether the *cascade* can make one out of numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from einsum_compiler.ir.cascade import Cascade, Equation
from einsum_compiler.ir.expression import (
    Binary,
    Call,
    Cast,
    Comparison,
    Conditional,
    Constant,
    Expression,
    Extent,
    Membership,
    Parameter,
    Rank,
    Read,
    Reduction,
    Selection,
    Unary,
)
from einsum_compiler.ir.types import is_integer
from einsum_compiler.passes.analysis.upper_bounds import at_least

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


def ranges(cascade: Cascade, inputs: Mapping[str, ValueRange] | None = None) -> dict[str, ValueRange]:
    """The range of every tensor of the cascade; ``inputs`` narrows what inputs may hold."""
    return Ranges(cascade, inputs).all()


def expression_range(expression: Expression, env: Mapping[str, ValueRange]) -> ValueRange:
    """The range of an expression, given the ranges of the tensors it reads."""
    return _Evaluator(lambda read: env.get(read.tensor, ANYTHING), lambda a, b: False).of(expression)


class Ranges:
    """Ranges of one cascade's tensors, found when asked for."""

    def __init__(self, cascade: Cascade, inputs: Mapping[str, ValueRange] | None = None) -> None:
        self._cascade = cascade
        self._equations: dict[str, tuple[Equation, ...]] = {}
        for equation in cascade.equations:
            for target in equation.targets:
                self._equations[target.tensor] = (*self._equations.get(target.tensor, ()), equation)
        self._known = dict(inputs or {})
        self._evaluator = _Evaluator(lambda read: self.of_tensor(read.tensor), self._at_least)

    def all(self) -> dict[str, ValueRange]:
        names = [t.name for t in self._cascade.inputs] + list(self._equations)
        return {name: self.of_tensor(name) for name in dict.fromkeys(names)}

    def of_tensor(self, name: str) -> ValueRange:
        """The range of a tensor's elements."""
        if name not in self._known:
            declared = self._cascade.input(name)
            if declared is not None:
                whole = declared.dtype is not None and (is_integer(declared.dtype) or declared.dtype == "bool")
                return ValueRange(infinite=False, nan=False, integer=True) if whole else ANYTHING
            self._known[name] = self._fixpoint(name)
        return self._known[name]

    def of(self, expression: Expression) -> ValueRange:
        """The range of an expression of the cascade."""
        return self._evaluator.of(expression)

    def _fixpoint(self, name: str) -> ValueRange:
        """One equation gives its range; a recurrence keeps the bounds that its step hands on from its start."""
        equations = self._equations.get(name, ())
        if not equations or any(isinstance(e.value, Selection) or len(e.targets) > 1 for e in equations):
            return ANYTHING
        recurrent = len(equations) > 1 or equations[0].target.ranks != tuple(
            i.name for i in equations[0].target.indices if isinstance(i, Rank)
        )
        if not recurrent:
            self._known[name] = ANYTHING
            return self._of_equation(equations[0])
        guess: ValueRange | None = None
        for _ in range(3):  # a bound that still moves after three steps is dropped
            self._known[name] = guess if guess is not None else _start(self._evaluator, equations)
            found = self._known[name]
            for equation in equations:
                found = found.hull(self._of_equation(equation))
            if found == self._known[name]:
                return found
            guess = _widened(self._known[name], found)
        self._known[name] = ANYTHING
        return ANYTHING

    def _of_equation(self, equation: Equation) -> ValueRange:
        found = self.of(equation.value)
        dtype = equation.target.dtype
        return found if dtype is None else _cast(found, dtype)

    def _at_least(self, greater: Expression, smaller: Expression) -> bool:
        return at_least(greater, smaller, self._equations)


def _start(evaluator: _Evaluator, equations: tuple[Equation, ...]) -> ValueRange:
    """The range of the initial positions alone; 0 where none is written."""
    starts = [e for e in equations if any(isinstance(i, Constant) for i in e.target.indices)]
    if not starts:
        return constant_range(0)
    found = evaluator.of(starts[0].value)
    for equation in starts[1:]:
        found = found.hull(evaluator.of(equation.value))
    return found


def _widened(old: ValueRange, new: ValueRange) -> ValueRange:
    low = new.low if new.low == old.low else (0.0 if new.low >= 0 else -INF)
    high = new.high if new.high == old.high else INF
    return replace(new, low=low, high=high, infinite=new.infinite or low == -INF or high == INF)


def _cast(found: ValueRange, dtype: str) -> ValueRange:
    if is_integer(dtype):
        return replace(found, low=math.floor(found.low) if found.low > -INF else -INF, integer=True, zero=True)
    # Rounding is monotone; it may overflow to infinity and underflow to zero.
    return replace(found, infinite=True, zero=True)


class _Evaluator:
    def __init__(
        self, tensor: Callable[[Read], ValueRange], at_least: Callable[[Expression, Expression], bool]
    ) -> None:
        self._tensor = tensor
        self._at_least = at_least

    def of(self, node: Expression) -> ValueRange:
        if isinstance(node, Constant):
            return constant_range(float(node.value))
        if isinstance(node, Parameter):
            return NUMBER
        if isinstance(node, (Rank, Extent)):
            return COUNT
        if isinstance(node, Read):
            return self._tensor(node)
        if isinstance(node, (Comparison, Membership)):
            return BOOLEAN
        if isinstance(node, Conditional):
            return self._conditional(node)
        if isinstance(node, Cast):
            return _cast(self.of(node.operand), node.dtype)
        if isinstance(node, Unary):
            return BOOLEAN if node.operator == "not" else _negated(self.of(node.operand))
        if isinstance(node, Binary):
            return self._binary(node)
        if isinstance(node, Call):
            function = _FUNCTIONS.get(node.function)
            return ANYTHING if function is None else function(*(self.of(a) for a in node.arguments))
        if isinstance(node, Reduction):
            return self._reduction(node)
        return ANYTHING

    def _conditional(self, node: Conditional) -> ValueRange:
        then, otherwise = self.of(node.then), self.of(node.otherwise)
        match node.condition:
            case Comparison(("==",), (tested, Constant(value))) if tested == node.otherwise:
                # if(x == c, a, x): the other branch is x without the value c
                if value == 0:
                    otherwise = replace(otherwise, zero=False)
                if value == -INF and otherwise.high < INF:
                    otherwise = replace(otherwise, infinite=False)
        return then.hull(otherwise)

    def _binary(self, node: Binary) -> ValueRange:
        if node.operator in ("and", "or"):
            return BOOLEAN
        left, right = self.of(node.left), self.of(node.right)
        if node.operator == "+":
            return _sum(left, right)
        if node.operator == "-":
            found = _sum(left, _negated(right))
            if self._at_least(node.right, node.left):
                found = replace(found, high=min(found.high, 0.0))
            if self._at_least(node.left, node.right):
                found = replace(found, low=max(found.low, 0.0))
            return found
        if node.operator == "*":
            if node.left == node.right:
                high = max(left.low * left.low, left.high * left.high)
                return ValueRange(0.0, high, True, left.nan, left.zero, left.integer)
            return _product(left, right)
        if node.operator == "/":
            return _quotient(left, right)
        if node.operator == "%" and right.low > 0:
            return ValueRange(0, right.high, False, left.nan or left.infinite, True, left.integer and right.integer)
        if node.operator == "//" and right.low > 0:
            low = 0.0 if left.low >= 0 else -INF
            return ValueRange(low, max(left.high, 0.0), left.infinite, left.nan, True, left.integer)
        if node.operator == "**":
            return _power(left, right, node.right)
        whole = left.integer and right.integer
        return ValueRange(infinite=not whole, nan=not whole, integer=whole)

    def _reduction(self, node: Reduction) -> ValueRange:
        body = self.of(node.body)
        if node.operator in ("any", "all"):
            return BOOLEAN
        if node.operator == "argmax":
            return replace(COUNT, low=-1)
        if node.operator in ("max", "min"):
            identity = constant_range(-INF if node.operator == "max" else INF)
            return body.hull(identity)  # reducing no points gives the identity
        if node.operator == "sum":
            low = 0.0 if body.low >= 0 else -INF
            high = 0.0 if body.high <= 0 else INF
            nan = body.nan or (body.infinite and body.low < 0 < body.high)
            return ValueRange(low, high, not body.integer, nan, True, body.integer)
        return ValueRange(low=0.0 if body.low >= 0 else -INF, integer=body.integer)


def _negated(x: ValueRange) -> ValueRange:
    return replace(x, low=-x.high, high=-x.low)


def _can(x: ValueRange, infinity: float) -> bool:
    return x.infinite and (x.high == INF if infinity > 0 else x.low == -INF)


def _sum(a: ValueRange, b: ValueRange) -> ValueRange:
    low, high = a.low + b.low, a.high + b.high
    low = -INF if math.isnan(low) else low
    high = INF if math.isnan(high) else high
    nan = a.nan or b.nan or (_can(a, INF) and _can(b, -INF)) or (_can(a, -INF) and _can(b, INF))
    zero = low <= 0 <= high and not ((low == 0 and a.low >= 0 <= b.low) and not (a.zero and b.zero))
    integer = a.integer and b.integer
    return ValueRange(low, high, a.infinite or b.infinite, nan, zero, integer)


def _times(x: float, y: float) -> float:
    return 0.0 if x == 0 or y == 0 else x * y


def _product(a: ValueRange, b: ValueRange) -> ValueRange:
    corners = [_times(x, y) for x in (a.low, a.high) for y in (b.low, b.high)]
    nan = a.nan or b.nan or (a.infinite and b.zero) or (b.infinite and a.zero)
    integer = a.integer and b.integer
    # The product of two tiny numbers is 0 in floating point.
    return ValueRange(
        min(corners), max(corners), a.infinite or b.infinite, nan, a.zero or b.zero or not integer, integer
    )


def _quotient(a: ValueRange, b: ValueRange) -> ValueRange:
    nan = a.nan or b.nan or (a.zero and b.zero) or (a.infinite and b.infinite)
    signed = b.low >= 0 < b.high or b.low < 0 >= b.high  # 0 has either sign
    if not signed:
        return ValueRange(nan=nan, infinite=a.infinite or b.zero or True)
    if b.high <= 0:
        return _quotient(_negated(a), _negated(b))
    low = 0.0 if a.low >= 0 else (-INF if b.low == 0 else a.low / b.low)
    high = 0.0 if a.high <= 0 else (INF if b.low == 0 else a.high / b.low)
    infinite = a.infinite or b.low == 0
    return ValueRange(low, high, infinite, nan, True)


def _power(base: ValueRange, exponent: ValueRange, literal: Expression) -> ValueRange:
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
    return _negated(_max(*map(_negated, xs)))


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


_FUNCTIONS: Mapping[str, Callable[..., ValueRange]] = {
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
