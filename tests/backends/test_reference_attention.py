"""The evaluator against plain PyTorch: attention and what surrounds it."""

from __future__ import annotations

import math
import time

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention as sdpa

from einsum_compiler.backends.reference.evaluate import reference
from tests.backends.plain import close, randn

WINDOW = """
cascade window_attention(Q[b,h,m,e], K[b,g,n,e], V[b,g,n,f]; W: int, scale = 1/sqrt(E)) -> O[b,h,m,f], L[b,h,m] {
  S[b,h,m,n] = Q[b,h,m,e] * K[b,h // (H // G),n,e] * scale   where n <= m and m - n < W
  MX[b,h,m]  = max[n](S[b,h,m,n])
  P[b,h,m,n] = exp(S[b,h,m,n] - MX[b,h,m])
  D[b,h,m]   = sum[n](P[b,h,m,n])
  A[b,h,m,n] = P[b,h,m,n] / D[b,h,m]
  O[b,h,m,f] = A[b,h,m,n] * V[b,h // (H // G),n,f]
  L[b,h,m]   = MX[b,h,m] + log(D[b,h,m])
}
"""


def grouped(x: torch.Tensor, times: int) -> torch.Tensor:
    return x.repeat_interleave(times, 1)


@pytest.mark.parametrize(("m", "n", "w"), [(37, 37, 5), (5, 40, 100), (40, 5, 3), (1, 1, 1)])
def test_window_and_grouped_heads(m: int, n: int, w: int) -> None:
    q, k, v = randn(2, 4, m, 12, grad=True), randn(2, 2, n, 12, grad=True), randn(2, 2, n, 7, grad=True)
    out, lse = reference(WINDOW)(q, k, v, W=w)
    i, j = torch.arange(m)[:, None], torch.arange(n)
    mask = (j <= i) & (i - j < w)
    scores = (q @ grouped(k, 2).mT / math.sqrt(12)).masked_fill(~mask, -math.inf)
    empty = ~mask.any(1)
    expected = sdpa(q, grouped(k, 2), grouped(v, 2), attn_mask=mask | empty[:, None])
    expected = expected.masked_fill(empty[:, None], 0)
    close(out, expected)
    close(lse, scores.logsumexp(-1))
    weight = randn(*out.shape, seed=3)
    gradients = torch.autograd.grad((out * weight).sum(), (q, k, v), retain_graph=True)
    for found, wanted in zip(gradients, torch.autograd.grad((expected * weight).sum(), (q, k, v)), strict=True):
        close(found, wanted)
    # An empty row has the log-sum-exp -inf, and neither it nor its gradient holds a NaN.
    for gradient in torch.autograd.grad(lse[..., ~empty].sum(), (q, k)):
        assert gradient.isfinite().all()


def test_gradients_of_empty_rows_are_zero() -> None:
    text = """cascade a(Q[m,e], K[n,e], V[n,f], NL[m]) -> O[m,f], L[m] {
      S[m,n] = Q[m,e] * K[n,e] where n < NL[m]
      A[m,n] = softmax[n](S[m,n])
      O[m,f] = A[m,n] * V[n,f]
      L[m] = logsumexp[n](S[m,n])
    }"""
    q, k, v = randn(4, 3, grad=True), randn(5, 3, grad=True), randn(5, 2, grad=True)
    out, lse = reference(text)(q, k, v, torch.tensor([0, 1, 5, 9]))
    assert out[0].tolist() == [0, 0] and lse[0] == -math.inf
    (out.sum() + lse.sum()).backward()
    for x in (q, k, v):
        assert x.grad is not None and x.grad.isfinite().all()
    assert q.grad is not None and q.grad[0].tolist() == [0, 0, 0]


def test_gradcheck_of_masked_attention() -> None:
    kernel = reference(WINDOW)
    inputs = (randn(1, 2, 4, 3, grad=True), randn(1, 1, 5, 3, grad=True), randn(1, 1, 5, 2, grad=True))
    assert torch.autograd.gradcheck(lambda q, k, v: kernel(q, k, v, W=2)[0], inputs)
    scale = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s, q, k, v: kernel(q, k, v, W=2, scale=s)[1], (scale, *inputs))


