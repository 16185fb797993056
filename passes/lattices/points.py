"""The coordinates at which one conjunct of a filter holds, where those are a lattice along one rank.

    c // d == g              c = d*g + r                  0 <= r < d
    (u - k) % s == 0         k = u % s + s*j              0 <= j < ceil(K / s)
    n - m == d               n = m + d                    one
    x // s == t, x % s == e  x = s*t + e

Law: linear congruences in one unknown. With a coefficient that is not one the modulus is a number; a common divisor leaves a condition without the unknown.
Forms are sums of ranks, extents and whole numbers; what tensors say is left to what visits every point.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from einsum_compiler.ir.expression import (
    Binary,
    Call,
    Comparison,
    Constant,
    Expression,
    Extent,
    Parameter,
    Rank,
    walk,
)
from einsum_compiler.passes.analysis.affine import Affine, term
from einsum_compiler.passes.lattices.division import is_divisor, is_positive, opened, quotient, remainder, times

ZERO = Constant(0)


@dataclass(frozen=True)
class Lattice:
    """The coordinates ``origin + step * j`` of ``rank`` for ``number`` values of j, or ``origin`` alone (no ``number``): where ``conditions``, and ``needed`` in their place, hold."""

    rank: str
    origin: Affine
    step: Expression
    number: Expression | None
    conditions: tuple[Expression, ...]
    needed: tuple[Expression, ...] = ()

    def place(self, part: str) -> Expression:
        """The coordinate with the number ``part``."""
        if self.number is None:
            return self.origin.expression()
        return (self.origin + times(term(Rank(part)), self.step)).expression()


def lattices(
    conditions: Sequence[Expression],
    reduced: Sequence[str],
    results: Collection[str],
    integers: Collection[str],
) -> Iterator[Lattice]:
    """The lattices to which conjuncts hold one of the ranks ``reduced``. ``results``: ranks of the left side; ``integers``: parameters that are whole numbers."""
    equal = [e for c in conditions if (e := _equality(c, integers))]
    for one in equal:
        for other in equal:
            if joined := _joined(one, other):
                yield from _points(joined, reduced)
    for one in equal:
        divisor = one.left.right if isinstance(one.left, Binary) else None
        if divisor is not None and is_positive(divisor):
            yield from _residues(one, reduced)
            yield from _quotients(one, reduced, results)
        yield from _points(one, reduced)


@dataclass(frozen=True)
class _Equality:
    left: Expression
    right: Expression
    conditions: tuple[Expression, ...]
    needed: tuple[Expression, ...] = ()


def _equality(condition: Expression, integers: Collection[str]) -> _Equality | None:
    match condition:
        case Comparison(operators=("==",), operands=(left, right)) if _whole(left, integers) and _whole(
            right, integers
        ):
            if not isinstance(left, Binary) or left.operator not in ("//", "%"):
                left, right = right, left
            return _Equality(left, right, (condition,))
    return None


def _whole(node: Expression, integers: Collection[str]) -> bool:
    """Whether an expression is a whole number of ranks, extents and parameters."""
    for n in walk(node):
        match n:
            case Rank() | Extent():
                continue
            case Constant(value=value) if isinstance(value, int) and not isinstance(value, bool):
                continue
            case Parameter(name=name) if name in integers:
                continue
            case Binary(operator="+" | "-" | "*" | "//" | "%"):
                continue
        return False
    return True


def _joined(one: _Equality, other: _Equality) -> _Equality | None:
    """A number from its quotient and its remainder; multiples of a divisor of either sign are its quotients."""
    match one.left, other.left:
        case Binary("//", x, s), Binary("%", y, t) if s == t and is_divisor(s) and opened(x) == opened(y):
            number, needed = times(opened(one.right), s) + opened(other.right), _below(opened(other.right), s)
            if not needed or is_positive(s):
                return _Equality(x, number.expression(), (*one.conditions, *other.conditions), needed)
    return None


def _residues(equality: _Equality, reduced: Sequence[str]) -> Iterator[Lattice]:
    """``(a*k + b) % s == e``."""
    match equality.left:
        case Binary("%", left, modulus):
            value = opened(equality.right)
            for rank, coefficient, rest in _unknowns(left, reduced, equality.right):
                needed = _below(value, modulus)
                if coefficient == 1 and rest == Affine():
                    origin, step = value, modulus
                elif abs(coefficient) == 1:
                    origin, step = remainder((value - rest) * coefficient, modulus), modulus
                elif isinstance(modulus, Constant) and isinstance(modulus.value, int):
                    common = math.gcd(coefficient, modulus.value)
                    size = modulus.value // common
                    step = Constant(size)
                    divided = quotient(value - rest, Constant(common))
                    origin = remainder(divided * pow(coefficient // common, -1, size), step)
                    if common > 1:
                        divides = remainder(value - rest, Constant(common)).expression()
                        needed = (*needed, Comparison(("==",), (divides, ZERO)))
                else:
                    continue
                number = Call("ceil", (Binary("/", Extent(rank), step),))
                yield Lattice(rank, origin, step, number, equality.conditions, needed)


def _quotients(equality: _Equality, reduced: Sequence[str], results: Collection[str]) -> Iterator[Lattice]:
    """``(b + k) // d == g`` for a result g: every point belongs to one of them, so none is met twice."""
    match equality:
        case _Equality(left=Binary("//", left, divisor), right=Rank(name=result)):
            for rank, coefficient, rest in _unknowns(left, reduced, equality.right):
                if abs(coefficient) == 1 and result in results:
                    origin = (times(term(equality.right), divisor) - rest) * coefficient
                    yield Lattice(rank, origin, Constant(coefficient), divisor, equality.conditions)


def _points(equality: _Equality, reduced: Sequence[str]) -> Iterator[Lattice]:
    """``b + k == e``."""
    form = opened(equality.left) - opened(equality.right)
    for rank, coefficient, rest in _unknowns(form.expression(), reduced, ZERO):
        if abs(coefficient) == 1:
            yield Lattice(rank, rest * -coefficient, ZERO, None, equality.conditions, equality.needed)


def _unknowns(node: Expression, reduced: Sequence[str], other: Expression) -> Iterator[tuple[str, int, Affine]]:
    """``(k, a, b)`` with node = a*k + b, for reduced ranks k that occur nowhere else."""
    form = opened(node)
    coefficients: Mapping[Expression, int] = dict(form.terms)
    for rank in reduced:
        coefficient = coefficients.get(Rank(rank), 0)
        rest = form - term(Rank(rank)) * coefficient
        if coefficient and Rank(rank) not in {*walk(rest.expression()), *walk(other)}:
            yield rank, coefficient, rest


def _below(value: Affine, modulus: Expression) -> tuple[Expression, ...]:
    """The conditions under which a value is a remainder; none where it is known to be one."""
    limit = modulus.value if isinstance(modulus, Constant) else 1
    if not value.terms and 0 <= value.constant < limit:
        return ()
    node = value.expression()
    if isinstance(node, Binary) and node.operator == "%" and node.right == modulus:
        return ()
    if isinstance(node, Rank):
        return (Comparison(("<",), (node, modulus)),)
    return (Comparison(("<=", "<"), (ZERO, node, modulus)),)
