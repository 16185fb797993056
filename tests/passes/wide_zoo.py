"""Wider cascades: recurrences, selections, several streams, normalised queries, latent keys, statistics of statistics."""

RETENTION = """
cascade retention(Q[h,t,e], K[h,t,e], V[h,t,f], LA[h]) -> O[h,t,f] {
  S[h,t+1,e,f] = LA[h] * S[h,t,e,f] + K[h,t,e] * V[h,t,f]
  O[h,t,f] = Q[h,t,e] * S[h,t+1,e,f]
}
"""

DELTA = """
cascade delta(Q[h,t,e], K[h,t,e], V[h,t,f], BE[h,t]) -> O[h,t,f], ST[h,e,f] {
  KS[h,t,f] = K[h,t,e] * S[h,t,e,f]
  S[h,t+1,e,f] = S[h,t,e,f] + BE[h,t] * K[h,t,e] * (V[h,t,f] - KS[h,t,f])
  O[h,t,f] = Q[h,t,e] * S[h,t+1,e,f]
  ST[h,e,f] = S[h,T,e,f]
}
"""

LINCAUSAL = """
cascade lincausal(Q[t,e], K[t,e], V[t,f]) -> O[t,f] {
  S[t+1,e,f] = S[t,e,f] + exp(K[t,e]) * V[t,f]
  Z[t+1,e] = Z[t,e] + exp(K[t,e])
  O[t,f] = Q[t,e] * S[t+1,e,f] / sum[e](exp(Q[t,e]) * Z[t+1,e])
}
"""

TOPK = """
cascade token_topk(Q[m,e], K[n,e], V[n,f]; C = 4) -> O[m,f] {
  S[m,n] = Q[m,e] * K[n,e]
  I[m,c] = topk[n](S[m,n], count = 4)
  P[m,n] = S[m,n] where n in I[m,:]
  A[m,n] = softmax[n](P[m,n])
  O[m,f] = A[m,n] * V[n,f]
}
"""

QKNORM = """
cascade qknorm(Q[h,m,e], K[h,n,e], V[h,n,f], TAU[h]) -> O[h,m,f] {
  NQ[h,m] = sqrt(sum[e](Q[h,m,e] ** 2))
  NK[h,n] = sqrt(sum[e](K[h,n,e] ** 2))
  S[h,m,n] = TAU[h] * sum[e](Q[h,m,e] / max(NQ[h,m], 1e-6) * K[h,n,e] / max(NK[h,n], 1e-6)) where n <= m
  A[h,m,n] = softmax[n](S[h,m,n])
  O[h,m,f] = A[h,m,n] * V[h,n,f]
}
"""

MLA = """
cascade mla(QN[h,m,e], QR[h,m,r], C[n,k], KR[n,r], WK[h,k,e], WV[h,k,f]) -> O[h,m,f] {
  KN[h,n,e] = C[n,k] * WK[h,k,e]
  V[h,n,f] = C[n,k] * WV[h,k,f]
  S[h,m,n] = (QN[h,m,e] * KN[h,n,e] + QR[h,m,r] * KR[n,r]) / sqrt(E + R) where n <= m
  A[h,m,n] = softmax[n](S[h,m,n])
  O[h,m,f] = A[h,m,n] * V[h,n,f]
}
"""

SLOT = """
cascade slot(SL[k,e], K[n,e], V[n,f]) -> U[k,f] {
  S[n,k] = K[n,e] * SL[k,e]
  A0[n,k] = softmax[k](S[n,k])
  A[n,k] = A0[n,k] + 1e-3
  W[k] = sum[n](A[n,k])
  U[k,f] = sum[n](A[n,k] * V[n,f]) / W[k]
}
"""

SOFTMAX1 = """
cascade s1(Q[m,e], K[n,e], V[n,f]) -> O[m,f] {
  S[m,n] = Q[m,e] * K[n,e] where n < m
  O[m,f] = softmax1[n](S[m,n]) * V[n,f]
}
"""

GATED = """
cascade gated(Q[m,e], K1[n,e], V1[n,f], K2[k,e], V2[k,f], G[m,j]) -> O[m,f] {
  A1[m,n] = softmax[n](sum[e](Q[m,e] * K1[n,e]))
  A2[m,k] = softmax[k](sum[e](Q[m,e] * K2[k,e]))
  O[m,f] = sigmoid(G[m,0]) * sum[n](A1[m,n] * V1[n,f]) + sigmoid(G[m,1]) * sum[k](A2[m,k] * V2[k,f])
}
"""

