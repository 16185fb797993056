"""Which form a reduction takes whose body depends on contexts: running with a factor, a state of finite rank, or none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sympy as sp

from einsum_compiler.ir.expression import Expression, Read
from einsum_compiler.ir.printer import print_expression
from einsum_compiler.passes.algebra.bridge import Bridge
from einsum_compiler.passes.algebra.identities import identity
from einsum_compiler.passes.algebra.recombine import has_split_exponential, recombined
from einsum_compiler.passes.algebra.separability import Mixed, separate, summand
from einsum_compiler.passes.algebra.transport import transport

Symbolic = Any


@dataclass(frozen=True)
class Running:
    """``F(x, d) = G(x) . H(d)``: the state is corrected by ``factor``, an operator of ``operator`` (``*``, or ``+`` for max and min).

    ``basis`` has more than one function where the rank is finite but not one; then ``matrix`` corrects the states together.
    """

    operator: str
    basis: tuple[Symbolic, ...]
    matrix: tuple[tuple[Symbolic, ...], ...]
    new: dict[Symbolic, Symbolic]
    bridge: Bridge
    identity: str
    conditions: tuple[str, ...]

    @property
    def rank(self) -> int:
        return len(self.basis)


@dataclass(frozen=True)
class Refused:
    """No state of bounded size follows the context; ``reason`` says which term mixes it with the points."""

    reason: str


def decide(
    operator: str,
    body: Expression,
    contexts: tuple[Read, ...],
    positive: Callable[[Read], bool],
    invariant: Callable[[Expression], bool],
) -> Running | Refused:
    """The form of ``operator[n](body)`` along its contexts; ``invariant`` says what is the same at every point of n."""
    bridge = Bridge(contexts, positive, invariant)
    value = bridge.into(body)
    variables = tuple(bridge.contexts.values())
    new = {v: sp.Symbol(f"{v.name}_new", real=True, **({"positive": True} if v.is_positive else {})) for v in variables}
    if operator == "sum":
        return _sum(value, variables, new, bridge)
    if operator in ("max", "min"):
        return _extremum(value, variables, new, bridge)
    return Refused(f"{operator} does not distribute over an operator that a running context could use")


def _mixed(found: Mixed, bridge: Bridge) -> Refused:
    term = print_expression(bridge.out(sp.powsimp(found.term, combine="exp", deep=True)))
    names = ", ".join(print_expression(read) for read in bridge.contexts)
    return Refused(f"{term} does not separate into a function of the points and a function of {names}")


def _sum(
    value: Symbolic, variables: tuple[Symbolic, ...], new: dict[Symbolic, Symbolic], bridge: Bridge
) -> Running | Refused:
    found = separate(value, variables, bridge.invariants)
    if isinstance(found, Mixed):
        return _mixed(found, bridge)
    if found.rank == 1:
        context = found.contexts[0]
        factor = recombined(context.subs(new, simultaneous=True) / context)
        if not _never_zero(context):
            shown = print_expression(bridge.out(context))
            return Refused(f"the factor {shown} may be zero, and a state multiplied by zero is lost")
        matrix: tuple[tuple[Symbolic, ...], ...] = ((factor,),)
        basis: tuple[Symbolic, ...] = (value,)
        conditions = (f"{print_expression(bridge.out(context))} is never zero",)
    else:
        moved = transport(value, found, variables)
        if moved is None:
            return Refused(f"the dependence on the context has rank {found.rank}, and no small state follows it")
        basis = moved.basis
        matrix = tuple(tuple(e.subs(_renamed(moved.new, new), simultaneous=True) for e in row) for row in moved.matrix)
        conditions = (f"the body and its derivatives along the context span {moved.rank} functions",)
    if any(has_split_exponential(e) for row in matrix for e in row):
        return Refused("a correction factor holds two exponentials that do not recombine")
    return Running("*", basis, matrix, new, bridge, identity(basis, "*", matrix, new, bridge), conditions)


def _renamed(first: dict[Symbolic, Symbolic], second: dict[Symbolic, Symbolic]) -> dict[Symbolic, Symbolic]:
    return {first[v]: second[v] for v in first}


def _extremum(
    value: Symbolic, variables: tuple[Symbolic, ...], new: dict[Symbolic, Symbolic], bridge: Bridge
) -> Running | Refused:
    found = summand(value, variables, bridge.invariants)
    if not isinstance(found, Mixed):
        shift = recombined(found[1].subs(new, simultaneous=True) - found[1])
        proved = identity((value,), "+", ((shift,),), new, bridge)
        return Running("+", (value,), ((shift,),), new, bridge, proved, ())
    product = separate(value, variables, bridge.invariants)
    if isinstance(product, Mixed):
        return _mixed(product, bridge)
    if product.rank == 1 and _positive(product.contexts[0]):
        context = product.contexts[0]
        factor = recombined(context.subs(new, simultaneous=True) / context)
        proved = identity((value,), "*", ((factor,),), new, bridge)
        return Running("*", (value,), ((factor,),), new, bridge, proved, ("the factor is positive",))
    return Refused("max and min distribute over summands and positive factors only")


def _never_zero(context: Symbolic) -> bool:
    return all(
        (f.is_number and f != 0) or isinstance(f, sp.exp) or (f.is_Pow and f.args[0].is_positive) or bool(f.is_positive)
        for f in sp.Mul.make_args(context)
    )


def _positive(context: Symbolic) -> bool:
    return all(bool(f.is_positive) or isinstance(f, sp.exp) for f in sp.Mul.make_args(context))
