"""Level 2 of the operators: structured masks and index spaces of several ranks, every back end against an independent PyTorch program.

Kernels with hard inputs: ``test_adversarial``.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import einsum_compiler as ec
from tests.budget import assert_within_budget
from tests.zoo import structured
from tests.zoo.structured_inputs import OPERATORS, Operator, Scalars, Sizes, Tensors

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
ALL = pytest.mark.parametrize("operator", OPERATORS, ids=str)
USUAL = Sizes("usual")
SMALL = Sizes("small", M=23, N=37, grid=(5, 6), volume=(3, 3, 5), B=1, H=2, G=1, E=16, F=8)
FURTHER = (
    Sizes("ragged", M=37, N=130, grid=(9, 11), volume=(5, 3, 5), E=20, F=60),
    Sizes("more_queries", M=257, N=100, grid=(20, 33), volume=(2, 5, 9), H=2),
    Sizes("one_key_head", M=64, N=64, grid=(8, 16), volume=(4, 4, 8), G=1, B=1),
)


@functools.cache
def compiled(file: str, name: str | None, backend: str) -> Callable[..., tuple[Tensor, Tensor]]:
    path = EXAMPLES / f"{file}.ein"
    return ec.reference(path, name) if backend == "reference" else ec.compile(path, name, backend=backend)


def program(operator: Operator, tensors: Tensors, scalars: Scalars, dtype: torch.dtype) -> tuple[Tensor, ...]:
    cast = {name: t.to(dtype) if t.is_floating_point() else t for name, t in tensors.items()}
    result: tuple[Tensor, ...] = getattr(structured, operator.program)(**cast, **scalars)
    return result


def check(operator: Operator, tensors: Tensors, scalars: Scalars, backend: str) -> None:
    """Both results of one call are within the budget of the plain program."""
    actual = compiled(operator.file, operator.name, backend)(**tensors, **scalars)
    plain = program(operator, tensors, scalars, tensors["Q"].dtype)
    gold = program(operator, tensors, scalars, torch.float64)
    for result, found, near, exact in zip("OL", actual, plain, gold, strict=True):
        assert_within_budget(found, near, exact, result)


def fits(scalars: Scalars, sizes: Sizes) -> bool:
    """Whether windows fit their axes, w*d <= A, as neighbourhoods require."""
    axes = dict(zip("yx", sizes.grid, strict=True)) if "wz" not in scalars else {}
    axes |= dict(zip("zyx", sizes.volume, strict=True)) if "wz" in scalars else {"": sizes.M}
    return all(scalars.get(f"w{a}", 1) * scalars.get(f"d{a}", 1) <= n for a, n in axes.items())


@ALL
@pytest.mark.parametrize("sizes", [USUAL, *FURTHER], ids=str)
def test_evaluator(operator: Operator, sizes: Sizes) -> None:
    tensors = operator.inputs(sizes)
    for scalars in operator.calls():
        if fits(scalars, sizes):
            check(operator, tensors, scalars, "reference")


@ALL
def test_triton_interpreter(operator: Operator) -> None:
    scalars = operator.scalars if fits(operator.scalars, SMALL) else {**operator.scalars, "wy": 3, "wx": 3}
    check(operator, operator.inputs(SMALL), scalars, "triton")


@ALL
@pytest.mark.slow
@pytest.mark.parametrize("sizes", [USUAL, *FURTHER], ids=str)
def test_cpu_with_every_option(operator: Operator, sizes: Sizes) -> None:
    tensors = operator.inputs(sizes)
    for scalars in operator.calls():
        if fits(scalars, sizes):
            check(operator, tensors, scalars, "cpu")


@ALL
@pytest.mark.slow
def test_bf16(operator: Operator) -> None:
    check(operator, operator.inputs(Sizes("bf16", dtype=torch.bfloat16)), operator.scalars, "cpu")


@ALL
def test_a_text_takes_what_its_program_takes(operator: Operator) -> None:
    declared = ec.compile(EXAMPLES / f"{operator.file}.ein", operator.name).cascade
    skipped = ("scale", "C", "I", "CY", "CX")
    names: list[Any] = [t.name for t in declared.inputs] + [
        p.name for p in declared.parameters if p.name not in skipped
    ]
    assert names == list(inspect.signature(getattr(structured, operator.program)).parameters)
