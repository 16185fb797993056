"""Shift invariance: a tensor whose value does not matter has no gradient, whatever it was computed from.

Law: if X + c in place of X leaves every output unchanged, for every c over the ranks of X, the derivative of the outputs along X is 0. The shift is
propagated equation by equation: a tensor stays the same, or a function of c is added to it, or it is multiplied by one. A maximum that softmax
subtracts is such a tensor; one that reaches an output in another way is not, and keeps its gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from einsum_compiler.ir.build import reads_of
from einsum_compiler.ir.cascade import Cascade, Equation
from einsum_compiler.ir.expression import Call, Rank, Read, Reduction, walk
from einsum_compiler.passes.algebra.bridge import Bridge
from einsum_compiler.passes.certificate import Certificate
from einsum_compiler.passes.scope import definitions

STEP = "differentiate"


@dataclass(frozen=True)
class Moved:
    """A tensor after the shift: ``operator`` (``+`` or ``*``) with ``amount``, a function of the shift."""

    operator: str
    amount: Any


def irrelevant(cascade: Cascade) -> tuple[dict[str, Certificate], tuple[Certificate, ...]]:
    """The tensors that a maximum or minimum makes and that no output depends on, with the proofs; and what was refused and why."""
    proved: dict[str, Certificate] = {}
    refused: list[Certificate] = []
    defined = definitions(cascade)
    for equation in cascade.equations:
        name = equation.target.tensor
        if name not in defined or not _is_extremum(equation):
            continue
        obstacle = _obstacle(cascade, equation)
        ranks = equation.value.ranks if isinstance(equation.value, Reduction) else equation.target.ranks
        if obstacle is None:
            identity = f"{name} + c in place of {name} leaves every output as it is"
            proved[name] = Certificate(STEP, name, ranks, "shift invariant", identity)
        elif isinstance(equation.value, Reduction):
            refused.append(Certificate(STEP, name, ranks, "indicator", reason=obstacle))
    return proved, tuple(refused)


def _is_extremum(equation: Equation) -> bool:
    value = equation.value
    if isinstance(value, Reduction):
        return value.operator in ("max", "min")
    return any(isinstance(n, Call) and n.function in ("max", "min") for n in walk(value))


def _obstacle(cascade: Cascade, source: Equation) -> str | None:
    """Where the shift of a tensor is still seen; None if nowhere."""
    import sympy as sp

    name = source.target.tensor
    shift = sp.Symbol("c", real=True)
    axes = frozenset(source.target.ranks)
    moved: dict[str, Moved] = {name: Moved("+", shift)}
    own = {e.target.tensor: e.target.indices for e in cascade.equations}
    passed = False
    for equation in cascade.equations:
        if equation is source:
            passed = True
            continue
        reads = dict.fromkeys(r for r in reads_of(equation.value, equation.where) if r.tensor in moved)
        if not reads:
            continue
        target = equation.target.tensor
        if not passed or target in moved:
            return f"{target} is not computed after it"
        if any(r.indices != own[r.tensor] or not all(isinstance(i, Rank) for i in r.indices) for r in reads):
            return f"{target} reads it at other coordinates"
        if any(r in reads for r in reads_of(equation.where)):
            return f"the filter of {target} depends on it"
        found = _after(equation, tuple(reads), moved, shift, axes)
        if isinstance(found, str):
            return f"{target}: {found}"
        if found is not None:
            moved[target] = found
    seen = [t.name for t in cascade.outputs if t.name in moved]
    return f"{seen[0]} changes with it" if seen else None


def _after(
    equation: Equation, reads: tuple[Read, ...], moved: dict[str, Moved], shift: Any, axes: frozenset[str]
) -> Moved | str | None:
    """How the shift moves the left side; None if it does not, a reason if in no simple way."""
    import sympy as sp

    value = equation.value
    body = value.body if isinstance(value, Reduction) else value
    if isinstance(value, Reduction) and any(r in reads for r in reads_of(value.where)):
        return "its filter depends on it"
    bridge = Bridge(reads)
    before = bridge.into(body)
    places = {}
    for read, symbol in bridge.contexts.items():
        move = moved[read.tensor]
        places[symbol] = symbol + move.amount if move.operator == "+" else symbol * move.amount
    after = before.subs(places, simultaneous=True)
    added = sp.simplify(sp.expand(after - before))
    if added == 0:
        return None
    factor = sp.simplify(after / before) if before != 0 else shift
    found: Moved | None = None
    if factor.free_symbols <= {shift}:
        found = Moved("*", factor)
    elif added.free_symbols <= {shift}:
        found = Moved("+", added)
    if found is None:
        return "the shift does not leave it as a term or a factor"
    if not isinstance(value, Reduction):
        return found
    if axes & set(value.ranks):
        return f"it is reduced over {', '.join(sorted(axes & set(value.ranks)))}"
    allowed = {"sum": "*", "max": "+", "min": "+"}.get(value.operator)
    return found if found.operator == allowed else f"the shift does not leave its {value.operator}"
