"""Any mask, score, normaliser, grouping of heads and structure of branches compiles, in any combination, and agrees with the evaluator.

``make test`` draws 200 programs. All of them run as tile programs in the interpreter, exactly and in float64; the first 10 of another draw also as C++ in f32,
bf16 and f64 within the error budget of the plain program, and a few under Triton's interpreter; of some the gradients
are compared with autograd's. ``make test-all`` compiles thousands.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from einsum_compiler.backends.cpu import build
from tests.composition.checking import gradients_agree, kernels_agree, tile_programs_agree
from tests.composition.grammar import composed, programs
from tests.composition.text import Program

DTYPES = st.sampled_from((torch.float32, torch.float32, torch.bfloat16, torch.float64))
BACKENDS = st.sampled_from(("cpu", "cpu", "triton"))


def drawn(examples: int) -> settings:
    """So many programs. Programs do not shrink: they come from seeds, and the one that fails is printed whole."""
    phases = (Phase.explicit, Phase.generate)
    return settings(max_examples=examples, phases=phases, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture
def less_optimised(monkeypatch: pytest.MonkeyPatch) -> None:
    """C++ for a third less time in the compiler: these tests ask for the values of generated programs. Those of ``make test-all`` and all others have the users' flags."""
    monkeypatch.setattr(build, "COMMON", tuple("-O1" if flag == "-O2" else flag for flag in build.COMMON))


# In parts, so that several processes share them.
@pytest.mark.parametrize("part", range(8))
def test_tile_programs(part: int) -> None:
    @drawn(25)
    @given(programs(part, 8), BACKENDS)
    def run(program: Program, backend: str) -> None:
        tile_programs_agree(program, backend)

    run()


@pytest.mark.parametrize("part", range(2))
def test_gradients(part: int) -> None:
    @drawn(6)
    @given(programs(part, 2))
    def run(program: Program) -> None:
        gradients_agree(program)

    run()


@pytest.mark.usefixtures("less_optimised")
@pytest.mark.parametrize("part", range(2))
def test_cpu_kernels(part: int) -> None:
    @drawn(5)
    @given(programs(part, 2), DTYPES)
    def run(program: Program, dtype: torch.dtype) -> None:
        kernels_agree(program, dtype)

    run()


@drawn(3)
@given(programs())
def test_triton_kernels(program: Program) -> None:
    kernels_agree(program, torch.float32, "triton")


FOUND = [
    pytest.param(20254, torch.bfloat16, marks=pytest.mark.slow),  # inputs that hurt the plain program less than its kin
    pytest.param(20312, torch.float32, marks=pytest.mark.slow),  # the same
    (20780, torch.float32),  # a tile that only the bounds of a loop read
    (20916, torch.float32),  # the order of products that the plan chose loses more than the written one
    pytest.param(20928, torch.float32, marks=pytest.mark.slow),  # a sum of nearly equal terms in one chain
]


@pytest.mark.parametrize(("seed", "dtype"), FOUND)
def test_found_as_cpu_kernels(seed: int, dtype: torch.dtype) -> None:
    kernels_agree(composed(seed), dtype)


@pytest.mark.slow
@drawn(3000)
@given(programs(), DTYPES)
def test_many_cpu_kernels(program: Program, dtype: torch.dtype) -> None:
    kernels_agree(program, dtype)


@pytest.mark.slow
@drawn(1000)
@given(programs())
def test_many_gradients(program: Program) -> None:
    gradients_agree(program)


@pytest.mark.slow
@drawn(200)
@given(programs())
def test_many_triton_kernels(program: Program) -> None:
    kernels_agree(program, torch.float32, "triton")
