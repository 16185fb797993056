"""Random programs of no particular shape: tile programs against the evaluator. A program compiles and agrees, or is refused with a reason."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import einsum_compiler as ec
from einsum_compiler.ir.cascade import Cascade
from einsum_compiler.ir.errors import PlanError
from tests import strategies
from tests.variants.agreement import assert_close, evaluated, interpreted

STEPS = tuple(step for step in strategies._STEPS if step is not strategies._recurrence)  # kernels have no recurrences
EXTENTS = st.tuples(*[st.sampled_from([1, 3, 17, 40])] * 4)


def agrees(text: str, sizes: dict[str, int], seed: int, backend: str) -> None:
    kernel = ec.compile(text)
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        t.name: torch.randn([sizes[r] for r in t.ranks], dtype=torch.float64, generator=generator)
        for t in kernel.cascade.inputs
    }
    binding = kernel.binding(**tensors)
    assert_close(interpreted(kernel, binding, backend), evaluated(kernel, binding), 1e-8)


def check_cascade(cascade: Cascade, extents: tuple[int, ...], seed: int, backend: str) -> None:
    agrees(str(cascade), dict(zip("mnef", extents, strict=True)), seed, backend)


@given(strategies.cascades(6, STEPS), EXTENTS, st.integers(0, 99))
def test_random_cascades(cascade: Cascade, extents: tuple[int, ...], seed: int) -> None:
    check_cascade(cascade, extents, seed, "cpu")


WIDE = settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["cpu", "triton"])
@WIDE
@given(strategies.cascades(6, STEPS), EXTENTS, st.integers(0, 99))
def test_many_random_cascades(backend: str, cascade: Cascade, extents: tuple[int, ...], seed: int) -> None:
    check_cascade(cascade, extents, seed, backend)


@given(strategies.cascades(3, (strategies._recurrence,)), EXTENTS)
@settings(max_examples=6)
def test_recurrences_are_refused_with_a_way_out(cascade: Cascade, extents: tuple[int, ...]) -> None:
    with pytest.raises(PlanError, match=r"is a recurrence: its steps follow one another.*backend='reference'"):
        check_cascade(cascade, extents, 0, "cpu")
