"""Recurrences of the evaluator against loops in plain PyTorch."""

from __future__ import annotations

import pytest
import torch

from einsum_compiler.backends.reference.evaluate import evaluate, reference
from einsum_compiler.ir.errors import SpecError
from einsum_compiler.ir.parser import parse
from tests.backends.plain import close, randn

RETENTION = """cascade retention(Q[h,t,e], K[h,t,e], V[h,t,f], LA[h]) -> O[h,t,f], HT[h,e,f] {
  H[h,t+1,e,f] = LA[h] * H[h,t,e,f] + K[h,t,e] * V[h,t,f]
  O[h,t,f] = Q[h,t,e] * H[h,t+1,e,f]
  HT[h,e,f] = H[h,T,e,f]
}"""


@pytest.mark.parametrize("length", [1, 9])
def test_retention_is_its_quadratic_form(length: int) -> None:
    q, k, v = randn(2, length, 3, grad=True), randn(2, length, 3), randn(2, length, 4)
    decay = torch.tensor([0.9, 1.0], dtype=torch.float64)
    out, state = reference(RETENTION)(q, k, v, decay)
    i = torch.arange(length)
    power = decay[:, None, None] ** (i[:, None] - i).clamp(min=0) * (i <= i[:, None])
    expected = ((q @ k.mT) * power) @ v
    close(out, expected)
    close(state, torch.einsum("ht,hte,htf->hef", power[:, -1], k, v))
    close(torch.autograd.grad(out.sum(), q)[0], torch.autograd.grad(expected.sum(), q)[0])


def test_no_steps() -> None:
    out, state = reference(RETENTION)(randn(2, 0, 3), randn(2, 0, 3), randn(2, 0, 4), randn(2))
    assert out.shape == (2, 0, 4) and state.shape == (2, 3, 4) and not state.any()


def test_chunks_of_linear_attention() -> None:
    """The chunked form, written as a recurrence over chunks with a ragged end, equals the step form."""
    text = """cascade chunked(Q[t,e], K[t,e], V[t,f]; C: int, N = ceil(T / C), I = C) -> O[t,f], HT[e,f] {
      H[n+1,e,f] = H[n,e,f] + sum[i](K[n * C + i, e] * V[n * C + i, f] where n * C + i < T)
      A[t,i] = Q[t,e] * K[t // C * C + i, e] where t // C * C + i <= t
      P[t,f] = Q[t,e] * H[t // C, e, f]
      O[t,f] = P[t,f] + sum[i](A[t,i] * V[t // C * C + i, f])
      HT[e,f] = H[N,e,f]
    }"""
    q, k, v = randn(10, 3), randn(10, 3), randn(10, 4)
    out, state = reference(text)(q, k, v, C=4)
    close(out, (q @ k.mT).tril() @ v)
    close(state, k.mT @ v)


def test_delta_rule() -> None:
    text = """cascade delta(Q[t,e], K[t,e], V[t,f], B[t], S0[e,f]) -> O[t,f], ST[e,f] {
      S[0,e,f] = S0[e,f]
      U[t,f] = B[t] * (V[t,f] - R[t,f])
      R[t,f] = K[t,e] * S[t,e,f]
      S[t+1,e,f] = S[t,e,f] + K[t,e] * U[t,f]
      O[t,f] = Q[t,e] * S[t+1,e,f]
      ST[e,f] = S[T,e,f]
    }"""
    q, k, v, b, s0 = randn(7, 3), randn(7, 3), randn(7, 4), randn(7).sigmoid(), randn(3, 4, grad=True)
    out, last = reference(text)(q, k, v, b, s0)
    s, expected = s0, []
    for t in range(7):
        s = s + b[t] * torch.outer(k[t], v[t] - k[t] @ s)
        expected.append(q[t] @ s)
    close(out, torch.stack(expected))
    close(last, s)
    close(torch.autograd.grad(out.sum(), s0)[0], torch.autograd.grad(torch.stack(expected).sum(), s0)[0])


