"""Positions of extrema: compiled as a minimum of coordinates, against PyTorch's argmax and the evaluator."""

from __future__ import annotations

import math

import pytest
import torch

import einsum_compiler as ec

HARD = """
cascade hard(Q[m,e], K[n,e], V[n,f]) -> O[m,f], I[m] {
  S[m,n] = Q[m,e] * K[n,e] where n <= m - 2
  I[m]   = argmax[n](S[m,n])
  O[m,f] = V[I[m],f]
}"""
SWITCH = """
cascade switch(X[t,d], G[x,d], W[x,o,d]) -> Y[t,o] {
  P[t,x] = softmax[x](sum[d](X[t,d] * G[x,d]))
  I[t]   = argmax[x](P[t,x])
  Y[t,o] = P[t,I[t]] * sum[d](W[I[t],o,d] * X[t,d])
}"""


@pytest.mark.parametrize("backend", ["cpu", "triton"])
def test_the_first_of_the_largest_and_a_nan_before_all(backend: str) -> None:
    kernel = ec.compile("cascade largest(X[m,e]) -> C[m] { C[m] = argmax[e](X[m,e]) }", backend=backend)
    x = torch.randn(6, 70)
    x[1, [3, 50]] = math.nan
    x[2], x[3, 40], x[4, [7, 66]] = -math.inf, math.inf, 9.0
    found = kernel(x)
    assert found.dtype == torch.int64 and torch.equal(found, x.argmax(1))
    assert kernel(torch.randn(3, 0)).tolist() == [-1, -1, -1]


def test_several_ranks_are_in_row_major_order() -> None:
    x = torch.randn(9, 5, 21)
    kernel = ec.compile("cascade largest(X[b,m,e]) -> C[b] { C[b] = argmax[m,e](X[b,m,e]) }", backend="cpu")
    assert torch.equal(kernel(x), x.flatten(1).argmax(1))


def test_over_nothing_a_position_is_empty_and_what_it_reads_too() -> None:
    q, k, v = torch.randn(37, 8), torch.randn(41, 8), torch.randn(41, 5)
    out, place = ec.compile(HARD, backend="cpu")(q, k, v)
    gold, gold_place = ec.reference(HARD)(q, k, v)
    assert torch.equal(place, gold_place) and place[:2].tolist() == [-1, -1]
    assert torch.equal(out, gold.float()) and not out[:2].any()


def test_a_position_chooses_what_is_computed_and_passes_no_gradient() -> None:
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((19, 6), (4, 6), (4, 7, 6))]
    out = ec.compile(SWITCH, backend="cpu")(*inputs)
    gold = ec.reference(SWITCH)(*inputs)
    torch.testing.assert_close(out, gold)
    cotangent = torch.randn(gold.shape, dtype=gold.dtype)
    torch.testing.assert_close(
        torch.autograd.grad(out, inputs, cotangent), torch.autograd.grad(gold, inputs, cotangent)
    )
