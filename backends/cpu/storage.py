"""Scratch memory of a program: offsets of tiles that live at the same time do not overlap."""

from __future__ import annotations

LINE = 64


class Arena:
    """First fit over one block; ``size`` is the most that was ever in use."""

    def __init__(self) -> None:
        self.size = 0
        self._used: dict[int, int] = {}

    def allocate(self, size: int) -> int:
        """The offset of ``size`` bytes, a multiple of a cache line. A tile without elements has an offset of its own too: tiles are told apart by it."""
        size = max(1, -(-size // LINE)) * LINE
        place = 0
        for offset in sorted(self._used):
            if offset - place >= size:
                break
            place = offset + self._used[offset]
        self._used[place] = size
        self.size = max(self.size, place + size)
        return place

    def release(self, offset: int) -> None:
        del self._used[offset]