AGENT = """
cascade agent(Q[m,e], K[n,e], V[n,f], AG[k,e]) -> O[m,f] {
  B[k,n] = softmax[n](sum[e](AG[k,e] * K[n,e]))
  VA[k,f] = B[k,n] * V[n,f]
  C[m,k] = softmax[k](sum[e](Q[m,e] * AG[k,e]))
  O[m,f] = C[m,k] * VA[k,f]
}
"""

TENSOR3 = """
cascade tensor3(Q[m,e], K1[j,e], K2[k,e], V1[j,f], V2[k,f]) -> O[m,f] {
  S[m,j,k] = Q[m,e] * K1[j,e] * K2[k,e]
  P[m,j,k] = softmax[j,k](S[m,j,k])
  O[m,f] = P[m,j,k] * V1[j,f] * V2[k,f]
}
"""

ENTROPY = """
cascade entropy(S[m,n]) -> HE[m] {
  A[m,n] = softmax[n](S[m,n])
  HE[m] = -sum[n](A[m,n] * log(A[m,n]))
}
"""

LOGA = """
cascade loga(S[m,n]) -> HE[m] {
  L[m] = logsumexp[n](S[m,n])
  HE[m] = sum[n](exp(S[m,n] - L[m]) * (L[m] - S[m,n]))
}
"""

STAT_TOPK = """
cascade stat(Q[m,e], K[n,e], V[n,f]; z = 0.3) -> O[m,f] {
  S[m,n] = Q[m,e] * K[n,e] where n <= m
  MU[m] = mean[n](S[m,n])
  SD[m] = sqrt(mean[n]((S[m,n] - MU[m]) ** 2))
  A[m,n] = softmax[n](S[m,n] where S[m,n] >= MU[m] + z * SD[m])
  O[m,f] = A[m,n] * V[n,f]
}
"""

MOE = """
cascade moe(X[n,e], W[k,e]) -> T[n] {
  S[n,k] = X[n,e] * W[k,e]
  P[n,k] = softmax[k](S[n,k])
  T[n] = max[k](P[n,k])
}
"""

HEADS = """
cascade heads(S[h,m,n], V[n,m]) -> O[m,n] {
  C[0,m,n] = S[0,m,n]
  A[h,m,n] = softmax[n](C[h,m,n])
  C[h+1,m,n] = A[h,m,n] + S[h,m,n]
  O[m,n] = C[H,m,n] * V[n,m]
}
"""

BLOCKMAX = """
cascade blockmax(Q[m,e], K[n,e]; J = 3) -> BM[m,j], L[m] {
  S[m,n] = Q[m,e] * K[n,e]
  L[m] = logsumexp[n](S[m,n])
  BM[m,j] = exp(max[n](S[m,n] where n // 4 == j) - L[m])
}
"""

REV = """
cascade rev(Q[m,e], K[n,e], VQ[m,f]) -> O[n,f] {
  A[m,n] = softmax[n](sum[e](Q[m,e] * K[n,e]))
  O[n,f] = A[m,n] * VQ[m,f]
}
"""

INT8 = """
cascade int8(Q[m,e], KI[n,e], KS[n], V[n,f]) -> O[m,f] {
  K[n,e] = KS[n] * KI[n,e]
  S[m,n] = Q[m,e] * K[n,e]
  O[m,f] = softmax[n](S[m,n]) * V[n,f]
}
"""

BACKWARD = """
cascade backward(Q[m,e], K[n,e], V[n,f], dO[m,f], MX[m], D[m], O[m,f]) -> dQ[m,e], dK[n,e], dV[n,f] {
  S[m,n] = Q[m,e] * K[n,e] where n <= m
  A[m,n] = exp(S[m,n] - MX[m]) / D[m]
  DD[m] = sum[f](dO[m,f] * O[m,f])
  dP[m,n] = dO[m,f] * V[n,f]
  dS[m,n] = A[m,n] * (dP[m,n] - DD[m])
  dQ[m,e] = dS[m,n] * K[n,e]
  dK[n,e] = dS[m,n] * Q[m,e]
  dV[n,f] = A[m,n] * dO[m,f]
}
"""
