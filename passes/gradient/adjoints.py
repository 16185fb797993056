"""The adjoint of one equation: what the gradient of its left side adds to the gradients of all that it reads.

    T[i] = f(A[i], B[j(i)])      A.grad[i] += T.grad[i] * df/dA        B.grad[j] += sum[i](T.grad[i] * df/dB) where j(i) == j
    T[i] = sum[k](f)             the same over the points (i, k)
    T[i] = max[k](f)             times 1 where f equals T, shared evenly by equal points

``gradient.scatter`` sums each term over the points at which a read has one element.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from einsum_compiler.ir.build import conjunction, conjuncts
from einsum_compiler.ir.cascade import Equation, Scalar, Target
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.expression import (
    Binary,
    Comparison,
    Conditional,
    Expression,
    Parameter,
    Read,
    Reduction,
    Selection,
    walk,
)
from einsum_compiler.passes.domains import Conditions, Domains
from einsum_compiler.passes.gradient.derivatives import ONE, ZERO, Derivatives, scaled
from einsum_compiler.passes.gradient.product import other_factors
from einsum_compiler.passes.gradient.scatter import Contribution, Names, Scatter
from einsum_compiler.passes.scope import replace_reads


class Adjoints:
    """The contributions of the equations of one cascade. ``axes`` gives the ranks of every tensor, ``reductions`` those that are reduced together, ``declared``
    extents by rank that the cascade gives, ``name`` makes names that nobody has."""

    def __init__(
        self,
        domains: Domains,
        axes: dict[str, tuple[str, ...]],
        reductions: Collection[tuple[str, ...]],
        declared: Mapping[str, Expression],
        differentiable: set[str],
        name: Names,
    ) -> None:
        self._domains, self._wanted, self._name = domains, differentiable, name
        self._derivatives = Derivatives(domains)
        self._scatter = Scatter(axes, reductions, declared, name)
        self.compared: set[str] = set()  # extrema that points are compared with

    @property
    def scalars(self) -> list[Scalar]:
        """The extents of ranks that index expressions are inverted over."""
        return self._scatter.scalars

    def of(self, equation: Equation, gradient: Read, known: Conditions) -> Iterator[Contribution]:
        """What the gradient of an equation's left side, which exists where ``known`` holds, adds to others."""
        value = equation.value
        left = tuple(equation.target.ranks)
        if isinstance(value, Selection):
            raise PlanError(f"{equation.target.tensor} selects coordinates, which have no gradient", value.span)
        if not isinstance(value, Reduction):
            points, body, made = left, value, Read(equation.target.tensor, equation.target.indices)
            yield from self._terms(equation, points, body, gradient, (equation.where,), made, known)
            return
        inner = (equation.where, value.where)
        points = (*left, *value.ranks)
        if value.operator == "sum":
            yield from self._terms(equation, points, value.body, gradient, inner, None, known)
        elif value.operator in ("max", "min"):
            yield from self._extremum(equation, value, points, gradient, inner, known)
        elif value.operator == "prod":
            others = other_factors(equation, value, gradient, self._name)
            once = others.equations  # the first variable brings them, the others read them
            for found in self._terms(
                equation, points, value.body, others.share, inner, None, known, others.alone, value.body
            ):
                yield replace(found, equations=(*once, *found.equations))
                once = ()
        elif value.operator not in ("any", "all", "argmax"):
            raise PlanError(f"a reduction by {value.operator} has no derivative here", value.span)

    def _extremum(
        self,
        equation: Equation,
        value: Reduction,
        points: tuple[str, ...],
        gradient: Read,
        where: tuple[Expression | None, ...],
        known: Conditions,
    ) -> Iterator[Contribution]:
        target = equation.target
        reached = Comparison(("==",), (value.body, Read(target.tensor, target.indices)))
        ties = self._name(f"{target.tensor}.ties")
        counted = Reduction("sum", value.ranks, Conditional(reached, ONE, ZERO), value.where)
        count = Equation((Target(ties, target.indices),), counted, equation.where)
        share = Binary("/", gradient, Read(ties, target.indices))
        once: tuple[Equation, ...] = (count,)  # the first variable brings it, the others read it
        for found in self._terms(equation, points, value.body, share, where, None, known, reached):
            self.compared.add(target.tensor)
            yield Contribution(found.variable, (*once, *found.equations), found.conditions)
            once = ()

    def _terms(
        self,
        equation: Equation,
        points: tuple[str, ...],
        body: Expression,
        gradient: Expression,
        where: tuple[Expression | None, ...],
        value: Read | None,
        known: Conditions,
        only: Expression | None = None,
        reads: Expression | None = None,
    ) -> Iterator[Contribution]:
        filters = tuple(conjuncts(conjunction(where)))
        for variable in dict.fromkeys(n for n in walk(body) if isinstance(n, (Read, Parameter))):
            name = variable.tensor if isinstance(variable, Read) else variable.name
            if name not in self._wanted:
                continue
            slope = self._derivatives.partial(body, variable, value)
            if slope is None:
                continue
            term = scaled(gradient, slope)
            if only is not None:
                term = Conditional(only, term, ZERO)
            exists = self._domains.of(slope)
            if exists is None:
                raise PlanError(
                    f"no predicate says where the derivative of {equation.target.tensor} exists", equation.span
                )
            if only is not None:
                exists = (*exists, *(self._domains.of(reads or only) or ()))
            # An empty operand makes the whole term empty, also where the slope along another one lacks it.
            others = body if isinstance(variable, Parameter) else replace_reads(body, {variable: ONE})
            needed = self._domains.of(others)
            if needed is None:
                raise PlanError(f"no predicate says where {equation.target.tensor} exists", equation.span)
            held = {*known, *filters, *exists}
            filters_here = (*filters, *(c for c in needed if c not in held))
            conditions = tuple(dict.fromkeys((*known, *filters_here, *exists)))
            yield self._scatter.of(variable, tuple(equation.target.ranks), points, term, filters_here, conditions)
