"""Separability: ``F(x, d) = sum_r G_r(x) H_r(d)``, found by construction (theory.md 6.2; laws.md, E1).

Everything free of the contexts d is opaque. The rest is expanded, and each factor of each term holds contexts or it does not; a factor that
holds both is the reason of a refusal. The number of terms that remain is the rank.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import sympy as sp

Symbolic = Any


@dataclass(frozen=True)
class Separation:
    """``F = sum_r points[r] * contexts[r]``; each pair is free of the other's symbols."""

    points: tuple[Symbolic, ...]
    contexts: tuple[Symbolic, ...]

    @property
    def rank(self) -> int:
        return len(self.points)


@dataclass(frozen=True)
class Mixed:
    """A refusal: the factor in which contexts and points meet."""

    term: Symbolic


def separate(
    value: Symbolic, variables: tuple[Symbolic, ...], invariants: AbstractSet[Symbolic] = frozenset()
) -> Separation | Mixed:
    """The separated form of ``value`` along the context variables, or the term that mixes; ``invariants`` belong to either side."""
    wanted = set(variables)
    by_context: dict[Symbolic, Symbolic] = {}
    for term in sp.Add.make_args(_expanded(value)):
        point, context = sp.Integer(1), sp.Integer(1)
        for factor in sp.Mul.make_args(term):
            if not factor.free_symbols & wanted:
                point *= factor
            elif factor.free_symbols <= wanted | invariants:
                context *= factor
            else:
                return Mixed(factor)
        number, context = context.as_coeff_Mul()
        by_context[context] = by_context.get(context, sp.Integer(0)) + number * point
    by_point: dict[Symbolic, Symbolic] = {}
    for context, point in by_context.items():
        number, point = sp.expand(point).as_coeff_Mul()
        if point != 0 and number != 0:
            by_point[point] = by_point.get(point, sp.Integer(0)) + number * context
    return Separation(tuple(by_point), tuple(by_point.values()))


def _expanded(value: Symbolic) -> Symbolic:
    value = sp.expand(value)
    if value.has(sp.sin, sp.cos):
        value = sp.expand(sp.expand_trig(value))
    if value.has(sp.log):
        value = sp.expand(sp.expand_log(value, force=False))
    return value


def summand(
    value: Symbolic, variables: tuple[Symbolic, ...], invariants: AbstractSet[Symbolic] = frozenset()
) -> tuple[Symbolic, Symbolic] | Mixed:
    """``F(x, d) = G(x) + H(d)`` as (G, H): what max and min need."""
    wanted = set(variables)
    point, context = sp.Integer(0), sp.Integer(0)
    for term in sp.Add.make_args(_expanded(value)):
        if not term.free_symbols & wanted:
            point += term
        elif term.free_symbols <= wanted | invariants:
            context += term
        else:
            return Mixed(term)
    return point, context
