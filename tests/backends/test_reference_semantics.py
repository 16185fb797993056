"""The rules of the language that a second reading gets silently wrong, one by one."""

from __future__ import annotations

import math

import pytest
import torch

from einsum_compiler.backends.reference.evaluate import evaluate, reference
from einsum_compiler.ir.errors import ShapeError, SpecError
from einsum_compiler.ir.parser import parse
from tests.backends.plain import close, randn


def run(text: str, *arguments: object, **keywords: object) -> object:
    return reference(text)(*arguments, **keywords)


def numbers(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


# ---- sums


def test_a_sum_spans_its_term_only() -> None:
    q, k, b = randn(3, 4), randn(5, 4), randn(3, 5)
    close(run("cascade c(Q[m,e], K[n,e], B[m,n]) -> S[m,n] { S[m,n] = Q[m,e]*K[n,e] + B[m,n] }", q, k, b), q @ k.mT + b)
    close(
        run("cascade c(Q[m,e], K[n,e], B[m,n]) -> S[m,n] { S[m,n] = -Q[m,e]*K[n,e]/B[m,n] - 1 }", q, k, b),
        -(q @ k.mT) / b - 1,
    )


def test_a_sum_inside_parentheses_that_multiply() -> None:
    a, x, y = randn(3), randn(3, 4), randn(3)
    close(run("cascade c(A[m], X[m,e], Y[m]) -> S[m] { S[m] = A[m] * (X[m,e] + Y[m]) }", a, x, y), a * (x.sum(1) + y))


def test_a_quotient_of_sums_and_a_sum_of_quotients() -> None:
    x, d = randn(3, 4), randn(3).abs() + 1
    close(run("cascade c(X[m,e], D[m]) -> S[m] { S[m] = X[m,e] / D[m] }", x, d), x.sum(1) / d)
    close(
        run("cascade c(X[m,e], D[e]) -> S[m] { S[m] = X[m,e] / D[e] }", x, randn(4).abs() + 1),
        (x / (randn(4).abs() + 1)).sum(1),
    )


def test_sums_of_things_that_lack_the_rank_count_it() -> None:
    x = randn(3, 4)
    text = "cascade c(X[m,e]) -> S[m], T[m] { S[m] = sum[e](2)  T[m] = sum[e](e * m where e > m) }"
    s, t = run(text, x)  # type: ignore[misc]
    assert s.tolist() == [8, 8, 8] and t.tolist() == [0, 5, 6]


def test_no_product_is_formed() -> None:
    """A contraction of 256 x 256 x 256 x 256 points would not fit."""
    a, b, c = randn(256, 256), randn(256, 256), randn(256, 256)
    text = "cascade c(A[i,j], B[j,k], C[k,l]) -> D[i,l] { D[i,l] = A[i,j] * B[j,k] * C[k,l] where k > 2 }"
    close(run(text, a, b, c), a @ b[:, 3:] @ c[3:], 1e-9)
    text = "cascade c(A[m,e], B[n,f], C[n,e]) -> D[m,f] { D[m,f] = A[m,e] * B[n,f] * C[n,e] }"
    close(run(text, a, b, c), a @ c.T @ b, 1e-9)


# ---- reductions of nothing


def test_identities() -> None:
    text = """cascade c(X[m,n], J[m,n]) -> A[m], B[m], C[m], D[m], E[m], F[m], G[m], H[m] {
      A[m] = sum[n](X[m,n] where n < m)
      B[m] = prod[n](X[m,n] where n < m)
      C[m] = max[n](X[m,n] where n < m)
      D[m] = min[n](X[m,n] where n < m)
      E[m] = max[n](J[m,n] where n < m)
      F[m] = any[n](X[m,n] > 0 where n < m)
      G[m] = all[n](X[m,n] > 0 where n < m)
      H[m] = argmax[n](X[m,n] where n < m)
    }"""
    x, j = numbers(1, 2, 2, 3, -1, 4).view(2, 3), torch.tensor([[1, 2, 3], [-4, 5, 6]], dtype=torch.int32)
    found = [t.tolist() for t in run(text, x, j)]  # type: ignore[attr-defined]
    low = torch.iinfo(torch.int32).min
    assert found == [[0, 3], [1, 3], [-math.inf, 3], [math.inf, 3], [low, -4], [False, True], [True, True], [-1, 0]]


def test_a_max_of_negative_numbers_is_negative() -> None:
    """H6: empty is not zero."""
    assert run("cascade c(X[n]) -> M[] { M[] = max[n](X[n] where n > 1) }", numbers(5, 5, -3, -2)).item() == -2  # type: ignore[attr-defined]


def test_argmax_takes_the_first_and_several_ranks_count_row_major() -> None:
    text = "cascade c(X[m,n]) -> A[m], B[] { A[m] = argmax[n](X[m,n])  B[] = argmax[m,n](X[m,n] where m > 0) }"
    a, b = run(text, numbers(1, 7, 7, 2, 5, 5).view(2, 3))  # type: ignore[misc]
    assert a.tolist() == [1, 1] and b.item() == 4


def test_argmax_never_picks_a_filtered_point() -> None:
    text = "cascade c(X[n]) -> A[] { A[] = argmax[n](X[n] where n > 1) }"
    assert run(text, numbers(1, 1, -math.inf, -math.inf)).item() == 2  # type: ignore[attr-defined]


# ---- filters and emptiness


def test_reads_outside_neither_wrap_nor_clamp() -> None:
    text = """cascade c(X[n]) -> A[n], B[n], C[n], D[n] {
      A[n] = X[n - 1]
      B[n] = default(X[n - 1], 9) + default(X[n + 1], 5)
      C[n] = max(X[n], X[n - 1])
      D[n] = X[clamp(n - 1, 0, N - 1)]
    }"""
    found = [t.tolist() for t in run(text, numbers(1, 2, 3))]  # type: ignore[attr-defined]
    assert found == [[0, 1, 2], [11, 4, 7], [0, 2, 3], [1, 1, 2]]


def test_zero_padding() -> None:
    text = """cascade conv(X[b,c,y,x], W[d,c,i,j]) -> Y[b,d,y,x] {
      P[b,c,y,x,i,j] = default(X[b, c, y + i - I // 2, x + j - J // 2], 0)
      Y[b,d,y,x] = W[d,c,i,j] * P[b,c,y,x,i,j]
    }"""
    x, w = randn(2, 3, 5, 6, grad=True), randn(4, 3, 3, 3)
    expected = torch.nn.functional.conv2d(x, w, padding=1)
    out = run(text, x, w)
    close(out, expected)
    close(torch.autograd.grad(out.sum(), x)[0], torch.autograd.grad(expected.sum(), x)[0])  # type: ignore[attr-defined]


def test_a_filter_acts_before_anything_is_computed() -> None:
    text = """cascade c(X[m,n], W[n]) -> A[m], B[m], D[m] {
      A[m] = X[m,n] * W[n] where n <= m and m > 0
      B[m] = max[n](X[m,n]) + sum[n](X[m,n]) where n <= m
      D[m] = max[n](X[m,n] where n <= m) + sum[n](X[m,n])
    }"""
    x, w = randn(3, 3), randn(3)
    a, b, d = run(text, x, w)  # type: ignore[misc]
    low = x.tril()
    expected = low @ w
    expected[0] = 0
    close(a, expected)
    top = x.masked_fill(torch.ones(3, 3).triu(1).bool(), -math.inf).amax(1)
    close(b, top + low.sum(1))
    close(d, top + x.sum(1))


def test_a_filter_inside_an_inner_reduction() -> None:
    text = "cascade c(A[m,n], B[n,e]) -> S[m] { S[m] = sum[n](A[m,n] * sum[e](B[n,e])) where e <= n and n < m }"
    a, b = randn(4, 3), randn(3, 5)
    inner = (b * (torch.arange(5) <= torch.arange(3)[:, None])).sum(1)
    close(run(text, a, b), (a * (torch.arange(3) < torch.arange(4)[:, None])) @ inner)


def test_emptiness_ends_at_a_reduction() -> None:
    """A key read out of range has the score 0, unless a filter on the score hides it."""
    text = """cascade c(Q[m,e], K[n,e]; O = 3) -> S[m,o], H[m,o], L[m], LH[m] {
      S[m,o] = Q[m,e] * K[m + o - 1, e]
      H[m,o] = Q[m,e] * K[m + o - 1, e] where 0 <= m + o - 1 < N
      L[m] = logsumexp[o](S[m,o])
      LH[m] = logsumexp[o](H[m,o])
    }"""
    q, k = randn(4, 2), randn(4, 2)
    s, h, lse, hidden = run(text, q, k)  # type: ignore[misc]
    padded = torch.nn.functional.pad(k, (0, 0, 1, 1)).unfold(0, 3, 1).mT
    scores = torch.einsum("me,moe->mo", q, padded)
    close(s, scores)
    close(h, scores)
    close(lse, scores.logsumexp(1))
    scores[0, 0] = scores[3, 2] = -math.inf
    close(hidden, scores.logsumexp(1))


def test_three_valued_logic() -> None:
    text = """cascade tree(S[d,n], AN[d,a]; PN: int) -> L[d], M[d], C[d,n] {
      X[d,n] = S[d,n] where n < PN or AN[d, n - PN]
      L[d] = sum[n](X[d,n])
      Y[d,n] = S[d,n] where not (n >= PN and not AN[d, n - PN])
      M[d] = sum[n](Y[d,n])
      C[d,n] = 1 where AN[d, n - PN] or not AN[d, n - PN]
    }"""
    s = randn(3, 5)
    ancestors = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.bool)
    left, right, unknown = run(text, s, ancestors, PN=2)  # type: ignore[misc]
    seen = torch.cat([torch.ones(3, 2, dtype=torch.bool), ancestors], 1)
    close(left, (s * seen).sum(1))
    close(right, left)
    # A condition with an empty operand on both sides is unknown, and a filter removes it.
    assert unknown.tolist() == [[0, 0, 1, 1, 1]] * 3


