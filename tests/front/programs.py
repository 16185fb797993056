"""Texts that several tests of the driver compile."""

from __future__ import annotations

import torch
from torch import Tensor

ATTENTION = """\
cascade attention(Q[b,h,m,e], K[b,h,n,e], V[b,h,n,f]; scale = 1/sqrt(E)) -> O[b,h,m,f] {
  S[b,h,m,n] = Q[b,h,m,e] * K[b,h,n,e] * scale where n <= m
  A[b,h,m,n] = softmax[n](S[b,h,m,n])
  O[b,h,m,f] = A[b,h,m,n] * V[b,h,n,f]
}
"""

# Cheap to compile: for tests of what stands around kernels.
SCALED = """\
cascade scaled(X[m,e], Y[n,e]; w: int = 2) -> Z[m], C[m] {
  Z[m] = sum[n,e](X[m,e] * Y[n,e] * w)
  C[m] = sum[e](X[m,e] > 0)
}
"""


def qkv(m: int = 40, n: int = 50, width: int = 16, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    return [torch.randn(1, 2, length, width).to(dtype) for length in (m, n, n)]
