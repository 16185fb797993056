"""Lattices whose step is a parameter: the plan says its value, and calls with another one have plans of their own."""

from __future__ import annotations

import pytest
import torch

import einsum_compiler as ec
from einsum_compiler.ir.errors import PlanError

TEXT = """cascade deconv(X[b,c,t], W[c,o,k]; s: int, p: int = 1, U = 3 * T) -> Y[b,o,u] {
  Y[b,o,u] = sum[c,k](X[b,c,(u + p - k) // s] * W[c,o,k] where (u + p - k) % s == 0) where u < U
}"""


def _tensors() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    made = (torch.randn(s, generator=generator, dtype=torch.float64) for s in ((2, 3, 7), (3, 2, 5)))
    x, w = (t.requires_grad_() for t in made)
    return x, w


def test_every_step() -> None:
    kernel, (x, w) = ec.compile(TEXT, backend="cpu"), _tensors()
    for s in (2, 3, -2, 1, 2, -1):
        found, expected = kernel(x, w, s=s), ec.reference(TEXT)(x, w, s=s)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        gradients = (torch.autograd.grad(y, (x, w), torch.ones_like(y)) for y in (found, expected))
        for one, other in zip(*gradients, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_the_plan_says_the_step() -> None:
    x, w = (t.detach() for t in _tensors())
    plan = ec.compile(TEXT, backend="cpu").ir("plan", x, w, s=3)
    assert "order s = 3" in plan and "k_part" in plan
    assert "order" not in ec.compile(TEXT, backend="cpu").ir("plan", x, w, s=-3)
    given = ec.compile(TEXT, backend="cpu", plan=plan)
    torch.testing.assert_close(given(x, w, s=3), ec.reference(TEXT)(x, w, s=3))
    with pytest.raises(PlanError, match="the plan is for s = 3; here s is 2"):
        given(x, w, s=2)
