"""Cascades that the tests of the algebra run on: attention variants and reductions with known answers."""

ATTENTION = """
cascade attention(Q[b,h,m,e], K[b,g,n,e], V[b,g,n,f]; scale = 1/sqrt(E)) -> O[b,h,m,f], L[b,h,m] {
  S[b,h,m,n] = Q[b,h,m,e] * K[b,h // (H // G),n,e] * scale
  MX[b,h,m]  = max[n](S[b,h,m,n])
  P[b,h,m,n] = exp(S[b,h,m,n] - MX[b,h,m])
  D[b,h,m]   = sum[n](P[b,h,m,n])
  A[b,h,m,n] = P[b,h,m,n] / D[b,h,m]
  O[b,h,m,f] = A[b,h,m,n] * V[b,h // (H // G),n,f]
  L[b,h,m]   = MX[b,h,m] + log(D[b,h,m])
}
"""

CAUSAL = ATTENTION.replace("* scale\n", "* scale where n <= m and m - n < 4\n")

EMPTY_ROWS = ATTENTION.replace("* scale\n", "* scale where n < 2 * m - 4\n")

LIBRARY = """
cascade attention(Q[b,h,m,e], K[b,h,n,e], V[b,h,n,f]) -> O[b,h,m,f], L[b,h,m] {
  S[b,h,m,n] = Q[b,h,m,e] * K[b,h,n,e] / sqrt(E) where n <= m + 1
  A[b,h,m,n] = softmax[n](S[b,h,m,n])
  O[b,h,m,f] = A[b,h,m,n] * V[b,h,n,f]
  L[b,h,m] = logsumexp[n](S[b,h,m,n])
}
"""

NAIVE = """
cascade naive(Q[m,e], K[n,e], V[n,f]) -> O[m,f] {
  P[m,n] = exp(sum[e](Q[m,e] * K[n,e]))
  A[m,n] = P[m,n] / sum[n](P[m,n])
  O[m,f] = A[m,n] * V[n,f]
}
"""

SOFTCAP_ALIBI = """
def softcap(x, c) = c * tanh(x / c)
cascade softcap_alibi(Q[h,m,e], K[h,n,e], V[h,n,f], slope[h]; c = 5.0) -> O[h,m,f] {
  S[h,m,n] = softcap(sum[e](Q[h,m,e] * K[h,n,e]), c) - slope[h] * abs(m - n) where n <= m
  A[h,m,n] = softmax[n](S[h,m,n])
  O[h,m,f] = A[h,m,n] * V[h,n,f]
}
"""

BIAS = """
cascade bias(Q[h,m,e], K[h,n,e], V[h,n,f], B[h,m,n]) -> O[h,m,f] {
  S[h,m,n] = Q[h,m,e] * K[h,n,e] + B[h,m,n]
  O[h,m,f] = softmax[n](S[h,m,n]) * V[h,n,f]
}
"""

SINK = """
cascade sink(Q[h,m,e], K[h,n,e], V[h,n,f], SG[h]) -> O[h,m,f], L[h,m] {
  S[h,m,n] = Q[h,m,e] * K[h,n,e] where n < m
  MX[h,m] = max(SG[h], max[n](S[h,m,n]))
  P[h,m,n] = exp(S[h,m,n] - MX[h,m])
  D[h,m] = exp(SG[h] - MX[h,m]) + sum[n](P[h,m,n])
  O[h,m,f] = P[h,m,n] * V[h,n,f] / D[h,m]
  L[h,m] = MX[h,m] + log(D[h,m])
}
"""

DIFFERENTIAL = """
cascade differential(Q1[h,m,e], K1[h,n,e], Q2[h,m,e], K2[h,n,e], V[h,n,f], lam[h]) -> O[h,m,f] {
  S1[h,m,n] = Q1[h,m,e] * K1[h,n,e] where n <= m
  S2[h,m,n] = Q2[h,m,e] * K2[h,n,e] where n <= m
  M1[h,m] = max[n](S1[h,m,n])
  M2[h,m] = max[n](S2[h,m,n])
  P1[h,m,n] = exp(S1[h,m,n] - M1[h,m])
  P2[h,m,n] = exp(S2[h,m,n] - M2[h,m])
  D1[h,m] = sum[n](P1[h,m,n])
  D2[h,m] = sum[n](P2[h,m,n])
  A[h,m,n] = P1[h,m,n] / D1[h,m] - lam[h] * P2[h,m,n] / D2[h,m]
  O[h,m,f] = A[h,m,n] * V[h,n,f]
}
"""

