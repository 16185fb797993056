"""Reductions of no points: every backend gives the identity, and 0 / 0 for a mean, also where other rows have points."""

from __future__ import annotations

import pytest
import torch

import einsum_compiler as ec

POOLS = """
cascade pools(X[b,n,f], L[b], W[f,g]) -> MEAN[b,g], MAX[b,g], MIN[b,g], BOTH[b,g], GUARDED[b,g] {
  Y[b,n,g]     = relu(sum[f](X[b,n,f] * W[f,g])) where n < L[b]
  MEAN[b,g]    = mean[n](Y[b,n,g])
  MAX[b,g]     = max[n](Y[b,n,g])
  MIN[b,g]     = min[n](Y[b,n,g])
  BOTH[b,g]    = MEAN[b,g] + MAX[b,g]
  GUARDED[b,g] = mean[n](Y[b,n,g]) where L[b] > 0
}
"""


@pytest.mark.parametrize("backend", ["cpu", "triton", "reference"])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_pools_of_sets_of_any_size(backend: str) -> None:
    x, w, lengths = torch.randn(3, 40, 6), torch.randn(6, 5), [0, 7, 40]
    found = ec.compile(POOLS, backend=backend)(x, torch.tensor(lengths), w)
    sets = [(x[b, :n] @ w).relu() for b, n in enumerate(lengths)]
    inf, none = torch.full((5,), torch.inf), torch.zeros(5)
    expected = (
        [y.mean(0) for y in sets],
        [y.amax(0) if len(y) else -inf for y in sets],
        [y.amin(0) if len(y) else inf for y in sets],
        [y.mean(0) + y.amax(0) if len(y) else torch.nan * none for y in sets],
        [y.mean(0) if len(y) else none for y in sets],
    )
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, torch.stack(theirs), rtol=1e-5, atol=1e-5, equal_nan=True)
