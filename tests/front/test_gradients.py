"""Gradients through autograd: values, precision, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import einsum_compiler as ec
from tests.budget import assert_within_budget
from tests.front.programs import ATTENTION, qkv

CAUSAL = Path("examples/causal.ein")


def doubles(*shapes: tuple[int, ...]) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize("backend", ["cpu", "triton"])
def test_gradcheck_with_a_bias_and_a_scale(backend: str) -> None:
    kernel = ec.compile("examples/bias.ein", backend=backend)
    tensors = doubles((1, 2, 5, 4), (1, 1, 6, 4), (1, 1, 6, 3), (1, 2, 5, 6), ())

    def outputs(*given: torch.Tensor) -> torch.Tensor:
        return kernel(*given[:4], scale=given[4])[0]

    assert torch.autograd.gradcheck(outputs, tensors)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_gradients_are_within_the_budget_of_plain_pytorch(dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    shapes = ((1, 4, 131, 24), (1, 2, 131, 24), (1, 2, 131, 40))
    tensors = [torch.randn(shape).to(dtype).requires_grad_() for shape in shapes]
    cotangent = torch.randn(1, 4, 131, 40).to(dtype)
    kernel = ec.compile(CAUSAL)
    found = torch.autograd.grad(kernel(*tensors)[0], tensors, cotangent)

    def plain(to: torch.dtype) -> tuple[torch.Tensor, ...]:
        q, k, v = (t.detach().to(to).requires_grad_() for t in tensors)
        scores = q @ k.repeat_interleave(2, 1).transpose(-1, -2) * 24**-0.5
        scores = scores.masked_fill(torch.ones(131, 131, dtype=torch.bool).triu(1), float("-inf"))
        out = scores.softmax(-1) @ v.repeat_interleave(2, 1)
        return torch.autograd.grad(out, (q, k, v), cotangent.to(to))

    for name, actual, same, gold in zip("QKV", found, plain(dtype), plain(torch.float64), strict=True):
        assert actual.dtype == dtype
        assert_within_budget(actual, same, gold, f"gradient of {name}")


def test_gradients_repeat_bit_for_bit() -> None:
    kernel = ec.compile(CAUSAL)
    tensors = [torch.randn(2, 2, 70, 16, requires_grad=True) for _ in range(3)]
    first, second = (torch.autograd.grad(kernel(*tensors)[0].square().sum(), tensors) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_rows_without_keys_and_huge_logits_give_finite_gradients() -> None:
    kernel = ec.compile(CAUSAL)
    q = (torch.randn(1, 1, 9, 8) * 1e4).requires_grad_()  # four rows more than keys: they see none
    k, v = (torch.randn(1, 1, 5, 8, requires_grad=True) for _ in range(2))
    found = torch.autograd.grad(kernel(q, k, v)[0].sum(), (q, k, v))
    assert all(g.isfinite().all() for g in found)
    assert not found[0][:, :, :4].any()


def test_only_what_requires_a_gradient_gets_one() -> None:
    kernel = ec.compile(ATTENTION)
    q, k, v = qkv()
    assert not kernel(q, k, v).requires_grad
    k.requires_grad_()
    out = kernel(q, k, v)
    out.sum().backward()
    assert k.grad is not None and q.grad is None
    with torch.no_grad():
        assert not kernel(q, k, v).requires_grad


def test_a_second_derivative_is_refused() -> None:
    kernel = ec.compile(ATTENTION)
    q, k, v = (t.requires_grad_() for t in qkv())
    (once,) = torch.autograd.grad(kernel(q, k, v).square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        once.sum().backward()
