"""Classes of sizes: nearby lengths share a plan."""

from __future__ import annotations

EXACT = 16  # sizes up to here are classes of their own


def size_class(size: int) -> int:
    """The size that stands for all of its class: four classes between powers of two, each named by its greatest."""
    if abs(size) <= EXACT:
        return size
    step = 1 << (abs(size).bit_length() - 3)
    return -(-size // step) * step
