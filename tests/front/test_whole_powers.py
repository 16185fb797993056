"""Whole numbers to whole powers: in values, in filters, and where the exponent is negative."""

from __future__ import annotations

import pytest
import torch

import einsum_compiler as ec

X, E = torch.arange(70.0).cos(), torch.arange(70) * 5 % 11 - 3


@pytest.mark.parametrize("backend", ["cpu", "triton"])
@pytest.mark.parametrize(
    "right",
    [
        "(-1)**i * X[i]",
        "2**3**2 * X[i]",
        "i**p",
        "3**i",
        "(i - 30)**E[i]",
        "if(2**(i - 4) > 0, 1, 0)",
        "sum[j](E[j] where 2**(j - 4) > 0 and j <= i)",
        "(i - 4) % (-3) + 7 % (-3)",
    ],
)
def test_as_the_evaluator(right: str, backend: str) -> None:
    text = f"cascade f(X[i], E[i]; p = 3) -> A[i] {{ A[i] = {right} + 0 * E[i] * p }}"
    torch.testing.assert_close(ec.compile(text, backend=backend)(X, E), ec.reference(text)(X, E), check_dtype=False)
