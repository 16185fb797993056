"""Partition bounds with constants: what the exponents of the linear program say about traffic, and which exponents say most.

Cut a schedule, from its end backwards, into segments of ``T`` loads. A segment reaches at most ``X = S + T`` elements, so with
``|V| <= prod |A_j|^s_j * prod L_i^z_i`` (``z_i = max(0, 1 - sum of s_j over the arrays with i)``: a coordinate has at most ``L_i`` values) it holds at most
``chi(X) = C X^sigma`` points, ``C = prod (s_j / (sigma w_j))^s_j * prod L_i^z_i``. What is left at the start has ``t < T`` loads, an empty fast memory, and at most
``chi(t) <= t/T chi(X)`` points since ``sigma >= 1``. Hence, with the best ``T = S/(sigma - 1)``,

    Q >= |V| T / chi(S + T) = |V| (sigma-1)^(sigma-1) prod (w_j/s_j)^s_j / (S^(sigma-1) prod L_i^z_i)       for every s >= 0, sigma >= 1

without a term for the last segment. A result that is summed up is an array too: loading its first value is what storing it last pays for, so ``Q`` is loads and
stores together. Loads of different arrays add up, so some arrays may count what they have (``w_j |V| / prod L_i`` over the coordinates they lack) and the others
bound the rest. ``T`` is rounded to whole elements, which matters for a handful of elements only.

Sources: Christ et al. 2013; bounded loops Dinh & Demmel 2020; constants SOAP (Kwasniewski et al. 2021); the segmentation from the end is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import combinations
from math import inf, log

import sympy

from einsum_compiler.passes.bounds.exponents import Exponents, covering, coverings
from einsum_compiler.passes.bounds.found import Found
from einsum_compiler.passes.bounds.index_maps import Digit
from einsum_compiler.passes.bounds.symbols import CAPACITY, Symbolic, exact_or_rounded, rational

FINEST, MOST_ROUNDS = 1 / 128, 60  # of the search for exponents
WORTH = 1.005  # exponents without a simple form must raise a bound by this factor
MOST_STARTS = 24

Power = Callable[[float], float]
Growth = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Array:
    """Elements that points of a space need: those with equal ``digits`` are shared; ``weight`` elements for each combination of digits.

    ``result``: whether the elements are summed up rather than read.
    """

    digits: frozenset[str]
    weight: float
    formula: Symbolic
    result: bool = False
    names: tuple[str, ...] = ()


def merged(arrays: Iterable[Array]) -> tuple[Array, ...]:
    """One array for each projection, weights added; those without digits or weight are left out (a bound may count less)."""
    found: dict[frozenset[str], Array] = {}
    for a in arrays:
        if a.digits and a.weight > 0:
            known = found.get(a.digits)
            found[a.digits] = (
                a
                if known is None
                else replace(
                    known,
                    weight=known.weight + a.weight,
                    formula=known.formula + a.formula,
                    names=(*known.names, *a.names),
                )
            )
    return tuple(found.values())


class Program:
    """The exponents of one space with its arrays: everything about them that no capacity changes."""

    def __init__(self, digits: Sequence[Digit], arrays: Sequence[Array]) -> None:
        self.digits = tuple(d for d in digits if d.length > 1)
        self.arrays = tuple(arrays)
        self._weights = [log(a.weight) for a in self.arrays]
        self._lengths = [
            (log(d.length), [j for j, a in enumerate(self.arrays) if d.name in a.digits]) for d in self.digits
        ]

    @cached_property
    def starts(self) -> tuple[Exponents, ...]:
        """Vertices of the linear program, with the shortest coordinates left to their lengths, one more at a time."""
        found: dict[Exponents, None] = {}
        by_length = sorted(self.digits, key=lambda d: d.length)
        projections, weights = tuple(a.digits for a in self.arrays), [a.weight for a in self.arrays]
        for left_out in range(max(1, len(by_length))):
            ranks = frozenset(d.name for d in by_length[left_out:])
            best = covering(ranks, projections, weights) if ranks else None
            found.update(dict.fromkeys(((best,) if best else ()) + coverings(ranks, projections)))
        return tuple(s for s in found if sum(s, Fraction(0)) >= 1)[:MOST_STARTS]

    def slack(self, s: Sequence[Fraction]) -> list[tuple[Digit, Fraction]]:
        """What the lengths of the coordinates have to make up for: those with a positive ``z_i``."""
        covered = [sum((s[j] for j in inside), Fraction(0)) for _, inside in self._lengths]
        return [(d, 1 - c) for d, c in zip(self.digits, covered, strict=True) if c < 1]

    def logarithm(self, s: Sequence[float], growth: Growth, power: Power) -> float:
        """``growth(sigma) + power(sigma) (sum s_j log(w_j/s_j) - sum z_i log L_i)``; minus infinity where that proves nothing."""
        sigma = sum(s)
        if sigma < 1 - 1e-12:
            return -inf
        found = 0.0
        for x, w in zip(s, self._weights, strict=True):
            if x > 0:
                found += x * (w - log(x))
        for length, inside in self._lengths:
            covered = sum([s[j] for j in inside])
            if covered < 1:
                found -= (1 - covered) * length
        return growth(max(sigma, 1.0)) + power(sigma) * found

    def constant(self, s: Exponents, capacity: float) -> float:
        """What the points are multiplied with, without the roundings of logarithms."""
        above = float(sum(s, Fraction(0)) - 1)
        found: float = (above / capacity) ** above
        for x, a in zip(s, self.arrays, strict=True):
            if x:
                found *= (a.weight / float(x)) ** float(x)
        for d, z in self.slack(s):
            found /= d.length ** float(z)
        return found

    def best(self, growth: Growth, power: Power, refine: bool = True) -> tuple[Exponents, float] | None:
        """The exponents that say most, and the logarithm they give; exponents with short fractions are preferred."""

        def value(s: Sequence[float]) -> float:
            return self.logarithm(s, growth, power)

        starts = [(tuple(map(float, s)), s) for s in self.starts]
        if not starts:
            return None
        values = [value(s) for s, _ in starts]
        at = max(range(len(starts)), key=values.__getitem__)
        plain, most = starts[at][1], values[at]
        if not refine or len(self.arrays) == 1:
            return plain, most
        found, top = _search(starts[at][0], [s for s, _ in starts], value)
        if top <= most + log(WORTH):
            return plain, most
        for denominator in (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 128):
            s = tuple(Fraction(round(x * denominator), denominator) for x in found)
            if (reached := value(tuple(map(float, s)))) > top - log(WORTH) / 2:
                return s, reached
        return plain, most


def _search(
    start: tuple[float, ...], others: Sequence[tuple[float, ...]], value: Callable[[Sequence[float]], float]
) -> tuple[tuple[float, ...], float]:
    """A search along the lines to the other starts and along pairs of exponents."""
    count = len(start)
    pairs = [
        tuple(float(k == i) - float(k == j) for k in range(count)) for i in range(count) for j in range(count) if i != j
    ]
    best, top, step = start, value(start), 0.5
    for _ in range(MOST_ROUNDS):
        before = best
        for move in (*(tuple([x - y for x, y in zip(v, best, strict=True)]) for v in others), *pairs):
            s = tuple([x + step * m for x, m in zip(best, move, strict=True)])
            if min(s) >= 0 and (reached := value(s)) > top + 1e-6:
                best, top = s, reached
        if before == best:
            step /= 2
            if step < FINEST:
                break
    return best, top


# -- partition bounds ---------------------------------------------------------------------------------------------------------


class Partition:
    """The partition problem of a space: ``points`` of it, arrays, and the bound at any capacity."""

    def __init__(self, points: float, formula: Symbolic, digits: Sequence[Digit], arrays: Sequence[Array]) -> None:
        self.points, self.formula, self.digits = points, formula, tuple(digits)
        self.arrays = merged(arrays)
        self.program = Program(digits, self.arrays)

    @cached_property
    def sums(self) -> tuple[tuple[tuple[Array, ...], Program | None], ...]:
        """Arrays that count what they have, and the program of the others."""
        if len(self.arrays) > 4:
            return ()
        found = []
        for size in range(1, len(self.arrays) + 1):
            for counted in combinations(self.arrays, size):
                rest = tuple(a for a in self.arrays if a not in counted)
                found.append((counted, Program(self.digits, rest) if rest else None))
        return tuple(found)

    def has(self, array: Array) -> float:
        """The elements of an array that the points touch at least."""
        lacking = 1.0
        for d in self.digits:
            if d.name not in array.digits:
                lacking *= d.length
        return max(1.0, self.points / lacking) * array.weight

    def at(self, capacity: float, refine: bool = True) -> Found | None:
        """The best partition bound found; every exponents are sound, so a search that stops early only weakens it."""
        if self.points <= 0 or not self.arrays:
            return None

        def growth(sigma: float) -> float:
            return ((sigma - 1) * log(sigma - 1) if sigma > 1 else 0.0) - (sigma - 1) * log(capacity)

        candidates: list[Found] = []
        single = self.program.best(growth, _one, False)
        if single is not None:
            candidates.append(self._found((), self.program, single[0], capacity))
        for counted, program in self.sums:
            if program is None:
                candidates.append(self._found(counted, None, (), capacity))
            elif (part := program.best(growth, _one, False)) is not None:
                candidates.append(self._found(counted, program, part[0], capacity))
        best = max(candidates, key=lambda f: f.value, default=None)
        refined = self.program.best(growth, _one) if refine else None
        if refined is not None:
            found = self._found((), self.program, refined[0], capacity)
            if best is None or found.value > WORTH * best.value:
                best = found
        return best

    def _found(self, counted: tuple[Array, ...], program: Program | None, s: Exponents, capacity: float) -> Found:
        value = sum(map(self.has, counted)) + (
            self.points * program.constant(s, capacity) if program is not None else 0.0
        )

        def write() -> Symbolic:
            parts = [self._has_formula(a) for a in counted]
            if program is not None:
                parts.append(partition_formula(self.formula, program, s))
            return sympy.Add(*parts)

        return Found(value, write)

    def _has_formula(self, array: Array) -> Symbolic:
        lacking = sympy.Mul(*(d.formula for d in self.digits if d.name not in array.digits))
        share = self.formula / lacking
        return array.formula * (share if self.has(array) > array.weight else 1)


def _one(sigma: float) -> float:
    return 1.0


def partition_formula(points: Symbolic, program: Program, s: Exponents) -> Symbolic:
    """``|V| (sigma-1)^(sigma-1) prod (w_j/s_j)^s_j / (S^(sigma-1) prod L_i^z_i)``."""
    sigma = sum(s, Fraction(0))
    numbers, result = float(sigma - 1) ** float(sigma - 1), points / CAPACITY ** rational(sigma - 1)
    for x, a in zip(s, program.arrays, strict=True):
        if x:
            result *= a.formula ** rational(x)
            numbers /= float(x) ** float(x)
    for d, z in program.slack(s):
        result /= d.formula ** rational(z)
    return exact_or_rounded(numbers) * result


def leading(points: Symbolic, digits: Sequence[Digit], arrays: Sequence[Array]) -> tuple[Symbolic, Exponents] | None:
    """The closed form with unbounded coordinates, and its exponents: constants 2, 2, 3, 4 for matrix products and MTTKRP."""
    kept = merged(arrays)
    s = covering([d.name for d in digits], [a.digits for a in kept], [a.weight for a in kept])
    if s is None or sum(s, Fraction(0)) < 1:
        return None
    return partition_formula(points, Program(digits, kept), s), s
