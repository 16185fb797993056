"""Tiles as boxes: how ranks are split, and the bounds of an integer expression over the inner coordinates.

The bounds of an expression over a box are again expressions, over the outer indices. Each operator has one rule, the
same that ``einsum_compiler.tile_lists`` applies to numbers at run time; together they make both a three-valued evaluation of
predicates: *no*, *yes* or *maybe* at the points of a tile.
"""

from __future__ import annotations

from dataclasses import dataclass

from einsum_compiler.ir.build import ranks_of
from einsum_compiler.ir.expression import (
    Binary,
    Call,
    Cast,
    Conditional,
    Constant,
    Expression,
    Membership,
    Parameter,
    Rank,
    Read,
    Unary,
    transform,
    walk,
)
from einsum_compiler.ir.operators import FUNCTIONS
from einsum_compiler.ir.types import is_integer
from einsum_compiler.passes.analysis.affine import Affine, maximum, minimum, remainder, term


@dataclass(frozen=True, slots=True)
class Split:
    """``rank -> outer*size + inner``. Tiles of one coordinate have size 1, and ``outer`` may be the rank itself."""

    rank: str
    outer: str
    size: int


@dataclass(frozen=True, slots=True)
class NotAffine:
    """No closed form: the reason names the term that has none, as a person would write it."""

    reason: str


