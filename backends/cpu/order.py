"""Which programs start first: those with more tiles, so that no long one is left when the others are done."""

from __future__ import annotations

from itertools import pairwise

from einsum_compiler.ir.expression import Binary, Call, Constant, Expression, Rank, Unary, walk
from einsum_compiler.ir.tile import Loop, Range, TileKernel


def growing(kernel: TileKernel) -> set[str]:
    """The program ranks along which no loop gets shorter and some loop gets longer, as far as its bounds show it."""
    loops = [s for s in kernel.body if isinstance(s, Loop)]
    found: set[str] = set()
    for program in kernel.program:
        trends = {_trip_count(loop, program.rank) for loop in loops}
        if trends - {0} == {1}:
            found.add(program.rank)
    return found


def _trip_count(loop: Loop, rank: str) -> int | None:
    """The sign of its change with a rank, for ranges that follow each other; None if it has none or is not known."""
    ranges = [r for r in loop.ranges if isinstance(r, Range)]
    adjacent = all(a.upper == b.lower for a, b in pairwise(ranges))
    if not ranges or not adjacent or len(ranges) != len(loop.ranges):
        return None
    return trend(Binary("-", ranges[-1].upper, ranges[0].lower), rank)


def trend(node: Expression, rank: str) -> int | None:
    """1 if an expression never falls as the rank grows, -1 if it never rises, 0 if it does not depend on it; else None."""
    if not any(isinstance(n, Rank) and n.name == rank for n in walk(node)):
        return 0
    match node:
        case Rank():
            return 1
        case Unary(operator="-", operand=operand):
            return _opposite(trend(operand, rank))
        case Binary(operator="+", left=left, right=right):
            return _joint(trend(left, rank), trend(right, rank))
        case Binary(operator="-", left=left, right=right):
            return _joint(trend(left, rank), _opposite(trend(right, rank)))
        case (
            Binary(operator="*", left=Constant(value=factor), right=other)
            | Binary(operator="*", left=other, right=Constant(value=factor))
        ) if factor:
            return trend(other, rank) if factor > 0 else _opposite(trend(other, rank))
        case Binary(operator="//", left=left, right=Constant(value=divisor)) if divisor > 0:
            return trend(left, rank)
        case Call(function="min" | "max", arguments=arguments):
            found: int | None = 0
            for argument in arguments:
                found = _joint(found, trend(argument, rank))
            return found
    return None


def _opposite(sign: int | None) -> int | None:
    return None if sign is None else -sign


def _joint(left: int | None, right: int | None) -> int | None:
    if left is None or right is None or left * right < 0:
        return None
    return left or right
