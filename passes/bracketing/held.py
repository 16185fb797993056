"""Leaves that a sum holds: where one may be infinite or no number, it stays inside of the sums that may be empty with it."""

from __future__ import annotations

from collections.abc import Mapping

from einsum_compiler.ir.cascade import Cascade, Equation
from einsum_compiler.ir.expression import Binary, Call, Constant, Expression, Read, Reduction, children, walk
from einsum_compiler.passes.domains import Domains
from einsum_compiler.passes.networks import Network
from einsum_compiler.passes.scope import definitions, free_ranks


def held_ranks(cascade: Cascade, network: Network) -> dict[int, frozenset[str]]:
    """For leaves that may be infinite or no number where a sum is empty, the ranks whose sums they must not leave.

    Such a leaf divides, takes a logarithm or reads an extremum. A sum may be empty if a filter or the range of an index limits its rank, or
    where what the leaf divides by reduces that rank, so that both are degenerate together.
    """
    defined, domains = definitions(cascade), Domains(cascade)
    limited = {r for c in network.conditions for r in free_ranks(c)}
    limited |= {r for leaf in network.leaves if domains.of(leaf) != () for r in free_ranks(leaf)}
    found: dict[int, frozenset[str]] = {}
    for i, leaf in enumerate(network.leaves):
        singular = [n for n in _below(leaf, defined) if _is_singular(n)]
        if singular:
            reduced = {r for n in singular for r in _first_reduced(n.right if isinstance(n, Binary) else n, defined)}
            found[i] = frozenset(r for r in network.inside[i] if r in limited or network.renamed.get(r, r) in reduced)
    return found


def _below(node: Expression, defined: Mapping[str, Equation]) -> list[Expression]:
    """The nodes of an expression and of everything it is computed from."""
    found: list[Expression] = []
    seen: set[str] = set()
    work = [node]
    while work:
        for n in walk(work.pop()):
            found.append(n)
            if isinstance(n, Read) and n.tensor in defined and n.tensor not in seen:
                seen.add(n.tensor)
                work.append(defined[n.tensor].value)
    return found


def _first_reduced(node: Expression, defined: Mapping[str, Equation]) -> set[str]:
    """The ranks of the reductions that an expression is made of, without those inside of them."""
    if isinstance(node, Reduction):
        return set(node.ranks)
    if isinstance(node, Read):
        return _first_reduced(defined[node.tensor].value, defined) if node.tensor in defined else set()
    return {r for child in children(node) for r in _first_reduced(child, defined)}


def _is_singular(node: Expression) -> bool:
    match node:
        case Binary(operator="/" | "//" | "%", right=right):
            return bool(free_ranks(right))
        case Binary(operator="**", right=right):
            return not (isinstance(right, Constant) and right.value > 0)
        case Call(function=function):
            return function in ("rsqrt", "log")
        case Reduction(operator=operator):
            return operator != "sum"
    return False
