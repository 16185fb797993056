"""Formulas at numbers: exact, term by term (SymPy's own summation of clipped and rounded terms is slow, and follows Karr below empty ranges).
And the names in them."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import floor, prod
from typing import Any

import sympy as sp


def names_in(node: Any) -> frozenset[str]:
    """The names of the symbols that a formula depends on, without those that its sums bind.

    SymPy's ``free_symbols`` builds the body of every sum anew, and with it all minima and maxima inside: minutes for nested ones.
    """
    if isinstance(node, sp.Symbol):
        return frozenset((node.name,))
    if isinstance(node, sp.Sum):
        found = names_in(node.function)
        for bound, *ends in node.limits:  # the innermost first
            found = (found - {bound.name}).union(*map(names_in, ends))
        return found
    return frozenset().union(*map(names_in, node.args))


def value(node: Any, names: Mapping[str, Any]) -> Any:
    """The value of a formula with its symbols given by name. A sum runs over ``range``: a range that ends before it starts is empty."""
    if isinstance(node, sp.Symbol):
        found = names[node.name]
        return Fraction(found) if isinstance(found, int) else found
    if isinstance(node, sp.Rational):
        return Fraction(int(node.p), int(node.q))
    if isinstance(node, sp.Float):
        return float(node)
    if node in (sp.true, sp.false):
        return bool(node)
    if isinstance(node, sp.Sum):
        return _total(node.function, list(node.limits), names)
    if isinstance(node, sp.Piecewise):
        return next(value(e, names) for e, c in node.args if value(c, names))
    if isinstance(node, sp.ITE):
        condition, then, otherwise = node.args
        return value(then if value(condition, names) else otherwise, names)
    arguments = [value(a, names) for a in node.args]
    match node:
        case sp.Add():
            return sum(arguments)
        case sp.Mul():
            return prod(arguments)
        case sp.Pow():
            return arguments[0] ** (int(arguments[1]) if arguments[1] == int(arguments[1]) else arguments[1])
        case sp.floor():
            return Fraction(floor(arguments[0]))
        case sp.ceiling():
            return Fraction(-floor(-arguments[0]))
        case sp.Max():
            return max(arguments)
        case sp.Min():
            return min(arguments)
        case sp.Abs():
            return abs(arguments[0])
        case sp.Mod():
            return arguments[0] % arguments[1]
        case sp.And():
            return all(arguments)
        case sp.Or():
            return any(arguments)
        case sp.Not():
            return not arguments[0]
        case sp.Eq():
            return arguments[0] == arguments[1]
        case sp.Ne():
            return arguments[0] != arguments[1]
        case sp.Lt():
            return arguments[0] < arguments[1]
        case sp.Le():
            return arguments[0] <= arguments[1]
        case sp.Gt():
            return arguments[0] > arguments[1]
        case sp.Ge():
            return arguments[0] >= arguments[1]
    raise TypeError(f"no value is known for {type(node).__name__}: {node}")


def _total(function: Any, limits: list[Any], names: Mapping[str, Any]) -> Any:
    """The outer sums stand last in SymPy's limits; bounds may depend on outer indices only."""
    *inner, (index, lower, upper) = limits
    total: Any = Fraction(0)
    for i in range(int(value(lower, names)), int(value(upper, names)) + 1):
        here = {**names, index.name: i}
        total += _total(function, inner, here) if inner else value(function, here)
    return total
