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
    Binary,
    Call,
    Comparison,
    Conditional,
    Constant,
    Expression,
    Rank,
    Read,
    Reduction,
    walk,
)
from einsum_compiler.ir.operators import REDUCTIONS
from einsum_compiler.ir.printer import print_expression
from einsum_compiler.passes.analysis.value_ranges import Ranges
from einsum_compiler.passes.certificate import Certificate, Transformed
from einsum_compiler.passes.domains import Domains
from einsum_compiler.passes.lateness import Lateness, reduced_ranks
from einsum_compiler.passes.normalize import paired_contractions
from einsum_compiler.passes.order import in_order, live
from einsum_compiler.passes.products import Factor, Term, factors, product, terms, total
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
        opener = _Opener(self._defined, Lateness(self._cascade, reduction.ranks), reduction.ranks, self._domains)
        if reduction.operator == "sum":
            return self._factors_leave(equation, reduction, opener) or self._split(equation, reduction, opener)
        if reduction.operator in ("max", "min"):
            return self._summands_leave(equation, reduction, opener)
        return None

    def _factors_leave(
        self, equation: Equation, reduction: Reduction, opener: _Opener
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
        self, equation: Equation, reduction: Reduction, opener: _Opener
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
        self, equation: Equation, reduction: Reduction, opener: _Opener
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
        self, equation: Equation, reduction: Reduction, opener: _Opener
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


class _Opener:
    """Opens maps in a reduction's body as far as that sets an invariant, late factor free.

    ``conditions`` collects the filters of the maps that were opened.
    """

    def __init__(self, defined: dict[str, Equation], late: Lateness, ranks: tuple[str, ...], domains: Domains) -> None:
        self._defined = defined
        self._late = late
        self._ranks = set(ranks)
        self._domains = domains
        self.conditions: tuple[Expression, ...] = ()

    def invariant(self, node: Expression) -> bool:
        """Whether the value is the same at every point of the fibre, and exists there."""
        return not set(free_ranks(node)) & self._ranks and self._domains.of(node) == ()

    def may_leave(self, part: Factor) -> bool:
        """Whether the factor is invariant, and no exponential of a context."""
        if not self.invariant(part.value) or isinstance(part.value, Constant):
            return False
        return not (self._late.is_late(part.value) and _has_exponential(part.value))

    def _useful(self, parts: tuple[Factor, ...]) -> bool:
        return any(self._late.is_late(p.value) and self.may_leave(p) for p in parts)

    def _definition(self, read: Read) -> Expression | None:
        """The value of a late map behind a read; None for anything else."""
        equation = self._defined.get(read.tensor)
        if equation is None or equation.target.dtype is not None or isinstance(equation.value, Reduction):
            return None
        return opened(equation, read)[0] if self._late.is_late(read.tensor) else None

    def _open(self, read: Read) -> None:
        _, where = opened(self._defined[read.tensor], read)
        self.conditions = tuple(dict.fromkeys((*self.conditions, *conjuncts(where))))

    def factors(self, node: Expression) -> tuple[Factor, ...]:
        """The factors of a product, maps opened where that frees one."""
        found: list[Factor] = []
        for part in factors(node):
            found.extend(self._factor(part))
        return tuple(found)

    def _factor(self, part: Factor) -> tuple[Factor, ...]:
        value = part.value
        if self.invariant(value):
            return (part,)
        if isinstance(value, Read) and (definition := self._definition(value)) is not None:
            before = self.conditions
            inner = self.factors(definition)
            if self._useful(inner):
                self._open(value)
                return tuple(Factor(p.value, p.inverse != part.inverse) for p in inner)
            self.conditions = before
        if isinstance(value, Binary) and value.operator == "**" and isinstance(value.right, Constant):
            inner = self.factors(value.left)
            if isinstance(value.right.value, int) and self._useful(inner):
                return tuple(Factor(Binary("**", p.value, value.right), p.inverse != part.inverse) for p in inner)
        if isinstance(value, Call) and value.function == "exp":
            return self._exponential(value, part)
        return (part,)

    def _exponential(self, value: Call, part: Factor) -> tuple[Factor, ...]:
        """``exp(x - log(y))`` is ``exp(x) / y``."""
        freed: list[Factor] = []
        kept: list[Term] = []
        for term in self._logarithms(value.arguments[0]):
            if isinstance(term.value, Call) and term.value.function == "log" and self.invariant(term.value):
                freed.append(Factor(term.value.arguments[0], part.inverse != term.negative))
            else:
                kept.append(term)
        if not freed:
            return (part,)
        return (Factor(Call("exp", (total(kept),)), part.inverse), *freed)

    def _logarithms(self, node: Expression) -> tuple[Term, ...]:
        """The terms of a sum, with maps opened that have a logarithm of a context among theirs."""
        found: list[Term] = []
        for term in terms(node):
            definition = self._definition(term.value) if isinstance(term.value, Read) else None
            inner = () if definition is None else self._logarithms(definition)
            if any(isinstance(t.value, Call) and t.value.function == "log" for t in inner) and isinstance(
                term.value, Read
            ):
                if not self.invariant(term.value):
                    self._open(term.value)
                found.extend(Term(t.value, t.negative != term.negative) for t in inner)
            else:
                found.append(term)
        return tuple(found)

    def terms(self, node: Expression) -> tuple[Term, ...]:
        """The terms of a sum, maps opened where that frees an invariant one."""
        found: list[Term] = []
        for term in terms(node):
            definition = self._definition(term.value) if isinstance(term.value, Read) else None
            inner = () if definition is None or self.invariant(term.value) else self.terms(definition)
            if any(self._late.is_late(t.value) and self.may_leave(Factor(t.value)) for t in inner):
                assert isinstance(term.value, Read)
                self._open(term.value)
                found.extend(Term(t.value, t.negative != term.negative) for t in inner)
            else:
                found.append(term)
        return tuple(found)

    def distributed(self, node: Expression) -> tuple[Term, ...] | None:
        """The products of a sum of products, if a factor can leave some of them and it is known where all of them exist.

        A sum with an invariant summand (``x - mean``) is not split: its parts cancel, and ``online`` has a stable form for it.
        """
        parts = self.factors(node)
        for i, part in enumerate(parts):
            summands = self._summands(part)
            if summands is None:
                continue
            found = tuple(
                Term(product((*parts[:i], *self.factors(s.value), *parts[i + 1 :])), s.negative) for s in summands
            )
            domain, whole = self._domains.of(found[0].value), self._domains.of(node)
            if domain is not None and all(self._domains.of(t.value) == domain for t in found):
                return found
            if whole is not None:
                # A sum exists where all its terms do: each is summed over those points alone.
                self.conditions = tuple(dict.fromkeys((*self.conditions, *whole)))
                return found
        return None

    def _summands(self, part: Factor) -> tuple[Term, ...] | None:
        value = part.value
        if part.inverse:
            return None
        source = self._definition(value) if isinstance(value, Read) else value
        summands = () if source is None else terms(source)
        if len(summands) < 2 or any(self.invariant(s.value) for s in summands):
            return None
        before = self.conditions
        if any(self._useful(self.factors(s.value)) for s in summands):
            if isinstance(value, Read):
                self._open(value)
            return summands
        self.conditions = before
        return None


def _has_exponential(node: Expression) -> bool:
    return any(isinstance(n, Call) and n.function in ("exp", "exp2") for n in walk(node))
