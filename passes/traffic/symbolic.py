"""Traffic of a kernel as formulas in the extents (``N``), scalars and tile sizes.

Laws: the coordinates ``T*o + a`` of tiles ``lo <= o < hi`` are the interval ``[T*lo, T*hi)``, so a sum over tiles of clipped counts is one clipped count;
a full range followed by the partial range that continues it is one range, since what is tested in partial tiles holds in full ones.
What has no such form is left as a ``Sum``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sympy as sp
from sympy.logic.boolalg import BooleanAtom, BooleanFunction

from einsum_compiler.ir.expression import (
    Binary,
    Call,
    Comparison,
    Conditional,
    Constant,
    Expression,
    Extent,
    Parameter,
    Rank,
    Read,
    Unary,
    walk,
)
from einsum_compiler.ir.tile import Range, TileKernel, TileList
from einsum_compiler.passes.traffic.arrays import UnknownValues, Values
from einsum_compiler.passes.traffic.counting import Group, groups_of
from einsum_compiler.passes.traffic.intervals import Interval
from einsum_compiler.passes.traffic.space import Access, Space, accesses

Formula = Any  # sympy has no types


@dataclass(frozen=True)
class TensorFormula:
    """Elements loaded and stored, as SymPy expressions; None where they depend on values of tensors (``reason``)."""

    loaded: Formula | None
    stored: Formula | None
    reason: str = ""


def symbolic(kernel: TileKernel) -> dict[str, TensorFormula]:
    """Formulas for the traffic of every operand: at given sizes (``evaluated``) they equal the counts of ``traffic_of``."""
    space = symbolic_space(kernel)
    found = {o.name: TensorFormula(sp.Integer(0), sp.Integer(0)) for o in (*kernel.inputs, *kernel.outputs)}
    for access in merged(list(accesses(kernel))):
        before = found[access.tensor]
        try:
            number = AccessFormulas(space, access).elements()
            reason = before.reason
        except UnknownValues as unknown:
            number, reason = None, before.reason or f"{access.tensor}: {unknown}"
        loaded, stored = before.loaded, before.stored
        if access.stored:
            stored = None if stored is None or number is None else stored + number
        else:
            loaded = None if loaded is None or number is None else loaded + number
        found[access.tensor] = TensorFormula(loaded, stored, reason)
    return found


def symbolic_space(kernel: TileKernel) -> Space:
    """The programs of a kernel at no sizes: for what follows from its text alone."""
    return Space(kernel, Values.of(kernel, {}, {}, {}), {p.rank: 0 for p in kernel.program})


def evaluated(formula: Formula, sizes: Mapping[str, int], scalars: Mapping[str, Any] | None = None) -> int:
    """The value of a formula at extents by rank and scalars by name."""
    from einsum_compiler.passes.traffic.formula_values import value

    return int(value(formula, {**{r.upper(): n for r, n in sizes.items()}, **(scalars or {})}))


def merged(found: list[Access]) -> list[Access]:
    """The accesses with a full range and the partial range that continues it as one."""
    result: list[Access] = []
    for access in found:
        for position, other in enumerate(result):
            same = (other.tensor, other.stored, other.indices, other.loop) == (
                access.tensor, access.stored, access.indices, access.loop,
            )  # fmt: skip
            if (
                same
                and isinstance(other.part, Range)
                and isinstance(access.part, Range)
                and _continues(other.part, access.part)
            ):
                part = Range(other.part.lower, access.part.upper, True)
                result[position] = Access(
                    access.tensor, access.stored, access.axes, access.indices, access.conditions, access.loop, part
                )
                break
        else:
            result.append(access)
    return result


def _continues(full: Range, partial: Range) -> bool:
    if full.partial or not partial.partial:
        return False
    zero = Constant(0)
    clipped = Call("max", (zero, full.upper))
    return partial.lower == full.upper or (full.lower == zero and partial.lower == clipped)


class AccessFormulas:
    """The formulas of one access."""

    def __init__(self, space: Space, access: Access) -> None:
        self.space, self.access = space, access
        self.kinds = {s.name: s.dtype for s in space.kernel.scalars}

    def elements(self, among: frozenset[str] | None = None, united: tuple[str, ...] = ()) -> Formula:
        """What all programs touch, repetitions included. ``among``: the programs of these ranks alone, if what is touched depends on no others;
        of ``united`` ranks the tiles of the loop that some program visits. Raises ``UnknownValues``.
        """
        access, kernel = self.access, self.space.kernel
        # Factors, each with the indices it depends on; a factor may know its own sum over one of them.
        groups = list(groups_of(self.space, access))
        factor = sp.Integer(1)
        if access.loop is not None:
            if isinstance(access.part, TileList) or access.part is None:
                raise UnknownValues("which tiles are visited is found at run time")
            lower, upper = self.of(access.part.lower), self.of(access.part.upper)
            moving = [g for g in groups if access.loop.rank in g.depends]
            groups = [g for g in groups if g not in moving]
            factor = self._over(access.loop.rank, lower, upper, moving, united)
        for program in reversed(kernel.program):
            if among is not None and program.rank not in among:
                continue
            count = self.of(program.count)
            symbol = self.index(program.rank)
            moving = [g for g in groups if program.rank in g.depends]
            groups = [g for g in groups if g not in moving]
            if factor.has(symbol) or any(g.depends - {program.rank} for g in moving):
                inner = factor * sp.Mul(*(self.count(g) for g in moving))
                factor = sp.Sum(inner, (symbol, 0, count - 1))
            else:
                factor = factor * self._over(program.rank, sp.Integer(0), count, moving)
        return factor * sp.Mul(*(self.count(g) for g in groups))

    def _over(
        self, rank: str, lower: Formula, upper: Formula, groups: list[Group], united: tuple[str, ...] = ()
    ) -> Formula:
        """The sum over tiles ``lower <= rank < upper`` of the product of the counts of some groups."""
        bounds = self._bounds(groups[0], rank) if len(groups) == 1 else None
        if groups and bounds is None:
            if united:
                raise UnknownValues("no formula is made of the union of what its programs touch")
            symbol = self.index(rank)
            inner = sp.Mul(*(self.count(g) for g in groups))
            return sp.Sum(inner, (symbol, lower, sp.Max(lower, upper) - 1))
        size = groups[0].axes[0].size if groups else 1
        interval = _interval(size, lower, upper, *(bounds or ([], [])))
        for name in united:
            (program,) = (p for p in self.space.kernel.program if p.rank == name)
            whole = interval.united(self.index(name), self.of(program.count))
            if whole is None:
                raise UnknownValues("no formula is made of the union of what its programs touch")
            interval = whole
        return interval.length

    def count(self, group: Group) -> Formula:
        """The coordinates that a group's conditions leave, at given indices."""
        size = sp.Mul(*(a.size for a in group.axes))
        if not group.conditions:
            return size
        if (bounds := self._bounds(group, None)) is not None:
            lower, upper = bounds
            return sp.Max(0, sp.Min(size, *upper) - sp.Max(0, *lower))
        holds = sp.And(*(self.of(c) for c in group.conditions))
        inner = sp.Piecewise((1, holds), (0, True))
        return sp.Sum(inner, *((self.index(a.rank), 0, a.size - 1) for a in group.axes)) if group.axes else inner

    def _bounds(self, group: Group, outer: str | None) -> tuple[list[Formula], list[Formula]] | None:
        """Lower and (exclusive) upper bounds that all conditions amount to for the axis, or for ``T*outer + axis``; None if they do not."""
        if len(group.axes) != 1:
            return None
        axis = group.axes[0]
        bounds: tuple[list[Formula], list[Formula]] = ([], [])
        place = self.index(axis.rank)
        coordinate = sp.Symbol("coordinate", integer=True)
        for condition in group.conditions:
            if not isinstance(condition, Comparison):
                return None
            links = zip(condition.operators, condition.operands, condition.operands[1:], strict=False)
            for operator, left, right in links:
                difference = sp.expand(self.of(right) - self.of(left))  # left < right
                if outer is not None:
                    difference = sp.expand(difference.subs(place, coordinate - axis.size * self.index(outer)))
                    if difference.has(self.index(outer)):
                        return None
                else:
                    difference = difference.subs(place, coordinate)
                slope = difference.coeff(coordinate, 1)
                rest = sp.expand(difference - slope * coordinate)
                if rest.has(coordinate) or slope not in (1, -1) or operator not in ("<", "<=", ">", ">="):
                    return None
                # slope * coordinate + rest > 0 (or >= 0; turned round for > and >=)
                strict = operator in ("<", ">")
                if operator in (">", ">="):
                    slope, rest = -slope, -rest
                if slope > 0:
                    bounds[0].append(-rest + (1 if strict else 0))
                else:
                    bounds[1].append(rest + (0 if strict else 1))
        return bounds

    # -- expressions

    def index(self, rank: str) -> Formula:
        return sp.Symbol(rank, integer=True, nonnegative=True)

    def of(self, node: Expression) -> Formula:
        """The SymPy form of a scalar expression. Raises ``UnknownValues`` for values of tensors."""
        for read in (n for n in walk(node) if isinstance(n, Read)):
            raise UnknownValues(f"it depends on the values of {read.tensor}")
        return self._of(node)

    def _of(self, node: Expression) -> Formula:
        match node:
            case Constant(value=value):
                return sp.true if value is True else sp.false if value is False else sp.sympify(value)
            case Extent(rank=rank):
                return sp.Symbol(rank.upper(), integer=True, nonnegative=True)
            case Parameter(name=name):
                return sp.Symbol(name, integer=True) if self.kinds.get(name) == "i64" else sp.Symbol(name, real=True)
            case Rank(name=name):
                return self.index(name)
            case Unary(operator="not", operand=operand):
                return sp.Not(self._of(operand))
            case Unary(operand=operand):
                return -self._of(operand)
            case Binary(operator=operator, left=left, right=right):
                return self._binary(operator, self._of(left), self._of(right))
            case Comparison(operators=operators, operands=operands):
                values = [self._of(o) for o in operands]
                links = zip(operators, values, values[1:], strict=False)
                return sp.And(*(_COMPARE[o](a, b) for o, a, b in links))
            case Conditional(condition=condition, then=then, otherwise=otherwise):
                branches = self._of(then), self._of(otherwise)
                holds = self._of(condition)
                if any(isinstance(b, (sp.core.relational.Relational, BooleanFunction, BooleanAtom)) for b in branches):
                    return sp.ITE(holds, *branches)
                return sp.Piecewise((branches[0], holds), (branches[1], True))
            case Call(function=function, arguments=arguments) if function in _FUNCTIONS:
                return _FUNCTIONS[function](*map(self._of, arguments))
        raise UnknownValues(f"no formula is made of {node}")

    @staticmethod
    def _binary(operator: str, left: Formula, right: Formula) -> Formula:
        match operator:
            case "+":
                return left + right
            case "-":
                return left - right
            case "*":
                return left * right
            case "/":
                return left / right
            case "//":
                return sp.floor(left / right)
            case "%":
                return sp.Mod(left, right)
            case "and":
                return sp.And(left, right)
            case "or":
                return sp.Or(left, right)
        raise UnknownValues(f"no formula is made of the operator {operator}")


_COMPARE = {"<": sp.Lt, "<=": sp.Le, ">": sp.Gt, ">=": sp.Ge, "==": sp.Eq, "!=": sp.Ne}
_FUNCTIONS = {
    "min": sp.Min, "max": sp.Max, "abs": sp.Abs, "floor": sp.floor, "ceil": sp.ceiling, "default": lambda x, _: x,
    "clamp": lambda x, low, high: sp.Min(sp.Max(x, low), high),
}  # fmt: skip


def _interval(size: int, lower: Formula, upper: Formula, least: list[Formula], most: list[Formula]) -> Interval:
    """The coordinates of tiles ``lower <= o < upper`` that bounds leave; a bound X stands for ``size * ceil(X / size)`` too, which is no less."""
    begins, ends = (
        [size * e for e in (x.args if isinstance(x, f) else (x,))] for x, f in ((lower, sp.Max), (upper, sp.Min))
    )
    rounded = [size * sp.floor((x + size - 1) / size) for x in most]
    ends = [e for e in ends if not any(sp.expand(e - r) == 0 for r in rounded)]
    return Interval((*begins, *least), (*ends, *most))
