"""Comparisons with a quotient over lanes, which the C++ writes without a division."""

from __future__ import annotations

import pytest
import torch

import einsum_compiler as ec


@pytest.mark.parametrize("condition", ["(n - s) // 7 {op} (m - s) // 5 - 1", "m // 3 - 4 {op} (n - s) // 6"])
def test_a_quotient_is_compared_as_the_evaluator_does(condition: str) -> None:
    """Every order and equality, with negative quotients on both sides."""
    lines = [f"  D{i}[m] = sum[n](X[m,n] where {condition.format(op=op)})" for i, op in enumerate(COMPARISONS)]
    outputs = ", ".join(f"D{i}[m]" for i in range(len(COMPARISONS)))
    text = f"cascade c(X[m,n]; s: int) -> {outputs} {{\n" + "\n".join(lines) + "\n}"
    X = torch.arange(29 * 41, dtype=torch.float32).reshape(29, 41)
    kernel, reference = ec.compile(text, backend="cpu"), ec.reference(text)
    for s in (0, 3, 40, -9):
        for found, expected in zip(kernel(X, s=s), reference(X, s=s), strict=True):
            assert found.tolist() == expected.tolist()


COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")
