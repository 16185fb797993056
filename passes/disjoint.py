"""Whether cases of a tensor meet: points where the filters of two of them hold, found by isl.

    A[i,j] = X[i,j]  where j <= i
    A[i,j] = 0       where j >= i          meet at i = 0, j = 0

Law: cases are disjoint, so their order means nothing. Filters over ranks, extents and numbers alone decide it once the extents are known; what
parameters and tensors hold is known to the evaluator only, which tests every point.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations, pairwise

from einsum_compiler.ir.build import TRUE, conjunction
from einsum_compiler.ir.cascade import Cascade, Equation
from einsum_compiler.ir.errors import SpecError
from einsum_compiler.ir.expression import Binary, Call, Comparison, Constant, Expression, Extent, Rank, Unary, walk
from einsum_compiler.ir.filters import left_conjuncts
from einsum_compiler.ir.scalar import evaluate_scalar


class _Open(Exception):
    """A filter that no integer set with these extents is."""


def check_disjoint(cascade: Cascade, extents: Mapping[str, int]) -> None:
    """Raises ``SpecError`` where two cases of a tensor hold at one point, whatever parameters and tensors are; sums must be explicit."""
    cases: dict[str, list[Equation]] = {}
    for equation in cascade.equations:
        if not equation.otherwise and all(isinstance(i, Rank) for t in equation.targets for i in t.indices):
            cases.setdefault(equation.targets[0].tensor, []).append(equation)
    for name, group in cases.items():
        for first, second in combinations(group, 2):
            found = _common_point(first, second, extents)
            if found is not None:
                place = ", ".join(f"{rank} = {at}" for rank, at in found.items())
                raise SpecError(
                    f"the cases of {name} overlap{' at ' + place if place else ''}",
                    second.span,
                    ("make the filters disjoint, or mark the last case with else",),
                )


def _common_point(first: Equation, second: Equation, extents: Mapping[str, int]) -> dict[str, int] | None:
    """The least point of two cases by the ranks of the second; None where there is none, or none that is certain."""
    import islpy

    ranks = second.target.ranks
    if not ranks or not {*ranks, *first.target.ranks} <= extents.keys():
        return None
    try:
        facts = [
            _text(conjunction(left_conjuncts(e)) or TRUE, {r: f"x{i}" for i, r in enumerate(e.target.ranks)}, extents)
            for e in (first, second)
        ]
    except _Open:
        return None
    facts += [f"0 <= x{i} < {extents[r]}" for i, r in enumerate(ranks)]
    names = ", ".join(f"x{i}" for i in range(len(ranks)))
    least = islpy.Set(f"{{ [{names}] : {' and '.join(facts)} }}").lexmin()
    if least.is_empty():
        return None
    point = least.sample_point()
    at = (point.get_coordinate_val(islpy.dim_type.set, i).to_python() for i in range(len(ranks)))
    return dict(zip(ranks, at, strict=True))


def _text(node: Expression, names: Mapping[str, str], extents: Mapping[str, int]) -> str:
    """A predicate, or a whole number that is affine in the ranks, as isl writes it."""

    def text(part: Expression) -> str:
        return _text(part, names, extents)

    match node:
        case Constant(value=bool() as value):
            return "true" if value else "false"
        case Rank(name=name) if name in names:
            return names[name]
        case Unary(operator="not", operand=operand):
            return f"(not {text(operand)})"
        case Unary(operator="-", operand=operand):
            return f"(-{text(operand)})"
        case Binary(operator="and" | "or" | "+" | "-" as operator, left=left, right=right):
            return f"({text(left)} {operator} {text(right)})"
        case Binary(operator="*", left=left, right=right) if not _varies(left) or not _varies(right):
            factor, other = (right, left) if _varies(left) else (left, right)
            return f"({_number(factor, extents)} * {text(other)})"
        case Binary(operator="//" | "%" as operator, left=left, right=right):
            divisor = _number(right, extents)
            if divisor <= 0:
                raise _Open
            quotient = f"floor({text(left)}/{divisor})"
            return quotient if operator == "//" else f"({text(left)} - {divisor}*{quotient})"
        case Comparison(operators=operators, operands=operands):
            pairs = zip(operators, pairwise(operands), strict=True)
            parts = (f"{text(a)} {'=' if o == '==' else o} {text(b)}" for o, (a, b) in pairs)
            return f"({' and '.join(parts)})"
        case Call(function="abs", arguments=(operand,)):
            return f"max({text(operand)}, -{text(operand)})"
        case Call(function="min" | "max" as function, arguments=(first, *others)):
            found = text(first)
            for other in others:
                found = f"{function}({found}, {text(other)})"
            return found
    return str(_number(node, extents))


def _varies(node: Expression) -> bool:
    return any(isinstance(n, Rank) for n in walk(node))


def _number(node: Expression, extents: Mapping[str, int]) -> int:
    """The value of what names extents and whole numbers only."""
    if not all(isinstance(n, (Binary, Unary, Call, Constant)) or _is_known(n, extents) for n in walk(node)):
        raise _Open
    value = evaluate_scalar(node, {r.upper(): n for r, n in extents.items()})
    if isinstance(value, bool) or not float(value).is_integer():
        raise _Open
    return int(value)


def _is_known(node: Expression, extents: Mapping[str, int]) -> bool:
    return isinstance(node, Extent) and node.rank in extents