def test_if_evaluates_one_branch() -> None:
    text = """cascade c(X[n]) -> A[n], B[n], D[n] {
      A[n] = if(X[n] > 0, log(X[n]), X[n] * X[n])
      B[n] = if(n > 0, X[n - 1], -1)
      D[n] = if(X[n] > 0, sqrt(X[n]) / X[n], 0)
    }"""
    x = numbers(0, -2, 4).requires_grad_()
    a, b, d = run(text, x)  # type: ignore[misc]
    close(a, numbers(0, 4, math.log(4)))
    assert b.tolist() == [-1, 0, -2]  # nothing is empty: the read outside is not taken
    close(d, numbers(0, 0, 0.5))
    close(torch.autograd.grad(a.sum(), x, retain_graph=True)[0], numbers(0, -4, 0.25))
    close(torch.autograd.grad(d.sum(), x)[0], numbers(0, 0, -0.0625))


def test_an_empty_point_of_an_output_is_zero_and_a_max_of_nothing_is_not() -> None:
    text = "cascade c(X[m]) -> A[m], B[m] { A[m] = X[m] where m > 0  B[m] = max[m2](X[m2] where m2 < m) }"
    text = text.replace("X[m2] where", "X[m2] + Z[m2] where").replace("(X[m])", "(X[m], Z[m2])")
    a, b = run(text, numbers(3, 4), numbers(0, 0))  # type: ignore[misc]
    assert a.tolist() == [0, 4] and b.tolist() == [-math.inf, 3]


