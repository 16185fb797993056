"""Where a value can differ from 0: a sum need not visit the other points.

    Y[j,m,n] = W[k,j] * A[k,m,n]          A is defined where n <= m, so Y is the sum of nothing elsewhere: 0
    O[j,m,f] = Y[j,m,n] * V[j,n,f]   ->   O[j,m,f] = sum[n](Y[j,m,n] * V[j,n,f] where n <= m)

Laws: emptiness ends at a reduction, and what a sum over no point gives is 0; a product is 0 where one factor is; a sum where all terms are. (With a
factor that is infinite or NaN the product was NaN there: a pass may turn that into a number.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from einsum_compiler.ir.build import conjunction, conjuncts
from einsum_compiler.ir.cascade import Cascade, Equation
from einsum_compiler.ir.expression import Binary, Cast, Expression, Rank, Read, Reduction, walk
from einsum_compiler.passes.domains import Domains
from einsum_compiler.passes.products import factors, terms
from einsum_compiler.passes.scope import definitions, free_ranks, substitute

Conditions = tuple[Expression, ...]


def over_support(cascade: Cascade) -> Cascade:
    """The normalized cascade in which every sum states the conditions under which its body can differ from 0."""
    support = _Support(cascade)
    return replace(cascade, equations=tuple(map(support.stated, cascade.equations)))


class _Support:
    def __init__(self, cascade: Cascade) -> None:
        self._defined: Mapping[str, Equation] = definitions(cascade)
        self._domains = Domains(cascade)
        self._known: dict[str, Conditions] = {}

    def stated(self, equation: Equation) -> Equation:
        """The equation with further conditions in its sum."""
        value = equation.value
        if not isinstance(value, Reduction) or value.operator != "sum":
            return equation
        stands = {*conjuncts(value.where), *(self._domains.of(value.body) or ())}
        found = [
            c
            for c in self.of(value.body)
            if c not in stands and self._cheap(c) and set(free_ranks(c)) & set(value.ranks)
        ]
        if not found:
            return equation
        return replace(equation, value=replace(value, where=conjunction((value.where, *found))))

    def _cheap(self, condition: Expression) -> bool:
        """Whether a condition reads inputs only: one on computed values would have them computed again."""
        return not any(isinstance(n, Read) and n.tensor in self._defined for n in walk(condition))

    def of(self, node: Expression) -> Conditions:
        """Conditions outside which the expression is 0 or empty; none if nothing is known."""
        if isinstance(node, Read):
            return self._of_read(node)
        if isinstance(node, Cast):
            return self.of(node.operand)
        if isinstance(node, Binary) and node.operator in ("+", "-"):
            first, *others = [self.of(t.value) for t in terms(node)]
            return tuple(c for c in first if all(c in other for other in others))
        found: dict[Expression, None] = {}
        parts = factors(node)
        for part in parts if len(parts) > 1 else ():
            if not part.inverse:
                found.update(dict.fromkeys(self.of(part.value)))
        return tuple(found)

    def _of_read(self, read: Read) -> Conditions:
        if read.tensor not in self._known:
            self._known[read.tensor] = ()  # a tensor that depends on itself
            self._known[read.tensor] = self._of_tensor(read.tensor)
        equation = self._defined.get(read.tensor)
        if equation is None or len(equation.target.indices) != len(read.indices):
            return ()
        at = {t.name: i for t, i in zip(equation.target.indices, read.indices, strict=True) if isinstance(t, Rank)}
        at = {r: i for r, i in at.items() if i != Rank(r)}
        return tuple(substitute(c, at) for c in self._known[read.tensor])

    def _of_tensor(self, name: str) -> Conditions:
        equation = self._defined.get(name)
        if equation is None:
            return ()
        value = equation.value
        if not isinstance(value, Reduction):
            return self.of(value)
        if value.operator != "sum":
            return ()
        inside = (*conjuncts(value.where), *(self._domains.of(value.body) or ()), *self.of(value.body))
        return tuple(c for c in dict.fromkeys(inside) if not set(free_ranks(c)) & set(value.ranks))
