"""lattices: a reduced rank that a filter holds to a lattice runs over the points of the lattice.

    M[g] = sum[c](X[c] where c // d == g)                 M[g] = sum[c_part](X[d*g + c_part])                                    ; C_PART = d
    Y[u] = sum[k](X[(u - k) // s] * W[k]           ->     Y[u] = sum[k_part](X[u // s - k_part] * W[u % s + s * k_part])         ; K_PART = ceil(K / s)
             where (u - k) % s == 0)
    D[i] = max[m,n](S[m,n] where n - m == i)              D[i] = max[m](S[m,m + i])

Law: a reduction is over a set of points, in any order, and does not see how they are counted. What is visited are the points, and no others: outside of the
extent of the rank reads are empty, or a condition says so. (``lattices.points`` has the congruences.)

A tensor that is computed is then read at other coordinates than its own. It moves with the reduction if nothing else reads it, or if it is no larger than an input or
an output; points that others need too are found once, where they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from einsum_compiler.ir.build import conjunction, conjuncts, parameters_of
from einsum_compiler.ir.cascade import Cascade, Equation, Scalar
from einsum_compiler.ir.expression import (
    Binary,
    Call,
    Comparison,
    Conditional,
    Constant,
    Expression,
    Extent,
    Parameter,
    Reduction,
    transform,
    walk,
)
from einsum_compiler.ir.operators import REDUCTIONS
from einsum_compiler.ir.printer import print_expression
from einsum_compiler.passes.certificate import Certificate, Transformed
from einsum_compiler.passes.domains import Domains
from einsum_compiler.passes.lattices.moved import ClosedForms, Movable, whole_parameters
from einsum_compiler.passes.lattices.phases import by_phases
from einsum_compiler.passes.lattices.points import Lattice, lattices
from einsum_compiler.passes.scope import all_ranks, fresh, plain, substitute

STEP = "lattices"


@dataclass(frozen=True, slots=True)
class Lattices:
    """No options."""


def over_lattices(cascade: Cascade, options: Lattices = Lattices()) -> Transformed:
    """The normalized cascade with reductions over lattices, and results that these give phase by phase."""
    found = _Rewriting(cascade)
    equations = tuple(map(found.of, cascade.equations))
    if found.certificates:
        cascade = replace(cascade, parameters=(*cascade.parameters, *found.scalars), equations=equations)
    phases = by_phases(cascade)
    return Transformed(phases.cascade, (*found.certificates, *phases.certificates))


class _Rewriting:
    def __init__(self, cascade: Cascade) -> None:
        self.cascade, self.domains, self.movable = cascade, Domains(cascade), Movable(cascade)
        self.integers = whole_parameters(cascade)
        self.closed = ClosedForms(cascade)
        self.names = all_ranks(cascade) | {p.name.lower() for p in cascade.parameters}
        self.parts: dict[tuple[str, Expression], str] = {}
        self.scalars: list[Scalar] = []
        self.certificates: list[Certificate] = []

    def of(self, equation: Equation) -> Equation:
        """The equation with every rank that a filter holds to a lattice over that."""
        while (found := self._first(equation)) is not None:
            equation = self._over(equation, found)
        return equation

    def _first(self, equation: Equation) -> Lattice | None:
        value = equation.value
        if not isinstance(value, Reduction) or value.where is None or not plain(equation):
            return None
        results = equation.target.ranks
        found = lattices(conjuncts(value.where), value.ranks, results, self.integers)
        return next(self._legal(equation, found), None)

    def _legal(self, equation: Equation, found: Iterator[Lattice]) -> Iterator[Lattice]:
        for lattice in found:
            if self.movable.along(equation, lattice.rank):
                yield lattice

    def _over(self, equation: Equation, lattice: Lattice) -> Equation:
        value = equation.value
        assert isinstance(value, Reduction)
        ranks = [r for r in value.ranks if r != lattice.rank]
        part = ""
        if lattice.number is not None:
            part = self._part(lattice.rank, lattice.number)
            ranks.insert(value.ranks.index(lattice.rank), part)
        place = lattice.place(part)
        at = {lattice.rank: place}
        body = self.closed(substitute(value.body, at), place)
        rest = [c for c in conjuncts(value.where) if c not in lattice.conditions]
        where = [self.closed(substitute(c, at), place) for c in rest]
        within = Comparison(("<=", "<"), (Constant(0), place, Extent(lattice.rank)))
        exists = self.domains.of(body) or ()
        bounds = () if within in exists else (within,)
        filtered = conjunction((*where, *lattice.needed, *bounds))
        made = (
            Reduction(value.operator, tuple(ranks), body, filtered)
            if ranks
            else _of_one(value.operator, body, filtered)
        )
        identity = f"{print_expression(value)} = {print_expression(made)}"
        self.certificates.append(Certificate(STEP, equation.target.tensor, (lattice.rank,), "lattice", identity))
        return replace(equation, value=made)

    def _part(self, name: str, number: Expression) -> str:
        """The rank that counts the points along ``name``."""
        rank = self.parts.get((name, number))
        if rank is None:
            rank = self.parts[name, number] = fresh(f"{name}_part", self.names)
            self.names.add(rank)
            self.scalars.append(Scalar(rank.upper(), "int", number))
        return rank


def _of_one(operator: str, body: Expression, where: Expression | None) -> Expression:
    """A reduction over one point, or none."""
    nothing = Constant(REDUCTIONS[operator].identity)
    return Call("default", (body if where is None else Conditional(where, body, nothing), nothing))


def with_numbers(cascade: Cascade, values: Mapping[str, int]) -> Cascade:
    """The cascade for calls in which parameters have these values."""

    def change(node: Expression) -> Expression:
        return Constant(values[node.name]) if isinstance(node, Parameter) and node.name in values else node

    def over(node: Expression | None) -> Expression | None:
        return None if node is None else transform(node, change)

    equations = (replace(e, value=transform(e.value, change), where=over(e.where)) for e in cascade.equations)
    return replace(cascade, equations=tuple(equations))


def undecided(cascade: Cascade) -> tuple[str, ...]:
    """The parameters of a normalized cascade whose values lattices depend on."""
    divisors = [
        n.right
        for e in cascade.equations
        if isinstance(e.value, Reduction) and e.value.where is not None
        for n in walk(e.value.where)
        if isinstance(n, Binary) and n.operator in ("//", "%")
    ]
    names = sorted(set(parameters_of(*divisors)) & whole_parameters(cascade))
    if not names:
        return ()
    known = with_numbers(cascade, dict.fromkeys(names, 2))
    found, without = (over_lattices(c).certificates for c in (known, cascade))
    return tuple(names) if len(found) > len(without) else ()
