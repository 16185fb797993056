"""Variants of the filter: tables, lists, booleans, arithmetic of coordinates, values hidden behind them."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.variants.agreement import Variant, ascending, booleans, integers
from tests.variants.scores import S0, TAIL, attend, attention, dot


def masked(filter: str, inputs: str = "", parameters: str = "", definitions: str = "") -> str:
    return attention(f"{S0.replace('S0', 'S')} where {filter}\n{TAIL}", inputs, parameters, definitions=definitions)


def hidden(Q: Tensor, K: Tensor, V: Tensor, visible: Tensor) -> Tensor:
    return attend(dot(Q, K).masked_fill(~visible, -torch.inf), V)


def grid(Q: Tensor, K: Tensor) -> tuple[Tensor, Tensor]:
    return torch.arange(Q.shape[2])[:, None], torch.arange(K.shape[2])[None]


def half_nan(g: torch.Generator, shape: list[int]) -> Tensor:
    """Normal, with NaN in the last half of the rows."""
    tensor = torch.randn(shape, generator=g, dtype=torch.float64)
    tensor[..., shape[-2] // 2 :, :] = torch.nan
    return tensor


VARIANTS = [
    Variant(
        "mask tensor",
        masked("A[b,m,n]", "A[b,m,n]"),
        {"A": booleans()},
        plain=lambda Q, K, V, A: hidden(Q, K, V, A[:, None]),
    ),
    Variant(
        "negated mask tensor by head",
        masked("not A[h,m,n]", "A[h,m,n]"),
        {"A": booleans()},
        plain=lambda Q, K, V, A: hidden(Q, K, V, ~A),
    ),
    Variant("mask of integers", masked("A[b,n] == 1 and n <= m", "A[b,n]"), {"A": integers(0, 2)}),
    Variant("mask of floats", masked("A[m,n] > 0", "A[m,n]")),
    Variant(
        "lengths of both sides",
        masked("n < NL[b] and m < ML[b]", "NL[b], ML[b]"),
        {"NL": integers(0, 40), "ML": integers(0, 40)},
    ),
    Variant(
        "range of each query",
        masked("LO[b,m] <= n < HI[b,m]", "LO[b,m], HI[b,m]"),
        {"LO": integers(0, 30), "HI": integers(0, 130)},
    ),
    Variant(
        "window of each head through a table",
        masked("0 <= m - n < W[h // 2]", "W[u]"),
        {"W": integers(1, 60)},
        sizes={"h": 4, "u": 2},
    ),
    Variant(
        "window through an unchecked table",
        masked("0 <= m - n < W[h // 2]", "W[u]"),
        {"W": integers(1, 60)},
        sizes={"h": 4, "u": 1},
    ),
    Variant("two forbidden ranges", masked("n <= m and not (10 <= n < 20) and not (n // 16 == 3)")),
    Variant("modulo of both", masked("(m + n) % 3 != 1 or n == 0")),
    Variant(
        "negative modulo",
        masked("(n - m) % 5 == 2"),
        plain=lambda Q, K, V: hidden(Q, K, V, (grid(Q, K)[1] - grid(Q, K)[0]) % 5 == 2),
    ),
    Variant(
        "power of two distance",
        masked("n == m or pow2(m - n)", definitions="def pow2(d) = d > 0 and (d & (d - 1)) == 0"),
    ),
    Variant("bit test", masked("((m ^ n) & 4) == 0")),
    Variant("shifted blocks", masked("(m >> 3) >= (n >> 3)")),
    Variant("disc on a grid", masked("(m // 7 - n // 7)**2 + (m % 7 - n % 7)**2 <= 9")),
    Variant(
        "parameter of two types",
        masked("m - n < W and n * 1.0 <= m * r", parameters="W: int, r = 0.75"),
        scalars={"W": 11},
    ),
    Variant("flag parameter", masked("n <= m or not causal", parameters="causal: bool"), scalars={"causal": True}),
    Variant("conditional mask", masked("if(m < P, n < P, n <= m)", parameters="P: int"), scalars={"P": 9}),
    Variant(
        "documents", masked("D[b,m] == DK[b,n] and n <= m", "D[b,m], DK[b,n]"), {"D": ascending(5), "DK": ascending(5)}
    ),
    Variant(
        "table of classes",
        masked("AL[C1[b,m], C2[b,n]]", "AL[u,v], C1[b,m], C2[b,n]"),
        {"AL": booleans(), "C1": integers(0, 3), "C2": integers(-1, 5)},
        sizes={"u": 3, "v": 4},
    ),
    Variant(
        "list of blocks",
        masked("n // 16 in BL[h, m // 16, :]", "BL[h,u,v]"),
        {"BL": integers(-1, 9)},
        sizes={"u": 17, "v": 3},
    ),
    Variant(
        "not in a list of keys",
        masked("n not in BL[b, :] and n <= m", "BL[b,v]"),
        {"BL": integers(-1, 40)},
        sizes={"v": 6},
    ),
    Variant("list of each query", masked("n in BL[m, :]", "BL[m,v]"), {"BL": integers(0, 40)}, sizes={"v": 4}),
    Variant("rows without keys", masked("n < m - 4")),
    Variant("nothing is visible", masked("n > m + N")),
    Variant("hidden keys are NaN", masked("2 * n < N - 1"), {"K": half_nan, "V": half_nan}),
    Variant("hidden keys are NaN, causal", masked("n <= m and 2 * n < N - 1"), {"K": half_nan, "V": half_nan}),
    Variant("hidden queries are NaN", masked("2 * m < M - 1"), {"Q": half_nan}),
    Variant(
        "score of minus infinity by hand",
        attention(f"{S0}\nS[b,h,m,n] = if(n <= m, S0[b,h,m,n], -inf)\n{TAIL}"),
        plain=lambda Q, K, V: hidden(Q, K, V, grid(Q, K)[1] <= grid(Q, K)[0]),
    ),
    Variant(
        "mask by a large negative number", attention(f"{S0}\nS[b,h,m,n] = S0[b,h,m,n] + if(n <= m, 0, -1e9)\n{TAIL}")
    ),
    Variant(
        "filter on a computed score",
        attention(f"{S0}\nS[b,h,m,n] = S0[b,h,m,n] where S0[b,h,m,n] > T\n{TAIL}", parameters="T = 0.0"),
        plain=lambda Q, K, V: hidden(Q, K, V, dot(Q, K) > 0),
    ),
    Variant(
        "filter on a computed row",
        attention(
            f"{S0}\nAV[b,h,m] = mean[n](S0[b,h,m,n])\nS[b,h,m,n] = S0[b,h,m,n] where S0[b,h,m,n] >= AV[b,h,m]\n{TAIL}"
        ),
        plain=lambda Q, K, V: hidden(Q, K, V, dot(Q, K) >= dot(Q, K).mean(-1, keepdim=True)),
    ),
    Variant(
        "filter on a computed key",
        attention(
            f"{S0}\nNK[b,h,n] = sum[e](K[b,h,n,e]**2)\nS[b,h,m,n] = S0[b,h,m,n] where NK[b,h,n] > 6 and n <= m\n{TAIL}"
        ),
    ),
    Variant(
        "filter on the value side",
        attention(
            f"{S0.replace('S0', 'S')}\nA[b,h,m,n] = softmax[n](S[b,h,m,n])\nO[b,h,m,f] = A[b,h,m,n] * V[b,h,n,f] where n % 2 == 0"
        ),
    ),
    Variant("filter by head", masked("n <= m or h == 0"), sizes={"h": 3}),
    Variant("mask of two clauses by batch", masked("(b == 0 and n <= m) or (b > 0 and n >= m)")),
    Variant("square root in a mask", masked("n <= sqrt(m * 20)")),
    Variant(
        "cross positions",
        masked("n <= m + (N - M)"),
        plain=lambda Q, K, V: hidden(Q, K, V, grid(Q, K)[1] <= grid(Q, K)[0] + K.shape[2] - Q.shape[2]),
    ),
    Variant(
        "prefix of each batch, and a band", masked("n < PL[b] or 0 <= m - n <= 5", "PL[b]"), {"PL": integers(0, 30)}
    ),
    Variant(
        "keys that a permutation names",
        attention(
            """S[b,h,m,n] = scale * Q[b,h,m,e] * K[b,h,PE[n],e] where n <= m
           O[b,h,m,f] = softmax[n](S[b,h,m,n]) * V[b,h,PE[n],f]""",
            "PE[n]",
        ),
        {"PE": lambda g, s: torch.randperm(s[0], generator=g)},
        plain=lambda Q, K, V, PE: hidden(Q, K[:, :, PE], V[:, :, PE], grid(Q, K)[1] <= grid(Q, K)[0]),
    ),
    Variant(
        "pages with missing ones",
        attention(
            """S[b,h,m,n] = scale * Q[b,h,m,e] * KP[PG[b,n // 8], n % 8, h, e] where n < NL[b]
           O[b,h,m,f] = softmax[n](S[b,h,m,n]) * VP[PG[b,n // 8], n % 8, h, f]""",
            "KP[p,t,h,e], VP[p,t,h,f], PG[b,u], NL[b]",
        ).replace("K[b,h,n,e], V[b,h,n,f], ", "X[n], "),
        {"PG": integers(0, 6), "NL": integers(0, 40)},
        sizes={"p": 6, "t": 8, "u": 40},
    ),
]
