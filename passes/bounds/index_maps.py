"""What the elements of a tensor tell about a point of the iteration space: index expressions as projections.

A rank read as ``h // c`` and ``h % c`` has *digits*, quotient and remainder, which are coordinates of their own: with them grouped heads are plain
projections. An index that mixes ranks (``m + r``) is a linear map, unless its coefficients make it injective (``n1*T + n0``). An index that reads
another tensor tells nothing by itself; where distinct entries are assumed, it tells its ranks.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from einsum_compiler.ir.build import ranks_of
from einsum_compiler.ir.errors import SpecError
from einsum_compiler.ir.expression import Binary, Constant, Expression, Rank, Read, Slice, Unary, walk
from einsum_compiler.ir.scalar import evaluate_scalar
from einsum_compiler.passes.bounds.symbols import Symbolic, extent, number


@dataclass(frozen=True, slots=True)
class Digit:
    """A coordinate that varies on its own: a rank, or a digit of one; with its length as a number and as a formula."""

    name: str
    length: int
    formula: Symbolic


@dataclass(frozen=True, slots=True)
class Projection:
    """What a read of a tensor projects a point on.

    ``digits``: coordinates that the element determines. ``rows``: integer combinations of ranks that it determines besides. ``gathered``: ranks that
    reach the tensor only through values of others. ``exact``: whether ``digits`` is all there is to tell.
    """

    digits: frozenset[str]
    rows: tuple[tuple[tuple[str, int], ...], ...]
    gathered: frozenset[str]
    exact: bool


class Digits:
    """The digits of every rank of a cascade at given sizes."""

    def __init__(self, indices: Iterable[Expression], extents: Mapping[str, int], names: Mapping[str, Any]) -> None:
        self._names = names
        divisors: dict[str, dict[int, Symbolic]] = {r: {} for r in extents}
        for index in indices:
            for node in walk(index):
                if isinstance(node, Binary) and node.operator in ("//", "%") and isinstance(node.left, Rank):
                    try:
                        size = number(node.right, names)
                        divisors[node.left.name][int(evaluate_scalar(node.right, names))] = size
                    except (SpecError, KeyError):
                        continue
        self._extents = extents
        self._of: dict[str, tuple[Digit, ...]] = {}
        self._steps: dict[str, tuple[int, ...]] = {}
        for rank, known in divisors.items():
            self._split(rank, {c: f for c, f in known.items() if 1 < c < extents[rank]})
        self.all = {d.name: d for digits in self._of.values() for d in digits}

    def _split(self, rank: str, divisors: Mapping[int, Symbolic]) -> None:
        steps = sorted(divisors, reverse=True)
        if any(big % small for big, small in itertools.pairwise(steps)):
            steps = []
        whole = extent(rank)
        if not steps:
            self._of[rank], self._steps[rank] = (Digit(rank, self._extents[rank], whole),), (1,)
            return
        found, above, above_formula = [], self._extents[rank], whole
        for place, step in enumerate((*steps, 1)):
            formula = above_formula / (divisors[step] if step > 1 else 1)
            found.append(Digit(f"{rank}.{len(steps) - place}", -(-above // step), formula))
            above, above_formula = step, divisors.get(step, 1)
        self._of[rank], self._steps[rank] = tuple(found), (*steps, 1)

    def of(self, rank: str) -> tuple[Digit, ...]:
        """The digits of a rank, the most significant first."""
        return self._of[rank]

    def names(self, ranks: Iterable[str]) -> frozenset[str]:
        """The names of the digits of several ranks."""
        return frozenset(d.name for r in ranks for d in self.of(r))

    def projection(self, indices: Sequence[Expression]) -> Projection:
        """What the indices of a read determine."""
        digits: set[str] = set()
        rows: list[tuple[tuple[str, int], ...]] = []
        gathered: set[str] = set()
        exact = True
        for index in indices:
            if any(isinstance(n, Read) for n in walk(index)):
                gathered |= set(ranks_of(index))
                continue
            part = self._digits_of(index)
            if part is not None:
                digits |= part
                continue
            combination = self._linear(index)
            if combination is None:
                exact = False
            elif self._injective(combination):
                digits |= self.names(combination)
            else:
                rows.append(tuple(sorted(combination.items())))
        return Projection(frozenset(digits), tuple(rows), frozenset(gathered), exact and not rows and not gathered)

    def _digits_of(self, index: Expression) -> frozenset[str] | None:
        match index:
            case Rank(name=name):
                return self.names((name,))
            case Slice():
                return frozenset()
            case Binary(operator="//" | "%" as operator, left=Rank(name=name), right=right):
                try:
                    divisor = int(evaluate_scalar(right, self._names))
                except SpecError:
                    return None
                steps = self._steps[name]
                if divisor == 1 or divisor >= self._extents[name]:
                    return self.names((name,)) if (divisor == 1) == (operator == "//") else frozenset()
                if divisor not in steps:
                    return None
                at = steps.index(divisor) + 1
                return frozenset(d.name for d in (self._of[name][:at] if operator == "//" else self._of[name][at:]))
        return frozenset() if not ranks_of(index) else None

    def _linear(self, index: Expression) -> dict[str, int] | None:
        """The coefficients of an integer combination of ranks, or None."""
        if not ranks_of(index):
            return {}
        match index:
            case Rank(name=name):
                return {name: 1}
            case Unary(operator="-", operand=operand):
                inner = self._linear(operand)
                return None if inner is None else {r: -c for r, c in inner.items()}
            case Binary(operator="+" | "-" as operator, left=left, right=right):
                a, b = self._linear(left), self._linear(right)
                if a is None or b is None:
                    return None
                sign = 1 if operator == "+" else -1
                merged = {r: a.get(r, 0) + sign * b.get(r, 0) for r in (*a, *b)}
                return {r: c for r, c in merged.items() if c}
            case Binary(operator="*", left=left, right=right):
                scale, other = (left, right) if not ranks_of(left) else (right, left)
                inner = self._linear(other)
                try:
                    factor = evaluate_scalar(scale, self._names) if inner is not None else 0
                except SpecError:
                    return None
                if inner is None or factor != int(factor):
                    return None
                return {r: c * int(factor) for r, c in inner.items() if factor}
            case Constant():
                return {}
        return None

    def _injective(self, combination: Mapping[str, int]) -> bool:
        reach = 0
        for rank, coefficient in sorted(combination.items(), key=lambda item: abs(item[1])):
            if abs(coefficient) <= reach:
                return False
            reach += abs(coefficient) * (self._extents[rank] - 1)
        return True
