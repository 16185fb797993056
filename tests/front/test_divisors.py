"""Quotients by extents and parameters: where they are evaluated, and calls in which one divides by zero."""

from __future__ import annotations

import pytest
import torch

import einsum_compiler as ec

GROUPED = """
cascade f(Q[h,m,e], K[g,n,e], V[g,n,f]) -> O[h,m,f], L[h,m] {
  S[h,m,n] = Q[h,m,e] * K[h // (H // G),n,e]
  O[h,m,f] = softmax[n](S[h,m,n]) * V[h // (H // G),n,f]
  L[h,m]   = logsumexp[n](S[h,m,n])
}
"""
BACKENDS = ("cpu", "triton", "reference")


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_a_divisor_that_is_zero_in_a_call_is_an_error(backend: str) -> None:
    text = "cascade f(Q[h], K[g]; T: int) -> O[h] {\n  O[h] = Q[h] * K[h // (H // G)] * if(T > 0, h // T, 1)\n}"
    kernel = ec.compile(text, backend=backend)
    assert torch.equal(kernel(torch.ones(6), torch.arange(3.0), 0), torch.arange(6).div(2, rounding_mode="floor"))
    with pytest.raises(ec.ShapeError) as caught:
        kernel(torch.ones(3), torch.ones(5), 0)
    assert str(caught.value).splitlines() == [
        "<text>:2:19: error: division by zero: H // G is 0",
        "    O[h] = Q[h] * K[h // (H // G)] * if(T > 0, h // T, 1)",
        "                    ^~~~~~~~~~~~~",
        "note: in this call G = 5, H = 3",
    ]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_quotient_by_a_parameter_is_an_index(backend: str) -> None:
    kernel = ec.compile("cascade f(A[i]; q: int) -> O[i] {\n  O[i] = A[i // q]\n}", backend=backend)
    assert torch.equal(kernel(torch.arange(7.0), 2), torch.arange(7.0) // 2)
    assert kernel(torch.empty(0), 0).shape == (0,)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("heads", [(0, 2), (0, 0), (4, 0)], ids=str)
def test_an_index_of_no_points_or_of_no_elements_divides_nothing(backend: str, heads: tuple[int, int]) -> None:
    """``H // G`` is 0 or has no value; no head asks for it, or no key would be there."""
    h, g = heads
    q, k, v = torch.ones(h, 3, 8), torch.ones(g, 5, 8), torch.ones(g, 5, 4)
    out, sums = ec.compile(GROUPED, backend=backend)(q, k, v)
    assert torch.equal(out, torch.zeros(h, 3, 4))
    # A score is a sum over e: of no products it is 0.
    torch.testing.assert_close(sums, torch.full((h, 3), 5.0).log())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("right", ["sum[i](A[i] * B[j // (J // I)])", "A[i % (I // J)] * B[j // (J // I)]"])
def test_a_sum_over_nothing_divides_nothing(backend: str, right: str) -> None:
    kernel = ec.compile(f"cascade f(A[i], B[j]) -> O[j] {{\n  O[j] = {right}\n}}", backend=backend)
    assert torch.equal(kernel(torch.empty(0), torch.ones(3)), torch.zeros(3))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_quotient_outside_of_an_empty_sum_is_evaluated(backend: str) -> None:
    text = "cascade f(A[i], B[j]) -> O[j] {\n  O[j] = sum[i](A[i]) * B[j // (J // I)]\n}"
    with pytest.raises(ec.ShapeError) as caught:
        ec.compile(text, backend=backend)(torch.empty(0), torch.ones(3))
    assert str(caught.value).splitlines() == [
        "<text>:2:32: error: division by zero: I is 0",
        "    O[j] = sum[i](A[i]) * B[j // (J // I)]",
        "                                 ^~~~~~~~",
        "note: in this call I = 0",
    ]
