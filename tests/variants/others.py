"""Cascades that are no attention over keys: contractions, norms, losses, reductions, maps."""

from __future__ import annotations

import torch

from tests.variants.agreement import Variant, booleans, integers, positive

F = torch.nn.functional

VARIANTS = [
    Variant(
        "axial",
        """cascade c(Q[b,y,x,e], K[b,z,x,e], V[b,z,x,f]) -> O[b,y,x,f] {
        S[b,x,y,z] = Q[b,y,x,e] * K[b,z,x,e]
        O[b,y,x,f] = softmax[z](S[b,x,y,z]) * V[b,z,x,f] }""",
        sizes={"y": 9, "x": 7, "z": 11},
        plain=lambda Q, K, V: torch.einsum("bxyz,bzxf->byxf", torch.einsum("byxe,bzxe->bxyz", Q, K).softmax(-1), V),
    ),
    Variant(
        "axial, causal both ways",
        """cascade c(Q[b,y,x,e], K[b,y,z,e], V[b,y,z,f]) -> O[b,y,x,f] {
        S[b,y,x,z] = Q[b,y,x,e] * K[b,y,z,e] where z <= x and (y % 2 == 0 or z >= x - 3)
        O[b,y,x,f] = softmax[z](S[b,y,x,z]) * V[b,y,z,f] }""",
        sizes={"y": 5, "x": 19, "z": 19},
    ),
    Variant(
        "attention over heads",
        """cascade c(Q[b,m,h,e], K[b,m,g,e], V[b,m,g,f]) -> O[b,m,h,f] {
        S[b,m,h,g] = Q[b,m,h,e] * K[b,m,g,e]
        O[b,m,h,f] = softmax[g](S[b,m,h,g]) * V[b,m,g,f] }""",
        sizes={"h": 4, "g": 3},
        plain=lambda Q, K, V: torch.einsum("bmhe,bmge->bmhg", Q, K).softmax(-1) @ V,
    ),
    Variant(
        "channels attend",
        """cascade c(Q[b,n,r], K[b,n,s], V[b,n,s]) -> O[b,n,r] {
        A[b,r,s] = softmax[s](sum[n](Q[b,n,r] * K[b,n,s] / 8))
        O[b,n,r] = A[b,r,s] * V[b,n,s] }""",
        sizes={"r": 6, "s": 5},
    ),
    Variant(
        "cross covariance with norms",
        """cascade c(Q[b,n,r], K[b,n,s], V[b,n,s], T) -> O[b,n,r] {
        NQ[b,r] = sqrt(sum[n](Q[b,n,r]**2))
        NK[b,s] = sqrt(sum[n](K[b,n,s]**2))
        G[b,r,s] = Q[b,n,r] * K[b,n,s]
        A[b,r,s] = softmax[s](G[b,r,s] / max(NQ[b,r] * NK[b,s], 1e-6))
        O[b,n,r] = A[b,r,s] * V[b,n,s] }""".replace(", T)", ")"),
        sizes={"r": 6, "s": 5},
    ),
    Variant(
        "pooled keys",
        """cascade c(Q[b,m,e], K[b,n,e], V[b,n,f], W[r]; C = ceil(N / R)) -> O[b,m,f] {
        KP[b,c,e] = sum[r](W[r] * default(K[b,c * R + r,e], 0))
        VP[b,c,f] = sum[r](W[r] * default(V[b,c * R + r,f], 0))
        S[b,m,c] = Q[b,m,e] * KP[b,c,e]
        O[b,m,f] = softmax[c](S[b,m,c]) * VP[b,c,f] }""",
        sizes={"r": 4},
    ),
    Variant(
        "linear attention",
        """cascade c(Q[b,h,m,e], K[b,h,n,e], V[b,h,n,f]) -> O[b,h,m,f] {
        PQ[b,h,m,e] = relu(Q[b,h,m,e]) + 0.1
        PK[b,h,n,e] = relu(K[b,h,n,e]) + 0.1
        KV[b,h,e,f] = PK[b,h,n,e] * V[b,h,n,f]
        Z[b,h,e] = PK[b,h,n,e]
        D[b,h,m] = PQ[b,h,m,e] * Z[b,h,e]
        O[b,h,m,f] = PQ[b,h,m,e] * KV[b,h,e,f] / D[b,h,m] }""",
    ),
    Variant(
        "linear attention with a softmax of features",
        """cascade c(Q[b,m,e], K[b,n,e], V[b,n,f]) -> O[b,m,f] {
        PQ[b,m,e] = softmax[e](Q[b,m,e])
        PK[b,n,e] = softmax[n](K[b,n,e])
        KV[b,e,f] = PK[b,n,e] * V[b,n,f]
        O[b,m,f] = PQ[b,m,e] * KV[b,e,f] }""",
        plain=lambda Q, K, V: Q.softmax(-1) @ (K.softmax(1).mT @ V),
    ),
    Variant(
        "second order features",
        """cascade c(Q[b,m,e], K[b,n,e], V[b,n,f]) -> O[b,m,f] {
        S[b,m,n] = Q[b,m,e] * K[b,n,e] / 4
        P[b,m,n] = 1 + S[b,m,n] + S[b,m,n]**2 / 2 where n <= m
        D[b,m] = sum[n](P[b,m,n])
        O[b,m,f] = P[b,m,n] * V[b,n,f] / (D[b,m] + 1e-3) }""",
    ),
    Variant(
        "mlp",
        """cascade c(X[m,e], W1[e,r], B1[r], W2[r,f], B2[f]) -> Y[m,f] {
        Z[m,r] = gelu(sum[e](X[m,e] * W1[e,r]) + B1[r])
        Y[m,f] = Z[m,r] * W2[r,f] + B2[f] }""",
        sizes={"r": 20},
        plain=lambda X, W1, B1, W2, B2: F.gelu(X @ W1 + B1) @ W2 + B2,
    ),
    Variant(
        "gated mlp with a residual",
        """cascade c(X[m,e], W1[e,r], W3[e,r], W2[r,e2], Y0[m,e2]) -> Y[m,e2] {
        A[m,r] = X[m,e] * W1[e,r]
        C[m,r] = X[m,e] * W3[e,r]
        Y[m,e2] = silu(A[m,r]) * C[m,r] * W2[r,e2] + Y0[m,e2] }""",
        sizes={"r": 33, "e2": 8},
    ),
    Variant(
        "chain of three products",
        """cascade c(A[m,i], B[i,j], C[j,k]) -> Y[m,k] {
        Y[m,k] = A[m,i] * B[i,j] * C[j,k] }""",
        sizes={"i": 19, "j": 23, "k": 5},
        plain=lambda A, B, C: A @ B @ C,
    ),
    Variant(
        "trace of a product",
        "cascade c(A[m,n], B[n,m]) -> Y[] { Y[] = A[m,n] * B[n,m] }",
        plain=lambda A, B: (A @ B).trace(),
    ),
    Variant(
        "bilinear pooling",
        "cascade c(X[b,m], W[m,n,r], Y[b,n]) -> Z[b,r] { Z[b,r] = X[b,m] * W[m,n,r] * Y[b,n] }",
        sizes={"r": 4},
        plain=lambda X, W, Y: torch.einsum("bm,mnr,bn->br", X, W, Y),
    ),
    Variant(
        "batched outer product",
        "cascade c(X[b,m], Y[b,n]) -> Z[b,m,n] { Z[b,m,n] = X[b,m] * Y[b,n] }",
        plain=lambda X, Y: X[:, :, None] * Y[:, None],
    ),
    Variant(
        "layer norm and product",
        """cascade c(X[m,n], G[n], B[n], W[n,f]) -> Y[m,f] {
        Z[m,n] = layernorm[n](X[m,n])
        Y[m,f] = (Z[m,n] * G[n] + B[n]) * W[n,f] }""",
        plain=lambda X, G, B, W: F.layer_norm(X, X.shape[1:], G, B, 1e-5) @ W,
    ),
    Variant(
        "rms norm and product",
        """cascade c(X[m,n], G[n], W[n,f]; eps = 1e-6) -> Y[m,f] {
        R[m] = rsqrt(mean[n](X[m,n]**2) + eps)
        Y[m,f] = X[m,n] * R[m] * G[n] * W[n,f] }""",
    ),
    Variant(
        "group norm",
        """cascade c(X[b,g,r,n], W[g,r]) -> Y[b,g,r,n] {
        MU[b,g] = mean[r,n](X[b,g,r,n])
        VA[b,g] = mean[r,n]((X[b,g,r,n] - MU[b,g])**2)
        Y[b,g,r,n] = (X[b,g,r,n] - MU[b,g]) * rsqrt(VA[b,g] + 1e-5) * W[g,r] }""",
        sizes={"r": 3, "g": 2},
        plain=lambda X, W: F.group_norm(X.flatten(1, 2), X.shape[1], eps=1e-5).view(X.shape) * W[:, :, None],
    ),
    Variant(
        "batch norm statistics",
        """cascade c(X[b,n,r]) -> MU[r], VA[r] {
        MU[r] = mean[b,n](X[b,n,r])
        VA[r] = mean[b,n]((X[b,n,r] - MU[r])**2) }""",
        sizes={"r": 6},
        plain=lambda X: (X.mean((0, 1)), X.var((0, 1), correction=0)),
    ),
    Variant(
        "cross entropy of rows",
        """cascade c(X[m,n], T[m]) -> L[m] {
        Z[m] = logsumexp[n](X[m,n])
        L[m] = Z[m] - X[m,T[m]] }""",
        {"T": lambda g, s: torch.zeros(s, dtype=torch.int64)},
    ),
    Variant(
        "mean cross entropy with ignored rows",
        """cascade c(H[m,e], W[n,e], T[m]) -> L[] {
        X[m,n] = H[m,e] * W[n,e]
        Z[m] = logsumexp[n](X[m,n])
        P[m] = sum[n](X[m,n] where n == T[m])
        C[] = sum[m](1 where T[m] >= 0)
        L[] = sum[m](Z[m] - P[m] where T[m] >= 0) / max(C[], 1) }""",
        {"T": integers(-1, 3)},
        sizes={"n": 40},
        plain=lambda H, W, T: F.cross_entropy(H @ W.mT, T, ignore_index=-1, reduction="sum") / (T >= 0).sum().clamp(1),
    ),
    Variant(
        "cosine loss",
        """cascade c(X[m,e], Y[m,e]) -> L[m] {
        XY[m] = X[m,e] * Y[m,e]
        XX[m] = sum[e](X[m,e]**2)
        YY[m] = sum[e](Y[m,e]**2)
        L[m] = 1 - XY[m] * rsqrt(XX[m] * YY[m] + 1e-9) }""",
    ),
    Variant(
        "contrastive loss",
        """cascade c(X[m,e], Y[n,e]; t = 0.5) -> L[] {
        S[m,n] = X[m,e] * Y[n,e] / t
        Z[m] = logsumexp[n](S[m,n])
        D[m] = sum[n](S[m,n] where n == m)
        L[] = mean[m](Z[m] - D[m]) }""",
        sizes={"m": 21, "n": 21},
        plain=lambda X, Y: F.cross_entropy(X @ Y.mT / 0.5, torch.arange(len(X))),
    ),
    Variant(
        "divergence of two distributions",
        """cascade c(X[m,n], Y[m,n]) -> L[m] {
        LP[m,n] = X[m,n] - logsumexp[n](X[m,n])
        LQ[m,n] = Y[m,n] - logsumexp[n](Y[m,n])
        L[m] = sum[n](exp(LP[m,n]) * (LP[m,n] - LQ[m,n])) }""".replace(
            "X[m,n] - logsumexp[n](X[m,n])", "X[m,n] - ZX[m]"
        )
        .replace("Y[m,n] - logsumexp[n](Y[m,n])", "Y[m,n] - ZY[m]")
        .replace("LP[m,n] = X", "ZX[m] = logsumexp[n](X[m,n])\nZY[m] = logsumexp[n](Y[m,n])\nLP[m,n] = X", 1),
        plain=lambda X, Y: F.kl_div(Y.log_softmax(-1), X.log_softmax(-1), log_target=True, reduction="none").sum(-1),
    ),
    Variant(
        "maps only",
        """cascade c(X[m,n], Y[n]; a = 2.0) -> Z[m,n], W[m,n] {
        T[m,n] = X[m,n] * a + Y[n]
        Z[m,n] = tanh(T[m,n]) + n
        W[m,n] = Z[m,n]**2 where m <= n }""",
    ),
    Variant("one rank", "cascade c(X[n], Y[n]) -> Z[n] { Z[n] = X[n] - Y[n] / (1 + abs(X[n])) }"),
    Variant("softmax of a vector", "cascade c(X[n]) -> Z[n] { Z[n] = softmax[n](X[n]) }", plain=lambda X: X.softmax(0)),
    Variant("norm of a vector", "cascade c(X[n]) -> Z[] { Z[] = sqrt(sum[n](X[n]**2)) }", plain=lambda X: X.norm()),
    Variant(
        "many reductions to scalars",
        """cascade c(X[m,n]) -> A[], B[], C[], D[], E1[] {
        A[] = max[m,n](X[m,n])  B[] = min[m,n](X[m,n])  C[] = mean[m,n](X[m,n])
        D[] = any[m,n](X[m,n] > 2)  E1[] = all[m,n](X[m,n] < 3) }""",
    ),
    Variant(
        "products, minima, any, all",
        """cascade c(X[m,n]) -> P[m], L[m], A[m], B[m] {
        P[m] = prod[n](1 + X[m,n] / 50)  L[m] = min[n](X[m,n] where n >= m)
        A[m] = any[n](X[m,n] > 1 where n <= m)  B[m] = all[n](X[m,n] < 2) }""",
    ),
    Variant(
        "integer reductions",
        """cascade c(X[m,n], Y[n]) -> A[m], B[m], C[m], D[m,n] {
        A[m] = max[n](X[m,n] where n < m)  B[m] = min[n](X[m,n])
        C[m] = X[m,n] * Y[n]  D[m,n] = (X[m,n] // 3) % 4 + (Y[n] & 3) }""",
        {"X": integers(-50, 50), "Y": integers(-9, 9)},
    ),
    Variant(
        "histogram",
        "cascade c(X[n], Z[u]) -> H[u] { H[u] = sum[n](1 where X[n] == u) }",
        {"X": integers(0, 5)},
        sizes={"u": 5},
    ),
    Variant(
        "embedding",
        "cascade c(T[m], W[u,f]) -> Y[m,f] { Y[m,f] = W[T[m],f] }",
        {"T": integers(0, 9)},
        sizes={"u": 9},
        plain=lambda T, W: W[T],
    ),
    Variant(
        "bag of embeddings",
        "cascade c(T[m,n], W[u,f], X[m,n]) -> Y[m,f] { Y[m,f] = X[m,n] * W[T[m,n],f] }",
        {"T": integers(0, 9)},
        sizes={"u": 9, "n": 7},
        plain=lambda T, W, X: torch.einsum("mn,mnf->mf", X, W[T]),
    ),
    Variant(
        "convolution",
        "cascade c(X[b,n,e], W[r,e,f]) -> Y[b,n,f] { Y[b,n,f] = default(X[b,n + r - 1,e], 0) * W[r,e,f] }",
        sizes={"r": 3},
        plain=lambda X, W: F.conv1d(X.mT, W.permute(2, 1, 0), padding=1).mT,
    ),
    Variant(
        "average pooling",
        "cascade c(X[b,n,e]; C = N // 3, R = 3) -> Y[b,c,e] { Y[b,c,e] = sum[r](X[b,3 * c + r,e]) / 3 }",
    ),
    Variant(
        "cases by rank",
        """cascade c(X[m,n], Y[n]) -> Z[m,n] {
        Z[m,n] = X[m,n] where n < m
        Z[m,n] = Y[n] where n == m
        Z[m,n] = -1 else }""",
    ),
    Variant(
        "cases without an else",
        """cascade c(X[m,n]) -> Z[m,n] {
        Z[m,n] = X[m,n] where n < m
        Z[m,n] = 2 * X[m,n] where n > m + 1 }""",
    ),
    Variant(
        "cases with different sums",
        """cascade c(Q[m,e], K[n,e], R[n,e], V[n,f]) -> O[m,f] {
        S[m,n] = Q[m,e] * K[n,e] where n <= m
        S[m,n] = Q[m,e] * R[n,e] else
        O[m,f] = softmax[n](S[m,n]) * V[n,f] }""",
    ),
    Variant(
        "heads with masks of their own",
        """cascade c(Q[b,h,m,e], K[b,h,n,e], V[b,h,n,f]) -> O[b,h,m,f] {
        S[b,h,m,n] = Q[b,h,m,e] * K[b,h,n,e] / 3 where h == 0 and n <= m
        S[b,h,m,n] = Q[b,h,m,e] * K[b,h,n,e] where h > 0 and m - n < 7
        O[b,h,m,f] = softmax[n](S[b,h,m,n]) * V[b,h,n,f] }""",
        sizes={"h": 3},
    ),
    Variant(
        "rounded in the middle",
        """cascade c(Q[m,e], K[n,e], V[n,f]) -> O[m,f] {
        S: bf16[m,n] = Q[m,e] * K[n,e]
        P: f16[m,n] = softmax[n](S[m,n])
        O[m,f] = P[m,n] * V[n,f] }""",
    ),
    Variant(
        "cast of a comparison",
        "cascade c(X[m,n]) -> Z: i32[m], Y[m] { Z: i32[m] = sum[n](cast(X[m,n] > 0, i32))  Y[m] = mean[n](cast(floor(X[m,n]), f64)) }",
    ),
    Variant("an input nobody reads", "cascade c(X[m,n], Y[n], U[u]) -> Z[m] { Z[m] = X[m,n] }", sizes={"u": 4}),
    Variant(
        "parameters with defaults that depend",
        """cascade c(X[m,n]; k = N // 2 + 1, s = 1 / k, t = s * M) -> Z[m] {
        Z[m] = sum[n](X[m,n] * t where n < k) }""",
    ),
    Variant(
        "two streams",
        """cascade c(Q[m,e], K1[n,e], V1[n,f], K2[u,e], V2[u,f]) -> O[m,f] {
        S1[m,n] = Q[m,e] * K1[n,e]
        S2[m,u] = Q[m,e] * K2[u,e]
        MX[m] = max(max[n](S1[m,n]), max[u](S2[m,u]))
        P1[m,n] = exp(S1[m,n] - MX[m])
        P2[m,u] = exp(S2[m,u] - MX[m])
        D[m] = sum[n](P1[m,n]) + sum[u](P2[m,u])
        O[m,f] = (sum[n](P1[m,n] * V1[n,f]) + sum[u](P2[m,u] * V2[u,f])) / D[m] }""",
        sizes={"u": 150},
    ),
    Variant(
        "reduction of a reduction",
        "cascade c(X[b,m,n]) -> Y[b] { Z[b,m] = max[n](X[b,m,n])\n Y[b] = sum[m](Z[b,m]**2) }",
    ),
    Variant(
        "column maximum of row softmax",
        """cascade c(X[m,n]) -> Y[n] {
        A[m,n] = softmax[n](X[m,n])
        Y[n] = max[m](A[m,n]) }""",
        plain=lambda X: X.softmax(1).amax(0),
    ),
    Variant(
        "sinkhorn step",
        """cascade c(X[m,n]) -> Y[m,n] {
        A[m,n] = softmax[n](X[m,n])
        C[n] = A[m,n]
        B[m,n] = A[m,n] / (C[n] + 1e-6)
        R[m] = B[m,n]
        Y[m,n] = B[m,n] / (R[m] + 1e-6) }""",
    ),
    Variant(
        "weights from another tensor",
        """cascade c(X[b,n,f], W[b,n]) -> Y[b,f] {
        A[b,n] = softmax[n](W[b,n])
        Y[b,f] = A[b,n] * X[b,n,f] }""",
        plain=lambda X, W: torch.einsum("bn,bnf->bf", W.softmax(-1), X),
    ),
    Variant(
        "attention pooling with a query of the model",
        """cascade c(X[b,n,e], Q[e], W[e,f]) -> Y[b,f] {
        S[b,n] = X[b,n,e] * Q[e]
        A[b,n] = softmax[n](S[b,n])
        P[b,e] = A[b,n] * X[b,n,e]
        Y[b,f] = P[b,e] * W[e,f] }""",
    ),
    Variant(
        "slots",
        """cascade c(SL[b,c,e], K[b,n,e], V[b,n,f]) -> U[b,c,f] {
        A[b,n,c] = softmax[c](sum[e](K[b,n,e] * SL[b,c,e])) + 1e-3
        D[b,c] = A[b,n,c]
        U[b,c,f] = A[b,n,c] * V[b,n,f] / D[b,c] }""".replace(
            "softmax[c](sum[e](K[b,n,e] * SL[b,c,e])) + 1e-3", "AA[b,n,c] + 1e-3"
        ).replace("A[b,n,c] = AA", "AA[b,n,c] = softmax[c](sum[e](K[b,n,e] * SL[b,c,e]))\nA[b,n,c] = AA", 1),
        sizes={"c": 5},
    ),
    Variant(
        "cumulative sums by a filter", "cascade c(X[n,f], Z[m]) -> Y[m,f] { Y[m,f] = X[n,f] where n <= m }", plain=None
    ),
    Variant(
        "pairwise distances",
        "cascade c(X[m,e], Y[n,e]) -> D[m,n] { D[m,n] = sqrt(sum[e]((X[m,e] - Y[n,e])**2)) }",
        plain=lambda X, Y: torch.cdist(X, Y, compute_mode="donot_use_mm_for_euclid_dist"),
    ),
    Variant(
        "hausdorff distance",
        """cascade c(X[m,e], Y[n,e]) -> H[] {
        D[m,n] = sum[e]((X[m,e] - Y[n,e])**2)
        A[m] = min[n](D[m,n])
        B[n] = min[m](D[m,n])
        H[] = max(max[m](A[m]), max[n](B[n])) }""",
        plain=lambda X, Y: torch.maximum(
            torch.cdist(X, Y).square().amin(1).amax(), torch.cdist(X, Y).square().amin(0).amax()
        ),
    ),
    Variant(
        "masked mean",
        "cascade c(X[b,n,e], K[b,n]) -> Y[b,e] { C[b] = sum[n](1 where K[b,n])\n Y[b,e] = sum[n](X[b,n,e] where K[b,n]) / max(C[b], 1) }",
        {"K": booleans()},
    ),
    Variant(
        "diagonal",
        "cascade c(X[m,n], Z[u]) -> Y[u] { Y[u] = X[u + 1,u] }",
        sizes={"u": 40, "m": 40, "n": 40},
        plain=lambda X, Z: torch.cat([X.diagonal(-1), X[:1, 0] * 0]),
    ),
    Variant("flip", "cascade c(X[m,n]) -> Y[m,n] { Y[m,n] = X[m,N - 1 - n] }", plain=lambda X: X.flip(1)),
    Variant("copy of an input", "cascade c(X[m,n]) -> Y[m,n] { Y[m,n] = X[m,n] }", plain=lambda X: X),
    Variant("geometric mean", "cascade c(X[m,n]) -> Y[m] { Y[m] = exp(mean[n](log(X[m,n]))) }", {"X": positive}),
]