def test_emptiness_of_sums_is_strict() -> None:
    text = "cascade c(X[n], Y[n]) -> A[n], B[n] { P[n] = X[n] where n > 0  A[n] = P[n] + Y[n]  B[n] = default(P[n], 0) + Y[n] }"
    a, b = run(text, numbers(1, 2), numbers(10, 20))  # type: ignore[misc]
    assert a.tolist() == [0, 22] and b.tolist() == [10, 22]


def test_a_gradient_does_not_meet_what_a_filter_removed() -> None:
    text = """cascade c(X[n], W[n]) -> A[n], B[] {
      A[n] = W[n] / X[n] + exp(1000 * W[n]) where X[n] > 0
      B[] = sum[n](W[n] * log(X[n]) where X[n] > 0)
    }"""
    x, w = numbers(0, 1, 2).requires_grad_(), numbers(5, 0.001, 0.002).requires_grad_()
    a, b = run(text, x, w)  # type: ignore[misc]
    for g in torch.autograd.grad(a.sum() + b, (x, w)):
        assert g.isfinite().all() and g[0] == 0


def test_a_quotient_of_reductions_over_nothing_is_nan() -> None:
    """0/0, as language.md says; the weight written first gives 0."""
    text = """cascade c(P[n], V[n]; L: int) -> A[], B[] {
      D[] = sum[n](P[n] where n < L)
      X[] = sum[n](P[n] * V[n] where n < L)
      A[] = X[] / D[]
      W[n] = P[n] / D[] where n < L
      B[] = W[n] * V[n]
    }"""
    a, b = run(text, randn(3), randn(3), L=0)  # type: ignore[misc]
    assert a.isnan() and b == 0


