"""What the choice of plans is judged on: programs, sizes and element types, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@dataclass(frozen=True)
class Case:
    """A program (a text, or the name of a file in ``examples/``), extents by rank and parameters by name, and the type of its floating inputs.

    ``whole``: how integer inputs are filled, by name: ``("documents", count)`` numbers equal stretches of a sequence, ``("value", n)`` is n everywhere.
    """

    name: str
    program: str
    sizes: Mapping[str, Any]
    dtype: str = "f32"
    whole: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    cascade: str | None = None

    @property
    def text(self) -> str:
        if "\n" in self.program:
            return self.program
        return (EXAMPLES / self.program).read_text(encoding="utf-8")


DENSE = """
cascade dense(Q[b,h,m,e], K[b,h,n,e], V[b,h,n,f]; scale = 1/sqrt(E)) -> O[b,h,m,f] {
  S[b,h,m,n] = Q[b,h,m,e] * K[b,h,n,e] * scale
  A[b,h,m,n] = softmax[n](S[b,h,m,n])
  O[b,h,m,f] = A[b,h,m,n] * V[b,h,n,f]
}
"""

SIGMOID = """
cascade sigmoid_attention(Q[b,h,m,e], K[b,h,n,e], V[b,h,n,f]; scale = 1/sqrt(E)) -> O[b,h,m,f] {
  S[b,h,m,n] = Q[b,h,m,e] * K[b,h,n,e] * scale - log(N) where n <= m
  O[b,h,m,f] = sigmoid(S[b,h,m,n]) * V[b,h,n,f]
}
"""

LINEAR = """
cascade linear_attention(Q[b,h,m,e], K[b,h,n,e], V[b,h,n,f]) -> O[b,h,m,f] {
  H[b,h,e,f] = K[b,h,n,e] * V[b,h,n,f]
  O[b,h,m,f] = Q[b,h,m,e] * H[b,h,e,f]
}
"""

LAYERNORM = """
cascade layernorm_rows(X[m,n], W[n], B[n]; eps = 1e-5) -> Y[m,n] {
  MU[m]  = sum[n](X[m,n]) / N
  VA[m]  = sum[n]((X[m,n] - MU[m]) ** 2) / N
  Y[m,n] = (X[m,n] - MU[m]) * rsqrt(VA[m] + eps) * W[n] + B[n]
}
"""

MATMUL = """
cascade batched_matmul(A[b,m,k], B[b,k,n]) -> C[b,m,n] {
  C[b,m,n] = A[b,m,k] * B[b,k,n]
}
"""

ROW_SOFTMAX = """
cascade row_softmax(X[m,n]) -> Y[m,n] {
  Y[m,n] = softmax[n](X[m,n])
}
"""

COLUMN_SUMS = """
cascade column_sums(X[m,n]) -> S[n], Q[n] {
  S[n] = sum[m](X[m,n])
  Q[n] = sum[m](X[m,n] ** 2)
}
"""

RMSNORM_GEMM = """
cascade rmsnorm_gemm(X[m,k], G[k], W[n,k]; eps = 1e-6) -> Y[m,n] {
  R[m]   = rsqrt(sum[k](X[m,k] ** 2) / K + eps)
  Z[m,k] = X[m,k] * R[m] * G[k]
  Y[m,n] = Z[m,k] * W[n,k]
}
"""


def attention(
    heads: int, queries: int, keys: int, width: int, values: int | None = None, **more: Any
) -> dict[str, Any]:
    """Sizes of one batch of attention."""
    return {"b": 1, "h": heads, "m": queries, "n": keys, "e": width, "f": values or width, **more}


CASES = (
    Case("dense f32", DENSE, attention(8, 1024, 1024, 64)),
    Case("dense bf16", DENSE, attention(8, 1024, 1024, 64), "bf16"),
    Case("causal f32", "causal.ein", attention(8, 1024, 1024, 64, g=8)),
    Case("causal bf16", "causal.ein", attention(8, 1024, 1024, 128, g=2), "bf16"),
    Case("window 256 of 4096", "window.ein", attention(4, 4096, 4096, 64, g=4, left=255, right=0)),
    Case(
        "documents",
        "segment.ein",
        attention(4, 2048, 2048, 64, g=4),
        whole={"SQ": ("documents", 7), "SK": ("documents", 7)},
    ),
    Case("decode 8k f32", "gqa.ein", attention(32, 1, 8192, 128, g=8)),
    Case("decode 32k bf16", "gqa.ein", attention(32, 1, 32768, 128, g=8), "bf16"),
    Case("sink", "sink_logit.ein", attention(8, 1024, 1024, 64, g=8, causal=True)),
    Case("alibi", "alibi.ein", attention(8, 1024, 1024, 64, g=8, causal=True)),
    Case("soft cap", "soft_cap.ein", attention(8, 512, 1024, 64, g=8)),
    Case("bias", "bias.ein", attention(8, 1024, 1024, 64, g=8)),
    Case("cross, 16 queries", "cross.ein", {**attention(8, 16, 4096, 64, g=8), "b": 16}, whole={"NK": ("value", 4000)}),
    Case("width 24", DENSE, attention(8, 1024, 1024, 24)),
    Case("width 72 bf16", DENSE, attention(8, 1024, 1024, 72), "bf16"),
    Case("width 96", DENSE, attention(8, 768, 1024, 96)),
    Case("width 192/128", DENSE, attention(4, 768, 1024, 192, 128)),
    Case("short lengths", DENSE, {**attention(8, 77, 77, 64), "b": 32}),
    Case("sigmoid causal", SIGMOID, attention(8, 1024, 1024, 64)),
    Case("linear attention", LINEAR, attention(16, 4096, 4096, 64)),
    Case("layer norm", LAYERNORM, {"m": 4096, "n": 2048}),
    Case("row softmax", ROW_SOFTMAX, {"m": 4096, "n": 2048}),
    Case("column sums", COLUMN_SUMS, {"m": 8192, "n": 2048}),
    Case("batched matmul", MATMUL, {"b": 8, "m": 512, "n": 512, "k": 512}),
    Case("rmsnorm, gemm", RMSNORM_GEMM, {"m": 1024, "n": 1024, "k": 1024}),
)
