"""The memory of calls whose map of queries by keys would not fit: every operator of levels 2 to 4 in a process of its own, with a limit.

At 24576 queries and keys one map of one head is 2.4 GB in f32; the address space of the process may grow by an eighth of that while the kernel runs.
"""

from __future__ import annotations

import multiprocessing
import resource
from pathlib import Path

import pytest
import torch

from tests.zoo.cases import Case
from tests.zoo.checking import compiled
from tests.zoo.inputs34 import LEVEL3, LEVEL4
from tests.zoo.structured_inputs import OPERATORS, Sizes

LENGTH, SHORT = 24576, 1536
ALLOWED = LENGTH**2 * 4 // 8
# These return the map itself, or hold few queries or keys whatever the length.
LEFT_OUT = {"map_out", "tree"}
NAMES = [o.program for o in (*OPERATORS, *LEVEL3, *LEVEL4) if o.program not in LEFT_OUT]
ALWAYS = {"natten"}


def call(name: str, length: int) -> None:
    """One call of one head; grids and volumes have as many tokens."""
    level2 = [o for o in OPERATORS if o.program == name]
    if level2:
        (structured,) = level2
        grid, volume = (length // 128, 128), (length // 384, 16, 24)
        sizes = Sizes("long", M=length, N=length, grid=grid, volume=volume, B=1, H=1, G=1, E=8, F=8)
        scalars = {**structured.scalars, "width": 128} if name == "disc" else structured.scalars
        compiled(structured.file, structured.name, "cpu")(**structured.inputs(sizes), **scalars)
    else:
        (operator,) = (o for o in (*LEVEL3, *LEVEL4) if o.program == name)
        tensors = operator.inputs(Case("long", length, length, B=1, H=1, G=1, E=8, F=8))
        # Its outputs hold a number for every query and block.
        scalars = {**operator.scalars, "block": 128} if name == "block_max" else operator.scalars
        compiled(operator.file, operator.name, "cpu")(**tensors, **scalars)


def written_out(name: str, length: int) -> None:
    """Attention with its map, which is what the limit is there to catch."""
    Q, K = torch.randn(2, length, 8)
    (Q @ K.T).softmax(-1).sum()


def limited(name: str, control: bool) -> None:
    torch.set_num_threads(1)
    program = written_out if control else call
    program(name, SHORT)  # what is loaded once is not counted
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + ALLOWED,) * 2)
    program(name, LENGTH)


def exit_code(name: str, control: bool = False) -> int | None:
    process = multiprocessing.get_context("spawn").Process(target=limited, args=(name, control))
    process.start()
    process.join()
    return process.exitcode


@pytest.mark.parametrize("name", [n if n in ALWAYS else pytest.param(n, marks=pytest.mark.slow) for n in NAMES])
def test_no_call_holds_a_square(name: str) -> None:
    assert exit_code(name) == 0


def test_a_map_does_not_fit_under_the_limit() -> None:
    assert exit_code("map", control=True) != 0
