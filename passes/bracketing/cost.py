"""What a cascade costs on a machine whose arithmetic and memory take equal time: the default by which orders of contractions are compared."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf, prod

from einsum_compiler.ir.cascade import Cascade, Equation
from einsum_compiler.ir.expression import Binary, Call, Comparison, Conditional, Reduction, Unary, walk
from einsum_compiler.ir.extents import all_extents
from einsum_compiler.passes.scope import plain

OPERATIONS_PER_BYTE = 8.0  # of a machine whose arithmetic and memory take equal time


def operations_and_bytes(cascade: Cascade, extents: Mapping[str, int], enough: float = inf) -> float:
    """Operations of all equations, and bytes of the tensors that kernels read and write (4 per element), as operations.

    A sum of products is one operation per point and factor, a map one per point and operator. Which tensors are stored is ``fuse``'s
    decision; in a cascade with a recurrence, which no kernel runs, only inputs and outputs count. ``enough``: where operations and outputs cost as much alone, it is not
    asked for, and the cost is that of those.
    """
    total = 0.0
    extents = all_extents(cascade, extents)
    for equation in cascade.equations:
        value = equation.value
        ranks = {*equation.target.ranks, *_reduced(equation)}
        body = value.body if isinstance(value, Reduction) else value
        operators = sum(isinstance(n, (Binary, Unary, Call, Comparison, Conditional)) for n in walk(body))
        total += prod(extents[r] for r in ranks) * (operators + isinstance(value, Reduction))
    written = float(sum(prod(extents[r] for r in t.ranks) for t in cascade.outputs))
    least = total + OPERATIONS_PER_BYTE * 4 * written
    return least if least >= enough else total + OPERATIONS_PER_BYTE * 4 * _stored(cascade, extents)


def _stored(cascade: Cascade, extents: Mapping[str, int]) -> float:
    from einsum_compiler.passes.fuse import fuse

    moved = [t.ranks for t in (*cascade.inputs, *cascade.outputs)]
    if all(plain(e) or e.otherwise for e in cascade.equations):
        parts = fuse(cascade, extents)
        moved = [t.ranks for p in parts for t in (*p.cascade.inputs, *p.cascade.outputs)]
    return float(sum(prod(extents[r] for r in ranks) for ranks in moved))


def ranks_of(cascade: Cascade) -> set[str]:
    found = {r for t in (*cascade.inputs, *cascade.outputs) for r in t.ranks}
    for equation in cascade.equations:
        found |= {*equation.target.ranks, *_reduced(equation)}
    return found


def _reduced(equation: Equation) -> tuple[str, ...]:
    return equation.value.ranks if isinstance(equation.value, Reduction) else ()
