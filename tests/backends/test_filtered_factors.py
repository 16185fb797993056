"""Factors that are infinite where their filters remove them, beside a contraction: 0 times what is computed there is no 0."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import einsum_compiler as ec
from tests.budget import assert_within_budget

# ``d`` is m - n; what the factor is worth where it exists, without touching other points.
FACTORS = {
    "1/sqrt(m-n) where n < m": (1, lambda d: d**-0.5),
    "exp(40*(n-m)) where n <= m": (0, lambda d: torch.exp(-40 * d)),
    "0.1**(40*(m-n)) where n <= m": (0, lambda d: 0.1 ** (40 * d)),
}
FIRST = next(iter(FACTORS))
M = 37


def text_of(factor: str) -> str:
    return f"""cascade c(Q[m,e], K[n,e], V[n,f]) -> O[m,f] {{
      D[m,n] = {factor}
      S[m,n] = Q[m,e] * K[n,e] * D[m,n]
      O[m,f] = softmax[n](S[m,n]) * V[n,f] }}"""


def plain(factor: str, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Where the factor is removed there is nothing to sum, so the score is 0 and takes part in the softmax."""
    first, value = FACTORS[factor]
    distance = torch.arange(len(q))[:, None] - torch.arange(len(k))
    scale = torch.where(distance >= first, value(distance.clamp(min=first).double()), 0.0)
    return torch.softmax((q @ k.T) * scale.to(q.dtype), -1) @ v


def tensors(dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(M, width, generator=generator, dtype=torch.float64).to(dtype) for width in (8, 8, 5)]


def check(factor: str, backend: str, dtype: torch.dtype) -> None:
    given = tensors(dtype)
    wide = [t.double() for t in given]
    found = ec.compile(text_of(factor), backend=backend)(*given)
    assert_within_budget(found, plain(factor, *given), plain(factor, *wide))


@pytest.mark.parametrize("factor", FACTORS)
def test_evaluator(factor: str) -> None:
    wide = tensors(torch.float64)
    torch.testing.assert_close(ec.reference(text_of(factor))(*wide), plain(factor, *wide))


@pytest.mark.parametrize("factor", FACTORS)
def test_cpu(factor: str) -> None:
    check(factor, "cpu", torch.float32)


def test_cpu_bfloat16() -> None:
    check(FIRST, "cpu", torch.bfloat16)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["f32", "bf16"])
@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # what is computed at removed points
def test_triton_interpreter(factor: str, dtype: torch.dtype) -> None:
    pytest.importorskip("triton")
    check(factor, "triton", dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["f32", "bf16"])
def test_gradients_on_cpu(dtype: torch.dtype) -> None:
    given = [t.requires_grad_() for t in tensors(dtype)]
    wide = [t.detach().double().requires_grad_() for t in given]
    kernel = ec.compile(text_of(FIRST), backend="cpu")
    found = torch.autograd.grad(kernel(*given).sum(), given)
    rough = torch.autograd.grad(plain(FIRST, *given).sum(), given)
    gold = torch.autograd.grad(plain(FIRST, *wide).sum(), wide)
    for name, actual, one, other in zip("QKV", found, rough, gold, strict=True):
        assert_within_budget(actual, one, other, name)
