"""A predicate as a union of conjunctions of ``affine >= 0``, each solved for the coordinate of the stream.

``abs``, ``min``, ``max``, ``clamp`` and ``if`` around the stream's coordinate become conjunctions or unions, and floor divisions around
it are inverted: ``floor(x / k) <= y`` is ``x <= k*y + k - 1``. What stays under a remainder is *periodic*.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, product

from einsum_compiler.ir.expression import (
    Binary,
    Call,
    Cast,
    Comparison,
    Conditional,
    Constant,
    Expression,
    Rank,
    Unary,
)
from einsum_compiler.passes.analysis.affine import Affine, reopened, term
from einsum_compiler.passes.analysis.tile_box import Box, Opaque, affine, refusal

NEGATED = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}

# A union of more conjunctions than this is cheaper as a list of tiles than as ranges clipped against each other.
MOST_CONJUNCTIONS = 16

# Real bounds are cut here before they become integers, so that an infinite window is a legal one.
LARGEST_COORDINATE = 2**31


@dataclass(frozen=True, slots=True)
class Linear:
    """``coefficient * stream + rest >= 0``; with coefficient 0 a condition on the other ranks."""

    coefficient: int
    rest: Affine


@dataclass(frozen=True, slots=True)
class Guard:
    """A condition that is the same for every point that the stream meets."""

    condition: Expression


@dataclass(frozen=True, slots=True)
class Periodic:
    """``form >= 0`` where the stream's coordinate stands below a remainder, ``node``."""

    form: Affine
    node: Expression


Atom = Linear | Guard | Periodic
Conjunction = tuple[Atom, ...]


def conjunctions(predicate: Expression, box: Box) -> tuple[Conjunction, ...]:
    """The conjunctions whose union is the predicate; raises ``Opaque`` naming the first term that has no affine form."""
    return _normal(predicate, True, box)


def _normal(node: Expression, wanted: bool, box: Box) -> tuple[Conjunction, ...]:
    match node:
        case Constant(value=bool() as value):
            return ((),) if value == wanted else ()
        case Unary(operator="not", operand=operand):
            return _normal(operand, not wanted, box)
        case Binary(operator="and" | "or" as operator, left=left, right=right):
            parts = (_normal(left, wanted, box), _normal(right, wanted, box))
            return _both(*parts) if (operator == "and") == wanted else _either(*parts)
        case Conditional(condition=condition, then=then, otherwise=otherwise):
            return _either(
                _both(_normal(condition, True, box), _normal(then, wanted, box)),
                _both(_normal(condition, False, box), _normal(otherwise, wanted, box)),
            )
    if not box.varies(node):
        return ((Guard(box.outer(node if wanted else negation(node))),),)
    if not isinstance(node, Comparison):
        raise Opaque(refusal(node, box))
    join = _both if wanted else _either
    pairs = zip(node.operators, pairwise(node.operands), strict=True)
    return join(*(_compare(op if wanted else NEGATED[op], left, right, box) for op, (left, right) in pairs))


def negation(node: Expression) -> Expression:
    """``not node``, with the operator of a comparison turned round."""
    if isinstance(node, Comparison) and len(node.operators) == 1:
        return Comparison((NEGATED[node.operators[0]],), node.operands)
    return Unary("not", node)


def _both(*parts: tuple[Conjunction, ...]) -> tuple[Conjunction, ...]:
    joined = tuple(tuple(dict.fromkeys(atom for c in choice for atom in c)) for choice in product(*parts))
    return _limited(joined)


def _either(*parts: tuple[Conjunction, ...]) -> tuple[Conjunction, ...]:
    return _limited(tuple(dict.fromkeys(c for part in parts for c in part)))


def _limited(found: tuple[Conjunction, ...]) -> tuple[Conjunction, ...]:
    if len(found) > MOST_CONJUNCTIONS:
        raise Opaque(f"the predicate is a union of more than {MOST_CONJUNCTIONS} conjunctions")
    return found


def _compare(operator: str, left: Expression, right: Expression, box: Box) -> tuple[Conjunction, ...]:
    if not box.varies(Comparison((operator,), (left, right))):
        return ((Guard(box.outer(Comparison((operator,), (left, right)))),),)
    difference = affine(right, box) - affine(left, box)
    match operator:
        case "<":
            return _at_least_zero(difference, True, box)
        case "<=":
            return _at_least_zero(difference, False, box)
        case ">":
            return _at_least_zero(-difference, True, box)
        case ">=":
            return _at_least_zero(-difference, False, box)
        case "==":
            return _both(_at_least_zero(difference, False, box), _at_least_zero(-difference, False, box))
        case _:
            return _either(_at_least_zero(difference, True, box), _at_least_zero(-difference, True, box))


def _at_least_zero(form: Affine, strict: bool, box: Box) -> tuple[Conjunction, ...]:
    """``form >= 0`` or ``form > 0``, the real terms of the form rounded to an integer."""
    real = tuple((t, c) for t, c in form.terms if box.is_real(t))
    whole = Affine(tuple((t, c) for t, c in form.terms if not box.is_real(t)), form.constant)
    if not real:
        return _solved(whole - 1 if strict else whole, box)
    for node, _ in real:
        if box.varies(node):
            raise Opaque(refusal(node, box))
    # i + r > 0 is i + ceil(r) - 1 >= 0, and i + r >= 0 is i + floor(r) >= 0.
    cut = Call("clamp", (Affine(real).expression(), Constant(-LARGEST_COORDINATE), Constant(LARGEST_COORDINATE)))
    rounded = term(Cast(Call("ceil" if strict else "floor", (cut,)), "i64"))
    return _solved(whole + rounded - (1 if strict else 0), box)


def _solved(form: Affine, box: Box) -> tuple[Conjunction, ...]:
    """The conjunctions of ``form >= 0`` with the stream's coordinate brought out of every operator that can be inverted."""
    streaming = [(node, c) for node, c in form.terms if box.streams(node)]
    for node, coefficient in streaming:
        rest = form - term(node) * coefficient
        match node:
            case Call(function="max" | "min" as function, arguments=arguments):
                choices = (_solved(rest + reopened(a) * coefficient, box) for a in arguments)
                # c * max(a, b) + r >= 0 asks for one of a and b if c > 0, for both if c < 0.
                return (_either if (function == "max") == (coefficient > 0) else _both)(*choices)
            case Conditional(condition=condition, then=then, otherwise=otherwise):
                taken, skipped = (_solved(rest + reopened(b) * coefficient, box) for b in (then, otherwise))
                return _either(
                    _both(_normal(condition, True, box), taken), _both(_normal(condition, False, box), skipped)
                )
    if not streaming:
        return ((Linear(0, form),),)
    (node, coefficient), rest = streaming[0], form - term(streaming[0][0]) * streaming[0][1]
    if len(streaming) == 1:
        match node:
            case Rank():
                return ((Linear(coefficient, rest),),)
            case Binary(operator="//", left=left, right=Constant(value=int() as divisor)):
                if coefficient > 0:  # c * floor(x / k) + r >= 0
                    return _solved(reopened(left) + rest // coefficient * divisor, box)
                return _solved(rest // -coefficient * divisor + (divisor - 1) - reopened(left), box)
    periodic = next((n for n, _ in streaming if not isinstance(n, Rank)), node)
    return ((Periodic(form, periodic),),)
