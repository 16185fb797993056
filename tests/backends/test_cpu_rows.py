"""Right operands as tables of rows where they lie, and sums that begin with their first product."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import einsum_compiler as ec
from einsum_compiler.ir.tile_parser import parse_kernel
from tests.backends.test_cpu import run_and_check
from tests.backends.tile_samples import Sample
from tests.budget import assert_within_budget

PAGED = """cascade paged(Q[h,m,e], K[p,t,e], V[p,t,f], page[j]; length: int, N = 4 * J, scale = 1/sqrt(E)) -> O[h,m,f] {
  S[h,m,n] = Q[h,m,e] * K[page[n // 4],n % 4,e] * scale   where n < length and n <= m + 8
  MX[h,m]  = max[n](S[h,m,n])
  P[h,m,n] = exp(S[h,m,n] - MX[h,m])
  D[h,m]   = sum[n](P[h,m,n])
  A[h,m,n] = P[h,m,n] / D[h,m]
  O[h,m,f] = A[h,m,n] * V[page[n // 4],n % 4,f]
}"""
PLAN = "plan paged { kernel O { program h, m:8  stream n:16  resident e, f } }"


def tensors(dtype: torch.dtype, apart: bool) -> list[Tensor]:
    """Pages that no key lies in hold NaN, and so does the first key behind 25. ``apart``: neighbours of a row do not lie side by side."""
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 21, 32), torch.randn(12, 4, 32), torch.randn(12, 4, 32)
    k[[1, 4, 6, 8, 10]] = v[[1, 4, 6, 8, 10]] = torch.nan
    k[9, 1:] = v[9, 1:] = torch.nan
    if apart:
        k, v = (t.transpose(0, 2).contiguous().transpose(0, 2) for t in (k, v))
    return [*(t.to(dtype) for t in (q, k, v)), torch.tensor([7, 2, 11, 0, 5, 3, 9], dtype=torch.int32)]


def plain(q: Tensor, k: Tensor, v: Tensor, page: Tensor, length: int) -> Tensor:
    keys, values = (torch.cat([t[p] for p in page]) for t in (k, v))
    n, m = torch.arange(28), torch.arange(21)[:, None]
    seen = (n < length) & (n <= m + 8)
    s = (q @ keys.nan_to_num().T / 32**0.5).masked_fill(~seen, -torch.inf)
    return torch.softmax(s, -1).nan_to_num() @ values.nan_to_num()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["f32", "bf16"])
@pytest.mark.parametrize("apart", [False, True], ids=["side_by_side", "apart"])
def test_rows_on_pages_are_read_where_they_lie(dtype: torch.dtype, apart: bool) -> None:
    kernel = ec.compile(PAGED, backend="cpu", plan=PLAN)
    q, k, v, page = tensors(dtype, apart)
    source = kernel.source("cpu", q, k, v, page, length=25)
    assert "row_table<const" in source and "row_table" in source.split("V_tile", 1)[1]
    gold = plain(*(t.double() for t in (q, k, v)), page, 25)
    assert_within_budget(kernel(q, k, v, page, length=25), plain(q, k, v, page, 25), gold)


def test_a_sum_without_products_is_zero() -> None:
    kernel = ec.compile(PAGED, backend="cpu", plan=PLAN)
    operands = tensors(torch.float32, False)
    assert "_started" in kernel.source("cpu", *operands, length=25)
    kernel(*operands, length=25)  # leaves sums in scratch
    assert (kernel(*operands, length=0) == 0).all()


def test_what_a_loop_leaves_is_multiplied_by_rows_where_they_lie() -> None:
    sums = """kernel project(X: f32[B, N, 16, 8], W: f32[8, 16]; extents b, n) -> O: f32[B, 16, 16] {
  program b in B
  loop n.1 in full [0, N) carry S.run: f32[m:16, k:8] = 0 next S.next {
    x: f32[m:16, k:8] = load X[b, n.1, m, k] fill 0
    S.next: f32[m:16, k:8] = map S.run + x
  }
  w: f32[k:8, f:16] = load W[k, f] fill 0
  o: f32[m:16, f:16] = dot(S.run, w) over k
  store O[b, m, f] over m:16, f:16 = o
}"""
    x, w = torch.randn(2, 3, 16, 8), torch.randn(8, 16)
    run_and_check(Sample(parse_kernel(sums), {"X": x, "W": w}, {}, {"b": 2, "n": 3}))