def test_nan_and_infinity_in_hidden_keys_reach_nothing() -> None:
    q, k, v = randn(1, 2, 6, 4), randn(1, 1, 9, 4), randn(1, 1, 9, 3)
    clean = [x.clone().requires_grad_() for x in (q, k, v)]
    hidden = torch.arange(9) > 5  # no query of 0..5 sees the keys 6, 7, 8
    k[:, :, hidden], v[:, :, hidden] = math.nan, math.inf
    k[:, :, 8] = math.inf
    dirty = [x.clone().requires_grad_() for x in (q, k, v)]
    kernel = reference(WINDOW)
    for index in (0, 1):
        out, expected = kernel(*dirty, W=4)[index], kernel(*clean, W=4)[index]
        close(out, expected)
        found = torch.autograd.grad(out.sum(), dirty, allow_unused=True)
        for g, w in zip(found, torch.autograd.grad(expected.sum(), clean, allow_unused=True), strict=True):
            assert (g is None) == (w is None)
            if g is not None and w is not None:
                close(g, w)


def test_a_nan_seen_by_later_rows_only_stays_there() -> None:
    q, k, v = randn(1, 1, 6, 4), randn(1, 1, 6, 4), randn(1, 1, 6, 3)
    v[:, :, 4] = math.nan
    out, _ = reference(WINDOW)(q, k, v, W=10)
    assert out[0, 0, :4].isfinite().all() and out[0, 0, 4:].isnan().all()


def test_512_tokens_take_well_under_a_second() -> None:
    q, k, v = randn(1, 8, 512, 64), randn(1, 2, 512, 64), randn(1, 2, 512, 64)
    kernel = reference(WINDOW)
    kernel(q, k, v, W=64)
    start = time.perf_counter()
    kernel(q, k, v, W=64)
    assert time.perf_counter() - start < 5  # the machine may be busy; 0.1 s on a quiet one


def test_logits_of_1e4_do_not_overflow() -> None:
    q, k, v = 100 * randn(1, 1, 4, 8), 100 * randn(1, 1, 4, 8), randn(1, 1, 4, 2)
    out, lse = reference(WINDOW)(q, k, v, W=9, scale=10.0)
    assert out.isfinite().all() and lse.isfinite().all()


def test_softmax1_is_a_softmax_with_one_more_score_of_zero() -> None:
    text = """cascade a(S[m,n], V[n,f]) -> O[m,f] {
      A[m,n] = softmax1[n](S[m,n] where n <= m)
      O[m,f] = A[m,n] * V[n,f]
    }"""
    s, v = 3 * randn(5, 5), randn(5, 2)
    scores = s.masked_fill(torch.ones(5, 5).triu(1).bool(), -math.inf)
    weights = torch.cat([scores, torch.zeros(5, 1, dtype=torch.float64)], 1).softmax(-1)[:, :-1]
    close(reference(text)(s, v), weights @ v)


def test_softmax_over_two_ranks_and_on_other_axes() -> None:
    text = """cascade a(S[h,y,x,y2,x2]) -> A[h,y,x,y2,x2], B[h,y,x,y2,x2], C[y2,x2] {
      A[h,y,x,y2,x2] = softmax[y2,x2](S[h,y,x,y2,x2])
      B[h,y,x,y2,x2] = 2 * softmax[h](S[h,y,x,y2,x2])
      C[y2,x2] = A[h,y,x,y2,x2]
    }"""
    s = randn(2, 3, 4, 3, 4)
    a, b, c = reference(text)(s)
    expected = s.flatten(3).softmax(-1).view(s.shape)
    close(a, expected)
    close(b, 2 * s.softmax(0))
    close(c, expected.sum((0, 1, 2)))


def test_norms() -> None:
    text = """cascade a(X[b,e], W[e]; eps = 1e-5) -> L[b,e], R[b,e], M[b] {
      N[b,e] = layernorm[e](X[b,e], eps)
      L[b,e] = N[b,e] * W[e]
      R[b,e] = rmsnorm[e](X[b,e], 0.01) * W[e]
      M[b] = mean[e](X[b,e] where e > b)
    }"""
    x, w = randn(3, 8), randn(8)
    layer, rms, mean = reference(text)(x, w)
    close(layer, torch.nn.functional.layer_norm(x, (8,), w))
    close(rms, torch.nn.functional.rms_norm(x, (8,), w, eps=0.01))
    close(mean, torch.stack([x[i, i + 1 :].mean() for i in range(3)]))


