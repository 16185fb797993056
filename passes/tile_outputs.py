"""``tile_outputs``: outputs that carry the streamed rank are computed tile by tile, in the sweep after the last one they need.

    Y[m,k] = C[m,k] * R[m]     ->     Y.tile[m,k.1,k.0] = C.tile[m,k.1,k.0] * R[m] where k.1*K.0 + k.0 < K
                                      Y[m,k] = Y.tile[m, k // K.0, k % K.0]

Law: a map of finished reductions needs one more traversal of the rank, and no more; it is the definition of the tile.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from einsum_compiler.ir.build import add, conjunction, less, multiply, substitute_ranks
from einsum_compiler.ir.cascade import Cascade, Equation, Target
from einsum_compiler.ir.expression import Binary, Expression, Extent, Rank, Read, transform


@dataclass(frozen=True, slots=True)
class TileOutputs:
    """``rank`` is the streamed rank, which ``online`` has split."""

    rank: str


def tile_outputs(cascade: Cascade, options: TileOutputs) -> Cascade:
    """The cascade with every equation that still carries the streamed rank in tiles."""
    rank = options.rank
    whole = {e.target.tensor for e in cascade.equations if rank in e.target.ranks}
    if not whole:
        return cascade
    coordinate = add(multiply(Rank(f"{rank}.1"), Extent(f"{rank}.0")), Rank(f"{rank}.0"))
    bound = less(coordinate, Extent(rank))
    outputs = {t.name for t in cascade.outputs}
    equations: list[Equation] = []

    def tiled(node: Expression) -> Expression:
        def change(n: Expression) -> Expression:
            if isinstance(n, Read) and n.tensor in whole:
                return Read(f"{n.tensor}.tile", _split(n.indices, rank))
            return n

        return substitute_ranks(transform(node, change), {rank: coordinate})

    for equation in cascade.equations:
        name = equation.target.tensor
        if name not in whole:
            equations.append(equation)
            continue
        target = Target(f"{name}.tile", _split(equation.target.indices, rank), equation.target.dtype)
        where = conjunction([None if equation.where is None else tiled(equation.where), bound])
        equations.append(replace(equation, targets=(target,), value=tiled(equation.value), where=where))
        if name in outputs:
            tile = tuple(
                index
                for r in equation.target.indices
                for index in (
                    (Binary("//", Rank(rank), Extent(f"{rank}.0")), Binary("%", Rank(rank), Extent(f"{rank}.0")))
                    if r == Rank(rank)
                    else (r,)
                )
            )
            equations.append(Equation((Target(name, equation.target.indices),), Read(f"{name}.tile", tile)))
    return replace(cascade, equations=tuple(equations))


def _split(indices: tuple[Expression, ...], rank: str) -> tuple[Expression, ...]:
    """The indices with the rank as its two parts."""
    found: list[Expression] = []
    for index in indices:
        found += [Rank(f"{rank}.1"), Rank(f"{rank}.0")] if index == Rank(rank) else [index]
    return tuple(found)
