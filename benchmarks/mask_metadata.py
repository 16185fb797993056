"""What it costs to find the tiles that a mask needs: our lists at run time, and FlexAttention's block mask."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import torch

import einsum_compiler as ec
from einsum_compiler.specialise import lower_planned, plan_of, request
from einsum_compiler.tile_lists import build_tile_list, count_tiles
from tests.flex.case import Case

RUNS = 7


def metadata(mask: Case, length: int, heads: int, features: int) -> dict[str, Any]:
    """Median milliseconds and peak megabytes (2**20 bytes of numpy's and Python's memory) of all lists of one call at that length.

    ``lists``: how many lists the kernel has; none where its bounds are closed expressions. ``tiles``: the share of tiles listed.
    """
    sizes = mask.sizes(length, batch=1, heads=heads)
    captures = mask.captures(sizes, torch.float32)
    queries, keys = (torch.empty(1, heads, n, features) for n in (sizes.queries, sizes.keys))
    kernel = ec.compile(mask.program(lse=False), backend="cpu")
    binding = kernel.binding(queries, keys, keys, **captures)
    wanted = request(kernel.derivation, binding, "cpu")
    calls = []
    for planned in plan_of(kernel.derivation, wanted, None):
        program = lower_planned(planned, wanted)
        extents = {**binding.extents, **planned.extents}
        calls += [(schedule, binding.tensors, binding.scalars, extents) for schedule in program.schedules]
    times: list[float] = []
    for _ in range(RUNS if calls else 0):
        start = time.perf_counter()
        for call in calls:
            build_tile_list(*call)
        times.append(time.perf_counter() - start)
    if not calls:
        return {"lists": 0, "milliseconds": 0.0, "megabytes": 0.0}
    tracemalloc.start()
    found = [build_tile_list(*call) for call in calls]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    listed = [count_tiles(offsets) for offsets, _ in found]
    return {
        "lists": len(calls),
        "milliseconds": statistics.median(times) * 1e3,
        "megabytes": peak / 2**20,
        "full": sum(f for f, _ in listed),
        "partial": sum(p for _, p in listed),
    }


BLOCK_MASK = """
import resource, sys, time, torch
sys.path.insert(0, {root!r})
from torch.nn.attention.flex_attention import create_block_mask
from tests.flex.case import modifiers
from tests.flex.cases import case
mask = case({name!r})
sizes = mask.sizes({length}, batch=1, heads=1)
captures = mask.captures(sizes, torch.float32)
build = lambda length: create_block_mask(modifiers(mask, captures)[1], None, None, length, length, device="cpu")
build(256)
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
build({length})
seconds = time.perf_counter() - start
print(seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def flex_metadata(name: str, length: int) -> dict[str, float]:
    """Seconds and megabytes beyond a small one of FlexAttention's block mask for one head, uncompiled as by default, in a process of its own."""
    code = BLOCK_MASK.format(root=str(Path(__file__).resolve().parents[1]), name=name, length=length)
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    seconds, megabytes = (float(word) for word in output.split()[-2:])
    return {"seconds": seconds, "megabytes": megabytes}
