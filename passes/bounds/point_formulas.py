"""The number of points of a filter as a formula: products of interval lengths, and sums of them along one rank.

Ranks that no condition couples multiply. A rank alone has ``min(upper) - max(lower) + 1`` points. Two coupled ranks are summed: between the
breakpoints where another bound takes over the length is linear, so its sum is a quadratic (Faulhaber). Which bound decides, and the order of the
breakpoints, are those of the given sizes, so a formula holds for sizes in the same order: ``N*(N + 1)/2`` where the lengths agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise, product
from typing import Any

import sympy

from einsum_compiler.ir.build import conjunction, conjuncts
from einsum_compiler.ir.errors import SpecError
from einsum_compiler.ir.expression import Binary, Comparison, Constant, Expression, Rank, Read, Unary, walk
from einsum_compiler.passes.bounds.integer_points import simplified
from einsum_compiler.passes.bounds.symbols import Symbolic, at, extent, number


class _NoFormula(Exception):
    """The points have no formula of the kinds this file knows."""


@dataclass(frozen=True)
class _Form:
    """``sum of coefficient * rank + constant``, the constant as a number and as a formula."""

    coefficients: Mapping[str, int]
    value: int
    formula: Symbolic

    def plus(self, other: _Form, sign: int = 1) -> _Form:
        merged = dict(self.coefficients)
        for r, c in other.coefficients.items():
            merged[r] = merged.get(r, 0) + sign * c
        kept = {r: c for r, c in merged.items() if c}
        return _Form(kept, self.value + sign * other.value, self.formula + sign * other.formula)


def count_formula(
    ranks: Sequence[str],
    extents: Mapping[str, int],
    conditions: Iterable[Expression],
    names: Mapping[str, Any],
    lengths: Mapping[str, Symbolic] | None = None,
) -> Symbolic | None:
    """A formula for the points of a box under affine conditions, right at the given sizes; None where none is known.

    ``lengths``: the extents of ranks as formulas where they are not their own symbols.
    """
    try:
        forms = [f for c in conjuncts(conjunction(conditions)) for f in _forms(simplified(c, names), names)]
        total: Symbolic = sympy.Integer(1)
        for group in _groups(ranks, forms):
            total *= _group(group, forms, extents, lengths or {})
        return sympy.factor(total)
    except (_NoFormula, SpecError, KeyError):
        return None


def _forms(condition: Expression, names: Mapping[str, Any]) -> list[_Form]:
    """The condition as forms that must be non-negative."""
    if condition == Constant(True):
        return []
    if not isinstance(condition, Comparison):
        raise _NoFormula
    one, found = _Form({}, 1, sympy.Integer(1)), []
    for operator, (left, right) in zip(condition.operators, pairwise(condition.operands), strict=True):
        difference = _form(right, names).plus(_form(left, names), -1)
        backwards = _form(left, names).plus(_form(right, names), -1)
        match operator:
            case "<=":
                found.append(difference)
            case "<":
                found.append(difference.plus(one, -1))
            case ">=":
                found.append(backwards)
            case ">":
                found.append(backwards.plus(one, -1))
            case _:
                raise _NoFormula
    return found


def _form(node: Expression, names: Mapping[str, Any]) -> _Form:
    if not any(isinstance(n, (Rank, Read)) for n in walk(node)):
        formula = number(node, names)
        return _Form({}, round(at(formula, {**names, "S_s": names.get("S", 0)})), formula)
    match node:
        case Rank(name=name):
            return _Form({name: 1}, 0, sympy.Integer(0))
        case Unary(operator="-", operand=operand):
            return _Form({}, 0, sympy.Integer(0)).plus(_form(operand, names), -1)
        case Binary(operator="+" | "-" as operator, left=left, right=right):
            return _form(left, names).plus(_form(right, names), 1 if operator == "+" else -1)
    raise _NoFormula


def _groups(ranks: Sequence[str], forms: Sequence[_Form]) -> list[list[str]]:
    leader = {r: r for r in ranks}
    for form in forms:
        first, *others = form.coefficients or ("",)
        for other in others:
            old = leader[other]
            leader = {r: leader[first] if name == old else name for r, name in leader.items()}
    return [[r for r in ranks if leader[r] == name] for name in dict.fromkeys(leader.values())]


def _group(
    group: list[str], forms: Sequence[_Form], extents: Mapping[str, int], lengths: Mapping[str, Symbolic]
) -> Symbolic:
    own = [f for f in forms if set(f.coefficients) & set(group)]
    for rank in group:
        length = lengths.get(rank, extent(rank))
        own.append(_Form({rank: 1}, 0, sympy.Integer(0)))
        own.append(_Form({rank: -1}, extents[rank] - 1, length - 1))
    if len(group) == 1:
        low, high = _ends(group[0], own)
        return high.formula - low.formula + 1 if high.value >= low.value else sympy.Integer(0)
    if len(group) > 2:
        raise _NoFormula
    found = []
    for inner, outer in (group, group[::-1]):
        if all(abs(f.coefficients.get(inner, 0)) <= 1 for f in own):
            try:
                found.append(sympy.factor(_summed(inner, outer, own)))
            except _NoFormula:
                continue
    if not found:
        raise _NoFormula
    return min(found, key=sympy.count_ops)


def _ends(rank: str, forms: Iterable[_Form]) -> tuple[_Form, _Form]:
    """The largest lower and the smallest upper end of a rank under conditions on it alone."""
    lower: list[_Form] = []
    upper: list[_Form] = []
    for f in forms:
        if set(f.coefficients) == {rank}:
            if abs(f.coefficients[rank]) != 1:
                raise _NoFormula
            end = _Form({}, -f.value * f.coefficients[rank], -f.formula * f.coefficients[rank])
            (lower if f.coefficients[rank] > 0 else upper).append(end)
    return max(lower, key=lambda e: e.value), min(upper, key=lambda e: e.value)


@dataclass(frozen=True)
class _Line:
    """``slope * outer + constant``, a bound of the inner rank."""

    slope: int
    value: int
    formula: Symbolic

    def at(self, point: int) -> int:
        return self.slope * point + self.value


def _summed(inner: str, outer: str, forms: Sequence[_Form]) -> Symbolic:
    """The sum over ``outer`` of the length of the interval of ``inner``."""
    start, end = _ends(outer, [f for f in forms if inner not in f.coefficients])
    lower: list[_Line] = []
    upper: list[_Line] = []
    for f in forms:
        if sign := f.coefficients.get(inner, 0):
            line = _Line(-sign * f.coefficients.get(outer, 0), -sign * f.value, -sign * f.formula)
            (lower if sign > 0 else upper).append(line)
    if end.value < start.value:
        return sympy.Integer(0)
    breaks = {start.value: start.formula, end.value + 1: end.formula + 1}
    # An interval is empty where its lower end is past the upper one by one, so that is where those two change places.
    empty = [_Line(line.slope, line.value - 1, line.formula - 1) for line in lower]
    for a, b in (*combinations(lower, 2), *combinations(upper, 2), *product(empty, upper)):
        if a.slope == b.slope:
            continue
        top, bottom = b.value - a.value, a.slope - b.slope
        if start.value < top / bottom < end.value:  # at a breakpoint both lines agree: the last point needs none
            if abs(bottom) != 1:
                raise _NoFormula
            breaks.setdefault(top // bottom, (b.formula - a.formula) / bottom)
    total: Symbolic = sympy.Integer(0)
    for (first, first_formula), (after, after_formula) in pairwise(sorted(breaks.items())):
        last, last_formula = after - 1, after_formula - 1
        middle = (first + last) / 2  # inside the piece no two lines cross
        low = max(lower, key=lambda line: (line.slope * middle + line.value, line.at(first) + line.at(last)))
        high = min(upper, key=lambda line: (line.slope * middle + line.value, line.at(first) + line.at(last)))
        if high.at(first) < low.at(first) - 1 or high.at(last) < low.at(last) - 1:
            continue  # an empty piece
        slope = high.slope - low.slope
        steps = last_formula - first_formula + 1
        total += slope * (first_formula + last_formula) * steps / 2 + (high.formula - low.formula + 1) * steps
    return sympy.expand(total)