def test_hgrn_gates_and_a_lower_bound() -> None:
    text = """cascade hgrn(X[b,t,d], G[b,t,d], LB[d]) -> H[b,t,d] {
      F[b,t,d] = LB[d] + (1 - LB[d]) * sigmoid(G[b,t,d])
      S[b,t+1,d] = F[b,t,d] * S[b,t,d] + (1 - F[b,t,d]) * silu(X[b,t,d])
      H[b,t,d] = S[b,t+1,d]
    }"""
    x, g, bound = randn(2, 6, 3), randn(2, 6, 3, seed=1), randn(3).sigmoid()
    f = bound + (1 - bound) * g.sigmoid()
    s, expected = torch.zeros(2, 3, dtype=torch.float64), []
    for t in range(6):
        s = f[:, t] * s + (1 - f[:, t]) * torch.nn.functional.silu(x[:, t])
        expected.append(s)
    close(reference(text)(x, g, bound), torch.stack(expected, 1))


def test_online_softmax_written_by_hand() -> None:
    """What the compiler derives, with symbolic tiles, guards and a ragged end."""
    text = """cascade online(Q[m,e], K[n,e], V[n,f]; N.0 = 4, N.1 = ceil(N / N.0)) -> O[m,f] {
      S[m,n.1,n.0] = Q[m,e] * K[n.1 * N.0 + n.0, e] where n.1 * N.0 + n.0 < N and n.1 * N.0 + n.0 <= m
      MX.run[m,0] = -inf
      MX.run[m,n.1+1] = max(MX.run[m,n.1], max[n.0](S[m,n.1,n.0]))
      C[m,n.1] = if(MX.run[m,n.1+1] == -inf, 0, MX.run[m,n.1+1])
      P[m,n.1,n.0] = exp(S[m,n.1,n.0] - C[m,n.1])
      FIX[m,n.1] = if(MX.run[m,n.1] == MX.run[m,n.1+1], 1, exp(MX.run[m,n.1] - C[m,n.1]))
      D.run[m,n.1+1] = D.run[m,n.1] * FIX[m,n.1] + sum[n.0](P[m,n.1,n.0])
      O.run[m,n.1+1,f] = O.run[m,n.1,f] * FIX[m,n.1] + P[m,n.1,n.0] * V[n.1 * N.0 + n.0, f]
      O[m,f] = if(D.run[m,N.1] == 0, 0, O.run[m,N.1,f] / D.run[m,N.1])
    }"""
    q, k, v = randn(7, 3), randn(10, 3), randn(10, 2)
    k[7:] = torch.nan  # beyond every query
    module = parse(text, generated=True)
    scores = (q @ k.mT).masked_fill(torch.ones(7, 10).triu(1).bool(), -torch.inf)[:, :7]
    for tile in (4, 3, 16):
        found = evaluate(module.cascade(), {"Q": q, "K": k, "V": v}, {"N.0": tile})
        close(found["O"], scores.softmax(-1) @ v[:7])


def test_descending_is_the_adjoint() -> None:
    text = """cascade adjoint(A[t], DO[t,e]) -> DH[t,e], D0[e] {
      DH[T,e] = 0 * DO[T - 1, e]
      DH[t,e] = A[t] * DH[t+1,e] + DO[t,e]
      D0[e] = DH[0,e]
    }"""
    a, do = randn(6), randn(6, 2)
    found, first = reference(text)(a, do)
    expected = [torch.zeros(2, dtype=torch.float64)]
    for t in reversed(range(6)):
        expected.append(a[t] * expected[-1] + do[t])
    close(found, torch.stack(expected[::-1]))
    close(first, expected[-1])


def test_several_tensors_of_one_recurrence() -> None:
    text = """cascade lstm(X[t,d]) -> C[t,d], H[t,d] {
      G[t,d] = sigmoid(X[t,d] + H[t,d])
      C[0,d] = 0
      C[t+1,d] = G[t,d] * C[t,d] + tanh(X[t,d])
      H[0,d] = 1
      H[t+1,d] = G[t,d] * tanh(C[t+1,d])
    }"""
    x = randn(5, 3)
    found = reference(text)(x)
    c, h = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    cs, hs = [c], [h]
    for t in range(5):
        g = (x[t] + h).sigmoid()
        c = g * c + x[t].tanh()
        h = g * c.tanh()
        cs.append(c)
        hs.append(h)
    close(found[0], torch.stack(cs))
    close(found[1], torch.stack(hs))


