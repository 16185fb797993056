"""positions: where an extremum is, from the extremum and a minimum of coordinates.

    I[m] = argmax[n](S[m,n])     ->     I.peak[m] = max[n](S[m,n])
                                        I[m]      = min[n](n where S[m,n] == I.peak[m])

Law: the position of the largest value is the least coordinate at which it is reached; a NaN counts as largest. Over several ranks the coordinate is the place
in row-major order. Over nothing a position is empty, which a filter on the left side says; an output holds -1 there.
"""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

from einsum_compiler.ir.build import conjunction, multiply
from einsum_compiler.ir.cascade import Cascade, Equation, Target
from einsum_compiler.ir.expression import (
    Binary,
    Call,
    Comparison,
    Conditional,
    Constant,
    Expression,
    Extent,
    Rank,
    Read,
    Reduction,
    map_children,
    walk,
)
from einsum_compiler.passes.domains import Domains
from einsum_compiler.passes.scope import free_ranks, fresh, plain, tensor_names


def without_argmax(cascade: Cascade) -> Cascade:
    """The cascade with every ``argmax`` as a minimum of coordinates; sums must be explicit, filters inside of what they act on."""
    writer = _Writer(cascade)
    equations = tuple(made for e in cascade.equations for made in writer.equation(e))
    return replace(cascade, equations=tuple(map(writer.renamed, equations)))


class _Writer:
    def __init__(self, cascade: Cascade) -> None:
        self._names = tensor_names(cascade)
        self._domains = Domains(cascade)
        self._outputs = {t.name for t in cascade.outputs}
        self._places: dict[
            str, str
        ] = {}  # outputs that are positions, and the tensors that are empty where those are -1
        self._made: list[Equation] = []

    def equation(self, equation: Equation) -> list[Equation]:
        self._made = []
        stem, scope = equation.target.tensor, equation.target.ranks
        value, where = equation.value, equation.where
        if not any(isinstance(n, Reduction) and n.operator == "argmax" for n in (*walk(value), *walk(where or value))):
            return [equation]
        whole = isinstance(value, Reduction) and value.operator == "argmax" and plain(equation)
        if whole and stem in self._outputs:
            assert isinstance(value, Reduction)
            return self._output(equation, value)
        if isinstance(value, Reduction) and whole and self._may_be_empty(value):
            some = self._named(f"{stem}.some", replace(value, operator="any", body=_exists(value.body)), scope)
            where = conjunction((where, some))
        value = self._replaced(value, scope, stem)
        where = None if where is None else self._replaced(where, scope, stem)
        return [*self._made, replace(equation, value=value, where=where)]

    def _output(self, equation: Equation, value: Reduction) -> list[Equation]:
        """The position under a name of its own, and the output, which is -1 where that is empty."""
        target = equation.target
        name = fresh(f"{target.tensor}.place", self._names)
        self._names.add(name)
        found = self.equation(replace(equation, targets=(replace(target, tensor=name, dtype=None),)))
        place: Expression = Call("default", (Read(name, target.indices), Constant(-1)))
        if found[-1].where is None:
            extents: list[Expression] = [Extent(r) for r in value.ranks]
            size = reduce(multiply, extents)
            place = Conditional(Comparison(("<",), (Constant(0), size)), Read(name, target.indices), Constant(-1))
        self._places[target.tensor] = name
        return [*found, replace(equation, value=place, where=None)]

    def renamed(self, equation: Equation) -> Equation:
        """The equation with positions in place of the outputs that hold them."""

        def through(node: Expression) -> Expression:
            node = map_children(node, through)
            return (
                replace(node, tensor=self._places[node.tensor])
                if isinstance(node, Read) and node.tensor in self._places
                else node
            )

        if not self._places:
            return equation
        where = None if equation.where is None else through(equation.where)
        return replace(equation, value=through(equation.value), where=where)

    def _replaced(self, node: Expression, scope: tuple[str, ...], stem: str) -> Expression:
        inner = tuple(dict.fromkeys((*scope, *node.ranks))) if isinstance(node, Reduction) else scope
        node = map_children(node, lambda child: self._replaced(child, inner, stem))
        if not isinstance(node, Reduction) or node.operator != "argmax":
            return node
        peak = self._named(f"{stem}.peak", replace(node, operator="max"), scope)
        body = node.body
        reached = Binary("or", Comparison(("==",), (body, peak)), Comparison(("!=",), (body, body)))
        place: Expression = Rank(node.ranks[0])
        for rank in node.ranks[1:]:
            place = Binary("+", Binary("*", place, Extent(rank)), Rank(rank))
        return Reduction("min", node.ranks, place, conjunction((node.where, reached)), span=node.span)

    def _may_be_empty(self, node: Reduction) -> bool:
        return node.where is not None or self._domains.of(node.body) != ()

    def _named(self, stem: str, node: Reduction, scope: tuple[str, ...]) -> Read:
        ranks = set(free_ranks(node))
        indices = tuple(Rank(r) for r in scope if r in ranks)
        self._names.add(name := fresh(stem, self._names))
        self._made.append(Equation((Target(name, indices),), node))
        return Read(name, indices)


def _exists(body: Expression) -> Expression:
    """True wherever the body is not empty."""
    return Binary("or", Comparison(("==",), (body, body)), Comparison(("!=",), (body, body)))
