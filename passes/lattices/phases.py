"""phases: a result whose points repeat an operand at every s-th of them is computed phase by phase.

    Y[u] = sum[j](X[u // 2 - j] * W[u % 2 + 2*j])     Y.phases[q,p] = sum[j](X[q - j] * W[p + 2*j])      ; Q = ceil(U / 2), P = 2
                                                 ->   Y[u] = Y.phases[u // 2,u % 2]

Law: u = s*q + p for one q and one p < s. Where an operand depends on u through a remainder by s, and is summed along ranks in the same index, it is another one
at every u, and the sum no product of matrices; at one phase it is the same for all q, and quotients are plain coordinates. The results lie in the order of u.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from einsum_compiler.ir.build import conjunction, conjuncts
from einsum_compiler.ir.cascade import Cascade, Equation, Scalar, Target
from einsum_compiler.ir.expression import (
    Binary,
    Call,
    Comparison,
    Constant,
    Expression,
    Extent,
    Rank,
    Read,
    Reduction,
    walk,
)
from einsum_compiler.ir.printer import print_expression
from einsum_compiler.passes.analysis.affine import term
from einsum_compiler.passes.certificate import Certificate, Transformed
from einsum_compiler.passes.lattices.division import is_positive, opened, times
from einsum_compiler.passes.lattices.moved import ClosedForms, Movable
from einsum_compiler.passes.scope import all_ranks, free_ranks, fresh, plain, substitute, tensor_names

STEP = "lattices"


def by_phases(cascade: Cascade) -> Transformed:
    """The normalized cascade in which such results are computed phase by phase."""
    found = _Rewriting(cascade)
    equations = tuple(made for e in cascade.equations for made in found.of(e))
    if not found.certificates:
        return Transformed(cascade)
    parameters = (*cascade.parameters, *found.scalars)
    return Transformed(replace(cascade, parameters=parameters, equations=equations), tuple(found.certificates))


class _Rewriting:
    def __init__(self, cascade: Cascade) -> None:
        self.movable, self.closed = Movable(cascade), ClosedForms(cascade)
        self.ranks = all_ranks(cascade) | {p.name.lower() for p in cascade.parameters}
        self.names = tensor_names(cascade)
        self.declared = {p.name.lower(): p.default for p in cascade.parameters}
        self.split: dict[tuple[str, Expression], tuple[str, str]] = {}
        self.scalars: list[Scalar] = []
        self.certificates: list[Certificate] = []

    def of(self, equation: Equation) -> Iterator[Equation]:
        """The equations of the phases and of the whole result; the equation itself where it has none."""
        value, phases = equation.value, dict(_phases(equation))
        phases = {r: s for r, s in phases.items() if self.declared.get(r) != s and self.movable.along(equation, r)}
        if not isinstance(value, Reduction) or not phases:
            yield equation
            return
        made: Equation = replace(equation, where=None, value=replace(value, where=self._everywhere(equation, value)))
        indices: list[Expression] = []
        read: list[Expression] = []
        for rank in equation.target.ranks:
            if rank not in phases:
                indices.append(Rank(rank))
                read.append(Rank(rank))
                continue
            size = phases[rank]
            whole, phase = self._split(rank, size)
            place = (times(term(Rank(whole)), size) + term(Rank(phase))).expression()
            made = self._at(made, rank, place)
            indices += [Rank(whole), Rank(phase)]
            read += [Binary("//", Rank(rank), size), Binary("%", Rank(rank), size)]
        target = equation.target
        name = fresh(f"{target.tensor}.phases", self.names)
        self.names.add(name)
        yield replace(made, targets=(Target(name, tuple(indices)),))
        yield replace(equation, value=Read(name, tuple(read)))
        identity = f"{print_expression(value)} = {print_expression(Read(name, tuple(read)))}"
        self.certificates.append(Certificate(STEP, target.tensor, tuple(phases), "phases", identity))

    def _everywhere(self, equation: Equation, value: Reduction) -> Expression | None:
        """The filter of a reduction that is over nothing where the equation has no point: the phases exist everywhere."""
        own = [c for c in conjuncts(equation.where) if not _is_extent(c)]
        return conjunction((*conjuncts(value.where), *own))

    def _at(self, equation: Equation, rank: str, place: Expression) -> Equation:
        value = self.closed(substitute(equation.value, {rank: place}), place)
        return replace(equation, value=value)

    def _split(self, rank: str, size: Expression) -> tuple[str, str]:
        """The ranks of the quotients and of the remainders of a rank by a number."""
        if (rank, size) not in self.split:
            names = fresh(f"{rank}_by", self.ranks), fresh(f"{rank}_phase", self.ranks)
            self.split[rank, size] = names
            self.ranks.update(names)
            number = Call("ceil", (Binary("/", Extent(rank), size),))
            self.scalars += [Scalar(names[0].upper(), "int", number), Scalar(names[1].upper(), "int", size)]
        return self.split[rank, size]


def _phases(equation: Equation) -> Iterator[tuple[str, Expression]]:
    """Ranks of the left side with the number of their phases."""
    value = equation.value
    if not isinstance(value, Reduction) or not plain(equation):
        return
    reduced, reads = set(value.ranks), [n for n in walk(value.body) if isinstance(n, Read)]
    for index in (i for read in reads for i in read.indices if reduced & set(free_ranks(i))):
        for node, _ in opened(index).terms:
            if isinstance(node, Binary) and node.operator == "%" and not reduced & set(free_ranks(node)):
                for rank in equation.target.ranks:
                    size = _period(node.left, rank, node.right)
                    if size is not None and is_positive(size):
                        yield rank, size


def _period(node: Expression, rank: str, size: Expression) -> Expression | None:
    """After how many coordinates of a rank the remainder of a sum by ``size`` repeats; None for other expressions."""
    for part, coefficient in opened(node).terms:
        match part, size:
            case Rank(name=name), _ if name == rank and abs(coefficient) == 1:
                return size
            case Binary("//", inner, Constant(value=int() as divisor)), Constant(value=int() as number) if divisor > 0:
                if (found := _period(inner, rank, Constant(divisor * number))) is not None:
                    return found
    return None


def _is_extent(condition: Expression) -> bool:
    """``u < U``: every coordinate is one of its rank."""
    match condition:
        case Comparison(operators=("<",), operands=(Rank(name=name), Extent(rank=rank))):
            return name == rank
    return False
