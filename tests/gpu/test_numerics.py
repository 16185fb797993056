"""Every cascade of examples/ on a GPU against float64, forward and backward: fresh inputs, results in memory full of NaN."""

from __future__ import annotations

import random

import pytest

from benchmarks.gpu import CHECKED, check, shrunk
from benchmarks.gpu_cases import CASES, Case

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("width", [64, 128])
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.cascade)
def test_forward(case: Case, width: int) -> None:
    check(shrunk(case, CHECKED), width, "forward", "cuda", random.randrange(2**31))


@pytest.mark.parametrize("case", [c for c in CASES if c.level <= 2], ids=lambda c: c.cascade)
def test_backward(case: Case) -> None:
    check(shrunk(case, CHECKED), 64, "backward", "cuda", random.randrange(2**31))
