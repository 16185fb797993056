"""Counting the integer points of filters and of the images of index expressions, through isl sets at concrete sizes.

isl keeps the sets, numpy counts: dimensions that no constraint couples are counted apart and multiplied, one dimension of each coupled group
is solved in closed form, and the others are enumerated. What would enumerate more than ``MOST_POINTS`` is not counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import islpy
import numpy as np

from einsum_compiler.ir.build import conjunction, conjuncts
from einsum_compiler.ir.errors import SpecError
from einsum_compiler.ir.expression import (
    Binary,
    Call,
    Cast,
    Comparison,
    Conditional,
    Constant,
    Expression,
    Rank,
    Read,
    Unary,
    walk,
)
from einsum_compiler.ir.scalar import evaluate_scalar
from einsum_compiler.ir.types import is_integer

MOST_POINTS = 2**22
LARGEST = 2**40  # stands for infinity in a bound

IslSet = Any
_OPERATORS = {"==": "=", "!=": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}


class NotAffine(Exception):
    """A term that isl cannot take: it reads a tensor, is real, or multiplies ranks."""


def simplified(predicate: Expression, names: Mapping[str, Any]) -> Expression:
    """The predicate with the parts that no rank decides replaced by their truth values at the given sizes."""
    if not any(isinstance(n, (Rank, Read)) for n in walk(predicate)):
        try:
            return Constant(bool(evaluate_scalar(predicate, names)))
        except SpecError:
            return predicate
    if isinstance(predicate, Binary) and predicate.operator in ("and", "or"):
        left, right = simplified(predicate.left, names), simplified(predicate.right, names)
        deciding = Constant(predicate.operator == "or")
        if deciding in (left, right):
            return deciding
        kept = [p for p in (left, right) if not isinstance(p, Constant)]
        return (
            Constant(not deciding.value)
            if not kept
            else kept[0]
            if len(kept) == 1
            else Binary(predicate.operator, left, right)
        )
    return predicate


def predicate_text(node: Expression, ranks: Mapping[str, str], names: Mapping[str, Any]) -> str:
    """The predicate in isl's language. Raises ``NotAffine``."""
    node = simplified(node, names)
    match node:
        case Constant(value=bool() as value):
            return "true" if value else "1 = 0"
        case Unary(operator="not", operand=operand):
            return f"not ({predicate_text(operand, ranks, names)})"
        case Binary(operator="and" | "or" as operator, left=left, right=right):
            return f"(({predicate_text(left, ranks, names)}) {operator} ({predicate_text(right, ranks, names)}))"
        case Conditional(condition=condition, then=then, otherwise=otherwise):
            c, a, b = (predicate_text(p, ranks, names) for p in (condition, then, otherwise))
            return f"((({c}) and ({a})) or (not ({c}) and ({b})))"
        case Comparison(operators=operators, operands=operands):
            texts = [index_text(o, ranks, names) for o in operands]
            parts = (f"{a} {_OPERATORS[o]} {b}" for o, (a, b) in zip(operators, pairwise(texts), strict=True))
            return " and ".join(f"({p})" for p in parts)
    raise NotAffine


def index_text(node: Expression, ranks: Mapping[str, str], names: Mapping[str, Any]) -> str:
    """An integer expression in isl's language. Raises ``NotAffine``."""
    if not any(isinstance(n, (Rank, Read)) for n in walk(node)):
        return str(_integer(node, names))
    match node:
        case Rank(name=name):
            return ranks[name]
        case Unary(operator="-", operand=operand):
            return f"(-{index_text(operand, ranks, names)})"
        case Binary(operator="+" | "-" as operator, left=left, right=right):
            return f"({index_text(left, ranks, names)} {operator} {index_text(right, ranks, names)})"
        case Binary(operator="*", left=left, right=right):
            factor, other = (left, right) if not any(isinstance(n, (Rank, Read)) for n in walk(left)) else (right, left)
            return f"({_integer(factor, names)}*{index_text(other, ranks, names)})"
        case Binary(operator="//" | "%" as operator, left=left, right=right):
            divisor = _integer(right, names)
            if divisor <= 0:
                raise NotAffine
            inner = index_text(left, ranks, names)
            return f"floor({inner}/{divisor})" if operator == "//" else f"({inner} mod {divisor})"
        case Call(function="abs", arguments=(inner,)):
            text = index_text(inner, ranks, names)
            return f"max({text}, -{text})"
        case Call(function="max" | "min" as function, arguments=arguments):
            joined, *rest = (index_text(a, ranks, names) for a in arguments)
            for text in rest:
                joined = f"{function}({joined}, {text})"
            return joined
        case Call(function="clamp", arguments=(value, low, high)):
            v, a, b = (index_text(x, ranks, names) for x in (value, low, high))
            return f"min(max({v}, {a}), {b})"
        case Cast(operand=operand, dtype=dtype) if is_integer(dtype):
            return index_text(operand, ranks, names)
    raise NotAffine


def _integer(node: Expression, names: Mapping[str, Any]) -> int:
    if any(isinstance(n, (Rank, Read)) for n in walk(node)):
        raise NotAffine
    try:
        value = evaluate_scalar(node, names)
    except SpecError:
        raise NotAffine from None
    if isinstance(value, float) and math.isinf(value):
        return LARGEST if value > 0 else -LARGEST
    if value != int(value):
        raise NotAffine
    return int(value)