class Opaque(Exception):
    """A term without an affine form or without bounds over a box; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Box:
    """A tile of the stream rank and of every other rank. A rank that no split names is an outer index itself.

    ``dtypes`` gives the types of parameters and tensors; those it lacks are integers.
    """

    stream: Split
    others: tuple[Split, ...]
    dtypes: tuple[tuple[str, str], ...] = ()

    def split(self, rank: str) -> Split:
        found = (s for s in (self.stream, *self.others) if s.rank == rank)
        return next(found, Split(rank, rank, 1))

    def streams(self, node: Expression) -> bool:
        """Whether the value depends on the coordinate of the stream."""
        return self.stream.rank in ranks_of(node)

    def varies(self, node: Expression) -> bool:
        """Whether the value differs between the points of a tile, or between tiles of the stream."""
        return any(r == self.stream.rank or self.split(r).size > 1 for r in ranks_of(node))

    def outer(self, node: Expression) -> Expression:
        """A value that does not vary, over the outer indices."""

        def change(n: Expression) -> Expression:
            return Rank(self.split(n.name).outer) if isinstance(n, Rank) else n

        return transform(node, change)

    def is_real(self, node: Expression) -> bool:
        """Whether the value may be other than an integer."""
        match node:
            case Constant(value=value):
                return isinstance(value, float)
            case Parameter(name=name) | Read(tensor=name):
                dtype = dict(self.dtypes).get(name, "i64")
                return not (is_integer(dtype) or dtype in ("int", "bool"))
            case Cast(dtype=dtype):
                return not is_integer(dtype)
            case Binary(operator=operator, left=left, right=right):
                return operator in ("/", "**") or self.is_real(left) or self.is_real(right)
            case Unary(operand=operand):
                return self.is_real(operand)
            case Conditional(then=then, otherwise=otherwise):
                return self.is_real(then) or self.is_real(otherwise)
            case Call(function=function, arguments=arguments):
                real = function not in FUNCTIONS or FUNCTIONS[function].kind == "real"
                return real or any(self.is_real(a) for a in arguments)
            case _:
                return False


def affine(node: Expression, box: Box) -> Affine:
    """The value as an affine form whose terms are ranks, values that do not vary, or operators below.

    Raises ``Opaque`` for data (reads that vary) and for operators that have no rule.
    """
    if isinstance(node, Constant) and isinstance(node.value, int):
        return Affine((), int(node.value))
    if isinstance(node, Constant) and isinstance(node.value, float) and node.value.is_integer():
        return Affine((), int(node.value))
    match node:
        case Rank(name=name):
            return term(node if box.varies(node) else Rank(box.split(name).outer))
        case Unary(operator="-", operand=operand):
            return -affine(operand, box)
        case Binary(operator="+", left=left, right=right):
            return affine(left, box) + affine(right, box)
        case Binary(operator="-", left=left, right=right):
            return affine(left, box) - affine(right, box)
        case Binary(operator="*", left=left, right=right):
            return _product(node, affine(left, box), affine(right, box), box)
        case Binary(operator="//" | "%" as operator, left=left, right=right) if box.varies(node):
            return _division(node, operator, affine(left, box), affine(right, box), box)
        case Call(function="floor" | "ceil" as way, arguments=(Binary(operator="/", left=left, right=right),)) if (
            box.varies(node) and not box.is_real(left) and not box.is_real(right)
        ):
            dividend, divisor = affine(left, box), affine(right, box)
            if way == "floor":
                return _division(node, "//", dividend, divisor, box)
            return -_division(node, "//", -dividend, divisor, box)
        case Call(function="floor" | "ceil" | "round", arguments=(argument,)) if not box.is_real(argument):
            return affine(argument, box)
        case Cast(operand=operand, dtype=dtype) if is_integer(dtype) and not box.is_real(operand):
            return affine(operand, box)
    if not box.varies(node):
        return term(_integral(node, box))
    match node:
        case Call(function="max" | "min" as function, arguments=arguments):
            return term(Call(function, tuple(affine(a, box).expression() for a in arguments)))
        case Call(function="clamp", arguments=(value, low, high)):
            raised = Call("max", (affine(value, box).expression(), affine(low, box).expression()))
            return term(Call("min", (raised, affine(high, box).expression())))
        case Call(function="relu", arguments=(value,)):
            return term(Call("max", (affine(value, box).expression(), Constant(0))))
        case Call(function="abs", arguments=(value,)):
            inner = affine(value, box)
            return term(Call("max", (inner.expression(), (-inner).expression())))
        case Conditional(condition=condition, then=then, otherwise=otherwise):
            return term(Conditional(condition, affine(then, box).expression(), affine(otherwise, box).expression()))
    raise Opaque(refusal(node, box))


def bound(value: Affine, upper: bool, box: Box) -> Affine:
    """The largest (or smallest) value over the inner coordinates, in outer indices; exact if no rank occurs twice.

    The value must not depend on the stream. Raises ``Opaque`` for a term without a rule.
    """
    total = Affine((), value.constant)
    for node, coefficient in value.terms:
        total = total + _bound_term(node, upper == (coefficient > 0), box) * coefficient
    return total


def refusal(node: Expression, box: Box) -> str:
    """Why a value that varies has no closed form: its first read of data, or its operator."""
    from einsum_compiler.ir.printer import print_expression

    for n in walk(node):
        if isinstance(n, (Read, Membership)) and box.varies(n):
            return f"'{print_expression(n)}' is data that varies within a tile"
    return f"'{print_expression(node)}' is not affine in the ranks"


def _integral(node: Expression, box: Box) -> Expression:
    """A value that does not vary; whole real values are cast so that integer division is integer division."""
    outer = box.outer(node)
    whole = isinstance(node, Call) and node.function in ("floor", "ceil", "round")
    return Cast(outer, "i64") if whole and box.is_real(node) else outer


def _product(node: Expression, left: Affine, right: Affine, box: Box) -> Affine:
    if not left.terms:
        return right * left.constant
    if not right.terms:
        return left * right.constant
    if box.varies(node):
        raise Opaque(refusal(node, box))
    return term(_integral(node, box))


def _division(node: Expression, operator: str, value: Affine, divisor: Affine, box: Box) -> Affine:
    if divisor.terms or divisor.constant <= 0 or any(box.is_real(t) for t, _ in value.terms):
        raise Opaque(refusal(node, box))
    size = divisor.constant
    if operator == "//":
        return value // size
    return remainder(value, size)


def _bound_term(node: Expression, upper: bool, box: Box) -> Affine:
    if isinstance(node, Rank):
        split = box.split(node.name)
        if not box.varies(node):
            return term(node)
        return term(Rank(split.outer)) * split.size + (split.size - 1 if upper else 0)
    if not box.varies(node):
        return term(node)
    match node:
        case Binary(operator="//", left=left, right=Constant(value=int() as divisor)):
            return bound(affine(left, box), upper, box) // divisor
        case Binary(operator="%", left=left, right=Constant(value=int() as divisor)):
            return _bound_remainder(affine(left, box), divisor, upper, box)
        case Call(function="max", arguments=arguments):
            return maximum(*(bound(affine(a, box), upper, box) for a in arguments))
        case Call(function="min", arguments=arguments):
            return minimum(*(bound(affine(a, box), upper, box) for a in arguments))
        case Conditional(condition=condition, then=then, otherwise=otherwise):
            branches = [bound(affine(b, box), upper, box) for b in (then, otherwise)]
            if not box.varies(condition):
                return term(Conditional(box.outer(condition), branches[0].expression(), branches[1].expression()))
            return maximum(*branches) if upper else minimum(*branches)
        case _:
            raise Opaque(refusal(node, box))


def _bound_remainder(value: Affine, divisor: int, upper: bool, box: Box) -> Affine:
    match value:
        case Affine(terms=((Rank() as rank, 1),), constant=0) if divisor % box.split(rank.name).size == 0:
            # Whole tiles between two multiples of the divisor: no tile wraps around.
            split = box.split(rank.name)
            first = remainder(term(Rank(split.outer)) * split.size, divisor)
            return first + (split.size - 1 if upper else 0)
        case _:
            return Affine((), divisor - 1 if upper else 0)
