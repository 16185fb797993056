"""Opening the maps that a reduction reads: which factors and terms of its body are invariant once the maps in between are written out."""

from __future__ import annotations

from einsum_compiler.ir.build import conjuncts
from einsum_compiler.ir.cascade import Equation
from einsum_compiler.ir.expression import Binary, Call, Constant, Expression, Read, Reduction, walk
from einsum_compiler.passes.domains import Domains
from einsum_compiler.passes.lateness import Lateness
from einsum_compiler.passes.products import Factor, Term, factors, product, terms, total
from einsum_compiler.passes.scope import free_ranks, opened


class Opener:
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
