"""normalize: explicit sums, and every equation either a map or one reduction.

A *map* has no reduction in its value. A *reduction*'s value is exactly one ``Reduction`` whose body has none. Conjuncts of a filter
that mention a reduced rank stand inside the reduction, the others on the equation. A mean is a sum divided by a count, constant factors
stand outside sums, cases are one conditional value, a typed reduction is rounded in a map of its own, equal equations are computed once and unused ones not at all.

Laws: the meaning of filters and emptiness, distributivity of ``*`` over ``+``, common subexpressions.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from einsum_compiler.ir.build import conjunction
from einsum_compiler.ir.cascade import Cascade, Equation, Target
from einsum_compiler.ir.expression import (
    Binary,
    Comparison,
    Conditional,
    Constant,
    Expression,
    Extent,
    Rank,
    Read,
    Reduction,
    Selection,
    map_children,
)
from einsum_compiler.ir.filters import distribute_filter
from einsum_compiler.ir.implicit_sums import explicit_sums
from einsum_compiler.passes.cases import joined_cases
from einsum_compiler.passes.contractions import paired, without_invariants
from einsum_compiler.passes.domains import Domains
from einsum_compiler.passes.order import in_order, live
from einsum_compiler.passes.positions import without_argmax
from einsum_compiler.passes.products import Factor, product, terms, total
from einsum_compiler.passes.scope import free_ranks, fresh, plain, tensor_names
from einsum_compiler.passes.sharing import shared
from einsum_compiler.passes.support import over_support


@dataclass(frozen=True, slots=True)
class Normalize:
    """``distribute``: whether factors leave sums and sums are split by terms; without it only the structure changes."""

    distribute: bool = True


def normalize(cascade: Cascade, options: Normalize = Normalize()) -> Cascade:
    """The cascade with one map or one reduction in each equation."""
    cascade = explicit_sums(cascade)
    cascade = replace(cascade, equations=tuple(distribute_filter(e) for e in cascade.equations))
    cascade = in_order(live(joined_cases(without_argmax(cascade))))
    cascade = replace(cascade, equations=tuple(_Splitter(cascade, options.distribute).equations()))
    if options.distribute:
        cascade = over_support(paired_contractions(cascade))
    return in_order(live(shared(cascade)))


def paired_contractions(cascade: Cascade) -> Cascade:
    """The cascade with two operands in every contraction (see ``passes.contractions``)."""
    names, domains = tensor_names(cascade), Domains(cascade)

    def name(stem: str) -> str:
        names.add(found := fresh(stem, names))
        return found

    return replace(cascade, equations=tuple(made for e in cascade.equations for made in paired(e, name, domains)))


class _Splitter:
    """Takes the reductions out of one cascade's equations, in order."""

    def __init__(self, cascade: Cascade, distribute: bool) -> None:
        self._cascade = cascade
        self._distribute = distribute
        self._names = tensor_names(cascade)
        self._domains = Domains(cascade)
        self._made: list[Equation] = []

    def equations(self) -> Iterable[Equation]:
        for equation in self._cascade.equations:
            yield from self._split(equation)

    def _split(self, equation: Equation) -> list[Equation]:
        self._made = []
        stem = equation.targets[0].tensor
        scope = equation.targets[0].ranks if len(equation.targets) == 1 else ()
        where = None if equation.where is None else self._map(equation.where, scope, stem)
        value = equation.value
        if isinstance(value, Selection):
            inner = (*scope, *(r for r in value.ranks if r not in scope))
            value = map_children(value, lambda child: self._map(child, inner, stem))
        elif isinstance(value, Reduction) and self._alone(equation, value):
            value = self._flat(value, scope, stem)
        else:
            value = self._map(value, scope, stem)
        return [*self._made, replace(equation, value=value, where=where)]

    def _alone(self, equation: Equation, reduction: Reduction) -> bool:
        """Whether the reduction can be the whole right side: no rounding after it, no factor or term to take out."""
        return equation.target.dtype is None and plain(equation) and self._parts(reduction) == reduction

    def _map(self, node: Expression, scope: tuple[str, ...], stem: str) -> Expression:
        """The expression with every reduction replaced by a read of an equation of its own."""
        if not isinstance(node, Reduction):
            return map_children(node, lambda child: self._map(child, scope, stem))
        parts = self._parts(node)
        if parts != node:
            return self._map(parts, scope, stem)
        ranks = set(free_ranks(node))
        indices = tuple(Rank(r) for r in dict.fromkeys(scope) if r in ranks)
        flat = self._flat(node, scope, stem)
        name = fresh(f"{stem}.{node.operator}", self._names)
        self._names.add(name)
        self._made.append(Equation((Target(name, indices),), flat))
        return Read(name, indices)

    def _flat(self, node: Reduction, scope: tuple[str, ...], stem: str) -> Reduction:
        """The reduction with no reduction inside."""
        inner = (*(r for r in scope if r not in node.ranks), *node.ranks)
        flat = map_children(node, lambda child: self._map(child, inner, stem))
        assert isinstance(flat, Reduction)
        return flat

    def _parts(self, node: Reduction) -> Expression:
        """An equal expression over simpler reductions, or the reduction itself if it is simple."""
        if node.operator == "mean":
            return Binary("/", replace(node, operator="sum"), self._count(node))
        if node.operator != "sum" or not self._distribute:
            return node
        kept, leaving = without_invariants(node, self._domains)
        if leaving:
            return product((Factor(kept), *leaving))
        parts = terms(node.body)
        domain = self._domains.of(node.body)
        if len(parts) > 1 and domain is not None and all(self._domains.of(t.value) == domain for t in parts):
            return total([replace(t, value=replace(node, body=t.value)) for t in parts])
        return node

    def _count(self, node: Reduction) -> Expression:
        domain = self._domains.of(node.body)
        if domain == () and node.where is None:
            result: Expression = Extent(node.ranks[0])
            for rank in node.ranks[1:]:
                result = Binary("*", result, Extent(rank))
            return result
        if domain is None:  # strict in the body, so empty exactly where the body is
            one: Expression = Conditional(Comparison(("==",), (node.body, node.body)), Constant(1), Constant(1))
            return replace(node, operator="sum", body=one)
        return replace(node, operator="sum", body=Constant(1), where=conjunction((node.where, *domain)))
