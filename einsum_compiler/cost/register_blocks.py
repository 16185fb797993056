"""Products of packed operands by register blocks, as backends/cpu/runtime/product.hpp runs them.

R rows by N vectors take, at every step of depth, the larger of R N / 2 multiply-adds, (R + N) / 2 loads and the latency of one multiply-add; left-over
rows and vectors run as smaller blocks. Operands are packed where their rows would evict each other from the first cache level.
"""

from __future__ import annotations

from einsum_compiler.cost.cpu_memory import PAGE

# Cycles; docs/decisions.md says what they were taken from.
LATENCY = 4.0  # of a multiply-add
CALL = 12.0  # of a register block: entering it and its loop
LINE, SETS, WAYS, PAGES = 64, 64, 8, 64  # of the first cache level, and pages of the first translation buffer


def stays_near(depth: int, row: int, panel: int) -> bool:
    """Whether ``depth`` rows of ``panel`` bytes, ``row`` bytes apart, stay in the first cache level: its twin in panels.hpp, which decides, says why."""
    if not row:
        return True
    lines = -(-panel // LINE)
    apart = row // LINE & -(row // LINE) if row % LINE == 0 else 1
    reached = lines if apart >= SETS else SETS // apart * lines
    return depth * lines <= min(reached, SETS) * WAYS and depth * row <= PAGE * PAGES


def product_share(lanes: int, rows: int, columns: int, depth: int) -> float:
    """The share of the multiply-add peak that a product of these sizes reaches: two vector units of ``lanes`` numbers."""
    cycles = register_blocks(lanes, rows, columns, depth, True)
    return rows * columns * depth / (2 * lanes) / cycles


def register_blocks(lanes: int, rows: int, columns: int, depth: int, accumulates: bool) -> float:
    """Cycles of a product of packed operands in f32, by register blocks."""
    height, width = (6, 4) if lanes == 16 else (6, 2)
    wide, single = divmod(-(-columns // lanes), width)
    cycles = 0.0
    for count, vectors in ((wide, width), (single, 1)):
        rest, size = rows, height
        while count and rest:
            number, rest = divmod(rest, size)
            if size == 6 and vectors > 1 and number and rest in (2, 3):
                number, rest = number - 1, rest + 6  # as 4 + 4
            each = max(size * vectors / 2, (size + vectors) / 2, LATENCY)
            block = depth * each + CALL + size * vectors * (2.0 if accumulates else 1.0)
            cycles += count * number * block
            size = 1 if vectors == 1 else 4 if size > 4 else max(1, size // 2)
    return cycles
