"""Variants of the normaliser, of what stands after it, and of further outputs."""

from __future__ import annotations

import torch

from tests.variants.agreement import Variant, integers, positive
from tests.variants.scores import S0, attend, attention, dot

SCORE = S0.replace("S0", "S")
HAND = """MX[b,h,m] = max[n](S[b,h,m,n])
P[b,h,m,n] = exp(S[b,h,m,n] - MX[b,h,m])
D[b,h,m] = sum[n](P[b,h,m,n])
A[b,h,m,n] = P[b,h,m,n] / D[b,h,m]
"""
OUT = "O[b,h,m,f] = A[b,h,m,n] * V[b,h,n,f]\n"


def normalised(
    lines: str, inputs: str = "", parameters: str = "", outputs: str = "O[b,h,m,f]", filter: str = ""
) -> str:
    return attention(f"{SCORE}{f' where {filter}' if filter else ''}\n{lines}", inputs, parameters, outputs)


VARIANTS = [
    Variant(
        "temperature after the maximum",
        normalised(HAND.replace("exp(S[b,h,m,n] - MX[b,h,m])", "exp((S[b,h,m,n] - MX[b,h,m]) / T[h])") + OUT, "T[h]"),
        {"T": positive},
        plain=lambda Q, K, V, T: attend(dot(Q, K) / T[:, None, None], V),
    ),
    Variant(
        "base two",
        normalised(HAND.replace("exp(", "exp2(") + OUT, filter="n <= m"),
        plain=lambda Q, K, V: attend(
            (dot(Q, K) * torch.tensor(2.0).double().log()).masked_fill(
                torch.ones(Q.shape[2], K.shape[2], dtype=torch.bool).triu(1), -torch.inf
            ),
            V,
        ),
    ),
    Variant(
        "no maximum at all",
        normalised(
            "P[b,h,m,n] = exp(S[b,h,m,n])\nD[b,h,m] = sum[n](P[b,h,m,n])\nO[b,h,m,f] = P[b,h,m,n] / D[b,h,m] * V[b,h,n,f]"
        ),
        plain=lambda Q, K, V: attend(dot(Q, K), V),
    ),
    Variant(
        "constant in the denominator",
        normalised(HAND.replace("sum[n](P[b,h,m,n])", "sum[n](P[b,h,m,n]) + c") + OUT, parameters="c = 1.5"),
    ),
    Variant("quiet softmax", normalised("A[b,h,m,n] = softmax1[n](S[b,h,m,n])\n" + OUT, filter="m - n < 9")),
    Variant(
        "several sinks",
        attention(
            f"""{SCORE} where n <= m
            MX[b,h,m] = max(max[n](S[b,h,m,n]), max[u](SI[h,u]))
            P[b,h,m,n] = exp(S[b,h,m,n] - MX[b,h,m])
            D[b,h,m] = sum[n](P[b,h,m,n]) + sum[u](exp(SI[h,u] - MX[b,h,m]))
            O[b,h,m,f] = P[b,h,m,n] * V[b,h,n,f] / D[b,h,m]""",
            "SI[h,u]",
        ),
        sizes={"u": 3},
    ),
    Variant(
        "sink with a value",
        attention(
            f"""{SCORE} where n <= m
            MX[b,h,m] = max(max[n](S[b,h,m,n]), SI[h])
            P[b,h,m,n] = exp(S[b,h,m,n] - MX[b,h,m])
            PS[b,h,m] = exp(SI[h] - MX[b,h,m])
            D[b,h,m] = sum[n](P[b,h,m,n]) + PS[b,h,m]
            O[b,h,m,f] = (sum[n](P[b,h,m,n] * V[b,h,n,f]) + PS[b,h,m] * VS[h,f]) / D[b,h,m]""",
            "SI[h], VS[h,f]",
        ),
    ),
    Variant(
        "linear normaliser",
        normalised(
            "P[b,h,m,n] = relu(S[b,h,m,n])\nD[b,h,m] = sum[n](P[b,h,m,n])\nO[b,h,m,f] = P[b,h,m,n] * V[b,h,n,f] / (D[b,h,m] + 1e-3)"
        ),
    ),
    Variant(
        "normalised by the absolute sum",
        normalised(
            "D[b,h,m] = sum[n](abs(S[b,h,m,n]))\nO[b,h,m,f] = S[b,h,m,n] / max(D[b,h,m], 1) * V[b,h,n,f]",
            filter="n <= m",
        ),
    ),
    Variant(
        "L2 normalised scores",
        normalised("D[b,h,m] = sqrt(sum[n](S[b,h,m,n]**2) + 1e-6)\nO[b,h,m,f] = S[b,h,m,n] / D[b,h,m] * V[b,h,n,f]"),
    ),
    Variant(
        "standardised scores",
        normalised(
            """MU[b,h,m] = mean[n](S[b,h,m,n])
           VA[b,h,m] = mean[n]((S[b,h,m,n] - MU[b,h,m])**2)
           Z[b,h,m,n] = (S[b,h,m,n] - MU[b,h,m]) * rsqrt(VA[b,h,m] + 1e-5)
           O[b,h,m,f] = softmax[n](Z[b,h,m,n]) * V[b,h,n,f]"""
        ),
        plain=lambda Q, K, V: attend(torch.nn.functional.layer_norm(dot(Q, K), K.shape[2:3], eps=1e-5), V),
    ),
    Variant(
        "sigmoid over the count of visible keys",
        normalised(
            """C[b,h,m] = sum[n](1 where n <= m)
           O[b,h,m,f] = sigmoid(S[b,h,m,n] - log(C[b,h,m])) * V[b,h,n,f]""",
            filter="n <= m",
        ),
    ),
    Variant(
        "clipped probabilities", normalised(HAND + "O[b,h,m,f] = clamp(1.1 * A[b,h,m,n] - 0.02, 0, 1) * V[b,h,n,f]")
    ),
    Variant(
        "square of the probabilities, normalised again",
        normalised(HAND + "Z[b,h,m] = sum[n](A[b,h,m,n]**2)\nO[b,h,m,f] = A[b,h,m,n]**2 / Z[b,h,m] * V[b,h,n,f]"),
    ),
    Variant(
        "probabilities above their mean",
        normalised(HAND + "O[b,h,m,f] = if(A[b,h,m,n] * N > 1, A[b,h,m,n], 0) * V[b,h,n,f]"),
    ),
    Variant(
        "two softmaxes with different masks",
        normalised(
            """A1[b,h,m,n] = softmax[n](S[b,h,m,n] where n <= m)
           A2[b,h,m,n] = softmax[n](S[b,h,m,n] where m - n < 5 and n - m < 5)
           O[b,h,m,f] = (A1[b,h,m,n] - L[h] * A2[b,h,m,n]) * V[b,h,n,f]""",
            "L[h]",
        ),
    ),
    Variant(
        "product of two softmaxes",
        normalised(
            """A1[b,h,m,n] = softmax[n](S[b,h,m,n])
           A2[b,h,m,n] = softmax[n](2 * S[b,h,m,n] where n <= m)
           O[b,h,m,f] = A1[b,h,m,n] * A2[b,h,m,n] * V[b,h,n,f]"""
        ),
    ),
    Variant(
        "softmax over both sides",
        normalised(
            """A1[b,h,m,n] = softmax[n](S[b,h,m,n])
           A2[b,h,m,n] = softmax[m](S[b,h,m,n])
           O[b,h,m,f] = A1[b,h,m,n] * A2[b,h,m,n] * V[b,h,n,f]"""
        ),
        plain=lambda Q, K, V: dot(Q, K).softmax(-1) * dot(Q, K).softmax(-2) @ V,
    ),
    Variant(
        "softmax over the queries",
        normalised("A[b,h,m,n] = softmax[m](S[b,h,m,n])\n" + OUT),
        plain=lambda Q, K, V: dot(Q, K).softmax(2) @ V,
    ),
    Variant(
        "softmax over the heads",
        normalised("A[b,h,m,n] = softmax[h](S[b,h,m,n])\n" + OUT),
        sizes={"h": 4},
        plain=lambda Q, K, V: dot(Q, K).softmax(1) @ V,
    ),
    Variant(
        "several outputs",
        normalised(
            HAND
            + OUT
            + """L[b,h,m] = MX[b,h,m] + log(D[b,h,m])
           HE[b,h,m] = -sum[n](A[b,h,m,n] * (S[b,h,m,n] - L[b,h,m]))
           ME[b,h,m] = mean[n](S[b,h,m,n])
           C[b,h,m] = sum[n](1 where n <= m + 2)""",
            outputs="O[b,h,m,f], MX[b,h,m], L[b,h,m], HE[b,h,m], ME[b,h,m], C[b,h,m]",
        ),
    ),
    Variant(
        "count of visible keys as an integer",
        normalised("C[b,m] = sum[n](1 where n <= m and n % 3 == 0)", outputs="C[b,m]"),
    ),
    Variant(
        "variance of the scores",
        normalised(
            "MU[b,h,m] = mean[n](S[b,h,m,n])\nVA[b,h,m] = mean[n]((S[b,h,m,n] - MU[b,h,m])**2)",
            outputs="VA[b,h,m], MU[b,h,m]",
        ),
        plain=lambda Q, K, V: (dot(Q, K).var(-1, correction=0), dot(Q, K).mean(-1)),
    ),
    Variant(
        "expected position and its spread",
        normalised(
            HAND + "PO[b,h,m] = sum[n](A[b,h,m,n] * n)\nSP[b,h,m] = sum[n](A[b,h,m,n] * (n - PO[b,h,m])**2)",
            outputs="PO[b,h,m], SP[b,h,m]",
        ),
    ),
    Variant(
        "two values, one of another width",
        normalised(HAND + OUT + "R[b,h,m,r] = A[b,h,m,n] * V2[b,n,r]", "V2[b,n,r]", outputs="O[b,h,m,f], R[b,h,m,r]"),
        sizes={"r": 3},
    ),
    Variant(
        "value times its position",
        normalised(
            HAND
            + "O[b,h,m,f] = A[b,h,m,n] * V[b,h,n,f] * cos(0.1 * (m - n)) + V[b,h,m,f] where m < N".replace(
                " + V[b,h,m,f] where m < N", ""
            )
        ),
    ),
    Variant(
        "residual and gate",
        normalised(
            HAND + "O[b,h,m,f] = X[b,h,m,f] + silu(G[b,h,m,f]) * sum[n](A[b,h,m,n] * V[b,h,n,f])",
            "X[b,h,m,f], G[b,h,m,f]",
        ),
    ),
    Variant(
        "norm of the output",
        normalised(HAND + "R[b,h,m,f] = A[b,h,m,n] * V[b,h,n,f]\nO[b,h,m,f] = rmsnorm[f](R[b,h,m,f])"),
    ),
    Variant(
        "normed, gated, scaled output",
        normalised(
            HAND
            + "R[b,h,m,f] = A[b,h,m,n] * V[b,h,n,f]\nY[b,h,m,f] = layernorm[f](R[b,h,m,f])\nO[b,h,m,f] = Y[b,h,m,f] * W[f] * sigmoid(G[b,h,m])",
            "W[f], G[b,h,m]",
        ),
    ),
    Variant(
        "output projection over heads",
        normalised(
            HAND + "R[b,h,m,f] = A[b,h,m,n] * V[b,h,n,f]\nO[b,m,r] = R[b,h,m,f] * W[h,f,r]",
            "W[h,f,r]",
            outputs="O[b,m,r]",
        ),
        sizes={"r": 6},
    ),
    Variant(
        "largest and smallest probability",
        normalised(
            HAND + "HI[b,h,m] = max[n](A[b,h,m,n])\nLO[b,h,m] = min[n](A[b,h,m,n])",
            outputs="HI[b,h,m], LO[b,h,m]",
            filter="n <= m",
        ),
    ),
    Variant(
        "mass of each segment",
        normalised(HAND + "R[b,h,m,u] = A[b,h,m,n] where SE[b,n] == u", "SE[b,n], Z[u]", outputs="R[b,h,m,u]"),
        {"SE": integers(0, 4)},
        sizes={"u": 4},
    ),
    Variant(
        "sum of the map over queries and heads",
        normalised(HAND + "C[b,n] = A[b,h,m,n]", outputs="C[b,n]"),
        plain=lambda Q, K, V: dot(Q, K).softmax(-1).sum((1, 2)),
    ),
    Variant("the map and the output", normalised(HAND + OUT, outputs="O[b,h,m,f], A[b,h,m,n]", filter="n <= m")),
    Variant(
        "the scores and the maximum", normalised("MX[b,h,m] = max[n](S[b,h,m,n])", outputs="S[b,h,m,n], MX[b,h,m]")
    ),
    Variant("transposed map", normalised(HAND + "T[b,n,h,m] = A[b,h,m,n]", outputs="T[b,n,h,m]")),
    Variant(
        "two rounds",
        normalised(
            """A[b,h,m,n] = softmax[n](S[b,h,m,n])
           R[b,h,m,f] = A[b,h,m,n] * V[b,h,n,f]
           S2[b,h,m,u] = R[b,h,m,f] * K2[b,h,u,f]
           O[b,h,m,f] = softmax[u](S2[b,h,m,u]) * V2[b,h,u,f]""",
            "K2[b,h,u,f], V2[b,h,u,f]",
        ),
        sizes={"u": 20},
    ),
    Variant(
        "a masked map less an unmasked one",
        normalised(
            """MX[b,h,m] = max(max[n](S[b,h,m,n] where n % 2 == 0), 0)
           P[b,h,m,n] = exp2(S[b,h,m,n] - MX[b,h,m]) where n % 2 == 0
           D[b,h,m] = 0.5 + sum[n](P[b,h,m,n])
           A1[b,h,m,n] = P[b,h,m,n] / D[b,h,m]
           A2[b,h,m,n] = softmax[n](0.5 * S[b,h,m,n])
           O[b,h,m,f] = (A1[b,h,m,n] - 0.3 * A2[b,h,m,n]) * V[b,h,n,f]"""
        ),
    ),
    Variant(
        "an output with holes, read again",
        normalised(
            """MX[b,h,m] = max[n](S[b,h,m,n])
           P[b,h,m,n] = S[b,h,m,n] - MX[b,h,m]
           T[b,h,n] = min[m](P[b,h,m,n])
           C[b,h,m] = sum[n](1 where P[b,h,m,n] > -2)
           U[b,h,m] = default(P[b,h,m,m // 2], 7)""",
            outputs="P[b,h,m,n], T[b,h,n], C[b,h,m], U[b,h,m]",
            filter="n <= m + 1",
        ),
    ),
    Variant(
        "a filtered row statistic",
        normalised(
            """X[b,h,m] = sum[n](S[b,h,m,n]**2) where m % 2 == 0
           Y[b,h,m] = default(X[b,h,m] + 1, -1)""",
            outputs="X[b,h,m], Y[b,h,m]",
        ),
    ),
]
