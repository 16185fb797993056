"""Cascades whose bounds are known or have to make sense, and a way to ask for them."""

from __future__ import annotations

import functools

from einsum_compiler.derivation import derive
from einsum_compiler.nominal import nominal_binding
from einsum_compiler.passes.bounds.analysis import Analysis
from einsum_compiler.passes.normalize import Normalize, normalize

ATTENTION = """cascade attention(Q[p,e], K[m,e], V[m,f]) -> AV[p,f] {
  QK[m,p] = Q[p,e] * K[m,e]
  GM[p] = max[m](QK[m,p])
  SN[m,p] = exp(QK[m,p] - GM[p])
  SD[p] = sum[m](SN[m,p])
  A[m,p] = SN[m,p] / SD[p]
  AV[p,f] = A[m,p] * V[m,f]
}"""
CAUSAL = ATTENTION.replace("K[m,e]\n", "K[m,e] where m <= p\n")
WINDOW = ATTENTION.replace("V[m,f])", "V[m,f]; W: int)").replace("K[m,e]\n", "K[m,e] where m <= p and p - m < W\n")
BIAS = ATTENTION.replace("V[m,f])", "V[m,f], BI[p,m])").replace("K[m,e]\n", "K[m,e] + BI[p,m]\n")
GROUPED = """cascade grouped(Q[h,p,e], K[g,m,e], V[g,m,f]) -> O[h,p,f] {
  S[h,p,m] = Q[h,p,e] * K[h // (H // G),m,e]
  P[h,p,m] = softmax[m](S[h,p,m])
  O[h,p,f] = P[h,p,m] * V[h // (H // G),m,f]
}"""
# The values are the last F entries of the keys, as in multi-head latent attention.
LATENT = """cascade latent(Q[h,p,e], K[m,e]; F, R = E - F) -> O[h,p,f] {
  S[h,p,m] = Q[h,p,e] * K[m,e]
  P[h,p,m] = softmax[m](S[h,p,m])
  O[h,p,f] = P[h,p,m] * K[m,f + R]
}"""
EXPANDED = """cascade expanded(Q[h,p,e], C[m,c], UK[h,e,c], UV[h,f,c]) -> O[h,p,f] {
  K[h,m,e] = C[m,c] * UK[h,e,c]
  V[h,m,f] = C[m,c] * UV[h,f,c]
  S[h,p,m] = Q[h,p,e] * K[h,m,e]
  P[h,p,m] = softmax[m](S[h,p,m])
  O[h,p,f] = P[h,p,m] * V[h,m,f]
}"""
DIFFERENTIAL = """cascade differential(QA[p,e], KA[m,e], QB[p,e], KB[m,e], V[m,f]; lam) -> O[p,f] {
  SA[p,m] = QA[p,e] * KA[m,e]
  SB[p,m] = QB[p,e] * KB[m,e]
  PA[p,m] = softmax[m](SA[p,m])
  PB[p,m] = softmax[m](SB[p,m])
  O[p,f] = (PA[p,m] - lam * PB[p,m]) * V[m,f]
}"""
TALKING = """cascade talking(Q[h,p,e], K[h,m,e], V[j,m,f], W1[g,h], W2[j,g]) -> O[j,p,f] {
  S[h,p,m] = Q[h,p,e] * K[h,m,e]
  T[g,p,m] = W1[g,h] * S[h,p,m]
  P[g,p,m] = softmax[m](T[g,p,m])
  U[j,p,m] = W2[j,g] * P[g,p,m]
  O[j,p,f] = U[j,p,m] * V[j,m,f]
}"""
LINEAR = """cascade linear(Q[p,e], K[m,e], V[m,f]) -> O[p,f] {
  KV[e,f] = K[m,e] * V[m,f]
  O[p,f] = Q[p,e] * KV[e,f]
}"""
TENSOR = """cascade tensor(Q[p,e], KA[m,e], KB[l,e], VA[m,f], VB[l,f]) -> O[p,f] {
  S[p,m,l] = Q[p,e] * KA[m,e] * KB[l,e]
  X[p] = max[m,l](S[p,m,l])
  P[p,m,l] = exp(S[p,m,l] - X[p])
  D[p] = sum[m,l](P[p,m,l])
  O[p,f] = sum[m,l](P[p,m,l] * VA[m,f] * VB[l,f]) / D[p]
}"""
NORM = """cascade norm(X[m,k], W[n,k]) -> Z[m,n] {
  MU[m] = sum[k](X[m,k]) / K
  VAR[m] = sum[k]((X[m,k] - MU[m]) ** 2) / K
  Y[m,k] = (X[m,k] - MU[m]) * rsqrt(VAR[m] + 0.00001)
  Z[m,n] = Y[m,k] * W[n,k]
}"""
BATCHED = "cascade batched(A[b,m,k], B[b,k,n]) -> Z[b,m,n] { Z[b,m,n] = A[b,m,k] * B[b,k,n] }"
MATMUL = "cascade product(A[m,k], B[k,n]) -> Z[m,n] { Z[m,n] = A[m,k] * B[k,n] }"
MTTKRP = "cascade mttkrp(X[i,j,k], A[j,r], B[k,r]) -> Z[i,r] { Z[i,r] = X[i,j,k] * A[j,r] * B[k,r] }"
CONVOLUTION = "cascade convolution(X[i], G[r]; M = I - R + 1) -> Z[m] { Z[m] = X[m + r] * G[r] }"
CHAIN = """cascade chain(X[m,a], A[a,b], B[b,c], C[c,d]) -> Z[m,d] {
  Y1[m,b] = X[m,a] * A[a,b]
  Y2[m,c] = Y1[m,b] * B[b,c]
  Z[m,d] = Y2[m,c] * C[c,d]
}"""
BACKWARD = """cascade backward(Q[p,e], K[m,e], V[m,f], DO[p,f], L[p], DL[p]) -> DQ[p,e], DK[m,e], DV[m,f] {
  S[p,m] = Q[p,e] * K[m,e]
  P[p,m] = exp(S[p,m] - L[p])
  DP[p,m] = DO[p,f] * V[m,f]
  DS[p,m] = P[p,m] * (DP[p,m] - DL[p])
  DV[m,f] = P[p,m] * DO[p,f]
  DQ[p,e] = DS[p,m] * K[m,e]
  DK[m,e] = DS[p,m] * Q[p,e]
}"""
SEGMENTS = ATTENTION.replace("V[m,f])", "V[m,f], SQ: i32[p], SK: i32[m])").replace(
    "K[m,e]\n", "K[m,e] where SQ[p] == SK[m]\n"
)
RECURRENCE = """cascade recurrence(Q[t,e], K[t,e], V[t,f], A[t]) -> O[t,f] {
  H[t+1,e,f] = A[t] * H[t,e,f] + K[t,e] * V[t,f]
  O[t,f] = Q[t,e] * H[t+1,e,f]
}"""


@functools.cache
def analysis(text: str, **sizes: float) -> Analysis:
    """The bounds of a text at given sizes; other sizes are nominal."""
    derivation = derive(text, "test", None)
    cascade = normalize(dict(derivation.stages)["inline"], Normalize(distribute=False))
    binding = nominal_binding(derivation.declared, sizes)
    return Analysis(cascade, binding.extents, binding.scalars)