def point_set(
    ranks: Sequence[str], extents: Mapping[str, int], conditions: Sequence[Expression], names: Mapping[str, Any]
) -> tuple[IslSet, tuple[Expression, ...]]:
    """The points of an iteration space that satisfy the affine conditions, and the conditions that are not affine."""
    named = {r: f"i{k}" for k, r in enumerate(ranks)}
    parts = [f"0 <= {named[r]} < {extents[r]}" for r in ranks]
    opaque = []
    for condition in conjuncts(conjunction(conditions)):
        try:
            parts.append(predicate_text(condition, named, names))
        except (NotAffine, KeyError):
            opaque.append(condition)
    return islpy.Set(f"{{ [{', '.join(named.values())}] : {' and '.join(parts) or 'true'} }}"), tuple(opaque)


def image(points: IslSet, ranks: Sequence[str], indices: Sequence[str]) -> IslSet:
    """The coordinates that index expressions, in isl's language over ``i0, i1, ...``, take on a set of points."""
    inside = ", ".join(f"i{k}" for k in range(len(ranks)))
    return points.apply(islpy.Map(f"{{ [{inside}] -> [{', '.join(indices)}] }}"))


def count(points: IslSet) -> int | None:
    """How many integer points a bounded set has; None if that would enumerate too many."""
    total = 0
    for basic in points.coalesce().compute_divs().make_disjoint().get_basic_sets():
        found = _count_basic(basic)
        if found is None:
            return None
        total += found
    return total


def _count_basic(basic: Any) -> int | None:
    if basic.is_empty():
        return 0
    rows = _rows(basic)
    dims = basic.dim(islpy.dim_type.set)
    group = list(range(dims))
    for row in rows:
        coupled = sorted(row.dims)
        for d in coupled[1:]:
            old, new = group[d], group[coupled[0]]
            group = [new if g == old else g for g in group]
    total = 1
    for leader in dict.fromkeys(group):
        members = [d for d in range(dims) if group[d] == leader]
        found = _count_group(basic, members, [r for r in rows if r.dims & set(members)])
        if found is None:
            return None
        total *= found
    return total


class _Row:
    """One constraint ``constant + coefficients * dims + factors * floor(divs) >= 0`` (or ``= 0``)."""

    def __init__(
        self, constant: int, coefficients: dict[int, int], divs: list[tuple[int, _Row, int]], equal: bool
    ) -> None:
        self.constant, self.coefficients, self.divs, self.equal = constant, coefficients, divs, equal
        self.dims: set[int] = {d for d, c in coefficients.items() if c}.union(*(d.dims for _, d, _ in divs))

    def without(self, dim: int, grid: Mapping[int, Any]) -> Any:
        """The value of the row on a grid of coordinates, the term of ``dim`` left out."""
        value = self.constant + sum(c * grid[d] for d, c in self.coefficients.items() if d != dim)
        for factor, inner, denominator in self.divs:
            value = value + factor * np.floor_divide(inner.without(-1, grid), denominator)
        return value


def _rows(basic: Any) -> list[_Row]:
    kinds = islpy.dim_type
    divs: list[tuple[_Row, int]] = []
    for k in range(basic.dim(kinds.div)):
        divs.append(_div(basic.get_div(k), divs))
    return [
        _Row(
            int(c.get_constant_val().to_python()),
            {d: v for d in range(basic.dim(kinds.set)) if (v := int(c.get_coefficient_val(kinds.set, d).to_python()))},
            [(v, *divs[k]) for k in range(len(divs)) if (v := int(c.get_coefficient_val(kinds.div, k).to_python()))],
            c.is_equality(),
        )
        for c in basic.get_constraints()
    ]


def _div(aff: Any, known: list[tuple[_Row, int]]) -> tuple[_Row, int]:
    """An integer division as the row of its numerator and its denominator."""
    denominator = int(aff.get_denominator_val().to_python())
    scaled = aff.scale_val(islpy.Val(denominator))
    kinds = islpy.dim_type
    row = _Row(
        int(scaled.get_constant_val().to_python()),
        {d: v for d in range(aff.dim(kinds.in_)) if (v := int(scaled.get_coefficient_val(kinds.in_, d).to_python()))},
        [(v, *known[k]) for k in range(len(known)) if (v := int(scaled.get_coefficient_val(kinds.div, k).to_python()))],
        False,
    )
    return row, denominator


def _count_group(basic: Any, members: list[int], rows: list[_Row]) -> int | None:
    whole = islpy.Set.from_basic_set(basic)
    ranges = {d: (int(whole.dim_min_val(d).to_python()), int(whole.dim_max_val(d).to_python())) for d in members}
    length = {d: high - low + 1 for d, (low, high) in ranges.items()}
    divided = {d for row in rows for _, inner, _ in row.divs for d in inner.dims}
    free = [d for d in members if d not in divided]
    inner = max(free, key=length.__getitem__) if free else -1
    outer = [d for d in members if d != inner]
    if math.prod(length[d] for d in outer) > MOST_POINTS:
        return None
    axes = np.meshgrid(
        *(np.arange(ranges[d][0], ranges[d][1] + 1, dtype=np.int64) for d in outer), indexing="ij", sparse=True
    )
    grid = dict(zip(outer, axes, strict=True))
    low, high = ranges[inner] if inner >= 0 else (0, 0)
    lower: Any = np.full((1,) * len(outer), low, dtype=np.int64)
    upper: Any = np.full((1,) * len(outer), high, dtype=np.int64)
    allowed: Any = np.ones(tuple(length[d] for d in outer), dtype=bool)
    for row in rows:
        value, coefficient = row.without(inner, grid), row.coefficients.get(inner, 0)
        for sign in (1, -1) if row.equal else (1,):
            v, c = sign * value, sign * coefficient
            if c > 0:
                lower = np.maximum(lower, -np.floor_divide(v, c))
            elif c < 0:
                upper = np.minimum(upper, np.floor_divide(v, -c))
            else:
                allowed = allowed & (v >= 0)
    return int((np.maximum(upper - lower + 1, 0) * allowed).sum())
