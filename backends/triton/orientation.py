"""Which axis of a computed tile holds the rows of a matrix instruction.

    S = dot(Q, K): [m.0, n.0]    with m streamed and K.grad[n, e] = sum[m](S.grad * Q) carried:    S = dot(K, Q): [n.0, m.0]

Law: ``A B`` and ``(B' A')'`` have the same values, and tiles broadcast by rank name, so a tile computed in a loop may have its axes in any order. The
accumulator of a matrix unit and its first operand share a layout: a tile whose rows are those of the product that it flows into stays in registers, where the
other order passes it through shared memory. What a loop carries has no axis of the streamed rank, so the rows are those of the program's tile; they are also
what fills an instruction of a warp group (64 rows), while the streamed tile may be narrow.
"""

from __future__ import annotations

from dataclasses import replace

from einsum_compiler.ir.tile import Axis, Dot, Loop, Map, Select, Statement, TileKernel


def oriented(kernel: TileKernel) -> TileKernel:
    """The kernel with the axis of the streamed rank last in the tiles of a program rank and a streamed one that its loops compute from products."""
    rows = frozenset(_tile_axis(p.rank) for p in kernel.program)
    return replace(kernel, body=tuple(_in_loop(s, rows) if isinstance(s, Loop) else s for s in kernel.body))


def _tile_axis(rank: str) -> str:
    """The axis inside of a tile of the index ``n.1``: ``n.0``."""
    return f"{rank.removesuffix('.1')}.0"


def _in_loop(loop: Loop, rows: frozenset[str]) -> Loop:
    streamed = _tile_axis(loop.rank)
    pairs = {
        frozenset(s.type.ranks)
        for s in loop.body
        if isinstance(s, Dot) and streamed in s.type.ranks and rows & set(s.type.ranks)
    }

    def turned(statement: Statement) -> Statement:
        if not isinstance(statement, Dot | Map | Select) or frozenset(statement.type.ranks) not in pairs:
            return statement
        axes: list[Axis] = sorted(statement.type.axes, key=lambda a: a.rank == streamed)
        return replace(statement, type=replace(statement.type, axes=tuple(axes)))

    return replace(loop, body=tuple(map(turned, loop.body)))
