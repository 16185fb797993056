"""What a kernel holds constant: the extents and integer parameters that it is specialised on, and those that its filters mention."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from einsum_compiler.ir.cascade import Cascade
from einsum_compiler.ir.expression import (
    Binary,
    Comparison,
    Expression,
    Extent,
    Membership,
    Parameter,
    Rank,
    Read,
    Slice,
    walk,
)
from einsum_compiler.ir.plan import KernelPlan
from einsum_compiler.passes.scope import free_ranks, ranks_of_tensors


@dataclass(frozen=True)
class Constants:
    """What a kernel is specialised on, by name: extents of ranks and integer parameters."""

    extents: frozenset[str]
    parameters: frozenset[str]


def constants_of(cascade: Cascade, plan: KernelPlan, scalars: Mapping[str, str]) -> Constants:
    """Extents of resident ranks, and what stands in divisors, moduli and coefficients of ranks.

    Closed forms of index sets need those as numbers; everything else stays an argument, so that lengths never recompile. The
    coefficient of a rank that is spread one coordinate at a time is such an argument: the product is one number inside a program.
    """
    extents, parameters = set(plan.resident) | _fibres(cascade), set()
    single = {Rank(t.rank) for t in plan.program if t.size == 1}

    def fix(node: Expression) -> None:
        for n in walk(node):
            if isinstance(n, Extent):
                extents.add(n.rank)
            elif isinstance(n, Parameter) and scalars.get(n.name) == "i64":
                parameters.add(n.name)

    for root in _integer_expressions(cascade):
        for node in walk(root):
            if not isinstance(node, Binary):
                continue
            if node.operator in ("//", "%", "<<", ">>"):
                fix(node.right)
                if any(isinstance(n, Extent) for n in walk(node.right)):
                    # A rank divided by a fixed number is in range if its own extent is known too.
                    extents.update(
                        n.name
                        for n in walk(node.left)
                        if isinstance(n, Rank) and n.name in {t.rank for t in plan.program}
                    )
            elif node.operator == "*":
                for side, other in ((node.left, node.right), (node.right, node.left)):
                    if side not in single and any(isinstance(n, (Rank, Parameter)) for n in walk(side)):
                        fix(other)
                        break
    extents.update(_quotient_axes(cascade, extents))
    tiles = {index for s in plan.streams for index in (f"{s.rank}.0", f"{s.rank}.1")}
    return Constants(frozenset(extents - tiles), frozenset(parameters))


def _quotient_axes(cascade: Cascade, fixed: Collection[str]) -> set[str]:
    """The axes that are read at quotients of fixed ranks (``X[n,e // 32]``), and extents compared with such: known, like those, they need no test."""
    axes = ranks_of_tensors(cascade)
    found: set[str] = set()

    def is_fixed(node: Expression) -> bool:
        return any(isinstance(n, Binary) and n.operator == "//" for n in walk(node)) and set(free_ranks(node)) <= {
            *fixed
        }

    for equation in cascade.equations:
        for read in equation.reads:
            found.update(a for i, a in zip(read.indices, axes.get(read.tensor, ()), strict=False) if is_fixed(i))
    for root in _integer_expressions(cascade):
        for node in walk(root):
            if isinstance(node, Comparison) and any(map(is_fixed, node.operands)):
                found.update(o.rank for o in node.operands if isinstance(o, Extent))
    return found


def filter_parameters(cascades: Iterable[Cascade], scalars: Mapping[str, str]) -> frozenset[str]:
    """The integer parameters that filters and indices of the kernels' cascades mention: how many tiles are visited depends on them."""
    roots = (root for c in cascades for root in _integer_expressions(c))
    return frozenset(
        n.name for root in roots for n in walk(root) if isinstance(n, Parameter) and scalars.get(n.name) == "i64"
    )


def _fibres(cascade: Cascade) -> set[str]:
    """The ranks of fibres that ``in`` searches: they are held whole."""
    declared = {t.name: t.ranks for t in cascade.inputs}
    roots = [root for e in cascade.equations for root in (e.value, e.where) if root is not None]
    reads = [
        n.collection
        for root in roots
        for n in walk(root)
        if isinstance(n, Membership) and n.collection.tensor in declared
    ]
    return {
        r for read in reads for r, i in zip(declared[read.tensor], read.indices, strict=True) if isinstance(i, Slice)
    }


def _integer_expressions(cascade: Cascade) -> list[Expression]:
    """Filters and indices, where numbers are integers."""
    found: list[Expression] = []
    for equation in cascade.equations:
        for root in (equation.value, equation.where):
            for node in walk(root) if root is not None else ():
                if isinstance(node, Read):
                    found.extend(node.indices)
                where = getattr(node, "where", None)
                if isinstance(where, Expression):
                    found.append(where)
        if equation.where is not None:
            found.append(equation.where)
    return found
