"""The meaning of equations point by point in plain Python, with None for an empty point, and random equations to try it on.

Slow and short on purpose: it shares no code with the evaluator, neither tensors nor masks.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Mapping

from einsum_compiler.ir.cascade import Equation, Target
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
    Unary,
    children,
    walk,
)

Number = bool | int | float
Empty = Number | None
Table = dict[tuple[int, ...], Empty]  # a tensor: a point that it lacks is outside of it

COMPARE: dict[str, Callable[[Number, Number], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}


def _divide(a: Number, b: Number) -> float:
    if b != 0:
        return a / b
    return math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a) * math.copysign(1, b)


def _exp(x: Number) -> float:
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def _log(x: Number) -> float:
    return math.nan if x < 0 or math.isnan(x) else -math.inf if x == 0 else math.log(x)


def _extreme(pick: Callable[[Number, Number], Number]) -> Callable[..., Number]:
    def apply(*values: Number) -> Number:
        result = values[0]
        for value in values[1:]:
            result = math.nan if math.isnan(result) or math.isnan(value) else pick(result, value)
        return result

    return apply


STRICT: dict[str, Callable[..., Number]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": _divide,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "exp": _exp,
    "log": _log,
    "abs": abs,
    "max": _extreme(max),
    "min": _extreme(min),
}
JOIN: dict[str, tuple[Number, Callable[[Number, Number], Number]]] = {
    "sum": (0, STRICT["+"]),
    "prod": (1, STRICT["*"]),
    "max": (-math.inf, STRICT["max"]),
    "min": (math.inf, STRICT["min"]),
}


def value(node: Expression, point: Mapping[str, int], tables: Mapping[str, Table], extents: Mapping[str, int]) -> Empty:
    """The value at one point; None if it is empty, or for a condition unknown."""

    def at(child: Expression) -> Empty:
        return value(child, point, tables, extents)

    match node:
        case Constant(value=constant):
            return constant
        case Rank(name=name):
            return point[name]
        case Extent(rank=rank):
            return extents[rank]
        case Read(tensor=tensor, indices=indices):
            place = tuple(at(i) for i in indices)
            return None if None in place else tables[tensor].get(place)  # type: ignore[arg-type]
        case Unary(operator=operator, operand=operand):
            inner = at(operand)
            return None if inner is None else (not inner) if operator == "not" else -inner
        case Binary(operator="and" | "or" as operator, left=left, right=right):
            decides = operator == "or"
            sides = [at(left), at(right)]
            if decides in [None if s is None else bool(s) for s in sides]:
                return decides
            return None if None in sides else not decides
        case Comparison(operators=operators, operands=operands):
            a, b = map(at, operands)
            return None if a is None or b is None else COMPARE[operators[0]](a, b)
        case Conditional(condition=condition, then=then, otherwise=otherwise):
            taken = at(condition)
            return None if taken is None else at(then if taken else otherwise)
        case Call(function="default", arguments=(first, second)):
            found = at(first)
            return at(second) if found is None else found
        case Call(function=name) | Binary(operator=name):
            strict = [at(c) for c in children(node)]
            return None if None in strict else STRICT[name](*strict)  # type: ignore[arg-type]
        case Reduction(operator=operator, ranks=ranks, body=body, where=where):
            result, join = JOIN["sum" if operator == "mean" else operator]
            count = 0
            for inner_point in itertools.product(*(range(extents[r]) for r in ranks)):
                here = {**point, **dict(zip(ranks, inner_point, strict=True))}
                if where is not None and value(where, here, tables, extents) is not True:
                    continue
                term = value(body, here, tables, extents)
                if term is not None:
                    result, count = join(result, term), count + 1
            return _divide(result, count) if operator == "mean" else result
    raise AssertionError(node)


def table(equation: Equation, tables: Mapping[str, Table], extents: Mapping[str, int]) -> Table:
    """The tensor of an equation whose filter concerns the left side only."""
    ranks = equation.target.ranks
    found: Table = {}
    for place in itertools.product(*(range(extents[r]) for r in ranks)):
        point = dict(zip(ranks, place, strict=True))
        kept = equation.where is None or value(equation.where, point, tables, extents) is True
        found[place] = value(equation.value, point, tables, extents) if kept else None
    return found


class Dice:
    """Random expressions over tensors with the ranks given; every rank that occurs is in scope."""

    def __init__(self, source: random.Random, tensors: Mapping[str, tuple[str, ...]], ranks: tuple[str, ...]) -> None:
        self.random = source
        self.tensors = dict(tensors)
        self.ranks = ranks

    def equation(self, name: str, left: tuple[str, ...]) -> Equation:
        where = self.condition(left, 1) if self.random.random() < 0.5 else None
        value = self.number(left, 3)
        bound = {r for n in walk(value) if isinstance(n, Reduction) for r in n.ranks}
        if where is not None and bound & {n.name for n in walk(where) if isinstance(n, Rank)}:
            where = None  # it would act inside the reduction
        equation = Equation((Target(name, tuple(map(Rank, left))),), value, where)
        self.tensors[name] = left
        return equation

    def number(self, scope: tuple[str, ...], depth: int) -> Expression:
        def below() -> Expression:
            return self.number(scope, depth - 1)

        if depth == 0:
            return (
                self.read(scope) if self.random.random() < 0.85 else Constant(self.random.choice([0.0, 1.0, 2.0, -0.5]))
            )
        kind = self.random.randrange(9)
        if kind < 3:
            operator, left, right = self.random.choice("+-**/"), below(), below()
            if operator == "/":  # x / 0 depends on the sign of the zero, which the order of a sum decides
                zero = Constant(0.0)
                right = Conditional(Comparison(("==",), (right, zero)), Constant(0.5), right)
            return Binary(operator, left, right)
        if kind == 3:
            return Call(self.random.choice(["exp", "abs", "log"]), (below(),))
        if kind == 4:
            return Call(self.random.choice(["max", "min", "default"]), (below(), below()))
        if kind == 5:
            return Conditional(self.condition(scope, 1), below(), below())
        return self.reduction(scope, depth)

    def reduction(self, scope: tuple[str, ...], depth: int) -> Expression:
        bound = tuple(self.random.sample(self.ranks, self.random.choice([1, 1, 2])))
        inner = tuple(dict.fromkeys((*scope, *bound)))
        where = self.condition(inner, 1) if self.random.random() < 0.4 else None
        operator = self.random.choice(["sum", "sum", "sum", "max", "min", "prod", "mean"])
        return Reduction(operator, bound, self.number(inner, depth - 1), where)

    def condition(self, scope: tuple[str, ...], depth: int) -> Expression:
        if depth and self.random.random() < 0.4:
            sides = self.condition(scope, depth - 1), self.condition(scope, depth - 1)
            return (
                Unary("not", sides[0])
                if self.random.random() < 0.2
                else Binary(self.random.choice(["and", "or"]), *sides)
            )
        if scope and self.random.random() < 0.7:
            a, b = self.index(scope), self.index(scope)
        else:
            a, b = self.read(scope), Constant(0)
        return Comparison((self.random.choice(["<", "<=", "==", "!="]),), (a, b))

    def index(self, scope: tuple[str, ...]) -> Expression:
        rank = Rank(self.random.choice(scope))
        shift = Constant(self.random.choice([1, 2]))
        forms = (rank, Binary("-", rank, shift), Binary("+", rank, shift), Binary("//", rank, Constant(2)))
        return self.random.choice(
            (*forms, Binary("%", rank, Constant(2)), Binary("-", rank, Rank(self.random.choice(scope))))
        )

    def read(self, scope: tuple[str, ...]) -> Expression:
        name = self.random.choice(list(self.tensors))
        indices: list[Expression] = []
        for rank in self.tensors[name]:
            if rank in scope and self.random.random() < 0.75:
                indices.append(Rank(rank))
            else:
                # A bare rank may index only an axis of its own extent.
                index = self.index(scope) if scope else Constant(0)
                indices.append(Binary("+", index, Constant(0)) if isinstance(index, Rank) else index)
        return Read(name, tuple(indices))