def test_rounding_stays_where_it_is_written() -> None:
    """H3: a quantiser inside is not the quantiser outside."""
    text = "cascade c(X[n]; s: float) -> A[], B[] { A[] = sum[n](round(8 * X[n] * s) / 8)  B[] = sum[n](round(8 * X[n]) / 8) * s }"
    a, b = run(text, numbers(0.3, 1.0), s=0.9)  # type: ignore[misc]
    close(a, numbers(round(8 * 0.27) / 8 + round(8 * 0.9) / 8)[0])
    close(b, numbers((0.25 + 1.0) * 0.9)[0])


def test_deferred_division_by_a_context_that_returns_to_zero() -> None:
    """H1: sum_n A[n] * B_total: the running form with a zero context gives 4, the truth is 8."""
    text = "cascade c(A[n], B[n]) -> Y[] { D[] = sum[n](B[n])  Y[] = sum[n](A[n] * D[]) }"
    assert run(text, numbers(1, 1, 1, 1), numbers(1, -1, 1, 1)).item() == 8  # type: ignore[attr-defined]


def test_minus_infinity_in_scores_is_ordinary() -> None:
    """D4: in the language IEEE, in the library's softmax a score of -inf is no candidate."""
    text = """cascade c(S[m,n]) -> A[m,n], B[m,n] {
      A[m,n] = softmax[n](S[m,n])
      MX[m] = max[n](S[m,n])
      B[m,n] = exp(S[m,n] - MX[m])
    }"""
    s = numbers(-math.inf, -math.inf, 0, -math.inf).view(2, 2).requires_grad_()
    a, b = run(text, s)  # type: ignore[misc]
    assert a.tolist() == [[0, 0], [1, 0]] and b[0].isnan().all() and b[1].tolist() == [1, 0]
    assert torch.autograd.grad(a.sum(), s)[0].isfinite().all()


# ---- cases


def test_cases_and_else() -> None:
    text = """cascade c(X[h,n], Y[h,n]; W: int) -> A[h,n], B[h,n] {
      A[h,n] = X[h,n] where h < W
      A[h,n] = log(Y[h,n]) where h >= W and n > 0
      B[h,n] = 1 / X[h,n] where X[h,n] != 0
      B[h,n] = -1 else
    }"""
    x, y = numbers(1, 0, 4, 0).view(2, 2).requires_grad_(), randn(2, 2).exp()
    a, b = run(text, x, y, W=1)  # type: ignore[misc]
    close(a, torch.stack([x[0], torch.stack([x[0, 1] * 0, y[1, 1].log()])]))
    close(b, numbers(1, -1, 0.25, -1).view(2, 2))
    assert torch.autograd.grad(b.sum(), x)[0].tolist() == [[-1, 0], [-0.0625, 0]]


