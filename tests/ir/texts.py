"""Legal texts that together use every construct of the language."""

from __future__ import annotations

TEXTS: dict[str, str] = {
    "window": """
# sliding-window attention with grouped queries
cascade window_attention(Q[b,h,m,e], K[b,g,n,e], V[b,g,n,f]; W: int, scale = 1/sqrt(E)) -> O[b,h,m,f], L[b,h,m] {
  S[b,h,m,n] = Q[b,h,m,e] * K[b,h // (H // G),n,e] * scale   where n <= m and m - n < W
  MX[b,h,m]  = max[n](S[b,h,m,n])
  P[b,h,m,n] = exp(S[b,h,m,n] - MX[b,h,m])
  D[b,h,m]   = sum[n](P[b,h,m,n])
  A[b,h,m,n] = P[b,h,m,n] / D[b,h,m]
  O[b,h,m,f] = A[b,h,m,n] * V[b,h // (H // G),n,f]
  L[b,h,m]   = MX[b,h,m] + log(D[b,h,m])
}
""",
    "sink": """
cascade sink(Q[b,h,m,e], K[b,h,n,e], V[b,h,n,f], SG[h]) -> O[b,h,m,f] {
  S[b,h,m,n] = Q[b,h,m,e] * K[b,h,n,e] / sqrt(E) where n <= m
  MX[b,h,m] = max(max[n](S[b,h,m,n]), SG[h])
  P[b,h,m,n] = exp(S[b,h,m,n] - MX[b,h,m])
  L[b,h,m] = sum[n](P[b,h,m,n]) + exp(SG[h] - MX[b,h,m])
  A[b,h,m,n] = P[b,h,m,n] / L[b,h,m]
  O[b,h,m,f] = A[b,h,m,n] * V[b,h,n,f]
}
""",
    "library": """
cascade attend(Q[b,m,e], K[b,n,e], V[b,n,f]) -> O[b,m,f] {
  S[b,m,n] = Q[b,m,e] * K[b,n,e]
  A[b,m,n] = softmax[n](S[b,m,n]) where n <= m
  O[b,m,f] = A[b,m,n] * V[b,n,f]
}
""",
    "library_inline": """
cascade attend(Q[b,m,e], K[b,n,e], V[b,n,f]) -> O[b,m,f], L[b,m] {
  S[b,m,n] = Q[b,m,e] * K[b,n,e]
  O[b,m,f] = softmax[n](S[b,m,n] where n <= m) * V[b,n,f]
  L[b,m] = logsumexp[n](S[b,m,n])
}
""",
    "plain_call": """
cascade attend(Q[b,m,e], K[b,n,e], V[b,n,f]) -> O[b,m,f], L[b,m] {
  S[b,m,n] = Q[b,m,e] * K[b,n,e]
  O[b,m,f] = softmax[n](S[b,m,n]) * V[b,n,f]
  L[b,m] = logsumexp[n](S[b,m,n])
}
cascade two(Q[b,h,x], K[b,n,x], V[b,n,y]) -> R[b,h,y], M[b,h] {
  R[b,h,y], M[b,h] = attend(Q[b,h,x], K[b,n,x], V[b,n,y]) where n < 3
}
""",
    "grid": """
cascade natten(Q[b,y,x,e], K[b,v,u,e], V[b,v,u,f]; w: int, Z = 3) -> O[b,y,x,f] {
  S[b,y,x,v,u] = Q[b,y,x,e] * K[b,v,u,e] where abs(y - v) < w and abs(x - u) < w
  A[b,y,x,v,u] = softmax[v,u](S[b,y,x,v,u])
  O[b,y,x,f] = A[b,y,x,v,u] * V[b,v,u,f]
}
""",
    "retention": """
cascade retention(Q[b,h,t,e], K[b,h,t,e], V[b,h,t,f], LA[h]) -> O[b,h,t,f], LAST[b,h,e,f] {
  S[b,h,t+1,e,f] = LA[h] * S[b,h,t,e,f] + K[b,h,t,e] * V[b,h,t,f]
  O[b,h,t,f] = Q[b,h,t,e] * S[b,h,t+1,e,f]
  LAST[b,h,e,f] = S[b,h,T,e,f]
}
""",
    "delta": """
cascade delta(Q[t,e], K[t,e], V[t,f], BE[t], S0[e,f]) -> O[t,f] {
  S[0,e,f] = S0[e,f]
  KS[t,f] = K[t,e] * S[t,e,f]
  S[t+1,e,f] = S[t,e,f] + BE[t] * K[t,e] * (V[t,f] - KS[t,f])
  O[t,f] = Q[t,e] * S[t+1,e,f]
}
""",
    "wkv": """
cascade wkv(K[t,d], V[t,d], w[d], u[d]) -> O[t,d] {
  MX[0,d] = -inf
  MX[t+1,d] = max(MX[t,d] - w[d], K[t,d])
  NUM[0,d] = 0
  NUM[t+1,d] = NUM[t,d] * if(MX[t,d] == -inf, 0, exp(MX[t,d] - w[d] - MX[t+1,d])) + exp(K[t,d] - MX[t+1,d]) * V[t,d]
  O[t,d] = NUM[t+1,d]
}
""",
    "descending": """
cascade back(A[t], G[t,e]) -> D[t,e] {
  H[T,e] = 0
  H[t,e] = A[t] * H[t+1,e] + G[t,e]
  D[t,e] = H[t+1,e] * A[t]
}
""",
    "chunk_reset": """
cascade rat(G[t,e], K[t,e]; C: int) -> O[t,e] {
  H[t+1,e] = G[t,e] * H[t,e] + K[t,e] where t % C != 0
  H[t+1,e] = K[t,e] else
  O[t,e] = H[t+1,e]
}
""",
    "pooling": """
cascade blocks(Q[b,h,m,e], K[b,n,e], V[b,n,f]; r = 16, I = r, C = ceil(N / r), U = ceil(M / r)) -> O[b,h,m,f] {
  KB[b,c,e] = mean[i](K[b,c * r + i,e])
  O[b,h,m,f] = V[b,m,f]
}
""",
    "block_topk": """
cascade blocks(Q[b,h,m,e], KB[b,c,e], K[b,n,e], V[b,n,f]; r = 16, k = 4) -> O[b,h,m,f] {
  G[b,h,m,c] = Q[b,h,m,e] * KB[b,c,e] where c <= m // r
  I[b,h,m,j] = topk[c](G[b,h,m,c] where c < m // r, count = k)
  S[b,h,m,n] = Q[b,h,m,e] * K[b,n,e] where n <= m and (n // r in I[b,h,m,:] or n // r == m // r)
  A[b,h,m,n] = softmax[n](S[b,h,m,n])
  O[b,h,m,f] = A[b,h,m,n] * V[b,n,f]
}
""",
    "argsort": """
cascade order(C[q,c]) -> I[q,r] {
  I[q,r] = argsort[c](C[q,c])
}
""",
    "paged": """
cascade paged(Q[b,h,e], KP[p,i,e], VP[p,i,f], page: i32[b,s], NL: i32[b]; N, T: int) -> O[b,h,f] {
  S[b,h,n] = Q[b,h,e] * KP[page[b,n // T],n % T,e] where n < NL[b]
  A[b,h,n] = softmax[n](S[b,h,n])
  O[b,h,f] = A[b,h,n] * VP[page[b,n // T],n % T,f]
}
""",
    "cases": """
def softcap(x, c) = c * tanh(x / c)
cascade heads(Q[h,m,e], K[n,e]; c = 30, w: int) -> S[h,m,n] {
  R[h,m,n] = softcap(sum[e](Q[h,m,e] * K[n,e]), c)
  S[h,m,n] = R[h,m,n] where h % 2 == 0 and n <= m
  S[h,m,n] = R[h,m,n] * 2 where h % 2 == 1 and 0 <= m - n < w
  S[h,m,n] = 0 else
}
""",
    "adjoint": """
cascade adjoint(dS[h,m,n]; R = M + N - 1) -> dT[h,r] {
  dT[h,r] = sum[m,n](dS[h,m,n]) where r == m - n + N - 1
}
""",
    "conv": """
cascade conv(X[y,x,c], W[i,j,c]) -> A[y,x,c] {
  A[y,x,c] = default(X[y + i,x + j,c], 0) * W[i,j,c]
}
""",
    "segments": """
cascade seg(Q[b,m,e], K[b,n,e], SQ: i32[b,m], SK: i32[b,n], AL: bool[u,v]) -> S[b,m,n] {
  S[b,m,n] = Q[b,m,e] * K[b,n,e] where AL[SQ[b,m],SK[b,n]] and SQ[b,m] >= 0
}
""",
    "tree": """
cascade tree(Q[d,e], K[n,e], AN: bool[d,a]; PN: int) -> S[d,n] {
  S[d,n] = Q[d,e] * K[n,e] where n < PN or AN[d,n - PN]
}
""",
    "dropout": """
cascade drop(P[m,n]; seed: int, p = 0.1) -> O[m,n] {
  O[m,n] = if(uniform(seed, m, n) < p, 0, P[m,n] / (1 - p))
}
""",
    "bits": """
cascade bits(K: u8[n,e]; F = 2 * E) -> D[n,f] {
  D[n,f] = (K[n,f // 2] >> 4 * (f % 2)) & 15
}
""",
    "entropy": """
cascade stats(S[m,n]) -> H[m] {
  MX[m] = max[n](S[m,n])
  W[m,n] = exp(S[m,n] - MX[m])
  L[m] = W[m,n]
  H[m] = log(L[m]) - W[m,n] * (S[m,n] - MX[m]) / L[m]
}
""",
    "heads_recursive": """
cascade chain(Q[h,m,e], K[h,n,e], V[n,e]) -> Y[m,e] {
  O[0,m,e] = V[m,e]
  S[h,m,n] = Q[h,m,e] * K[h,n,e] + O[h,m,e] * K[h,n,e]
  A[h,m,n] = softmax[n](S[h,m,n])
  O[h+1,m,e] = A[h,m,n] * O[h,n,e]
  Y[m,e] = O[H,m,e]
}
""",
    "norms": """
cascade cosine(Q[m,e], K[n,e], TAU[]; eps = 1e-6) -> S[m,n] {
  QN[m] = sqrt(sum[e](Q[m,e]**2))
  KN[n] = sqrt(sum[e](K[n,e] * K[n,e]))
  S[m,n] = TAU[] * Q[m,e] * K[n,e] / (max(QN[m], eps) * max(KN[n], eps))
}
""",
    "pinned": """
cascade pinned(X[m,e]) -> Y: bf16[m] {
  T: f16[m] = X[m,e]
  Y[m] = cast(T[m], bf16)
}
""",
    "scalar_out": """
cascade total(X[m,e]) -> L[] {
  L[] = X[m,e] * X[m,e]
}
""",
}
