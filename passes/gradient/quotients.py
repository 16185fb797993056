"""Products with a sum of quotients whose divisor another tensor has been divided by already.

    Z = P * X,  X = Y1 / D + Y2 / D,  A = P / D   ->   Z = A * (Y1 + Y2)

Law: a common divisor leaves a sum, and products associate. In the backward cascade of a softmax Z is the cotangent of the scores and A the map: for every pair one
division in place of two. A guard, ``if(Y == 0, 0, Y / D)``, falls where another term is divided without one: where D is 0, that one left no number anyway.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from einsum_compiler.ir.cascade import Cascade, Equation, Target
from einsum_compiler.ir.expression import Comparison, Conditional, Constant, Expression, Read, Reduction
from einsum_compiler.ir.printer import print_expression
from einsum_compiler.passes.certificate import Certificate, Transformed
from einsum_compiler.passes.order import in_order
from einsum_compiler.passes.products import Factor, Term, factors, product, terms, total
from einsum_compiler.passes.scope import definitions, fresh, tensor_names

STEP = "differentiate"


@dataclass(frozen=True)
class _Quotient:
    """A term ``Y / D``; ``guarded`` if it is 0 wherever Y is."""

    upper: Term
    guarded: bool = False


def divided_once(cascade: Cascade) -> Transformed:
    """The cascade where a product reads the quotient of its factor and the common divisor of its sum, where a tensor holds that."""
    found = _Division(cascade)
    equations = [e for equation in cascade.equations for e in found.of(equation)]
    return Transformed(in_order(replace(cascade, equations=tuple(equations))), tuple(found.certificates))


class _Division:
    """The rewriting of one cascade. ``maps``: equations that hold at all points of their operands, unrounded, by tensor."""

    def __init__(self, cascade: Cascade) -> None:
        self.maps = {
            name: e
            for name, e in definitions(cascade).items()
            if not isinstance(e.value, Reduction) and e.where is None and e.target.dtype is None
        }
        self.names = tensor_names(cascade)
        self.certificates: list[Certificate] = []

    def of(self, equation: Equation) -> Iterator[Equation]:
        """The equations that stand in the place of this one: itself, where nothing is divided twice."""
        parts = () if isinstance(equation.value, Reduction) else factors(equation.value)
        for i, part in enumerate(parts):
            others = (*parts[:i], *parts[i + 1 :])
            for divisor in () if part.inverse or not others else self._divisors(part.value):
                held = self._held(equation, others, divisor)
                made: list[Equation] = []
                upper = self._uppers(part.value, divisor, made) if held else None
                if held is None or upper is None:
                    continue
                read, rest = held
                value = product((Factor(read), *rest, Factor(upper)))
                name = equation.target.tensor
                identity = f"{print_expression(equation.value)} = {print_expression(value)}"
                ranks = tuple(equation.target.ranks)
                self.certificates.append(Certificate(STEP, name, ranks, "divided once", identity))
                yield from made
                yield replace(equation, value=value)
                return
        yield equation

    def _held(
        self, equation: Equation, others: tuple[Factor, ...], divisor: Expression
    ) -> tuple[Read, tuple[Factor, ...]] | None:
        """A tensor that is some of these factors over the divisor, and the factors it leaves."""
        for name, source in self.maps.items():
            wanted = Counter(factors(source.value))
            if source is equation or wanted[Factor(divisor, True)] != 1 or wanted.total() < 2:
                continue
            rest = Counter(others)
            rest.subtract(wanted - Counter([Factor(divisor, True)]))
            if all(n >= 0 for n in rest.values()):
                return Read(name, source.target.indices), tuple(rest.elements())
        return None

    def _divisors(self, node: Expression) -> list[Expression]:
        """What the first term of a sum is divided by; empty for what is no sum of two terms."""
        spread = list(self._terms(node))
        if len(spread) < 2:
            return []
        first = spread[0].value
        if isinstance(first, Conditional):
            first = first.otherwise
        return list(dict.fromkeys(f.value for f in factors(first) if f.inverse))

    def _terms(self, node: Expression, negative: bool = False) -> Iterator[Term]:
        """The terms of a sum, those of the tensors that it reads at their own coordinates in their place."""
        for term in terms(node, negative):
            source = self._source(term.value)
            if source is None:
                yield term
            else:
                yield from self._terms(source.value, term.negative)

    def _source(self, node: Expression) -> Equation | None:
        source = self.maps.get(node.tensor) if isinstance(node, Read) else None
        return (
            source if source is not None and isinstance(node, Read) and source.target.indices == node.indices else None
        )

    def _uppers(self, node: Expression, divisor: Expression, made: list[Equation]) -> Expression | None:
        """A sum times its divisor; None where a term is not divided by it, or all terms have guards. ``made``: sums over fewer ranks, once for all points."""
        found = [_quotient(term, divisor) for term in self._terms(node)]
        if None in found or all(q.guarded for q in found if q):
            return None
        return self._total(node, divisor, False, made)

    def _total(self, node: Expression, divisor: Expression, negative: bool, made: list[Equation]) -> Expression:
        summed: list[Term] = []
        for term in terms(node, negative):
            source = self._source(term.value)
            if source is None:
                quotient = _quotient(term, divisor)
                assert quotient is not None
                summed.append(quotient.upper)
                continue
            inner = self._total(source.value, divisor, False, made)
            if len(terms(inner)) > 1:
                name = fresh(f"{source.target.tensor}.upper", self.names)
                self.names.add(name)
                made.append(Equation((Target(name, source.target.indices),), inner))
                inner = Read(name, source.target.indices)
            summed.append(Term(inner, term.negative))
        return total([t for s in summed for t in terms(s.value, s.negative)])


def _quotient(term: Term, divisor: Expression) -> _Quotient | None:
    """The term as a quotient by the divisor."""
    value = term.value
    match value:
        case Conditional(
            condition=Comparison(operators=("==",), operands=(zero, Constant(value=0))), then=Constant(value=0)
        ):
            inner = _quotient(Term(value.otherwise, term.negative), divisor)
            return None if inner is None or inner.upper.value != zero else replace(inner, guarded=True)
    parts = list(factors(value))
    if Factor(divisor, True) not in parts:
        return None
    parts.remove(Factor(divisor, True))
    return _Quotient(Term(product(parts), term.negative))