def test_overlapping_cases_are_refused_where_they_meet() -> None:
    text = """cascade c(X[h,n]; W: int) -> A[h,n] {
      A[h,n] = X[h,n] where h <= W
      A[h,n] = 2 * X[h,n] where h > 0 and n == 1
    }"""
    close(run(text, randn(3, 2), W=0), torch.cat([randn(3, 2)[:1], 2 * randn(3, 2)[1:] * torch.tensor([0, 1])]))
    with pytest.raises(SpecError) as error:
        run(text, randn(3, 2), W=1)
    assert str(error.value) == (
        "<text>:3:7: error: the cases of A overlap at h = 1, n = 1\n"
        "        A[h,n] = 2 * X[h,n] where h > 0 and n == 1\n"
        "        ^~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~\n"
        "note: make the filters disjoint, or mark the last case with else"
    )


def test_what_nobody_demands_is_not_computed() -> None:
    text = "cascade c(X[n]) -> A[n] { B[n] = X[X[n]]  A[n] = 2 * X[n] }"
    close(run(text, numbers(1, 2)), numbers(2, 4))


# ---- indices and extents


def test_index_arithmetic() -> None:
    text = """cascade c(X[n]) -> A[n], B[n], C[n] {
      A[n] = (n - 3) // 2
      B[n] = (n - 3) % 2 + (n - 3) % (-2)
      C[n] = (n - 3) / 2
    }"""
    a, b, c = run(text, randn(5))  # type: ignore[misc]
    assert a.tolist() == [-2, -1, -1, 0, 0]
    assert b.tolist() == [0, 0, 0, 0, 0] and c.tolist() == [-1.5, -1, -0.5, 0, 0.5]


def test_diagonals_and_gathers_with_shared_ranks() -> None:
    text = """cascade c(X[m,n], I[m], Y[b,m,n]) -> D[m], G[m], T[b,m,k] {
      D[m] = X[m,m]
      G[m] = X[I[m], (m + 1) % N]
      T[b,m,k] = Y[b, I[k], m] * X[k, k]
    }"""
    x, y, index = randn(3, 3), randn(2, 3, 3), torch.tensor([2, 0, 1], dtype=torch.int32)
    d, g, t = run(text, x, index, y)  # type: ignore[misc]
    close(d, x.diagonal())
    close(g, x[index.long(), torch.tensor([1, 2, 0])])
    close(t, y[:, index.long()].mT * x.diagonal())


def test_an_index_that_is_no_integer() -> None:
    with pytest.raises(SpecError) as error:
        run("cascade c(X[n]) -> A[n] { A[n] = X[n / 2] }", randn(2))
    assert error.value.message == "an index of X is an integer, found a value of type f32"


def test_bare_ranks_assert_extents() -> None:
    text = "cascade c(X[m,n], Y[n]) -> A[m] { A[m] = X[m,n] * Y[m] }"
    with pytest.raises(ShapeError, match="their extents disagree: 3 in X\\[m,n\\] of shape \\(3, 4\\), 4 in"):
        run(text, randn(3, 4), randn(4))


def test_ranks_as_numbers() -> None:
    text = "cascade c(S[h,m,n], slope[h]) -> A[h,m,n] { A[h,m,n] = S[h,m,n] - slope[h] * abs(m - n) }"
    s, slope = randn(2, 3, 4), randn(2)
    distance = (torch.arange(3)[:, None] - torch.arange(4)).abs()
    close(run(text, s, slope), s - slope[:, None, None] * distance)


# ---- types


def test_declared_types_and_casts_round() -> None:
    text = """cascade c(X[n]) -> A[n], B: bf16[n], C[n], D[n], I[n] {
      T: bf16[n] = X[n] / 3
      A[n] = T[n]
      B[n] = X[n] / 3
      C[n] = cast(X[n] / 3, f16)
      D[n] = cast(X[n], f8e4m3)
      I[n] = cast(-X[n], i32)
    }"""
    x = numbers(1.7, 2.9, 100.4).requires_grad_()
    a, b, c, d, i = run(text, x)  # type: ignore[misc]
    close(a, (x / 3).bfloat16().double())
    close(b, a)
    close(c, (x / 3).half().double())
    close(d, x.to(torch.float8_e4m3fn).double())
    assert i.tolist() == [-1, -2, -100] and a.dtype == torch.float64
    close(torch.autograd.grad(a.sum(), x)[0], torch.full((3,), 1 / 3, dtype=torch.float64))


