"""What the levels of memory behind the cores of a CPU ask for what a kernel loads and stores: bandwidth, and new pages."""

from __future__ import annotations

from einsum_compiler.cost.device import Device
from einsum_compiler.cost.shape import Shape

USABLE = 0.75  # of a cache, for what is meant to stay there
ALONE = 0.65  # of the bandwidth of the memory, for one core
# Arrays from this size on are new memory in every call (glibc's largest threshold of mmap): each page of what is written faults first.
NEW_MEMORY, PAGE, FAULT = 32 << 20, 4096, 2.4e-6


def seconds_behind(shape: Shape, device: Device, active: int) -> dict[str, float]:
    """Seconds that the levels behind the core's own need for what loads and stores ask of them."""
    own = device.level("L2").bytes * USABLE
    shared = next((level for level in device.levels if level.name == "L3"), None)
    held = shared.bytes * USABLE if shared else 0.0
    whole = sum(shape.tensor_bytes(name) for name in {s.tensor for s in shape.traffic})
    one_program = sum(s.per_program for s in shape.traffic)
    bytes_at: dict[str, float] = {}
    for s in shape.traffic:
        first = min(s.total, shape.tensor_bytes(s.tensor)) * (2.0 if s.written else 1.0)
        first_level = "L3" if whole <= held else "memory"
        bytes_at[first_level] = bytes_at.get(first_level, 0.0) + first
        again = s.total - min(s.total, shape.tensor_bytes(s.tensor))
        if again > 0:
            footprint = one_program * (s.distance or 1)
            name = "L2" if footprint <= own else "L3" if footprint <= held else "memory"
            bytes_at[name] = bytes_at.get(name, 0.0) + again * (2.0 if s.added else 1.0)
    seconds = {}
    for level in device.levels:
        if level.name in bytes_at:
            most = level.bandwidth * (
                active / device.processors if level.per == "processor" or level.name == "L3" else 1.0
            )
            if level.name == "memory" and active < device.processors:
                most = level.bandwidth * max(ALONE, active / device.processors)
            seconds[level.name] = bytes_at[level.name] / most
    return seconds


def new_pages(shape: Shape) -> float:
    """Pages of the outputs that no earlier call has touched."""
    written = (shape.tensor_bytes(name) for name in {s.tensor for s in shape.traffic if s.written})
    return sum(size / PAGE for size in written if size >= NEW_MEMORY)
