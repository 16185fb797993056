"""Reductions up to a bound that moves with the result run along it: values against the evaluator, gradients, and which reductions do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import einsum_compiler as ec
from tests.budget import assert_within_budget

N = 150  # two tiles of 64 and a part of one
PLAN = "plan c { kernel O { program b, n:64 stream k:64 } }"


def text(value: str, where: str = "") -> str:
    return f"cascade c(X[b,k]; N = K) -> O[b,n] {{ O[b,n] = {value} {where} }}"


def total(x: Tensor, seen: Tensor) -> Tensor:
    return torch.where(seen, x[:, None, :], 0.0).sum(-1)


RUNNING = {
    "below": ("sum[k](X[b,k] where k < n)", lambda k, n: k < n),
    "up to": ("sum[k](X[b,k] where k <= n)", lambda k, n: k <= n),
    "above": ("sum[k](X[b,k] where k > n)", lambda k, n: k > n),
    "from": ("sum[k](X[b,k] where n <= k)", lambda k, n: n <= k),
    "moved": ("sum[k](X[b,k] where k < n + 70)", lambda k, n: k < n + 70),
    "twice as fast": ("sum[k](X[b,k] where k <= 2 * n)", lambda k, n: k <= 2 * n),
    "two bounds": ("sum[k](X[b,k] where k <= n + 9 and k <= 2 * n)", lambda k, n: (k <= n + 9) & (k <= 2 * n)),
}
OTHERS = {
    "a window": ("sum[k](X[b,k] where k <= n and n - k < 40)", lambda k, n: (k <= n) & (n - k < 40)),
    "a bound that falls": ("sum[k](X[b,k] where k + n < 100)", lambda k, n: k + n < 100),
    "residues": ("sum[k](X[b,k] where k % 3 <= n % 3)", lambda k, n: k % 3 <= n % 3),
}


@pytest.mark.parametrize("name", [*RUNNING, *OTHERS])
def test_values_and_gradients(name: str) -> None:
    value, seen = {**RUNNING, **OTHERS}[name]
    kernel = ec.compile(text(value), backend="cpu", plan=PLAN)
    assert ("tile::running_" in kernel.source("cpu")) == (name in RUNNING)
    mask = seen(torch.arange(N)[None, :], torch.arange(N)[:, None])
    x = torch.randn(3, N).requires_grad_()
    given = torch.randn(3, N)
    gold = x.detach().double().requires_grad_()
    assert_within_budget(kernel(x), total(x, mask), total(gold, mask))
    (found,) = torch.autograd.grad(kernel(x), x, given)
    (plain,) = torch.autograd.grad(total(x, mask), x, given)
    (expected,) = torch.autograd.grad(total(gold, mask), gold, given.double())
    assert_within_budget(found, plain, expected)


def test_sums_are_kept_in_double() -> None:
    x = torch.tensor([1.0] + [2.0**-25] * 63)[None]
    found = ec.compile(text("sum[k](X[b,k] where k <= n)"), backend="cpu", plan=PLAN)(x)
    assert torch.equal(found, x.double().cumsum(-1).float())


@pytest.mark.parametrize("operator", ["sum", "max", "min", "prod"])
def test_what_a_result_does_not_see_stays_out_of_it(operator: str) -> None:
    x = torch.rand(2, N) + 0.5
    x[0, 70], x[1, 90] = torch.nan, torch.inf
    kernel = ec.compile(text(f"{operator}[k](X[b,k] where k <= n)"), backend="cpu", plan=PLAN)
    found = kernel(x)
    assert found[:, :70].isfinite().all()
    assert found[0, 70:].isnan().all()
    kernel.validate(x)


def test_results_without_values_and_vectors_of_results() -> None:
    some = text("sum[k](X[b,k] where k <= n and k < 2 * b)", "where n < 50 * b")
    ec.compile(some, backend="cpu").validate(torch.randn(4, N))
    rows = "cascade c(X[k,f]; N = K) -> O[n,f] { O[n,f] = sum[k](X[k,f] where k <= n) }"
    ec.compile(rows, backend="cpu").validate(torch.randn(N, 20))
    ec.compile(rows, backend="cpu").validate(torch.randn(N, 20, dtype=torch.float64))


def test_behind_a_product_and_beside_a_diagonal() -> None:
    """The sum reads a product of its own tile, and its columns are those that a partial tile is cut down to."""
    stick = """cascade stick(Q[m,e], K[n,e], V[n,f]) -> O[m,f] {
      S[m,n] = Q[m,e] * K[n,e]
      L[m,n] = -softplus(S[m,n]) where n < m
      R[m,n] = sum[k](L[m,k] where k > n and k < m)
      A[m,n] = exp(S[m,n] - softplus(S[m,n]) + R[m,n]) where n < m
      O[m,f] = A[m,n] * V[n,f] }"""
    kernel = ec.compile(
        stick, backend="cpu", plan="plan stick { kernel O { program m:32 stream n:64 resident e, f, k } }"
    )
    assert kernel.source("cpu").count("tile::running_falling") == 2  # whole tiles, and cut ones
    kernel.validate(torch.randn(100, 8), torch.randn(100, 8), torch.randn(100, 8))
