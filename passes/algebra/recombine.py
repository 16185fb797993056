"""Forms that survive floating point: exponentials of differences, differences before powers.

``exp(a) * exp(-b)`` overflows where ``exp(a - b)`` does not, and ``a^2/2 - a*b + b^2/2`` loses every digit where ``(a - b)^2/2`` does not.
Whatever leaves the algebra passes through here.
"""

from __future__ import annotations

from typing import Any

import sympy as sp

Symbolic = Any


def recombined(value: Symbolic) -> Symbolic:
    """An equal form with one exponential in each product, and polynomials factored."""
    value = _powers(sp.factor(_powers(sp.expand(value)), deep=False))
    if value.is_Add:
        value = sum((_powers(sp.factor_terms(t)) for t in value.args), sp.Integer(0))
    return _powers(value)


def _powers(value: Symbolic) -> Symbolic:
    # Twice: the first joins exp(a) * exp(-b), the second what that set free.
    for _ in range(2):
        value = sp.powsimp(value, combine="exp", deep=True)
    return value


def has_split_exponential(value: Symbolic) -> bool:
    """Whether some product holds two exponentials: the form that overflows."""
    return any(
        sum(isinstance(f, sp.exp) or (f.is_Pow and f.args[0].is_number) for f in node.args) > 1
        for node in sp.preorder_traversal(value)
        if node.is_Mul
    )