ROW_STATS = """
cascade row_stats(Q[m,e], K[n,e], V[n,f]) -> O[m,f], MX[m], L[m], HE[m] {
  S[m,n] = Q[m,e] * K[n,e]
  MX[m] = max[n](S[m,n])
  P[m,n] = exp(S[m,n] - MX[m])
  D[m] = sum[n](P[m,n])
  T[m] = sum[n](P[m,n] * (S[m,n] - MX[m]))
  O[m,f] = P[m,n] * V[n,f] / D[m]
  L[m] = MX[m] + log(D[m])
  HE[m] = log(D[m]) - T[m] / D[m]
}
"""

VARIANCE = """
cascade variance(X[m,n]) -> MU[m], VAR[m] {
  MU[m] = mean[n](X[m,n])
  VAR[m] = mean[n]((X[m,n] - MU[m]) ** 2)
}
"""

THIRD_MOMENT = """
cascade third(X[m,n]) -> T[m] {
  MU[m] = mean[n](X[m,n])
  T[m] = mean[n]((X[m,n] - MU[m]) ** 3)
}
"""

LAYERNORM_GEMM = """
cascade layernorm_gemm(X[m,k], G[k], W[k,f]; eps = 1e-5) -> Y[m,f] {
  MU[m] = mean[k](X[m,k])
  C[m,k] = X[m,k] - MU[m]
  VAR[m] = mean[k](C[m,k] * C[m,k])
  Z[m,k] = C[m,k] * rsqrt(VAR[m] + eps) * G[k]
  Y[m,f] = Z[m,k] * W[k,f]
}
"""

RMSNORM_GEMM = """
cascade rmsnorm_gemm(X[m,k], G[k], W[k,f]) -> Y[m,f] {
  N[m,k] = rmsnorm[k](X[m,k])
  Z[m,k] = N[m,k] * G[k]
  Y[m,f] = Z[m,k] * W[k,f]
}
"""

URPE = """
cascade urpe(Q[h,m,e], K[h,n,e], V[h,n,f], CT[h,r]) -> O[h,m,f] {
  S[h,m,n] = Q[h,m,e] * K[h,n,e] where n <= m
  A[h,m,n] = softmax[n](S[h,m,n])
  O[h,m,f] = A[h,m,n] * CT[h,n - m + N - 1] * V[h,n,f]
}
"""

CLIPPED = """
cascade clipped(Q[m,e], K[n,e], V[n,f]; ga = -0.1, ze = 1.1) -> O[m,f] {
  S[m,n] = Q[m,e] * K[n,e] where n <= m
  A[m,n] = softmax[n](S[m,n])
  C[m,n] = clamp((ze - ga) * A[m,n] + ga, 0, 1)
  O[m,f] = C[m,n] * V[n,f]
}
"""

SIGMOID = """
cascade sigmoid_attention(Q[m,e], K[n,e], V[n,f]; sb = -1.0) -> O[m,f] {
  A[m,n] = sigmoid(sum[e](Q[m,e] * K[n,e]) + sb) where n <= m
  O[m,f] = A[m,n] * V[n,f]
}
"""

SIGMOID_OF_MAX = """
cascade sigmoid_of_max(S[m,n], V[n,f]) -> O[m,f] {
  MX[m] = max[n](S[m,n])
  O[m,f] = sum[n](sigmoid(S[m,n] - MX[m]) * V[n,f])
}
"""