def test_t5_bias_through_an_integer_table() -> None:
    text = """cascade t5(Q[h,m,e], K[h,n,e], V[h,n,f], TB[h,u]; NB: int, D = 128) -> O[h,m,f] {
      BU[r] = cast(if(abs(d(r, N)) < NB // 4, abs(d(r, N)),
              min(NB // 2 - 1, NB // 4 + floor(log(abs(d(r, N)) / (NB // 4)) / log(D / (NB // 4)) * (NB // 2 - NB // 4))))
              + if(d(r, N) > 0, NB // 2, 0), i32) where r < 2 * N - 1
      S[h,m,n] = Q[h,m,e] * K[h,n,e] + TB[h, BU[n - m + N - 1]]
      A[h,m,n] = softmax[n](S[h,m,n])
      O[h,m,f] = A[h,m,n] * V[h,n,f]
    }
    def d(r, n) = r - n + 1"""
    text = text.replace("; NB: int, D = 128)", "; NB: int, D = 128, R = 2 * N - 1)")

    def bucket(d: int) -> int:
        p, base = abs(d), 16 if d > 0 else 0
        return base + (p if p < 8 else min(15, 8 + math.floor(math.log(p / 8) / math.log(128 / 8) * 8)))

    assert [bucket(d) for d in (0, -1, 1, -7, -8, -127, -128, 200)] == [0, 1, 17, 7, 8, 15, 15, 31]
    q, k, v, table = randn(2, 20, 4), randn(2, 20, 4), randn(2, 20, 3), randn(2, 32, grad=True)
    bias = table[:, torch.tensor([[bucket(n - m) for n in range(20)] for m in range(20)])]
    expected = (q @ k.mT + bias).softmax(-1) @ v
    out = reference(text)(q, k, v, table, NB=32)
    close(out, expected)
    close(torch.autograd.grad(out.sum(), table)[0], torch.autograd.grad(expected.sum(), table)[0])


def test_differential_attention_calls_a_cascade_twice() -> None:
    text = """
    cascade attend(Q[h,m,e], K[h,n,e], V[h,n,f]; scale = 1/sqrt(E)) -> O[h,m,f], L[h,m] {
      S[h,m,n] = Q[h,m,e] * K[h,n,e] * scale where n <= m
      A[h,m,n] = softmax[n](S[h,m,n])
      O[h,m,f] = A[h,m,n] * V[h,n,f]
      L[h,m] = logsumexp[n](S[h,m,n])
    }
    cascade diff(Q1[h,m,e], Q2[h,m,e], K1[h,n,e], K2[h,n,e], V[h,n,f], LAM[h]; c: float) -> O[h,m,f], L1[h,m] {
      O1[h,m,f], L1[h,m] = attend(Q1[h,m,e], K1[h,n,e], V[h,n,f])
      O2[h,m,f], L2[h,m] = attend(Q2[h,m,e], K2[h,n,e], V[h,n,f], c)
      O[h,m,f] = O1[h,m,f] - LAM[h] * O2[h,m,f]
    }"""
    q1, q2, k1, k2 = (randn(2, 6, 4, seed=s) for s in range(4))
    v, lam = randn(2, 6, 3), randn(2)
    out, lse = reference(text)(q1, q2, k1, k2, v, lam, c=0.25)
    first, second = sdpa(q1, k1, v, is_causal=True), sdpa(q2, k2, v, is_causal=True, scale=0.25)
    close(out, first - lam[:, None, None] * second)
    hidden = torch.ones(6, 6).triu(1).bool()
    close(lse, (q1 @ k1.mT / 2).masked_fill(hidden, -math.inf).logsumexp(-1))


