"""Value ranges: bounds, infinities, NaN, zeros and integers of every tensor, over all its non-empty points.

One abstract interpretation serves several questions: may a divisor be zero, may a running factor vanish, is ``exp`` bounded by 1. Inputs may hold
anything, NaN included; so "may be NaN" says whether the *cascade* can make one out of numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

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
from einsum_compiler.passes.analysis.range_arithmetic import (
    ANYTHING,
    BOOLEAN,
    COUNT,
    FUNCTIONS,
    INF,
    NUMBER,
    ValueRange,
    added,
    constant_range,
    converted,
    divided,
    multiplied,
    negated,
    raised,
)
from einsum_compiler.passes.analysis.upper_bounds import at_least


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
        return found if dtype is None else converted(found, dtype)

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
            return converted(self.of(node.operand), node.dtype)
        if isinstance(node, Unary):
            return BOOLEAN if node.operator == "not" else negated(self.of(node.operand))
        if isinstance(node, Binary):
            return self._binary(node)
        if isinstance(node, Call):
            function = FUNCTIONS.get(node.function)
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
            return added(left, right)
        if node.operator == "-":
            found = added(left, negated(right))
            if self._at_least(node.right, node.left):
                found = replace(found, high=min(found.high, 0.0))
            if self._at_least(node.left, node.right):
                found = replace(found, low=max(found.low, 0.0))
            return found
        if node.operator == "*":
            if node.left == node.right:
                high = max(left.low * left.low, left.high * left.high)
                return ValueRange(0.0, high, True, left.nan, left.zero, left.integer)
            return multiplied(left, right)
        if node.operator == "/":
            return divided(left, right)
        if node.operator == "%" and right.low > 0:
            return ValueRange(0, right.high, False, left.nan or left.infinite, True, left.integer and right.integer)
        if node.operator == "//" and right.low > 0:
            low = 0.0 if left.low >= 0 else -INF
            return ValueRange(low, max(left.high, 0.0), left.infinite, left.nan, True, left.integer)
        if node.operator == "**":
            return raised(left, right, node.right)
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
