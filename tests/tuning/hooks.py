"""What the worker calls with every candidate in these tests: candidates that misbehave, and clocks that are known."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from einsum_compiler.tuning.worker import Runs


@dataclass
class Changed:
    """An executable whose results pass through ``change``, after so many ``seconds`` more."""

    runs: Runs
    change: Callable[[dict[str, Any]], dict[str, Any]] = lambda found: found
    seconds: float = 0.0

    def run(self, tensors: Mapping[str, Any], scalars: Mapping[str, Any], extents: Mapping[str, int]) -> dict[str, Any]:
        time.sleep(self.seconds)
        return self.change(self.runs.run(tensors, scalars, extents))


def _tile(plan: str) -> int:
    """The tile of m, by which these tests tell plans apart."""
    return int(plan.split("m:")[1].split()[0]) if "m:" in plan else 1


def misbehave(stage: str, plan: str, runs: Runs) -> Runs:
    """Tiles of 1 to 6 fail each in a way of its own; tiles of 8 are fast, and all others slow."""
    match _tile(plan), stage:
        case 2, "check":
            os.kill(os.getpid(), signal.SIGSEGV)
        case 3, "time":
            os.kill(os.getpid(), signal.SIGKILL)
        case 4, "check":
            time.sleep(60)
        case 5, _:
            return Changed(runs, lambda found: {n: v + 1e-3 for n, v in found.items()})
        case 6, _:
            return Changed(runs, _leave_a_hole)
        case 7, "check":
            raise RuntimeError("out of luck")
        case 8, _:
            return runs
    return Changed(runs, seconds=0.03)


def _leave_a_hole(found: dict[str, Any]) -> dict[str, Any]:
    """An element that the kernel does not write keeps what was there before."""
    import torch

    for value in found.values():
        value[-1] = torch.empty(1)[0]
    return found


def fast_alone(stage: str, plan: str, runs: Runs) -> Runs:
    """The tile of 8 is fast when timed alone, and slow in turns with the default; the tile of 4 dies there."""
    if _tile(plan) == 4 and stage == "race":
        os.kill(os.getpid(), signal.SIGKILL)
    fast = _tile(plan) in (4, 8)
    return Changed(runs, seconds=0.001 if fast and stage == "time" else 0.06 if fast else 0.03)


def interrupt(stage: str, plan: str, runs: Runs) -> Runs:
    """The user stops the search when the tile of 8 is timed."""
    if _tile(plan) == 8 and stage == "time":
        os.kill(int(os.environ["SEARCH"]), signal.SIGINT)
        time.sleep(60)
    return Changed(runs, seconds=0.0 if _tile(plan) == 4 else 0.03)
