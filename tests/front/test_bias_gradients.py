"""Learnable biases (``bias_patterns``): outputs, log-sum-exps and all gradients within the budget of plain PyTorch in the same type.

Gradients are compared by the root of their mean square error, as in FlexAttention's tests of this class (which allow 1.35 times PyTorch's in half precision and 13.5 times in f32; here
it is twice): where one key takes nearly the whole weight of a row, the worst element depends on how a single cancellation was rounded.
"""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor

import einsum_compiler as ec
from tests.budget import BAND, FACTOR, assert_within_budget, error_of
from tests.front.bias_patterns import PATTERNS, Bias

BIASES = pytest.mark.parametrize("bias", PATTERNS, ids=lambda b: b.name)


@cache
def kernel(text: str, backend: str) -> ec.Kernel:
    return ec.compile(text, backend=backend)


def results(
    outputs: tuple[Tensor, Tensor], tensors: dict[str, Tensor], cotangents: tuple[Tensor, Tensor]
) -> dict[str, Tensor]:
    """What is compared: outputs, and the gradient of every tensor that is trained; the log-sum-exp is part of the loss."""
    wanted = {n: t for n, t in tensors.items() if t.requires_grad}
    given = tuple(c.to(o.dtype) for c, o in zip(cotangents, outputs, strict=True))
    found = torch.autograd.grad(outputs, list(wanted.values()), given)
    return {"O": outputs[0], "L": outputs[1]} | dict(zip((f"gradient of {n}" for n in wanted), found, strict=True))


def compare(bias: Bias, length: int, dtype: torch.dtype, backend: str = "cpu") -> None:
    tensors = bias.tensors(length, dtype)
    cotangents = torch.randn(tensors["V"].shape).to(dtype), torch.randn(tensors["V"].shape[:3]).to(dtype)
    double = {n: t.detach().double().requires_grad_() if t.requires_grad else t for n, t in tensors.items()}
    gold = results(bias.reference(double), double, cotangents)
    plain = results(bias.reference(tensors), tensors, cotangents)
    found = results(kernel(bias.text, backend)(**tensors), tensors, cotangents)
    for name, expected in gold.items():
        assert expected.any(), name
        assert found[name].dtype == dtype
        if name in ("O", "L"):
            assert_within_budget(found[name], plain[name], expected, f"{bias.name}: {name}")
        allowed = FACTOR * rms(error_of(plain[name], expected)) + BAND * torch.finfo(dtype).eps * rms(expected)
        assert rms(error_of(found[name], expected)) <= allowed, f"{bias.name}: {name}"


def rms(values: Tensor) -> float:
    return values.double().square().mean().sqrt().item()


SLOW = pytest.mark.slow
QUICK = ("through a table of indices",)
QUICKLY = pytest.mark.parametrize(
    "bias", [b if b.name in QUICK else pytest.param(b, marks=SLOW) for b in PATTERNS], ids=lambda b: b.name
)


@QUICKLY
@pytest.mark.parametrize("length", [37, pytest.param(256, marks=SLOW), pytest.param(277, marks=SLOW)])
def test_in_float32(bias: Bias, length: int) -> None:
    compare(bias, length, torch.float32)


@BIASES
@pytest.mark.parametrize("length", [pytest.param(length, marks=SLOW) for length in (37, 256, 277)])
def test_in_bfloat16(bias: Bias, length: int) -> None:
    compare(bias, length, torch.bfloat16)


@pytest.mark.parametrize("bias", [b for b in PATTERNS if b.name in ("symmetric, read twice",)], ids=lambda b: b.name)
def test_in_bfloat16_at_an_odd_length(bias: Bias) -> None:
    compare(bias, 277, torch.bfloat16)


@BIASES
@pytest.mark.slow
def test_under_triton_s_interpreter(bias: Bias) -> None:
    compare(bias, 37, torch.float32, "triton")
