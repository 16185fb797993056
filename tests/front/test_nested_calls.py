"""Calls of cascades in the arguments of others: the inner result has the ranks that its cascade declares."""

from __future__ import annotations

import pytest
import torch

import einsum_compiler as ec

S, V = torch.randn(3, 4), torch.randn(4, 5)


@pytest.mark.parametrize("backend", ["cpu", "triton", "reference"])
@pytest.mark.parametrize(
    ("right", "expected"),
    [
        ("softmax[n](4 * softmax[n](S[m,n]))", (4 * S.softmax(1)).softmax(1)),
        ("softmax[n](softmax[m](S[m,n]))", S.softmax(0).softmax(1)),
        ("2 * softmax[n](S[m,n] - logsumexp[n](S[m,n]))", 2 * S.softmax(1)),
    ],
)
def test_a_call_in_an_argument(backend: str, right: str, expected: torch.Tensor) -> None:
    found = ec.compile(f"cascade f(S[m,n]) -> O[m,n] {{ O[m,n] = {right} }}", backend=backend)(S)
    torch.testing.assert_close(found, expected)


def test_a_filter_acts_in_the_innermost_call() -> None:
    text = "cascade f(S[m,n]) -> O[m,n] { O[m,n] = softmax[n](4 * softmax[n](S[m,n] where n <= m)) }"
    inner = S.masked_fill(torch.ones(3, 4).tril() == 0, -torch.inf).softmax(1)
    expected = (4 * inner).masked_fill(inner == 0, -torch.inf).softmax(1)
    torch.testing.assert_close(ec.compile(text)(S), expected)


def test_a_product_with_the_result_of_nested_calls() -> None:
    text = "cascade f(S[m,n], V[n,f]) -> O[m,f] { O[m,f] = softmax[n](4 * softmax[n](S[m,n])) * V[n,f] }"
    torch.testing.assert_close(ec.compile(text)(S, V), (4 * S.softmax(1)).softmax(1) @ V)
