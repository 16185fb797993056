"""Integer affine forms over opaque terms: what bounds of tile ranges are computed with.

A term is any integer expression that an affine form cannot open: a rank, an extent, a parameter, a read, a floor
division, a maximum. Equal terms add up, constants fold, and floor divisions come out in lowest terms, so that a bound
prints as a person would write it: ``(96*m + 95 + 128) // 128`` becomes ``(3*m + 2) // 4 + 1``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from einsum_compiler.ir.expression import Binary, Call, Constant, Expression, Extent, Rank, Unary


@dataclass(frozen=True, slots=True)
class Affine:
    """``sum of coefficient * term + constant``; no term twice, no coefficient 0."""

    terms: tuple[tuple[Expression, int], ...] = ()
    constant: int = 0

    def __add__(self, other: Affine | int) -> Affine:
        if isinstance(other, int):
            return Affine(self.terms, self.constant + other)
        sums = dict(self.terms)
        for term, coefficient in other.terms:
            sums[term] = sums.get(term, 0) + coefficient
        return Affine(tuple((t, c) for t, c in sums.items() if c), self.constant + other.constant)

    def __mul__(self, factor: int) -> Affine:
        if factor == 0:
            return Affine()
        return Affine(tuple((t, c * factor) for t, c in self.terms), self.constant * factor)

    def __neg__(self) -> Affine:
        return self * -1

    def __sub__(self, other: Affine | int) -> Affine:
        return self + (-other)

    def __floordiv__(self, divisor: int) -> Affine:
        """The floor of the quotient by a positive integer, in lowest terms."""
        for node, coefficient in self.terms:
            if isinstance(node, Call) and node.function in ("max", "min"):
                # Division is monotone: extremes move outwards, where bounds of intervals are compared.
                others = self - term(node) * coefficient
                parts = ((others + reopened(a) * coefficient) // divisor for a in node.arguments)
                return (maximum if (node.function == "max") == (coefficient > 0) else minimum)(*parts)
        whole = tuple((t, c // divisor) for t, c in self.terms if c % divisor == 0)
        rest = tuple((t, c) for t, c in self.terms if c % divisor)
        if not rest:
            return Affine(whole, self.constant // divisor)
        # floor((g*x + c) / (g*d)) = floor((x + floor(c / g)) / d)
        common = math.gcd(divisor, *(c for _, c in rest))
        rest, divisor = tuple((t, c // common) for t, c in rest), divisor // common
        quotient, remainder = divmod(self.constant // common, divisor)
        inner, numerator = rest[0][0], Affine(rest, remainder)
        if rest == ((inner, 1),) and isinstance(inner, Binary) and (factor := _constant_divisor(inner)):
            # floor((floor(x / a) + r) / d) = floor((x + a*r) / (a*d))
            return Affine(whole, quotient) + (reopened(inner.left) + factor * remainder) // (factor * divisor)
        return Affine(whole, quotient) + term(Binary("//", numerator.expression(), Constant(divisor)))

    def expression(self) -> Expression:
        """The form as an expression, positive terms first."""
        result: Expression | None = None
        for part, coefficient in sorted(self.terms, key=lambda item: item[1] < 0):
            size = abs(coefficient)
            scaled = part if size == 1 else Binary("*", Constant(size), part)
            if result is None:
                result = scaled if coefficient > 0 else _negated(part, size)
            else:
                result = Binary("+" if coefficient > 0 else "-", result, scaled)
        if result is None:
            return Constant(self.constant)
        if self.constant == 0:
            return result
        return Binary("+" if self.constant > 0 else "-", result, Constant(abs(self.constant)))


def term(expression: Expression) -> Affine:
    """The affine form of one opaque term."""
    return Affine(((expression, 1),))


def ceil_divide(value: Affine, divisor: int) -> Affine:
    return (value + (divisor - 1)) // divisor


def remainder(value: Affine, divisor: int) -> Affine:
    """The non-negative remainder by a positive integer; multiples of the divisor are left out."""
    reduced = Affine(tuple((t, c) for t, c in value.terms if c % divisor), value.constant % divisor)
    return term(Binary("%", reduced.expression(), Constant(divisor))) if reduced.terms else reduced


def maximum(*values: Affine) -> Affine:
    """The largest value; values that the signs of ranks and extents show to be smaller are left out."""
    return _extreme("max", values)


def minimum(*values: Affine) -> Affine:
    """The smallest value; values that the signs of ranks and extents show to be larger are left out."""
    return _extreme("min", values)


def alternatives(form: Affine, function: str) -> tuple[Affine, ...] | None:
    """The forms whose maximum (or minimum) the form is, opened at its first such term of positive coefficient; or None."""
    for node, coefficient in form.terms:
        if coefficient > 0 and isinstance(node, Call) and node.function == function:
            rest = form - term(node) * coefficient
            return tuple(rest + reopened(a) * coefficient for a in node.arguments)
    return None


def is_nonnegative(value: Affine) -> bool:
    """True if the signs of the terms show it; ranks and extents are never negative."""
    return value.constant >= 0 and all(c > 0 and _term_is_nonnegative(t) for t, c in value.terms)


def reopened(node: Expression) -> Affine:
    """The affine form of what ``Affine.expression`` wrote, and of multiples with the number behind: sums and multiples are opened, nothing else."""
    match node:
        case Constant(value=int() as value) if not isinstance(value, bool):
            return Affine((), value)
        case Unary(operator="-", operand=operand):
            return -reopened(operand)
        case Binary(operator="+", left=left, right=right):
            return reopened(left) + reopened(right)
        case Binary(operator="-", left=left, right=right):
            return reopened(left) - reopened(right)
        case Binary(operator="*", left=Constant(value=int() as value), right=right):
            return reopened(right) * value
        case Binary(operator="*", left=left, right=Constant(value=int() as value)):
            return reopened(left) * value
        case _:
            return term(node)


def _extreme(function: str, values: Iterable[Affine]) -> Affine:
    kept: list[Affine] = []
    for value in values:
        if any(_dominates(function, k, value) for k in kept):
            continue
        kept = [k for k in kept if not _dominates(function, value, k)] + [value]
    if len(kept) == 1:
        return kept[0]
    return term(Call(function, tuple(k.expression() for k in kept)))


def _dominates(function: str, left: Affine, right: Affine) -> bool:
    return is_nonnegative(left - right if function == "max" else right - left)


def _term_is_nonnegative(node: Expression) -> bool:
    match node:
        case Rank() | Extent():
            return True
        case Constant(value=value):
            return value >= 0
        case Binary(operator="%"):
            return True
        case Binary(operator="//" | "+" | "*", left=left, right=right):
            return _term_is_nonnegative(left) and _term_is_nonnegative(right)
        case Call(function="max", arguments=arguments):
            return any(_term_is_nonnegative(a) for a in arguments)
        case Call(function="min", arguments=arguments):
            return all(_term_is_nonnegative(a) for a in arguments)
        case _:
            return False


def _constant_divisor(node: Expression) -> int | None:
    """The divisor of a floor division by a positive integer."""
    if isinstance(node, Binary) and node.operator == "//" and isinstance(node.right, Constant):
        value = node.right.value
        return value if isinstance(value, int) and value > 0 else None
    return None


def _negated(part: Expression, size: int) -> Expression:
    return Unary("-", part) if size == 1 else Binary("*", Constant(-size), part)
