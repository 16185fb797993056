"""Python's collector of cycles, asked less often while kernels are made.

Loading the compiler and planning allocate much and leave few cycles, but they set off collections that look at every object of the process: with
PyTorch loaded 0.1 s each, one in a warm first call and three in a cold one.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# New objects between collections; long searches for plans still have some.
ALLOCATIONS = 50_000

_lock = threading.Lock()
_inside = 0
_before = (0, 0, 0)


@contextmanager
def collections_put_off() -> Iterator[None]:
    """Fewer collections inside; the thresholds are as before when the last thread leaves. A collector that is off stays off."""
    global _inside, _before
    with _lock:
        if _inside == 0:
            _before = gc.get_threshold()
            if 0 < _before[0] < ALLOCATIONS:
                gc.set_threshold(ALLOCATIONS, *_before[1:])
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                gc.set_threshold(*_before)