def test_integer_inputs_keep_their_values() -> None:
    text = """cascade c(A[n], B[n], Z[n]) -> S[n], D[], Q[n] {
      S[n] = A[n] - B[n] + Z[n]
      D[] = A[n] * B[n]
      Q[n] = A[n] / 2
    }"""
    a = torch.tensor([127, -128], dtype=torch.int8)
    b = torch.tensor([-128, 127], dtype=torch.int8)
    s, d, q = run(text, a, b, torch.tensor([2**40, 0]))  # type: ignore[misc]
    assert s.tolist() == [2**40 + 255, -255] and d.item() == -2 * 127 * 128
    assert q.dtype == torch.float64 and q.tolist() == [63.5, -64]


def test_bit_operators_in_64_bits() -> None:
    text = """cascade c(K[n], P[n]) -> L[n], H[n], X[n], M[n] {
      L[n] = K[n] & 15
      H[n] = K[n] >> 4 & 15
      X[n] = 1 << 40 ^ K[n] | 1
      M[n] = sum[i](P[i] * (K[n] >> i & 1) where i < N)
    }""".replace("P[n])", "P[i])")
    k = torch.tensor([0xA7, 0x10, 255], dtype=torch.uint8)
    low, high, x, m = run(text, k, torch.tensor([1, 10, 100]))  # type: ignore[misc]
    assert low.tolist() == [7, 0, 15] and high.tolist() == [10, 1, 15]
    assert x.tolist() == [(1 << 40) ^ 0xA7 | 1, (1 << 40) ^ 0x10 | 1, (1 << 40) ^ 255 | 1]
    assert m.tolist() == [111, 0, 111]


def test_definitions() -> None:
    text = """
    def softcap(x, c) = c * tanh(x / c)
    def twice(x) = softcap(x, 2) + softcap(x, 4)
    def near(i, j, w) = abs(i - j) <= w
    cascade c(S[m,n]) -> A[m,n] { A[m,n] = twice(S[m,n]) where near(m, n, 1) }
    """
    s = randn(4, 4)
    band = (torch.arange(4) - torch.arange(4)[:, None]).abs() <= 1
    close(run(text, s), (2 * (s / 2).tanh() + 4 * (s / 4).tanh()) * band)


def test_a_filter_inside_a_call_brings_its_ranks() -> None:
    text = """cascade c(X[b,n], Y[m]) -> L[b,m], A[b,m,n] {
      L[b,m]   = logsumexp[n](X[b,n] where n <= m) * Y[m]
      A[b,m,n] = softmax[n](X[b,n] where n <= m)
    }"""
    x, y = randn(2, 5), randn(5)
    running, weights = run(text, x, y)  # type: ignore[misc]
    close(running, x.logcumsumexp(1) * y)
    close(weights, x[:, None].expand(2, 5, 5).masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf).softmax(-1))


def test_a_parameter_tensor_gets_a_gradient() -> None:
    scale = torch.tensor(0.5, requires_grad=True)
    x = randn(3)
    run("cascade c(X[n]; s) -> A[n] { A[n] = X[n] * s }", x, s=scale).sum().backward()  # type: ignore[attr-defined]
    close(scale.grad, x.sum().float(), 1e-6)


def test_other_float_types_and_every_tensor() -> None:
    cascade = parse("cascade c(X[n]) -> A[n] { B[n] = X[n] where n > 0  A[n] = default(B[n], 1) / 3 }").cascade()
    x = torch.tensor([1.0, 2.0])
    assert evaluate(cascade, {"X": x}, dtype=torch.float32)["A"].dtype == torch.float32
    every = evaluate(cascade, {"X": x}, every=True)
    assert every["B"].present is not None and every["B"].present.tolist() == [False, True]
    assert every["A"].present is None and set(every) == {"X", "A", "B"}
