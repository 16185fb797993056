"""How many tiles the compiled loops of a program visit."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from einsum_compiler.inspection import tile_kernels
from einsum_compiler.ir.expression import Constant, Expression, Read, transform
from einsum_compiler.ir.scalar import evaluate_scalar
from einsum_compiler.ir.tile import Load, Loop, Range, TileKernel, TileList
from einsum_compiler.kernel import Kernel
from einsum_compiler.tile_lists import build_tile_list


def kernels(kernel: Kernel, *arguments: Any, **scalars: Any) -> list[TileKernel]:
    """The tile programs for a call."""
    binding = kernel.binding(*arguments, **scalars)
    return tile_kernels(kernel.derivation, binding, "cpu", kernel.plan)


def visited(kernel: Kernel, *arguments: Any, **scalars: Any) -> tuple[int, int]:
    """Full and partial tiles that one sweep of the only kernel visits, over the programs of one batch and head."""
    binding = kernel.binding(*arguments, **scalars)
    (program,) = tile_kernels(kernel.derivation, binding, "cpu", kernel.plan)
    loop = next(s for s in program.body if isinstance(s, Loop))
    names = binding.names()
    scalar_loads = {s.target: s for s in program.body if isinstance(s, Load) and not s.type.axes}
    lists = {
        s.name: tuple(t.tolist() for t in build_tile_list(s, binding.tensors, binding.scalars, binding.extents))
        for s in program.schedules
    }
    counts = [0, 0]
    indices = [
        range(1) if p.rank in ("b", "h") else range(int(evaluate_scalar(p.count, names))) for p in program.program
    ]
    for point in itertools.product(*indices):
        here = {**names, **{p.rank: i for p, i in zip(program.program, point, strict=True)}}
        seen: set[int] = set()
        for part in loop.ranges:
            tiles = _tiles(part, here, scalar_loads, binding.tensors, lists)
            assert not seen & set(tiles), "a tile is visited twice"
            seen |= set(tiles)
            counts[part.partial] += len(tiles)
    return counts[0], counts[1]


def _tiles(
    part: Range | TileList,
    names: Mapping[str, float],
    loads: Mapping[str, Load],
    tensors: Mapping[str, Any],
    lists: Mapping[str, Any],
) -> list[int]:
    def number(node: Expression) -> int:
        def known(n: Expression) -> Expression:
            if isinstance(n, Read):
                load = loads[n.tensor]
                place = tuple(int(evaluate_scalar(i, names)) for i in load.indices)
                return Constant(tensors[load.tensor][place].item())
            return n

        return int(evaluate_scalar(transform(node, known), names))

    if isinstance(part, Range):
        return list(range(number(part.lower), number(part.upper)))
    offsets, tiles = lists[part.schedule]
    position = number(part.position)
    first = 2 * position + part.partial
    return list(tiles[offsets[first] : offsets[first + 1]])
