"""States that move with their context: a basis W(d) of functions and the matrix T with W(d') = T W(d) (theory.md 6.3, Form F; laws.md, E2).

The basis is F and its derivatives along the contexts until they are linearly dependent. Because every W is written around the running value, the
states are centred moments and stable entropies, never raw ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sympy as sp
from sympy.functions.elementary.trigonometric import TrigonometricFunction

from einsum_compiler.passes.algebra.recombine import recombined
from einsum_compiler.passes.algebra.separability import Separation, separate

Symbolic = Any

MAX_RANK = 8  # states beyond this cost more than a second pass


@dataclass(frozen=True)
class Transport:
    """``basis[0]`` is F. ``matrix[i][j]``, over ``old`` and ``new`` contexts, carries state j into state i."""

    basis: tuple[Symbolic, ...]
    matrix: tuple[tuple[Symbolic, ...], ...]
    new: dict[Symbolic, Symbolic]

    @property
    def rank(self) -> int:
        return len(self.basis)


def transport(value: Symbolic, separation: Separation, variables: tuple[Symbolic, ...]) -> Transport | None:
    """The basis and the matrix of a separated F; None if the rank exceeds ``MAX_RANK``, or if a context stands inside a function whose derivative is unknown."""
    if separation.rank > MAX_RANK:
        return None
    points = separation.points
    basis = [value]
    rows = [sp.Matrix([separation.contexts])]
    next_ = 0
    while next_ < len(basis):
        for variable in variables:
            row = rows[next_].diff(variable)
            if row.has(sp.Derivative, sp.Subs):
                return None
            candidate = sp.diff(basis[next_], variable)
            row, candidate = _reduced(row, candidate, rows, basis)
            if sp.Matrix.vstack(*rows, row).rank(simplify=True) > len(rows):
                row, candidate = _unit(row, candidate)
                rows.append(row)
                basis.append(recombined(candidate))
        next_ += 1
    if len(basis) > MAX_RANK:
        return None
    columns = _independent_columns(sp.Matrix.vstack(*rows))
    if len(columns) < len(basis):
        return None
    now = sp.Matrix.vstack(*rows)[:, columns]
    new = {
        v: sp.Symbol(f"{v.name}_new", **{k: a for k, a in v.assumptions0.items() if k in ("real", "positive")})
        for v in variables
    }
    later = now.subs(new, simultaneous=True)
    full = sp.Matrix.vstack(*rows)
    matrix = (later * now.inv()).applyfunc(lambda e: recombined(_without_poles(e)))
    if any(sp.fraction(sp.together(e))[1].has(TrigonometricFunction) for e in matrix):
        return None  # a divisor that may be 0 at any value of its context
    # With fewer functions of x than points the chosen columns must explain the others too.
    left = (full.subs(new, simultaneous=True) - matrix * full).applyfunc(lambda e: sp.simplify(e))
    if any(e != 0 for e in left):
        return None
    assert len(points) == full.shape[1]
    return Transport(tuple(basis), tuple(tuple(matrix.row(i)) for i in range(len(basis))), new)


def _without_poles(entry: Symbolic) -> Symbolic:
    """An entry with circular functions in the form in which their zeros divide nothing: ``(cos(d) sin(d) sin(d') + cos(d)**2 cos(d')) / cos(d)`` is a rotation."""
    return sp.trigsimp(entry) if entry.has(TrigonometricFunction) else entry


def _reduced(
    row: Symbolic, candidate: Symbolic, rows: list[Symbolic], basis: list[Symbolic]
) -> tuple[Symbolic, Symbolic]:
    """The candidate less constant multiples of earlier basis functions: the simplest new direction."""
    for earlier, function in zip(rows, basis, strict=True):
        pivot = next((j for j in range(earlier.shape[1]) if earlier[j] != 0), None)
        if pivot is None:
            continue
        ratio = sp.simplify(row[pivot] / earlier[pivot])
        if ratio != 0 and ratio.is_number:
            row, candidate = (row - ratio * earlier).applyfunc(sp.expand), candidate - ratio * function
    return row, candidate


def _unit(row: Symbolic, candidate: Symbolic) -> tuple[Symbolic, Symbolic]:
    """The direction without its numeric factor."""
    number = next(e.as_coeff_Mul()[0] for e in (sp.expand(x) for x in row) if e != 0)
    number = next((t.as_coeff_Mul()[0] for x in row if x != 0 for t in sp.Add.make_args(sp.expand(x))), number)
    return row / number, sp.expand_mul(candidate / number)


def _independent_columns(matrix: Symbolic) -> list[int]:
    return list(matrix.rref(simplify=True)[1])


def separated(value: Symbolic, variables: tuple[Symbolic, ...]) -> Transport | None:
    """Separation and transport in one call; None where either fails."""
    found = separate(value, variables)
    return transport(value, found, variables) if isinstance(found, Separation) else None
