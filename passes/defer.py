"""defer: an invariant factor leaves a reduction.

    A[n] = P[n] / D                    O.acc = sum[n](P[n] * V[n])
    O    = sum[n](A[n] * V[n])    ->   O     = if(D == 0, 0, O.acc / D)

Law: ``*`` distributes over sum, a positive factor and a summand distribute over max and min. The factor may be hidden in maps between; they are
opened. No inverse is needed, so a factor that can be zero may leave. Exponentials stay: without them the rest may overflow
(``online`` lets them run). An empty fibre keeps its value 0 whatever the factor, which is what the guard says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from einsum_compiler.ir.build import conjunction, conjuncts
from einsum_compiler.ir.cascade import Cascade, Equation, Target
from einsum_compiler.ir.expression import (
    Comparison,
    Conditional,
    Constant,
    Expression,
    Rank,
    Read,
    Reduction,
)
from einsum_compiler.ir.operators import REDUCTIONS
from einsum_compiler.ir.printer import print_expression
from einsum_compiler.passes.analysis.value_ranges import Ranges
from einsum_compiler.passes.certificate import Certificate, Transformed
from einsum_compiler.passes.domains import Domains
from einsum_compiler.passes.lateness import Lateness, reduced_ranks
from einsum_compiler.passes.normalize import paired_contractions
from einsum_compiler.passes.opening import Opener
from einsum_compiler.passes.order import in_order, live
from einsum_compiler.passes.products import Factor, Term, factors, product, total
from einsum_compiler.passes.scope import definitions, free_ranks, fresh, opened, plain, tensor_names
from einsum_compiler.passes.sharing import shared


@dataclass(frozen=True, slots=True)
class Defer:
    """``ranks``: those that are streamed, if that is known: factors leave reductions over these. Of a rank that is held whole a factor can be applied
    to the operands, which are fewer than the results inside of a loop over another rank."""

    ranks: tuple[str, ...] | None = None


def defer(cascade: Cascade, options: Defer = Defer()) -> Transformed:
    """The normalized cascade with every invariant factor outside its reduction."""
    certificates: list[Certificate] = []
    done: set[str] = set()
    if options.ranks is not None:
        done = {e.target.tensor for e in cascade.equations if not reduced_ranks(e) & set(options.ranks)}
    while True:
        step = _Step(cascade)
        for equation in cascade.equations:
            if equation.target.tensor not in done and (found := step.defer(equation)) is not None:
                made, certificate = found
                certificates.append(certificate)
                break
            done.add(equation.target.tensor)
        else:
            break
        at = cascade.equations.index(equation)
        cascade = replace(cascade, equations=(*cascade.equations[:at], *made, *cascade.equations[at + 1 :]))
    cascade = paired_contractions(live(cascade))
    return Transformed(in_order(live(shared(cascade))), tuple(certificates))


class _Step:
    """One reduction of one cascade."""

    def __init__(self, cascade: Cascade) -> None:
        self._cascade = cascade
        self._defined = definitions(cascade)
        self._domains = Domains(cascade)
        self._ranges = Ranges(cascade)
        self._names = tensor_names(cascade)

    def defer(self, equation: Equation) -> tuple[tuple[Equation, ...], Certificate] | None:
        """The equations in place of a reduction from which something leaves; None if nothing does."""
        reduction = equation.value
        if not isinstance(reduction, Reduction) or not plain(equation):
            return None
        opener = Opener(self._defined, Lateness(self._cascade, reduction.ranks), reduction.ranks, self._domains)
        if reduction.operator == "sum":
            return self._factors_leave(equation, reduction, opener) or self._split(equation, reduction, opener)
        if reduction.operator in ("max", "min"):
            return self._summands_leave(equation, reduction, opener)
        return None

    def _factors_leave(
        self, equation: Equation, reduction: Reduction, opener: Opener
    ) -> tuple[tuple[Equation, ...], Certificate] | None:
        parts = opener.factors(reduction.body)
        moving = [p for p in parts if opener.may_leave(p)]
        if not moving:
            return None
        staying = [p for p in parts if p not in moving]
        where = conjunction((reduction.where, *opener.conditions))
        lost = self._domains.of(reduction.body)
        if not staying and lost is not None:
            where = conjunction((where, *lost))
        inner = replace(reduction, body=product(staying), where=where)
        kept, target = self._accumulator(equation, inner)
        read = Read(target.tensor, target.indices)
        value = product((Factor(read), *moving))
        value, guard = self._guarded(read, moving, value, inner)
        certificate = Certificate(
            "defer",
            equation.target.tensor,
            reduction.ranks,
            "deferred",
            f"{print_expression(reduction)} == {print_expression(product((Factor(inner), *moving)))}",
            (guard,),
        )
        return (kept, replace(equation, value=value)), certificate

    def _accumulator(self, equation: Equation, inner: Reduction, suffix: str = "acc") -> tuple[Equation, Target]:
        ranks = set(free_ranks(inner))
        indices = tuple(i for i in equation.target.indices if isinstance(i, Rank) and i.name in ranks)
        target = Target(fresh(f"{equation.target.tensor}.{suffix}", self._names), indices)
        self._names.add(target.tensor)
        # A condition on a rank that left with the factors says where the product exists, not the accumulator.
        where = conjunction(c for c in conjuncts(equation.where) if {*free_ranks(c)} <= {i.name for i in indices})
        return Equation((target,), inner, where), target

    def _guarded(self, acc: Read, moving: list[Factor], value: Expression, inner: Reduction) -> tuple[Expression, str]:
        """The product that keeps 0 for an empty fibre, and why it does."""
        unbounded = [p for p in moving if not self._ranges.of(product((p,))).finite]
        if not unbounded:
            return value, "the factor is finite, so 0 stays 0"
        divisor = unbounded[0].value
        if len(unbounded) == 1 and unbounded[0].inverse and self._vanishes_with(divisor, inner):
            shown = print_expression(divisor)
            guard = f"{shown} sums non-negative weights of the summands: where it is 0 they are 0"
            return Conditional(Comparison(("==",), (divisor, Constant(0))), Constant(0), value), guard
        test = Comparison(("==",), (acc, Constant(0)))
        return Conditional(test, Constant(0), value), "an accumulator of 0 stays 0 whatever the factor"

    def _vanishes_with(self, divisor: Expression, inner: Reduction) -> bool:
        """Whether a divisor of 0 implies that every summand is 0: it sums non-negative weights that multiply the summands."""
        if not isinstance(divisor, Read) or divisor.tensor not in self._defined:
            return False
        value, _ = opened(self._defined[divisor.tensor], divisor)
        if not isinstance(value, Reduction) or value.operator != "sum" or value.ranks != inner.ranks:
            return False
        if not self._ranges.of(value.body).nonnegative or value.where != inner.where:
            return False
        return any(f.value == value.body and not f.inverse for f in factors(inner.body))

    def _split(
        self, equation: Equation, reduction: Reduction, opener: Opener
    ) -> tuple[tuple[Equation, ...], Certificate] | None:
        """A sum of terms with different factors that could leave is one reduction for each term."""
        parts = opener.distributed(reduction.body)
        if parts is None:
            return None
        where = conjunction((reduction.where, *opener.conditions))
        made: list[Equation] = []
        reads: list[Term] = []
        for part in parts:
            kept, target = self._accumulator(equation, replace(reduction, body=part.value, where=where), "term")
            made.append(kept)
            reads.append(Term(Read(target.tensor, target.indices), part.negative))
        value = total(reads)
        certificate = Certificate(
            "defer",
            equation.target.tensor,
            reduction.ranks,
            "split",
            f"{print_expression(reduction)} is summed term by term",
            ("every term is summed over the points where all exist",),
        )
        return (*made, replace(equation, value=value)), certificate

    def _summands_leave(
        self, equation: Equation, reduction: Reduction, opener: Opener
    ) -> tuple[tuple[Equation, ...], Certificate] | None:
        parts = opener.terms(reduction.body)
        moving = [p for p in parts if opener.may_leave(Factor(p.value))]
        staying = [p for p in parts if p not in moving]
        if not moving or not staying:
            return self._positive_factors_leave(equation, reduction, opener)
        where = conjunction((reduction.where, *opener.conditions))
        inner = replace(reduction, body=total(staying), where=where)
        return self._outside(equation, inner, lambda read: total((Term(read), *moving)))

    def _positive_factors_leave(
        self, equation: Equation, reduction: Reduction, opener: Opener
    ) -> tuple[tuple[Equation, ...], Certificate] | None:
        parts = opener.factors(reduction.body)
        moving = [
            p
            for p in parts
            if opener.may_leave(p)
            and (found := self._ranges.of(p.value)).nonnegative
            and (found.never_zero or p.inverse)
        ]
        staying = [p for p in parts if p not in moving]
        if not moving or not staying:
            return None
        where = conjunction((reduction.where, *opener.conditions))
        inner = replace(reduction, body=product(staying), where=where)
        return self._outside(equation, inner, lambda read: product((Factor(read), *moving)))

    def _outside(
        self, equation: Equation, inner: Reduction, join: Callable[[Expression], Expression]
    ) -> tuple[tuple[Equation, ...], Certificate]:
        """A maximum or minimum from which ``join`` adds back what left; the identity of an empty fibre stays."""
        kept, target = self._accumulator(equation, inner)
        read = Read(target.tensor, target.indices)
        value = join(read)
        identity = Constant(REDUCTIONS[inner.operator].identity)
        test = Comparison(("==",), (read, identity))
        certificate = Certificate(
            "defer",
            equation.target.tensor,
            inner.ranks,
            "deferred",
            f"{print_expression(equation.value)} == {print_expression(join(inner))}",
            ("the identity of an empty fibre stays as it is",),
        )
        return (kept, replace(equation, value=Conditional(test, identity, value))), certificate
