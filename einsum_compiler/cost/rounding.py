"""How the rounding errors of a plan's sums grow, against sums in pairs.

Law (Higham, Accuracy and Stability of Numerical Algorithms, 4.2; Higham and Mary 2019 for errors that are independent): a sum in stages, each chain of ``l``
additions one of ``c`` such chains, has a relative error of ``u * sqrt(sum(l / (3 c)))`` where the terms have one sign. Where they have both, partial sums grow as
the root of their number, as the result does, and the error relative to it is ``u * sqrt(sum(l / 2))``: a long chain is no better for being one of many. PyTorch sums in
pairs, so its error hardly grows; a sum tile after tile is a chain of as many additions as there are tiles, and in a tile of columns one of as many as it has rows.
Contractions are left out: matrix products add in chains everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import sqrt

from einsum_compiler.cost.shape import Shape
from einsum_compiler.cost.steps import Sum

# In units of the last place. Twice the error of plain PyTorch and a rounding band are about 7 (docs/decisions.md).
MOST_GROWTH = 5.0
# Of sums of both signs: PyTorch's four stages of 16 additions have sqrt(32) = 5.7. Column sums of 8192 normal numbers keep the budget at 12, and miss it by 9 % at 16.2.
MOST_SIGNED_GROWTH = 12.5
EPSILON: Mapping[str, float] = {"f64": 2.0**-52, "f32": 2.0**-23, "f16": 2.0**-10, "bf16": 2.0**-7}
PARTS = 4  # vectors that a fold along a row adds side by side


def growth(shape: Shape, dtypes: Mapping[str, str], lanes: int) -> float:
    """The greatest ``sqrt(sum(l / (3 c)))`` of the sums of a kernel, in units of the last place of what a call returns; that of sums of both signs as if
    ``MOST_GROWTH`` were allowed for them too.

    ``dtypes`` by tensor; ``lanes``: elements of a vector, 0 where a tile is summed as a tree.
    """
    found = [_chains(s, shape, 1.0, lanes) for s in shape.skeleton.sums]
    streamed = {f"{s.rank}.0" for s in shape.plan.streams}
    for loop, seen in zip(shape.skeleton.loops, shape.visited, strict=True):
        found += [_chains(s, shape, seen.most if streamed.intersection(s.over) else 1.0, lanes) for s in loop.sums]
    return sqrt(max(found, default=0.0)) * _unit(dtypes)


def _chains(s: Sum, shape: Shape, tiles: float, lanes: int) -> float:
    inner = shape.points(s.over)
    added = float(inner.bit_length()) if lanes == 0 else inner / (lanes * PARTS) if s.along else float(inner)
    one_sign = (tiles + added / max(1.0, tiles)) / 3
    return max(one_sign, (tiles + added) / 2 * (MOST_GROWTH / MOST_SIGNED_GROWTH) ** 2) if s.signed else one_sign


def _unit(dtypes: Mapping[str, str]) -> float:
    """The unit that sums are rounded to over that of the least precise tensor."""
    summed = EPSILON["f64"] if "f64" in dtypes.values() else EPSILON["f32"]
    return summed / max([summed, *(EPSILON[d] for d in dtypes.values() if d in EPSILON)])


def limit(growths: Iterable[float]) -> float:
    """What plans may reach, of which these are the growths: ``MOST_GROWTH``, or hardly more than the least where all exceed it."""
    return max(MOST_GROWTH, 1.1 * min(growths))
