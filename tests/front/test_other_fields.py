"""Programs of other fields than attention: kernels and their gradients against the evaluator, both in float64."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

import einsum_compiler as ec

KERNEL_REGRESSION = """
cascade kernel_regression(X[m,d], Y[n,d], T[n]; bandwidth) -> R[m], VAR[m] {
  W[m,n] = exp(-sum[d]((X[m,d] - Y[n,d]) ** 2) / (2 * bandwidth * bandwidth))
  A[m,n] = W[m,n] / sum[n](W[m,n])
  R[m]   = sum[n](A[m,n] * T[n])
  VAR[m] = sum[n](A[m,n] * (T[n] - R[m]) ** 2)
}"""
CROSS_ENTROPY = """
cascade cross_entropy(X[t,d], W[v,d], LABEL: i64[t]) -> LOSS[t] {
  S[t,v]  = X[t,d] * W[v,d]
  LOSS[t] = logsumexp[v](S[t,v]) - sum[d](X[t,d] * W[LABEL[t],d])
}"""
COST_VOLUME = """
cascade cost_volume(A[c,y,x], B[c,i,j]; R: int, DY = 2 * R + 1, DX = 2 * R + 1) -> O[y,x,dy,dx] {
  O[y,x,dy,dx] = A[c,y,x] * default(B[c,y + dy - R,x + dx - R], 0)
}"""
GROUP_NORM = """
cascade group_norm(X[b,c,p], G[c], B[c]; GROUPS: int, eps = 1e-5) -> Y[b,c,p] {
  MU[b,groups]  = sum[c,p](X[b,c,p] where c // (C // GROUPS) == groups) / (C // GROUPS * P)
  VAR[b,groups] = sum[c,p]((X[b,c,p] - MU[b,groups]) ** 2 where c // (C // GROUPS) == groups) / (C // GROUPS * P)
  Y[b,c,p]      = (X[b,c,p] - MU[b,c // (C // GROUPS)]) * rsqrt(VAR[b,c // (C // GROUPS)] + eps) * G[c] + B[c]
}"""
RETENTION = """
cascade retention(Q[h,m,e], K[h,n,e], V[h,n,f], GAMMA[h]) -> O[h,m,f] {
  S[h,m,n]  = Q[h,m,e] * K[h,n,e] * sigmoid(GAMMA[h]) ** (m - n) where n <= m
  NORM[h,m] = max(abs(sum[n](S[h,m,n])), 1.0)
  Y[h,m,f]  = S[h,m,n] * V[h,n,f] / NORM[h,m]
  MU[h,m]   = mean[f](Y[h,m,f])
  O[h,m,f]  = (Y[h,m,f] - MU[h,m]) * rsqrt(mean[f]((Y[h,m,f] - MU[h,m]) ** 2) + 1e-5)
}"""
CONTRASTIVE = """
cascade contrastive(A[i,d], B[j,d]; temperature) -> ROW[i], COLUMN[j] {
  NA[i]     = rsqrt(sum[d](A[i,d] ** 2))
  NB[j]     = rsqrt(sum[d](B[j,d] ** 2))
  S[i,j]    = A[i,d] * NA[i] * B[j,d] * NB[j] * exp(temperature)
  ROW[i]    = logsumexp[j](S[i,j]) - sum[j](S[i,j] where j == i)
  COLUMN[j] = logsumexp[i](S[i,j]) - sum[i](S[i,j] where j == i)
}"""
RANDOM_FEATURES = """
cascade random_features(Q[h,m,e], K[h,n,e], V[h,n,f], W[r,e]) -> O[h,m,f] {
  QP[h,m,r]  = exp(sum[e](Q[h,m,e] * W[r,e]) - sum[e](Q[h,m,e] ** 2) / 2)
  KP[h,n,r]  = exp(sum[e](K[h,n,e] * W[r,e]) - sum[e](K[h,n,e] ** 2) / 2)
  NUM[h,m,f] = QP[h,m,r] * KP[h,n,r] * V[h,n,f]
  DEN[h,m]   = QP[h,m,r] * KP[h,n,r]
  O[h,m,f]   = NUM[h,m,f] / DEN[h,m]
}"""
GRID = """
cascade grid(X[y,x,f], WQ[f,e], WK[f,e]; r = 2) -> O[y,x,f] {
  Q[y,x,e]   = X[y,x,f] * WQ[f,e]
  K[u,v,e]   = X[u,v,f] * WK[f,e]
  S[y,x,u,v] = Q[y,x,e] * K[u,v,e]  where abs(y - u) <= r and abs(x - v) <= r
  A[y,x,u,v] = softmax[u,v](S[y,x,u,v])
  O[y,x,f]   = A[y,x,u,v] * X[u,v,f]
}"""
# The logarithm has no value behind the diagonal.
LEARNED_BIAS = """
cascade learned_bias(Q[b,h,m,e], K[b,h,n,e], V[b,h,n,f], W1[r], B1[r], W2[h,r]) -> O[b,h,m,f] {
  X[m,n]     = log((m - n) / 2 + 1) / log(m / 2 + 2)            where n <= m
  BIAS[h,m,n] = sum[r](W2[h,r] * relu(W1[r] * X[m,n] + B1[r]))
  S[b,h,m,n] = Q[b,h,m,e] * K[b,h,n,e] / sqrt(E) + BIAS[h,m,n]  where n <= m
  O[b,h,m,f] = softmax[n](S[b,h,m,n]) * V[b,h,n,f]
}"""
CO_ATTENTION = """
cascade co_attention(X[m,e], Y[n,e]) -> A[m,e], B[n,e] {
  S[m,n] = X[m,e] * Y[n,e]
  P[m,n] = softmax[n](S[m,n])
  R[m,n] = softmax[m](S[m,n])
  A[m,e] = P[m,n] * Y[n,e]
  B[n,e] = R[m,n] * X[m,e]
}"""
TRIANGLE = """
cascade triangle(A[i,k,c], B[j,k,c], G[i,j,c]) -> O[i,j,c] {
  T[i,j,c] = A[i,k,c] * B[j,k,c]
  MU[i,j]  = mean[c](T[i,j,c])
  V[i,j]   = mean[c]((T[i,j,c] - MU[i,j]) ** 2)
  O[i,j,c] = sigmoid(G[i,j,c]) * (T[i,j,c] - MU[i,j]) * rsqrt(V[i,j] + 1e-5)
}"""
GATED_LAYER = """
cascade gated_layer(X[t,d], W1[f,d], W2[f,d], W3[o,f]) -> Y[t,o] {
  G[t,f] = X[t,d] * W1[f,d]
  U[t,f] = X[t,d] * W2[f,d]
  Y[t,o] = silu(G[t,f]) * U[t,f] * W3[o,f]
}"""
CONVOLUTION = """
cascade convolution(X[c,y,x], W[o,c,r,s], B[o]; I = Y - R + 1, J = X - S + 1) -> O[o,i,j] {
  O[o,i,j] = relu(sum[c,r,s](X[c,i + r,j + s] * W[o,c,r,s]) + B[o])
}"""
MIXTURE = """
cascade mixture(X[t,d], MU[k,d], LS[k,d], LOGIT[k]) -> LP[t], RESP[t,k] {
  S[t,k]    = LOGIT[k] - 0.5 * sum[d](((X[t,d] - MU[k,d]) * exp(-LS[k,d])) ** 2) - sum[d](LS[k,d])
  LP[t]     = logsumexp[k](S[t,k])
  RESP[t,k] = exp(S[t,k] - LP[t])
}"""
GRAVITY = """
cascade gravity(P[i,d], M[i]; eps = 0.01) -> F[i,d] {
  R[i,j] = sum[d]((P[j,d] - P[i,d]) ** 2) + eps
  F[i,d] = M[i] * sum[j](M[j] * (P[j,d] - P[i,d]) * rsqrt(R[i,j]) / R[i,j] where i != j)
}"""
SUPERVISED_CONTRAST = """
cascade supervised_contrast(Z[i,d], LABEL: i64[i]) -> L[i] {
  S[i,j] = Z[i,d] * Z[j,d] where i != j
  LSE[i] = logsumexp[j](S[i,j])
  L[i]   = sum[j](LSE[i] - S[i,j] where LABEL[i] % 4 == LABEL[j] % 4)
}"""
TROPICAL = """
cascade tropical(A[i,k], B[k,j]) -> C[i,j] {
  C[i,j] = min[k](A[i,k] + B[k,j])
}"""
SOFT_POOL = """
cascade soft_pool(X[c,y,x]; I = Y // 2, J = X // 2, R = 3, S = 3) -> O[c,i,j] {
  MX[c,i,j]    = max[r,s](X[c,2 * i + r - 1,2 * j + s - 1])
  P[c,i,j,r,s] = exp(X[c,2 * i + r - 1,2 * j + s - 1] - MX[c,i,j])
  A[c,i,j,r,s] = P[c,i,j,r,s] / sum[r,s](P[c,i,j,r,s])
  O[c,i,j]     = sum[r,s](A[c,i,j,r,s] * X[c,2 * i + r - 1,2 * j + s - 1])
}"""  # kernels read r and s as one rank
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "kernel regression": (KERNEL_REGRESSION, {"bandwidth": 1.3}),
    "cross entropy": (CROSS_ENTROPY, {}),
    "cost volume": (COST_VOLUME, {"R": 2}),
    "group norm": (GROUP_NORM, {"GROUPS": 2}),
    "retention": (RETENTION, {}),
    "contrastive": (CONTRASTIVE, {"temperature": 1.2}),
    "random features": (RANDOM_FEATURES, {}),
    "co-attention": (CO_ATTENTION, {}),
    "triangle": (TRIANGLE, {}),
    "gated layer": (GATED_LAYER, {}),
    "convolution": (CONVOLUTION, {}),
    "mixture": (MIXTURE, {}),
    "soft pool": (SOFT_POOL, {}),
    "gravity": (GRAVITY, {}),
    "supervised contrast": (SUPERVISED_CONTRAST, {}),
    "tropical": (TROPICAL, {}),
    "grid": (GRID, {}),
    "learned bias": (LEARNED_BIAS, {}),
}
EXTENTS = {"h": 2, "m": 37, "n": 41, "e": 8, "f": 8, "d": 5, "t": 19, "v": 33, "c": 6, "y": 9, "x": 10, "p": 21, "b": 2,
           "i": 21, "j": 21, "k": 5, "o": 4, "r": 3, "s": 3}  # fmt: skip


def arguments(text: str) -> list[Tensor]:
    """Inputs of float64 (of small integers, where the text says so) for the ranks that the text declares."""
    torch.manual_seed(0)
    declared = re.findall(r"\w+(: i64)?\[([^\]]*)\]", text[: text.index("->")])
    shapes = [(kind, [EXTENTS[r] for r in ranks.split(",")]) for kind, ranks in declared]
    return [
        torch.randint(0, 33, shape) if kind else torch.randn(shape, dtype=torch.float64) * 0.7 for kind, shape in shapes
    ]


def gradients(
    run: Any, tensors: list[Tensor], scalars: dict[str, Any]
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    leaves = [t.clone().requires_grad_() if t.is_floating_point() else t for t in tensors]
    found = run(*leaves, **scalars)
    outputs = found if isinstance(found, tuple) else (found,)
    torch.manual_seed(1)
    loss = torch.stack([(o * torch.randn(o.shape, dtype=o.dtype)).sum() for o in outputs]).sum()
    return outputs, torch.autograd.grad(loss, [t for t in leaves if t.requires_grad])


# Every kernel of a backward pass is a run of the C++ compiler: the others run in `make test-all`.
SHORT = ("soft pool", "cost volume", "group norm", "contrastive", "gravity", "supervised contrast")


@pytest.mark.filterwarnings("ignore::einsum_compiler.EinsumWarning")
@pytest.mark.parametrize("name", [n if n in SHORT else pytest.param(n, marks=pytest.mark.slow) for n in CASES])
def test_kernels_and_gradients_agree_with_the_evaluator(name: str) -> None:
    text, scalars = CASES[name]
    tensors = arguments(text)
    found = gradients(ec.compile(text, backend="cpu"), tensors, scalars)
    gold = gradients(ec.reference(text), tensors, scalars)
    torch.testing.assert_close(found, gold)


def test_an_index_that_a_parameter_makes_bare_stays_in_range() -> None:
    kernel = ec.compile("cascade repeated(X[p], Y[n,e]; T: int) -> O[n] { O[n] = sum[e](Y[n,e]) * X[n // T] }")
    values, rows = torch.randn(37), torch.randn(50, 5)
    for size in (1, 2):
        place = torch.arange(50) // size
        expected = rows.sum(1) * torch.where(place < 37, values[place.clamp(max=36)], 0.0)
        torch.testing.assert_close(kernel(values, rows, T=size), expected)
