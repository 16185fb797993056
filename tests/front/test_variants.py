"""Variants that someone with the language page would try: they compile, and agree with the evaluator in float64."""

from __future__ import annotations

import pytest
import torch

import einsum_compiler as ec
from tests.variants import masks, normalisers, others, scores
from tests.variants.agreement import Variant, check, inputs

ALL = [*scores.VARIANTS, *masks.VARIANTS, *normalisers.VARIANTS, *others.VARIANTS]
SIZES = [{"m": 37, "n": 130}, {"m": 17, "n": 3}, {"m": 1, "n": 1}]


@pytest.mark.parametrize("variant", ALL, ids=str)
def test_tile_programs_agree(variant: Variant) -> None:
    """Ragged sizes in turn: what differs between them is tile classes, and each variant meets another one."""
    check(variant, SIZES[ALL.index(variant) % len(SIZES)])


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [*SIZES, {"m": 130, "n": 257}, {"m": 257, "n": 37}], ids=str)
@pytest.mark.parametrize("backend", ["cpu", "triton"])
@pytest.mark.parametrize("variant", ALL, ids=str)
def test_tile_programs_agree_at_all_sizes(variant: Variant, backend: str, sizes: dict[str, int]) -> None:
    check(variant, sizes, backend)


def compiled_agrees(variant: Variant, backend: str) -> None:
    kernel = ec.compile(variant.text, backend=backend)
    tensors = inputs(variant, kernel, {"m": 19, "n": 37}, torch.float32)
    kernel.validate(**tensors, **variant.scalars)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ALL, ids=str)
def test_cpu_kernels_are_within_the_error_budget(variant: Variant) -> None:
    compiled_agrees(variant, "cpu")


# Some only: each takes g++ or Triton's interpreter a second or two.
@pytest.mark.parametrize("variant", ALL[::16], ids=str)
def test_some_cpu_kernels_are_within_the_error_budget(variant: Variant) -> None:
    compiled_agrees(variant, "cpu")


@pytest.mark.parametrize("variant", ALL[5::16], ids=str)
def test_some_triton_kernels_are_within_the_error_budget(variant: Variant) -> None:
    compiled_agrees(variant, "triton")
