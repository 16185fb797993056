"""Random programs of attention's shape: mask x score x normaliser x branches x outputs."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

MASKS = (
    "", "n <= m", "n <= m and m - n < W", "abs(m - n) < W or n < 2", "not (m % 3 == n % 3)", "n // 8 <= m // 8",
    "n < NL[b]", "SQ[m] == SK[n]", "SQ[m] == SK[n] and n <= m", "n // 4 in BL[h, :]", "n < m - 5", "AL[SQ[m], n % 3]",
    "(m - n) & 3 == 0", "if(h == 0, n <= m, n >= m)", "n <= PO[b,m]", "S0[b,h,m,n] > 0",
)  # fmt: skip
SCORES = (
    "{0}", "2 * tanh({0})", "{0} - AS[h] * abs(m - n)", "{0} + TB[h, clamp(n - m, -3, 3) + 3]", "{0} * TQ[b,m]", "if({0} > 0, {0}, 0.1 * {0})",
    "{0} + default(TB[h, n - m + 3], 0)", "{0} + SK[n]",
)  # fmt: skip
NORMALISERS = {
    "library": "A[b,h,m,n] = softmax[n](S[b,h,m,n])",
    "quiet": "A[b,h,m,n] = softmax1[n](S[b,h,m,n])",
    "sigmoid": "A[b,h,m,n] = sigmoid(S[b,h,m,n] - 1)",
    "by hand": "MX[b,h,m] = max[n](S[b,h,m,n])\nP[b,h,m,n] = exp(S[b,h,m,n] - MX[b,h,m])\nD[b,h,m] = sum[n](P[b,h,m,n])\nA[b,h,m,n] = P[b,h,m,n] / D[b,h,m]",
    "with a constant": "MX[b,h,m] = max(max[n](S[b,h,m,n]), 0)\nP[b,h,m,n] = exp2(S[b,h,m,n] - MX[b,h,m])\nD[b,h,m] = 0.5 + sum[n](P[b,h,m,n])\nA[b,h,m,n] = P[b,h,m,n] / D[b,h,m]",
    "relu": "RL[b,h,m,n] = relu(S[b,h,m,n])**2\nC[b,h,m] = sum[n](RL[b,h,m,n])\nA[b,h,m,n] = RL[b,h,m,n] / (C[b,h,m] + 0.1)",
    "clipped": "PA[b,h,m,n] = softmax[n](S[b,h,m,n])\nA[b,h,m,n] = clamp(1.2 * PA[b,h,m,n] - 0.05, 0, 1)",
}  # fmt: skip
BRANCHES = (
    "O[b,h,m,f] = A[b,h,m,n] * V[b,{g},n,f]",
    "A2[b,h,m,n] = softmax[n](0.5 * S0[b,h,m,n] where {other})\nO[b,h,m,f] = (A[b,h,m,n] - 0.3 * A2[b,h,m,n]) * V[b,{g},n,f]",
    "A2[b,h,m,n] = softmax[n](S[b,h,m,n] * TQ[b,m])\nO[b,h,m,f] = A[b,h,m,n] * V[b,{g},n,f] + AS[h] * (sum[n](A2[b,h,m,n] * V[b,{g},n,f]))",
    "R[b,h,m,f] = A[b,h,m,n] * V[b,{g},n,f]\nO[b,h,m,f] = rmsnorm[f](R[b,h,m,f])",
    "R[b,h,m,f] = A[b,h,m,n] * V[b,{g},n,f]\nO[b,h,m,f] = R[b,h,m,f] * sigmoid(TQ[b,m])",
)
OUTPUTS = {
    "X1[b,h,m]": "X1[b,h,m] = max[n](S[b,h,m,n])",
    "X2[b,h,m]": "X2[b,h,m] = logsumexp[n](S[b,h,m,n])",
    "X3[b,h,n]": "X3[b,h,n] = sum[m](A[b,h,m,n])",
    "X4[b,h,m]": "X4[b,h,m] = sum[n](A[b,h,m,n] * n)",
    "X5[b,m]": "X5[b,m] = sum[h,n](A[b,h,m,n]**2)",
    "X6[b,h,m,n]": "X6[b,h,m,n] = 2 * A[b,h,m,n]",
}
INPUTS = "Q[b,h,m,e], K[b,g,n,e], V[b,g,n,f], NL[b], SQ[m], SK[n], BL[h,u], AL[v,x], AS[h], TB[h,r], TQ[b,m], PO[b,m]"
SIZES = {"b": 2, "g": 2, "e": 5, "f": 3, "u": 3, "v": 3, "x": 3, "r": 7}


@st.composite
def attentions(draw: Any) -> str:
    """A random program of attention's shape."""
    pick = lambda options: draw(st.sampled_from(options))
    mask, other = pick(MASKS), pick([m for m in MASKS if m])
    head = "h // (H // G)"
    lines = [f"S0[b,h,m,n] = Q[b,h,m,e] * K[b,{head},n,e] / 2", f"S[b,h,m,n] = {pick(SCORES).format('S0[b,h,m,n]')}"]
    lines[1] += f" where {mask}" if mask else ""
    lines += [NORMALISERS[pick(list(NORMALISERS))], pick(BRANCHES).format(g=head, other=other)]
    extra = draw(st.lists(st.sampled_from(list(OUTPUTS)), max_size=2, unique=True))
    lines += [OUTPUTS[name] for name in extra]
    outputs = ", ".join(["O[b,h,m,f]", *extra])
    return f"cascade random({INPUTS}; W = 6) -> {outputs} {{\n" + "\n".join(lines) + "\n}"
