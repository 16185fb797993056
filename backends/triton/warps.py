"""How many warps a program needs so that what it keeps on chip fits the registers of its threads."""

from __future__ import annotations

import math

from einsum_compiler.backends.triton.layout import layout_of, statements, tile_types
from einsum_compiler.ir.tile import Load, Loop, TileKernel, TileType
from einsum_compiler.ir.types import bytes_of

THREADS = 32  # of a warp; a wavefront of 64 has twice the lanes and as many registers for each
REGISTERS = 160  # of 255 per thread, for tiles; addresses, masks and the pipeline take the others
# wgmma wants groups of four; eight warps of 255 registers have the whole register file of 64 Ki.
CHOICES = (4, 8)


def warps_for(kernel: TileKernel) -> int:
    """The least number of warps whose registers hold the carried tiles and the two largest tiles computed at once.

    Measured on cross-compiled attention: 128 x 64 scores with 64 and 128 columns of output spill with 4 warps on sm_90
    and do not with 8.
    """
    layout = layout_of(kernel)

    def registers(type_: TileType) -> float:
        lanes = math.prod(d.padded for d in layout.of(type_.axes))
        return lanes * max(bytes_of(type_.dtype), 2) / 4

    loops = [s for s in statements(kernel.body) if isinstance(s, Loop)]
    carried = max((sum(registers(c.type) for c in loop.carries) for loop in loops), default=0)
    # Loads that feed products pass through shared memory; the largest of the others stand in registers.
    loaded = {s.target for s in statements(kernel.body) if isinstance(s, Load)}
    states = {c.name for loop in loops for c in loop.carries} | {c.next for loop in loops for c in loop.carries}
    computed = sorted((registers(t) for n, t in tile_types(kernel).items() if n not in loaded | states), reverse=True)
    wanted = carried + sum(computed[:2])
    return next((w for w in CHOICES if wanted <= w * THREADS * REGISTERS), CHOICES[-1])
