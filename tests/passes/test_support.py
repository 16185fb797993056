"""``support``: sums do not visit points where their body is a sum over nothing, and their values stay."""

from __future__ import annotations

import pytest
import torch

import einsum_compiler as ec
from einsum_compiler.ir.parser import parse
from einsum_compiler.passes.normalize import normalize

MIXED = """
cascade c(A[k,m,n], W[k,j], V[n,f]) -> O[j,m,f] {{
  B[k,m,n] = A[k,m,n] where n <= m
  Y[j,m,n] = {mixed}
  O[j,m,f] = Y[j,m,n] * V[n,f]
}}
"""


def last_equation(mixed: str) -> str:
    return str(normalize(parse(MIXED.format(mixed=mixed)).cascade())).splitlines()[-2].strip()


@pytest.mark.parametrize(
    ("mixed", "restricted"),
    [
        ("sum[k](W[k,j] * B[k,m,n])", True),
        ("2 * sum[k](W[k,j] * B[k,m,n])", True),
        ("sum[k](W[k,j] * A[k,m,n])", False),  # defined everywhere
        ("max[k](W[k,j] * B[k,m,n])", False),  # -inf over nothing
        ("exp(sum[k](W[k,j] * B[k,m,n]))", False),  # 1 over nothing
        ("sum[k](W[k,j] * B[k,m,n]) + 1", False),
        ("sum[k](W[k,j] * B[k,m,n]) + sum[k](B[k,m,n])", True),
    ],
)
def test_a_sum_over_nothing_is_not_visited(mixed: str, restricted: bool) -> None:
    assert ("where n <= m" in last_equation(mixed)) == restricted


def test_values_stay_and_a_nan_that_nobody_sees_is_not_read() -> None:
    text = MIXED.format(mixed="sum[k](W[k,j] * B[k,m,n])")
    A, W, V = torch.randn(3, 9, 12), torch.randn(3, 2), torch.randn(12, 4)
    V[9:] = torch.nan
    expected = torch.einsum("kmn,kj,nf->jmf", A[..., :9].tril(), W, V[:9])
    torch.testing.assert_close(ec.compile(text, backend="cpu")(A, W, V), expected)
