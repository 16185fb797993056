"""Calls of cascades: in the arguments of others the inner result has the ranks that its cascade declares; ranks of a callee's own keep their extents."""

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


GRAM = "cascade step(X[i,j]) -> Y[i,j] { G[i,k] = X[i,j] * X[k,j]  Y[i,j] = G[i,k] * X[k,j] }\n"


def test_a_rank_of_the_callee_that_bare_reads_make_equal_to_one_of_its_inputs() -> None:
    text = GRAM + "cascade f(S[m,n]) -> O[m,n] { A[m,n] = step(S[m,n])  O[m,n] = step(A[m,n]) }"
    once = S @ S.T @ S
    torch.testing.assert_close(ec.compile(text, backend="cpu")(S), once @ once.T @ once, rtol=1e-4, atol=1e-4)


def test_such_a_rank_two_calls_deep() -> None:
    text = GRAM + "cascade twice(X[k,j]) -> Y[k,j] { A[k,j] = step(X[k,j])  Y[k,j] = step(A[k,j]) }\n"
    text += "cascade f(S[m,n]) -> O[m,n] { O[m,n] = twice(S[m,n]) }"
    once = S @ S.T @ S
    torch.testing.assert_close(ec.compile(text, backend="cpu")(S), once @ once.T @ once, rtol=1e-4, atol=1e-4)


STAIRS = "cascade step(X[i]; C = {extent}) -> Y[i] {{ Y[i] = sum[c](X[i] * (c + 1)) }}\n"


@pytest.mark.parametrize(
    ("extent", "argument", "factor"), [("3", "", 6), ("3", ", 4", 10), ("ceil(I / 2)", "", 3), ("3", ", N", 10)]
)
def test_a_rank_of_the_callee_whose_extent_is_its_parameter(extent: str, argument: str, factor: int) -> None:
    text = STAIRS.format(extent=extent) + f"cascade f(V[n]) -> O[n] {{ O[n] = step(V[n]{argument}) }}"
    torch.testing.assert_close(ec.compile(text, backend="cpu")(S[0]), factor * S[0])
    torch.testing.assert_close(ec.reference(text)(S[0]).float(), factor * S[0])


def test_an_extent_of_the_callee_that_calls_may_vary_is_refused() -> None:
    text = STAIRS.format(extent="3") + "cascade f(V[n]; W: int) -> O[n] { O[n] = step(V[n], W) }"
    with pytest.raises(ec.PlanError, match="the extent of rank c of step depends on a parameter of the caller"):
        ec.compile(text, backend="cpu")(S[0], 3)
