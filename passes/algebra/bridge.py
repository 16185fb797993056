"""The way into SymPy and back: contexts are its variables, everything free of them is one opaque symbol.

SymPy reorders sums, cancels ``x / x`` and splits exponentials, so only what the algebra must see enters it, and what comes back is
recombined first (``recombine``). Functions it must not reason about (casts, comparisons, floor, clamps of a context) are
uninterpreted: a context inside them never separates, which is what keeps rounding where the text has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import sympy as sp

from einsum_compiler.ir.expression import (
    Binary,
    Call,
    Cast,
    Comparison,
    Conditional,
    Constant,
    Expression,
    Read,
    Unary,
    children,
    map_children,
    walk,
)
from einsum_compiler.passes.products import Factor, Term, factors, product, total

Symbolic = Any  # sympy has no types

_FUNCTIONS: dict[str, Callable[..., Symbolic]] = {
    "exp": sp.exp,
    "exp2": lambda x: sp.Pow(2, x),
    "log": sp.log,
    "sqrt": sp.sqrt,
    "rsqrt": lambda x: 1 / sp.sqrt(x),
    "sin": sp.sin,
    "cos": sp.cos,
}


class Bridge:
    """A dictionary between the subexpressions of one problem and SymPy's symbols.

    ``contexts`` are the reads that count as variables, with the assumption that they are positive where ``positive`` says so. What is
    ``invariant``, the same at all points of the reduction (a scale, a number), may stand on either side: ``invariants`` holds its symbols.
    """

    def __init__(
        self,
        contexts: tuple[Read, ...],
        positive: Callable[[Read], bool] = lambda read: False,
        invariant: Callable[[Expression], bool] = lambda node: isinstance(node, Constant),
    ) -> None:
        self._invariant = invariant
        self.invariants: set[Symbolic] = set()
        self.contexts: dict[Read, Symbolic] = {
            read: sp.Symbol(f"d{i}", real=True, **({"positive": True} if positive(read) else {}))
            for i, read in enumerate(contexts)
        }
        self._opaque: dict[Expression, Symbolic] = {}
        self._meaning: dict[Symbolic, Expression] = {s: read for read, s in self.contexts.items()}
        self._functions: dict[str, Callable[[tuple[Expression, ...]], Expression]] = {}

    def depends(self, node: Expression) -> bool:
        """Whether a context occurs in the expression."""
        return any(n in self.contexts for n in walk(node) if isinstance(n, Read))

    def into(self, node: Expression) -> Symbolic:
        """The SymPy form of an expression."""
        if isinstance(node, Read) and node in self.contexts:
            return self.contexts[node]
        if isinstance(node, Constant) and isinstance(node.value, int) and not isinstance(node.value, bool):
            return sp.Integer(node.value)
        if not self.depends(node):
            return self._symbol(node)
        if isinstance(node, Binary) and node.operator in ("+", "-", "*", "/", "**"):
            return self._binary(node)
        if isinstance(node, Unary) and node.operator == "-":
            return -self.into(node.operand)
        if isinstance(node, Call) and node.function in _FUNCTIONS:
            return _FUNCTIONS[node.function](self.into(node.arguments[0]))
        return self._uninterpreted(node)

    def _binary(self, node: Binary) -> Symbolic:
        left, right = self.into(node.left), self.into(node.right)
        if node.operator == "+":
            return left + right
        if node.operator == "-":
            return left - right
        if node.operator == "*":
            return left * right
        if node.operator == "/":
            return left / right
        return left**right

    def _symbol(self, node: Expression) -> Symbolic:
        if node not in self._opaque:
            symbol = sp.Symbol(f"x{len(self._opaque)}", real=True)
            self._opaque[node] = symbol
            if self._invariant(node):
                self.invariants.add(symbol)
            self._meaning[symbol] = node
        return self._opaque[node]

    def _uninterpreted(self, node: Expression) -> Symbolic:
        """A function of its children that SymPy knows nothing about."""
        parts = children(node)
        name = describe(node)

        def rebuild(arguments: tuple[Expression, ...]) -> Expression:
            given = iter(arguments)
            return map_children(node, lambda _: next(given))

        self._functions[name] = rebuild
        return sp.Function(name)(*(self.into(part) for part in parts))

    def out(self, value: Symbolic, meaning: Mapping[Symbolic, Expression] | None = None) -> Expression:
        """The expression of a SymPy form; ``meaning`` says what further symbols stand for, before what they stand for here."""
        if meaning is not None:
            inner = Bridge(())
            inner._meaning = {**self._meaning, **meaning}
            inner._functions = self._functions
            return inner.out(value)
        if value in self._meaning:
            return self._meaning[value]
        if value.is_Integer:
            return Constant(int(value))
        if value.is_Rational:
            return Binary("/", Constant(int(value.p)), Constant(int(value.q)))
        if value.is_Number:
            return Constant(float(value))
        if value.is_Add:
            return self._sum(value)
        if value.is_Mul:
            return self._product(value)
        if isinstance(value, sp.exp):
            return Call("exp", (self.out(value.args[0]),))
        if value.is_Pow:
            return self._power(value)
        if isinstance(value, sp.log):
            return Call("log", (self.out(value.args[0]),))
        if isinstance(value, (sp.sin, sp.cos)):
            return Call(type(value).__name__, (self.out(value.args[0]),))
        rebuild = self._functions.get(value.func.__name__)
        assert rebuild is not None, f"no expression for {value}"
        return rebuild(tuple(self.out(a) for a in value.args))

    def _sum(self, value: Symbolic) -> Expression:
        terms: list[Term] = []
        for part in value.as_ordered_terms():
            negative = part.could_extract_minus_sign()
            terms.append(Term(self.out(-part if negative else part), negative))
        # A sum that begins with a positive term reads better, and the order of the others is that of the symbols.
        terms.sort(key=lambda t: t.negative)
        return total(terms)

    def _product(self, value: Symbolic) -> Expression:
        if value.could_extract_minus_sign():
            return product((Factor(Constant(-1)), *factors(self.out(-value))))
        above, below = sp.fraction(value)
        parts: list[Factor] = []
        for side, inverse in ((above, False), (below, True)):
            for part in sp.Mul.make_args(side):
                if part != 1:
                    parts.append(Factor(self.out(part), inverse))
        return product(parts)

    def _power(self, value: Symbolic) -> Expression:
        base, exponent = value.args
        if exponent == sp.Rational(1, 2):
            return Call("sqrt", (self.out(base),))
        if exponent == sp.Rational(-1, 2):
            return Call("rsqrt", (self.out(base),))
        if base == 2 and not exponent.is_number:
            return Call("exp2", (self.out(exponent),))
        if exponent.is_number and exponent < 0:
            return Binary("/", Constant(1), self.out(base**-exponent))
        return Binary("**", self.out(base), self.out(exponent))


def describe(node: Expression) -> str:
    """The name under which a refusal speaks of a function SymPy does not see into."""
    if isinstance(node, Call):
        return node.function
    if isinstance(node, Cast):
        return f"cast_{node.dtype}"
    if isinstance(node, Conditional):
        return "if"
    if isinstance(node, Comparison):
        return "compare_" + "_".join(
            {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne"}[o] for o in node.operators
        )
    return type(node).__name__.lower()
