"""A group of equations whose intermediates never leave fast memory: what its external tensors cost.

A point of an intermediate, say the score ``(m, n)``, ties elements of several external tensors together: what it is made of, what it is used with, and the
results it enters. Ranks contracted before and expanded after it are *atomised*: they become weights, so that the score is a point of the space ``(m, n)`` with
arrays ``{m}`` of weight alpha and ``{n}`` of weight beta (theory.md 4.3). Three classes of schedules follow, each with its law:

- *point-atomic*: everything at a point happens while all of its elements are in fast memory. Partition bound with the weights: ``|pairs| alpha beta / S``.
  Where each point may be computed ``r`` times, with a part of its uses each time, the smallest value over ``r``.
- *tile-stationary*: a tile of points is held whole, nothing else is kept from tile to tile, and its elements stream by. A tile of ``t <= S`` points costs
  ``sum c_j |phi_j(tile)| >= sigma prod (c_j/s_j)^(s_j/sigma) t^(1/sigma)`` (weighted means, then the linear program), ``c_j`` twice the weight for results, whose
  first load falls away. If all points fit, this is one tile.
- *no-spill*: every schedule that computes each point once and never stores it. At most ``S`` points live across the end of a segment, so a segment has at most
  ``chi(S + T) + S`` of them: ``|points| T / (chi(S + T) + S)``. It contains the other two.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from math import exp, inf, log, prod, sqrt

import sympy

from einsum_compiler.passes.bounds.exponents import Exponents
from einsum_compiler.passes.bounds.found import Found, remembering
from einsum_compiler.passes.bounds.hbl import Array, Partition, Program, merged
from einsum_compiler.passes.bounds.index_maps import Digit
from einsum_compiler.passes.bounds.symbols import CAPACITY, Symbolic, exact_or_rounded, plain_number, rational

MOST_COPIES = 64.0


@dataclass(frozen=True)
class Anchor:
    """An intermediate's points with the external arrays that meet there.

    ``made_of``: arrays that the points are computed from; ``used_with``: further arrays where they are used, results included. ``width``: elements of the
    intermediate per point. ``tensors``: the intermediates that carry the points. ``linear``: no non-linear function stands between making and using them.
    """

    digits: tuple[Digit, ...]
    points: int
    formula: Symbolic
    made_of: tuple[Array, ...]
    used_with: tuple[Array, ...]
    width: int
    tensors: tuple[str, ...]
    linear: bool

    @property
    def name(self) -> str:
        return ",".join(d.name for d in self.digits)

    @property
    def roots(self) -> frozenset[str]:
        """The external tensors whose traffic the bounds count."""
        return frozenset(n for a in (*self.made_of, *self.used_with) if a.digits for n in a.names)

    @cached_property
    def partition(self) -> Partition:
        """The points with everything that meets there."""
        return Partition(self.points, self.formula, self.digits, (*self.made_of, *self.used_with))

    @cached_property
    def tiling(self) -> Program:
        """The program of what a tile moves: results twice."""
        every = (*self.made_of, *self.used_with)
        twice = merged(replace(a, weight=2 * a.weight, formula=2 * a.formula) if a.result else a for a in every)
        return Program(self.digits, twice)

    @cached_property
    def results(self) -> tuple[Array, ...]:
        """The arrays that are summed up."""
        return tuple(a for a in (*self.made_of, *self.used_with) if a.result and a.digits)

    @cached_property
    def copies(self) -> tuple[Partition, Partition]:
        """Computing points once and slightly more often: which is better says whether more often pays at all."""
        return self.shared(1.0), self.shared(1.05)

    def shared(self, copies: float) -> Partition:
        """The points of one of several computations, each with its part of the uses."""
        part = sympy.Integer(1) / plain_number(copies)
        uses = (replace(a, weight=a.weight / copies, formula=a.formula * part) for a in self.used_with)
        return Partition(self.points, self.formula, self.digits, (*self.made_of, *uses))


@remembering
def atomic(anchor: Anchor, capacity: float) -> Found | None:
    """Point-atomic schedules that compute each point once."""
    return anchor.partition.at(capacity)


@remembering
def recomputed(anchor: Anchor, capacity: float) -> Found | None:
    """Point-atomic schedules that compute each point several times; None where once is best.

    ``r`` computations share the uses, so each has weights ``u + d/r``: with two arrays the smallest ``r (u_m + d_m/r)(u_n + d_n/r)`` is
    ``(sqrt(u_m d_n) + sqrt(d_m u_n))^2``, at ``r = sqrt(d_m d_n/(u_m u_n))`` if that is above 1.
    """

    def at(copies: float) -> float:
        found = anchor.shared(copies).at(capacity, refine=False)
        return inf if found is None else copies * found.value

    first, second = (p.at(capacity, refine=False) for p in anchor.copies)
    if first is None or second is None or 1.05 * second.value >= first.value:
        return None
    once = first.value
    low, high = 1.0, MOST_COPIES
    for _ in range(30):
        a, b = low + (high - low) * 0.382, low + (high - low) * 0.618
        low, high = (low, b) if at(a) <= at(b) else (a, high)
    copies = float(plain_number((low + high) / 2))
    found = anchor.shared(copies).at(capacity, refine=False)
    if found is None or copies * found.value >= once * 0.99:
        return None
    return Found(copies * found.value, lambda: plain_number(copies) * found.formula)


@remembering
def stationary(anchor: Anchor, capacity: float) -> Found | None:
    """Tile-stationary schedules."""
    whole = capacity / anchor.width >= anchor.points
    volume = float(anchor.points) if whole else capacity / anchor.width
    if volume < 1:
        return None
    best = anchor.tiling.best(lambda sigma: log(sigma) + (1 / sigma - 1) * log(volume), lambda sigma: 1 / sigma)
    if best is None:
        return None
    s, logarithm = best
    first = sum(a.weight * prod(d.length for d in anchor.digits if d.name in a.digits) for a in anchor.results)
    return Found(max(0.0, anchor.points * exp(logarithm) - first), lambda: _stationary_formula(anchor, s, whole))


def _stationary_formula(anchor: Anchor, s: Exponents, whole: bool) -> Symbolic:
    sigma = sum(s, Fraction(0))
    tile = anchor.formula if whole else CAPACITY / anchor.width
    numbers, formula = float(sigma), anchor.formula * tile ** (1 / rational(sigma) - 1)
    for x, a in zip(s, anchor.tiling.arrays, strict=True):
        if x:
            formula *= a.formula ** rational(x / sigma)
            numbers /= float(x) ** float(x / sigma)
    for d, z in anchor.tiling.slack(s):
        formula /= d.formula ** rational(z / sigma)
    first = sum(
        (a.formula * sympy.Mul(*(d.formula for d in anchor.digits if d.name in a.digits)) for a in anchor.results),
        sympy.Integer(0),
    )
    return exact_or_rounded(numbers) * formula - first


@remembering
def no_spill(anchor: Anchor, capacity: float) -> Found | None:
    """Every schedule that computes each point once and keeps it in fast memory until it is used up."""
    program = anchor.partition.program
    found: list[tuple[float, Exponents, float]] = []
    for s in program.starts:
        # C of chi(X) = C X^sigma
        sigma = float(sum(s, Fraction(0)))
        constant = exp(-program.logarithm(tuple(map(float, s)), lambda x: 0.0, lambda x: 1.0)) / sigma**sigma
        loads = _best_loads(constant, sigma, capacity)
        found.append((loads / (constant * (capacity + loads) ** sigma + capacity), s, loads))
    if not found:
        return None
    best, s, loads = max(found)
    return Found(anchor.points * best, lambda: _no_spill_formula(anchor, s, loads))


def _best_loads(constant: float, sigma: float, capacity: float) -> float:
    """The ``T`` with the largest ``T / (C (S + T)^sigma + S)``, which has one maximum."""
    if sigma == 2:
        return sqrt(capacity**2 + capacity / constant)
    low, high = log(capacity) - 12, log(capacity) + 24
    for _ in range(60):
        a, b = low + (high - low) * 0.382, low + (high - low) * 0.618
        fa, fb = (exp(t) / (constant * float(capacity + exp(t)) ** sigma + capacity) for t in (a, b))
        low, high = (low, b) if fa >= fb else (a, high)
    return float(plain_number(exp((low + high) / 2)))


def _no_spill_formula(anchor: Anchor, s: Exponents, loads: float) -> Symbolic:
    sigma, program = sum(s, Fraction(0)), anchor.partition.program
    inverse: Symbolic = exact_or_rounded(float(sigma) ** float(sigma) / prod(float(x) ** float(x) for x in s if x))
    for x, a in zip(s, program.arrays, strict=True):
        inverse *= a.formula ** rational(x)
    for d, z in program.slack(s):
        inverse /= d.formula ** rational(z)
    if sigma == 2:
        return anchor.formula * inverse / (2 * (CAPACITY + sympy.sqrt(CAPACITY**2 + inverse * CAPACITY)))
    t = plain_number(loads)
    return anchor.formula * t / ((CAPACITY + t) ** rational(sigma) / inverse + CAPACITY)
