"""Quotients and remainders of integer sums by one divisor, in the form that shows most.

    (s*q + e) // s  =  q + e // s        (s*q + e) % s  =  e % s        s * (e // s) + e % s  =  e        (a + b % s) % s  =  (a + b) % s

Law: division with remainder.
"""

from __future__ import annotations

from einsum_compiler.ir.expression import Binary, Constant, Expression, Rank, Read, walk
from einsum_compiler.passes.analysis.affine import Affine, is_nonnegative, reopened, term
from einsum_compiler.passes.analysis.affine import remainder as remainder_by_number


def times(form: Affine, factor: Expression) -> Affine:
    """The form by a factor: a number goes into the coefficients, another one stands before every term."""
    if isinstance(factor, Constant) and isinstance(factor.value, int):
        return form * factor.value
    constant = term(factor) * form.constant
    for node, coefficient in form.terms:
        constant += term(Binary("*", factor, node)) * coefficient
    return constant


def divided(form: Affine, divisor: Expression) -> tuple[Affine, Affine]:
    """``(quotient, rest)`` with form = divisor * quotient + rest, for a divisor that is no number; products with it are in the quotient."""
    whole, rest = Affine(), Affine((), form.constant)
    for node, coefficient in form.terms:
        other = _other_factor(node, divisor)
        if other is None:
            rest += term(node) * coefficient
        else:
            whole += reopened(other) * coefficient
    return whole, rest


def quotient(form: Affine, divisor: Expression) -> Affine:
    """``form // divisor``."""
    form = closed(form)
    if isinstance(divisor, Constant) and isinstance(divisor.value, int):
        return form // divisor.value
    whole, rest = divided(form, divisor)
    return whole + term(Binary("//", rest.expression(), divisor)) if rest != Affine() else whole


def remainder(form: Affine, divisor: Expression) -> Affine:
    """``form % divisor``."""
    while inner := _inner_remainder(form, divisor):
        node, coefficient = inner
        form = form - term(node) * coefficient + reopened(node.left) * coefficient
    form = closed(form)
    if isinstance(divisor, Constant) and isinstance(divisor.value, int):
        return remainder_by_number(form, divisor.value)
    rest = divided(form, divisor)[1]
    return term(Binary("%", rest.expression(), divisor)) if rest != Affine() else rest


def closed(form: Affine) -> Affine:
    """A form without remainders that cancel a quotient or their own dividend."""
    for node, coefficient in form.terms:
        match node:
            case Binary(operator="%", left=dividend, right=divisor):
                whole = times(term(Binary("//", dividend, divisor)), divisor)
                other = form + (reopened(dividend) - whole - term(node)) * coefficient
                if _size(other) < _size(form):
                    return closed(other)
    return form


def simplified(node: Expression) -> Expression:
    """An integer expression with its quotients and remainders in that form."""
    match node:
        case Binary(operator="//" | "%" as operator, left=left, right=right) if is_divisor(right):
            form = opened(left)
            return (quotient if operator == "//" else remainder)(form, right).expression()
        case Binary(operator="+" | "-" | "*"):
            return closed(opened(node)).expression()
    return node


def opened(node: Expression) -> Affine:
    """The affine form of an expression whose quotients and remainders are simplified."""
    match node:
        case Binary(operator="+", left=left, right=right):
            return opened(left) + opened(right)
        case Binary(operator="-", left=left, right=right):
            return opened(left) - opened(right)
        case Binary(operator="*", left=Constant(value=int()) as factor, right=right):
            return times(opened(right), factor)
        case Binary(operator="*", left=left, right=Constant(value=int()) as factor):
            return times(opened(left), factor)
        case Binary(operator="*", left=left, right=right) if is_divisor(left):
            return times(opened(right), left)
        case Binary(operator="*", left=left, right=right) if is_divisor(right):
            return times(opened(left), right)
        case Binary(operator="//" | "%"):
            return reopened(simplified(node))
    return reopened(node)


def is_divisor(node: Expression) -> bool:
    """Whether these laws hold for a divisor: they do for any that is one number, but a written one must be positive."""
    if isinstance(node, Constant):
        return isinstance(node.value, int) and not isinstance(node.value, bool) and node.value > 0
    return not any(isinstance(n, (Rank, Read)) for n in walk(node))


def is_positive(node: Expression) -> bool:
    """Whether a divisor is positive wherever something is divided by it: extents are no less than 0, and neither is what is made of them by these operators."""
    return is_divisor(node) and is_nonnegative(reopened(node))


def _other_factor(node: Expression, divisor: Expression) -> Expression | None:
    """The other factor of a product with the divisor."""
    if node == divisor:
        return Constant(1)
    match node:
        case Binary(operator="*", left=left, right=right):
            return right if left == divisor else left if right == divisor else None
    return None


def _inner_remainder(form: Affine, divisor: Expression) -> tuple[Binary, int] | None:
    """A term ``b % s`` whose divisor is a multiple of this one."""
    for node, coefficient in form.terms:
        if isinstance(node, Binary) and node.operator == "%":
            numbers = [n.value for n in (node.right, divisor) if isinstance(n, Constant) and isinstance(n.value, int)]
            if node.right == divisor or (len(numbers) == 2 and numbers[0] % numbers[1] == 0):
                return node, coefficient
    return None


def _size(form: Affine) -> tuple[int, int]:
    """Divisions, then terms."""
    divisions = sum(n.operator in ("//", "%") for t, _ in form.terms for n in walk(t) if isinstance(n, Binary))
    return divisions, len(form.terms)