def test_declared_types_of_a_called_cascade() -> None:
    text = """
    cascade dot(Q: bf16[m,e], I: i32[m]) -> S: bf16[m] { S[m] = Q[m,e] * I[m] / 3 }
    cascade c(Q: bf16[m,e], I: i32[m]) -> T[m] {
      S[m] = dot(Q[m,e], I[m])
      T[m] = S[m] + 1
    }"""
    q, i = randn(3, 4).bfloat16(), torch.arange(3, dtype=torch.int32)
    close(reference(text)(q, i), (q.double().sum(1) * i / 3).bfloat16().double() + 1)


def test_page_table() -> None:
    text = """cascade paged(Q[b,h,m,e], KP[page,i,g,e], VP[page,i,g,f], PT[b,p], NL[b]; T = I, N = P * I) -> O[b,h,m,f] {
      S[b,h,m,n] = Q[b,h,m,e] * KP[PT[b, n // T], n % T, h // (H // G), e] where n < NL[b]
      A[b,h,m,n] = softmax[n](S[b,h,m,n])
      O[b,h,m,f] = A[b,h,m,n] * VP[PT[b, n // T], n % T, h // (H // G), f]
    }"""
    q, kp, vp = randn(3, 4, 1, 8), randn(7, 4, 2, 8), randn(7, 4, 2, 5)
    table = torch.tensor([[3, 0, 99], [6, -5, 1000], [1, 2, 3]], dtype=torch.int32)  # garbage past the lengths
    lengths = torch.tensor([7, 0, 12])
    kp[5], vp[4] = math.nan, math.inf  # pages that nobody has
    out = reference(text)(q, kp, vp, table, lengths)
    assert isinstance(out, torch.Tensor) and not out[1].any()
    for b, pages in ((0, [3, 0]), (2, [1, 2, 3])):
        n = int(lengths[b])
        k = grouped(kp[pages].flatten(0, 1)[:n].transpose(0, 1)[None], 2)
        v = grouped(vp[pages].flatten(0, 1)[:n].transpose(0, 1)[None], 2)
        close(out[b], sdpa(q[b][None], k, v, scale=1.0)[0])


def test_urpe_weighs_the_finished_probability_along_diagonals() -> None:
    text = """cascade u(S[m,n], V[n,f], CT[r]) -> O[m,f], G[r] {
      P[m,n] = softmax[n](S[m,n])
      O[m,f] = P[m,n] * CT[n - m + N - 1] * V[n,f]
      G[r] = sum[m,n](P[m,n]) where r == n - m + N - 1
    }"""
    s, v, ct = randn(4, 4), randn(4, 2), randn(7, grad=True)
    out, diagonal = reference(text)(s, v, ct)
    p = s.softmax(-1)
    index = torch.arange(4) - torch.arange(4)[:, None] + 3
    close(out, (p * ct[index]) @ v)
    close(diagonal, torch.zeros(7, dtype=torch.float64).index_add(0, index.flatten(), p.flatten()))
    close(
        torch.autograd.grad(out.sum(), ct)[0],
        torch.zeros(7, dtype=torch.float64).index_add(0, index.flatten(), (p * v.sum(1)).flatten()),
    )


def test_three_index_attention() -> None:
    text = """cascade t(Q[m,e], K1[j,e], K2[k,e], V1[j,f], V2[k,f]) -> O[m,f] {
      S[m,j,k] = Q[m,e] * K1[j,e] * K2[k,e]
      P[m,j,k] = softmax[j,k](S[m,j,k])
      O[m,f] = P[m,j,k] * V1[j,f] * V2[k,f]
    }"""
    q, k1, k2, v1, v2 = randn(3, 4), randn(5, 4), randn(6, 4), randn(5, 2), randn(6, 2)
    p = torch.einsum("me,je,ke->mjk", q, k1, k2).flatten(1).softmax(-1).view(3, 5, 6)
    close(reference(text)(q, k1, k2, v1, v2), torch.einsum("mjk,jf,kf->mf", p, v1, v2))


@pytest.mark.parametrize(("m", "n"), [(0, 4), (4, 0), (0, 0)])
def test_extents_of_zero(m: int, n: int) -> None:
    out, lse = reference(WINDOW)(randn(1, 2, m, 3), randn(1, 1, n, 3), randn(1, 1, n, 2), W=3)
    assert out.shape == (1, 2, m, 2) and not out.any()
    assert lse.shape == (1, 2, m) and (lse == -math.inf).all()
