"""Reads of two axes by the quotient and the remainder of one number: one row where the inner axis fills the outer one's steps, and elements where it does not."""

from __future__ import annotations

import pytest
import torch

import einsum_compiler as ec

TEXT = "cascade a(Z[c,q,p]; U: int) -> X[c,u] { X[c,u] = default(Z[c,(u + 1) // 3,(u + 1) % 3], 7) }"


@pytest.mark.parametrize("p", [2, 3, 4])
@pytest.mark.parametrize("u", [5, 29, 40])
def test_quotients_beside_their_remainders(p: int, u: int) -> None:
    z = torch.arange(2 * 9 * p, dtype=torch.float64).reshape(2, 9, p)
    given = (z, z.transpose(0, 1).contiguous().transpose(0, 1), torch.cat([z, z], -1)[..., ::2][..., :p])
    for tensor in given:
        torch.testing.assert_close(ec.compile(TEXT, backend="cpu")(tensor, U=u), ec.reference(TEXT)(tensor, U=u))
