"""Variants of the score: functions of it, scalings and norms, biases from tables, distances."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.variants.agreement import Variant, booleans, integers, positive

HEAD = "Q[b,h,m,e], K[b,h,n,e], V[b,h,n,f]"
S0 = "S0[b,h,m,n] = scale * Q[b,h,m,e] * K[b,h,n,e]"
TAIL = "O[b,h,m,f] = softmax[n](S[b,h,m,n]) * V[b,h,n,f]"


def attention(
    body: str, inputs: str = "", parameters: str = "", outputs: str = "O[b,h,m,f]", definitions: str = ""
) -> str:
    """A cascade over Q, K, V with the given equations."""
    extra = f", {inputs}" if inputs else ""
    more = f", {parameters}" if parameters else ""
    return f"{definitions}\ncascade variant({HEAD}{extra}; scale = 1/sqrt(E){more}) -> {outputs} {{\n{body}\n}}"


def scored(score: str, inputs: str = "", parameters: str = "", definitions: str = "", before: str = "") -> str:
    """Attention whose score is a function of S0; ``score`` may end in a filter."""
    return attention(f"{S0}\n{before}\nS[b,h,m,n] = {score}\n{TAIL}", inputs, parameters, definitions=definitions)


def dot(Q: Tensor, K: Tensor) -> Tensor:
    return torch.einsum("bhme,bhne->bhmn", Q, K) / Q.shape[-1] ** 0.5


def attend(S: Tensor, V: Tensor) -> Tensor:
    """Softmax in which a row without keys is 0."""
    return torch.softmax(S, -1).nan_to_num(0.0) @ V


VARIANTS = [
    Variant("tanh score", scored("3 * tanh(S0[b,h,m,n])"), plain=lambda Q, K, V: attend(3 * dot(Q, K).tanh(), V)),
    Variant(
        "gate on the logit",
        scored("S0[b,h,m,n] * sigmoid(G[b,h,m,n])", "G[b,h,m,n]"),
        plain=lambda Q, K, V, G: attend(dot(Q, K) * G.sigmoid(), V),
    ),
    Variant(
        "log of the absolute score",
        scored("log(1 + abs(S0[b,h,m,n]))"),
        plain=lambda Q, K, V: attend((1 + dot(Q, K).abs()).log(), V),
    ),
    Variant(
        "leaky score",
        scored("if(S0[b,h,m,n] > 0, S0[b,h,m,n], slope * S0[b,h,m,n])", parameters="slope = 0.1"),
        plain=lambda Q, K, V: attend(torch.nn.functional.leaky_relu(dot(Q, K), 0.1), V),
    ),
    Variant("square of the score", scored("S0[b,h,m,n]**2 - S0[b,h,m,n]")),
    Variant("signed square root", scored("sign(S0[b,h,m,n]) * sqrt(abs(S0[b,h,m,n]) + 0.01)")),
    Variant(
        "silu of half the score",
        scored("half(silu(S0[b,h,m,n])) + clamp(S0[b,h,m,n], -1, 1)", definitions="def half(x) = x / 2"),
    ),
    Variant(
        "temperature by query and length",
        scored("S0[b,h,m,n] * (1 + TQ[b,m]**2) * log(N + 1)", "TQ[b,m]"),
        plain=lambda Q, K, V, TQ: attend(
            dot(Q, K) * (1 + TQ**2)[:, None, :, None] * torch.tensor(K.shape[2] + 1.0).double().log(), V
        ),
    ),
    Variant(
        "scale of head, query side and key side",
        scored("S0[b,h,m,n] * exp(C[h]) * A1[b,h,m] + A2[b,h,n]", "C[h], A1[b,h,m], A2[b,h,n]"),
    ),
    Variant(
        "rms norm of queries and keys, learned per head",
        attention(
            """QN[b,h,m,e] = rmsnorm[e](Q[b,h,m,e])
               QH[b,h,m,e] = QN[b,h,m,e] * GQ[h,e]
               KN[b,h,n,e] = rmsnorm[e](K[b,h,n,e])
               S[b,h,m,n] = scale * QH[b,h,m,e] * KN[b,h,n,e] * GK[h,e]
               O[b,h,m,f] = softmax[n](S[b,h,m,n]) * V[b,h,n,f]""",
            "GQ[h,e], GK[h,e]",
        ),
        plain=lambda Q, K, V, GQ, GK: attend(
            dot(
                Q * (Q.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * GQ[:, None],
                K * (K.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * GK[:, None],
            ),
            V,
        ),
    ),
    Variant(
        "unit keys, weight by the norm of the key",
        attention(
            """NK[b,h,n] = sqrt(sum[e](K[b,h,n,e]**2)) + 1e-6
               S[b,h,m,n] = scale * Q[b,h,m,e] * K[b,h,n,e] / NK[b,h,n] + log(NK[b,h,n])
               O[b,h,m,f] = softmax[n](S[b,h,m,n]) * V[b,h,n,f]"""
        ),
    ),
    Variant(
        "layer norm of queries inside",
        attention(
            """QN[b,h,m,e] = layernorm[e](Q[b,h,m,e])
               S[b,h,m,n] = scale * QN[b,h,m,e] * K[b,h,n,e] where n <= m
               O[b,h,m,f] = softmax[n](S[b,h,m,n]) * V[b,h,n,f]"""
        ),
    ),
    Variant("bias by head", scored("S0[b,h,m,n] + B[h,m,n]", "B[h,m,n]")),
    Variant("bias by key", scored("S0[b,h,m,n] + B[b,n]", "B[b,n]")),
    Variant(
        "bias by batch and key with minus infinity",
        scored("S0[b,h,m,n] + B[b,n]", "B[b,n]"),
        {"B": lambda g, s: torch.where(torch.rand(s, generator=g) < 0.5, 0.0, -torch.inf).double()},
    ),
    Variant(
        "symmetric bias read twice",
        scored("S0[b,h,m,n] + (B[h,m,n] + B[h,n,m]) / 2 where n < M and m < N", "B[h,i,j]"),
        sizes={"i": 40, "j": 40, "m": 40, "n": 40},
    ),
    Variant(
        "bias through an integer table of buckets",
        scored("S0[b,h,m,n] + TB[h, BU[m - n + N - 1]]", "TB[h,u], BU[r]"),
        {"BU": integers(0, 6)},
        sizes={"u": 6, "r": 400},
    ),
    Variant(
        "clamped relative bias",
        scored("S0[b,h,m,n] + TB[h, clamp(m - n, -4, 4) + 4]", "TB[h,u]"),
        sizes={"u": 9},
        plain=lambda Q, K, V, TB: attend(
            dot(Q, K) + TB[:, (torch.arange(Q.shape[2])[:, None] - torch.arange(K.shape[2])).clamp(-4, 4) + 4], V
        ),
    ),
    Variant("affine relative bias", scored("S0[b,h,m,n] + default(TB[h, m - n + 7], 0)", "TB[h,u]"), sizes={"u": 15}),
    Variant("bias by blocks", scored("S0[b,h,m,n] + TB[h, m // 16, n // 32]", "TB[h,u,v]"), sizes={"u": 17, "v": 9}),
    Variant(
        "bias of token types",
        scored("S0[b,h,m,n] + TB[TQ[b,m], TK[b,n]]", "TB[u,v], TQ[b,m], TK[b,n]"),
        {"TQ": integers(0, 3), "TK": integers(0, 4)},
        sizes={"u": 3, "v": 4},
        plain=lambda Q, K, V, TB, TQ, TK: attend(dot(Q, K) + TB[TQ[:, :, None], TK[:, None]][:, None], V),
    ),
    Variant(
        "slope times distance in blocks",
        scored("S0[b,h,m,n] - AS[h] * abs(m // 8 - n // 8)", "AS[h]"),
        {"AS": positive},
    ),
    Variant(
        "decay by log of distance",
        scored("S0[b,h,m,n] - AS[h] * log(1 + abs(m - n)) where n <= m", "AS[h]"),
        {"AS": positive},
    ),
    Variant("gaussian prior with learned centre", scored("S0[b,h,m,n] - (n - C[b,m])**2 / 50", "C[b,m]")),
    Variant("sine of the position", scored("S0[b,h,m,n] + sin(0.3 * (m - n)) + cos(n / 5)")),
    Variant(
        "L1 distance",
        attention("S[b,h,m,n] = -sum[e](abs(Q[b,h,m,e] - K[b,h,n,e])) where n != m\n" + TAIL),
        plain=lambda Q, K, V: attend(
            (-(Q[:, :, :, None] - K[:, :, None]).abs().sum(-1)).masked_fill(
                torch.eye(Q.shape[2], K.shape[2], dtype=torch.bool), -torch.inf
            ),
            V,
        ),
    ),
    Variant(
        "L2 distance",
        attention("S[b,h,m,n] = -sqrt(sum[e]((Q[b,h,m,e] - K[b,h,n,e])**2) + 1e-9)\n" + TAIL),
        plain=lambda Q, K, V: attend(-((Q[:, :, :, None] - K[:, :, None]).square().sum(-1) + 1e-9).sqrt(), V),
    ),
    Variant(
        "squared distance, expanded",
        attention(
            """QQ[b,h,m] = sum[e](Q[b,h,m,e]**2)
           KK[b,h,n] = sum[e](K[b,h,n,e]**2)
           S[b,h,m,n] = -(QQ[b,h,m] + KK[b,h,n] - 2 * Q[b,h,m,e] * K[b,h,n,e])
        """
            + TAIL
        ),
    ),
    Variant(
        "radial basis kernel with its own normaliser",
        attention(
            """D[b,h,m,n] = sum[e]((Q[b,h,m,e] - K[b,h,n,e])**2)
               W[b,h,m,n] = exp(-D[b,h,m,n] / (2 * SG[h]**2))
               Z[b,h,m] = sum[n](W[b,h,m,n])
               O[b,h,m,f] = W[b,h,m,n] * V[b,h,n,f] / (Z[b,h,m] + 1e-3)""",
            "SG[h]",
        ),
        {"SG": positive},
    ),
    Variant("largest distance", attention("S[b,h,m,n] = -max[e](abs(Q[b,h,m,e] - K[b,h,n,e]))\n" + TAIL)),
    Variant(
        "bilinear form",
        attention(
            "QW[b,h,m,r] = Q[b,h,m,e] * W[h,e,r]\nS[b,h,m,n] = QW[b,h,m,r] * U[h,r,i] * K[b,h,n,i]\n".replace(
                "K[b,h,n,i]", "KX[b,h,n,i]"
            )
            + TAIL,
            "W[h,e,r], U[h,r,i], KX[b,h,n,i]",
        ),
        sizes={"r": 4, "i": 3},
    ),
    Variant(
        "additive attention",
        attention("S[b,h,m,n] = sum[e](W[h,e] * tanh(Q[b,h,m,e] + K[b,h,n,e]))\n" + TAIL, "W[h,e]"),
        plain=lambda Q, K, V, W: attend(
            (W[None, :, None, None] * (Q[:, :, :, None] + K[:, :, None]).tanh()).sum(-1), V
        ),
    ),
    Variant(
        "rotary positions in the text",
        attention(
            """QR[b,h,m,e] = if(e < E // 2, Q[b,h,m,e] * C[m,e % (E // 2)] - default(Q[b,h,m,e + E // 2], 0) * SI[m,e % (E // 2)], Q[b,h,m,e] * C[m,e % (E // 2)] + default(Q[b,h,m,e - E // 2], 0) * SI[m,e % (E // 2)])
           S[b,h,m,n] = scale * QR[b,h,m,e] * K[b,h,n,e]
        """
            + TAIL,
            "C[m,u], SI[m,u]",
        ),
        sizes={"u": 4},
    ),
    Variant(
        "where as multiplication",
        scored("S0[b,h,m,n] * W[n] - 5 * (1 - W[n])", "W[n]"),
        {"W": lambda g, s: torch.randint(0, 2, s, generator=g)},
    ),
    Variant(
        "a boolean tensor chooses the score", scored("if(C[b,m,n], S0[b,h,m,n], -2)", "C[b,m,n]"), {"C": booleans()}
    ),
]
