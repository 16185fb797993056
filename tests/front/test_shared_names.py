"""Tensors that have the name of an extent: one is read with brackets, the other bare."""

from __future__ import annotations

import pytest
import torch

import einsum_compiler as ec

H_IS_A_TENSOR_AND_THE_EXTENT_OF_H = """
cascade f(X[m,n], W[n,f]) -> O[m,h] {
  H[m,f] = relu(sum[n](X[m,n] * W[n,f]))
  P[m,f] = max[n](X[m,n] * H[m,f])
  O[m,h] = sum[f](P[m,f] * W[h,f])
}
"""
AN_OUTPUT = "cascade f(A[n], M[m,n]) -> E[m,e] { E[m,e] = M[m,n] * A[n] * A[e] }"

A_RANK_THAT_TILES_ARE_CUT_FROM = """
cascade f(X[t]) -> Y[t] {
  S[t] = sum[s](X[s] * (S - s) where s <= t)
  Y[t] = X[t] - S[t]
}
"""


@pytest.mark.filterwarnings("ignore:.*is the extent of rank s here")
@pytest.mark.parametrize("backend", ["cpu", "triton"])
@pytest.mark.parametrize(
    ("text", "shapes"),
    [
        (H_IS_A_TENSOR_AND_THE_EXTENT_OF_H, [(3, 4), (4, 5)]),
        (AN_OUTPUT, [(4,), (3, 4)]),
        (A_RANK_THAT_TILES_ARE_CUT_FROM, [(70,)]),
    ],
)
def test_a_computed_tensor_may_have_the_name_of_an_extent(
    backend: str, text: str, shapes: list[tuple[int, ...]]
) -> None:
    tensors = [torch.randn(s) for s in shapes]
    found = ec.compile(text, backend=backend)(*tensors)
    torch.testing.assert_close(found.double(), ec.reference(text)(*tensors), rtol=1e-5, atol=1e-5)