LOG_SUM = """
cascade through_lse(Q[m,e], K[n,e], V[n,f]) -> O[m,f] {
  S[m,n] = Q[m,e] * K[n,e] where n <= m
  L[m] = logsumexp[n](S[m,n])
  O[m,f] = sum[n](exp(S[m,n] - L[m]) * V[n,f])
}
"""

UNION = """
cascade union(Q[m,e], K1[n,e], V1[n,f], K2[k,e], V2[k,f]) -> O[m,f] {
  S1[m,n] = Q[m,e] * K1[n,e] where n <= m
  S2[m,k] = Q[m,e] * K2[k,e]
  MX[m] = max(max[n](S1[m,n]), max[k](S2[m,k]))
  P1[m,n] = exp(S1[m,n] - MX[m])
  P2[m,k] = exp(S2[m,k] - MX[m])
  D[m] = sum[n](P1[m,n]) + sum[k](P2[m,k])
  O[m,f] = (sum[n](P1[m,n] * V1[n,f]) + sum[k](P2[m,k] * V2[k,f])) / D[m]
}
"""

TALKING_HEADS = """
cascade talking(S[k,m,n], W2[k,j], V[j,n,f]) -> O[j,m,f] {
  A[k,m,n] = softmax[n](S[k,m,n])
  O[j,m,f] = W2[k,j] * A[k,m,n] * V[j,n,f]
}
"""

COLUMN_SUM = """
cascade column_sum(Q[m,e], K[n,e]) -> CS[n] {
  S[m,n] = Q[m,e] * K[n,e]
  A[m,n] = softmax[n](S[m,n])
  CS[n] = A[m,n]
}
"""

MAP_OUT = """
cascade map_out(Q[m,e], K[n,e], V[n,f]) -> O[m,f], A[m,n] {
  S[m,n] = Q[m,e] * K[n,e] where n <= m
  A[m,n] = softmax[n](S[m,n])
  O[m,f] = A[m,n] * V[n,f]
}
"""

CASES = """
cascade cases(Q[h,m,e], K[h,n,e], V[h,n,f]) -> O[h,m,f] {
  S[h,m,n] = Q[h,m,e] * K[h,n,e] where h < 1 and n <= m
  S[h,m,n] = Q[h,m,e] * K[h,n,e] * 2 else
  A[h,m,n] = softmax[n](S[h,m,n])
  O[h,m,f] = A[h,m,n] * V[h,n,f]
}
"""

MUSIC = """
cascade music(Q[h,m,e], K[h,n,e], V[h,n,f], ER[h,r,e]) -> O[h,m,f] {
  S[h,m,n] = Q[h,m,e] * K[h,n,e] + Q[h,m,e] * ER[h,n - m + N - 1,e]
  O[h,m,f] = softmax[n](S[h,m,n]) * V[h,n,f]
}
"""

PAGED = """
cascade paged(Q[b,h,e], KP[p,t,e], VP[p,t,f], PT[b,j], NL[b]; N: int) -> O[b,h,f] {
  S[b,h,n] = Q[b,h,e] * KP[PT[b,n // T],n % T,e] where n < NL[b]
  A[b,h,n] = softmax[n](S[b,h,n])
  O[b,h,f] = A[b,h,n] * VP[PT[b,n // T],n % T,f]
}
"""

EXP2 = CAUSAL.replace("exp(", "exp2(").replace("attention", "binary")

LINEAR = """
cascade linear(Q[m,e], K[n,e], V[n,f]) -> O[m,f] {
  KV[e,f] = exp(K[n,e]) * V[n,f]
  Z[e] = sum[n](exp(K[n,e]))
  O[m,f] = Q[m,e] * KV[e,f] / (sum[e](Q[m,e] * Z[e]))
}
"""

TWO_DIMENSIONS = """
cascade boxes(Q[y,x,e], K[v,u,e], V[v,u,f]) -> O[y,x,f] {
  S[y,x,v,u] = Q[y,x,e] * K[v,u,e] where abs(y - v) <= 1 and abs(x - u) <= 1
  A[y,x,v,u] = softmax[v,u](S[y,x,v,u])
  O[y,x,f] = A[y,x,v,u] * V[v,u,f]
}
"""