def test_a_head_that_reads_the_head_before_it() -> None:
    text = """cascade heads(Q[h,m,e], K[h,n,e], V[h,n,f], W[f,e]) -> O[h,m,f] {
      P[0,m,f] = 0
      O[h,m,f] = P[h+1,m,f]
      P[h+1,m,f] = A[h,m,n] * V[h,n,f]
      B[h,m,e] = Q[h,m,e] + P[h,m,f] * W[f,e]
      S[h,m,n] = B[h,m,e] * K[h,n,e]
      A[h,m,n] = softmax[n](S[h,m,n])
    }"""
    q, k, v, w = randn(3, 4, 2), randn(3, 5, 2), randn(3, 5, 2, seed=9), randn(2, 2)
    expected = []
    before = torch.zeros(4, 2, dtype=torch.float64)
    for h in range(3):
        before = ((q[h] + before @ w) @ k[h].mT).softmax(-1) @ v[h]
        expected.append(before)
    close(reference(text)(q, k, v, w), torch.stack(expected))


def test_all_earlier_positions_behind_a_filter() -> None:
    text = """cascade sums(X[t], G[u,t]) -> Y[t] {
      Y[0] = 1
      Y[t+1] = X[t] + sum[u](Y[u] * G[u,t] where u <= t)
    }"""
    x, g = randn(6), randn(6, 6)
    y = [torch.ones((), dtype=torch.float64)]
    for t in range(6):
        y.append(x[t] + torch.stack(y) @ g[: t + 1, t])
    close(evaluate(parse(text).cascade(), {"X": x, "G": g})["Y"], torch.stack(y))


def test_cases_of_a_carried_tensor() -> None:
    text = """cascade slots(X[t], I[t], N[d]) -> S[t,d] {
      S[t+1,d] = S[t,d] / 2 + X[t] where d == I[t]
      S[t+1,d] = S[t,d] else
    }"""
    x, slot = randn(5), torch.tensor([2, 0, 2, 2, 1])
    s, expected = torch.zeros(3, dtype=torch.float64), [torch.zeros(3, dtype=torch.float64)]
    for t in range(5):
        s = s.clone()
        s[slot[t]] = s[slot[t]] / 2 + x[t]
        expected.append(s)
    close(reference(text)(x, slot, randn(3)), torch.stack(expected))
    with pytest.raises(SpecError) as error:
        evaluate(parse(text.replace("S[t+1,d] = S[t,d] else", "")).cascade(), {"X": x, "I": slot, "N": randn(3)})
    assert error.value.message == "the cases of the carried tensor S do not cover every point"
    assert error.value.notes == ("carry the state where no case holds: S[t + 1,d] = S[t,d] else",)


def test_a_state_reads_like_a_tensor_of_t_positions() -> None:
    text = """cascade c(X[t]) -> B[t], A[t], L[t] {
      H[t+1] = H[t] + X[t]
      B[t] = H[t]
      A[t] = H[t+1]
      L[t] = default(H[t - 2], -1)
    }"""
    x = torch.arange(1.0, 5)
    before, after, late = reference(text)(x)
    assert before.tolist() == [0, 1, 3, 6] and after.tolist() == [1, 3, 6, 10] and late.tolist() == [-1, -1, 0, 1]


def test_a_shift_needs_no_cycle() -> None:
    text = """cascade c(X[t]) -> S[t] {
      S[0] = 7
      S[t+1] = X[t]
    }"""
    assert reference(text)(torch.tensor([1.0, 2.0])).tolist() == [7, 1, 2]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("H[t+1] = H[t] + H[t+2] + X[t]", "the recurrence of H along t reads both earlier and later positions"),
        (
            "A[t] = B[t] + X[t]\n B[t] = A[t]\n H[t] = A[t]",
            "A and B depend on each other, and no rank on their left sides orders them",
        ),
        ("H[t+1] = H[I[t]] + X[t]", "H is read at position 3 of its recurrence before it is computed"),
        ("H[0] = 1\n H[0] = 2\n H[t+1] = H[t] + X[t]", "position 0 of H is given twice"),
    ],
)
def test_errors(body: str, message: str) -> None:
    cascade = parse(f"cascade c(X[t], I[t]) -> H[t] {{\n {body}\n}}").cascade()
    with pytest.raises(SpecError) as error:
        evaluate(cascade, {"X": randn(4), "I": torch.tensor([0, 3, 0, 0])})
    assert error.value.message == message
