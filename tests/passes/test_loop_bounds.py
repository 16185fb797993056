"""Bounds that the filters of all reductions of a loop imply, though none of them is stated by all."""

from __future__ import annotations

import torch

import einsum_compiler as ec
from einsum_compiler.ir.expression import Expression
from einsum_compiler.ir.parser import parse
from einsum_compiler.passes.lowering.loops import common_consequences


def conjunct(text: str) -> Expression:
    where = parse(f"cascade c(X[m,n]) -> Y[m,n] {{ Y[m,n] = X[m,n] where {text} }}").cascade().equations[0].where
    assert where is not None
    return where


def common(*domains: tuple[str, ...]) -> set[Expression]:
    return set(common_consequences([frozenset(map(conjunct, d)) for d in domains]))


def test_what_all_state_and_what_all_imply() -> None:
    assert common(("n < m", "n > 2"), ("n == m", "n > 2")) == {conjunct("n <= m"), conjunct("n > 2")}
    assert common(("n < m",), ("n < m",)) == {conjunct("n < m")}
    assert common(("n < m",), ("n > m",)) == set()
    assert common(("n == m",), ("n > m",), ("n >= m",)) == {conjunct("n >= m")}
    assert common() == set()


def test_past_and_present_end_at_the_same_tile() -> None:
    text = """
    cascade c(X[m,n], V[n,f], W[n,f]) -> Y[m,f] {
      A[m,n] = X[m,n] where n < m
      B[m,n] = X[m,n] where n == m
      Y[m,f] = sum[n](A[m,n] * V[n,f]) + sum[n](B[m,n] * W[n,f])
    }"""
    kernel = ec.compile(text, backend="cpu")
    X, V, W = torch.randn(300, 300), torch.randn(300, 8), torch.randn(300, 8)
    (loop,) = (line for line in kernel.ir("tile", X, V, W).splitlines() if line.strip().startswith("loop"))
    assert "m.1" in loop
    torch.testing.assert_close(kernel(X, V, W), X.tril(-1) @ V + torch.diag(X.diag()) @ W, rtol=1e-4, atol=1e-4)
