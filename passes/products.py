"""Products and sums as lists: factors with their side of the fraction bar, terms with their sign, and back to expressions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from einsum_compiler.ir.expression import Binary, Constant, Expression, Unary


@dataclass(frozen=True, slots=True)
class Factor:
    """One factor of a product; ``inverse`` if it stands below the fraction bar."""

    value: Expression
    inverse: bool = False


@dataclass(frozen=True, slots=True)
class Term:
    """One term of a sum; ``negative`` if it is subtracted."""

    value: Expression
    negative: bool = False


def factors(node: Expression, inverse: bool = False) -> tuple[Factor, ...]:
    """The factors of a product or quotient, left to right; a sign is the factor -1."""
    if isinstance(node, Binary) and node.operator in ("*", "/"):
        return factors(node.left, inverse) + factors(node.right, inverse != (node.operator == "/"))
    if isinstance(node, Unary) and node.operator == "-":
        return (Factor(Constant(-1), inverse), *factors(node.operand, inverse))
    return (Factor(node, inverse),)


def product(parts: Iterable[Factor]) -> Expression:
    """The product of the factors in their order; 1 of none.

    A factor below the bar that comes first divides 1.
    """
    result: Expression | None = None
    negative = False
    for part in parts:
        if part.value == Constant(-1):
            negative = not negative
        elif result is None:
            result = Binary("/", Constant(1), part.value) if part.inverse else part.value
        else:
            result = Binary("/" if part.inverse else "*", result, part.value)
    if result is None:
        return Constant(-1 if negative else 1)
    return negate(result) if negative else result


def negate(node: Expression) -> Expression:
    """``-x``; a negative literal stays one constant."""
    if isinstance(node, Constant) and not isinstance(node.value, bool):
        return Constant(-node.value)
    return Unary("-", node)


def terms(node: Expression, negative: bool = False) -> tuple[Term, ...]:
    """The terms of a sum or difference, left to right."""
    if isinstance(node, Binary) and node.operator in ("+", "-"):
        return terms(node.left, negative) + terms(node.right, negative != (node.operator == "-"))
    if isinstance(node, Unary) and node.operator == "-":
        return terms(node.operand, not negative)
    return (Term(node, negative),)


def total(parts: Sequence[Term]) -> Expression:
    """The sum of the terms in their order; 0 of none."""
    result: Expression | None = None
    for part in parts:
        if result is None:
            result = negate(part.value) if part.negative else part.value
        else:
            result = Binary("-" if part.negative else "+", result, part.value)
    return Constant(0) if result is None else result
