"""Learnable biases: scores with tensors and scalars that are trained, each as a text and as a plain PyTorch program.

Every pattern is a score over ``b h m n``; ``S0`` is the scaled product of queries and keys. The functions get that score, the coordinates of queries and keys, and the
tensors, and return the score with the bias. Where a tensor is read at keys and queries alike, both have one length.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

HEAD = "Q[b,h,m,e], K[b,h,n,e], V[b,h,n,f]"


@dataclass(frozen=True)
class Bias:
    """``shapes``: of each tensor, with ``n`` for the length, ``2n`` for twice it, and the extents of batch and heads by name."""

    name: str
    score: str
    inputs: str
    shapes: Mapping[str, tuple[int | str, ...]]
    plain: Callable[..., Tensor]
    parameters: str = ""
    integers: Mapping[str, int] = field(default_factory=dict)  # input -> one more than its largest value

    @property
    def text(self) -> str:
        more = f", {self.inputs}" if self.inputs else ""
        parameters = f", {self.parameters}" if self.parameters else ""
        return f"""cascade attention({HEAD}{more}; scale = 1/sqrt(E){parameters}) -> O[b,h,m,f], L[b,h,m] {{
  S0[b,h,m,n] = scale * Q[b,h,m,e] * K[b,h,n,e]
  S[b,h,m,n] = {self.score}
  MX[b,h,m] = max[n](S[b,h,m,n])
  P[b,h,m,n] = exp(S[b,h,m,n] - MX[b,h,m])
  D[b,h,m] = sum[n](P[b,h,m,n])
  A[b,h,m,n] = P[b,h,m,n] / D[b,h,m]
  O[b,h,m,f] = A[b,h,m,n] * V[b,h,n,f]
  L[b,h,m] = MX[b,h,m] + log(D[b,h,m])
}}"""

    def tensors(
        self, length: int, dtype: torch.dtype, batch: int = 4, heads: int = 4, width: int = 8
    ) -> dict[str, Tensor]:
        """Q, K, V and the tensors of the pattern; those of floating point require gradients."""
        sizes = {"n": length, "2n": 2 * length, "b": batch, "h": heads}
        found = {name: torch.randn(batch, heads, length, width) for name in "QKV"}
        for name, shape in self.shapes.items():
            extents = [s if isinstance(s, int) else sizes[s] for s in shape]
            largest = self.integers.get(name)
            found[name] = torch.randn(extents) if largest is None else torch.randint(0, largest, extents)
        return {n: t.to(dtype).requires_grad_() if t.is_floating_point() else t for n, t in found.items()}

    def reference(self, given: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The output and the log-sum-exp in plain PyTorch, in the type of the tensors."""
        q, k, v = (given[n] for n in "QKV")
        m, n = torch.arange(q.shape[2])[:, None], torch.arange(k.shape[2])
        scores = self.plain(
            q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, m, n, **{t: given[t] for t in given if t not in "QKV"}
        )
        return torch.softmax(scores, -1) @ v, torch.logsumexp(scores, -1)


PATTERNS = [
    Bias("relative 1-D", "S0[b,h,m,n] + B[m - n + N - 1]", "B[r]", {"B": ("2n",)}, lambda s, m, n, B: s + B[m - n + s.shape[-1] - 1]),
    Bias("absolute 2-D", "S0[b,h,m,n] + B[m,n]", "B[m,n]", {"B": ("n", "n")}, lambda s, m, n, B: s + B),
    Bias("per head 2-D", "S0[b,h,m,n] + B[h,m]", "B[h,m]", {"B": ("h", "n")}, lambda s, m, n, B: s + B[:, :, None]),
    Bias("batch and head 4-D", "S0[b,h,m,n] + B[b,h,m,n]", "B[b,h,m,n]", {"B": ("b", "h", "n", "n")}, lambda s, m, n, B: s + B),
    Bias("multiplicative", "S0[b,h,m,n] * B[m,n]", "B[m,n]", {"B": ("n", "n")}, lambda s, m, n, B: s * B),
    Bias(
        "clamped window", "S0[b,h,m,n] + B[clamp(m - n, -8, 8) + 8]", "B[u]", {"B": (17,)}, lambda s, m, n, B: s + B[(m - n).clamp(-8, 8) + 8]
    ),
    Bias("key only", "S0[b,h,m,n] + B[n]", "B[n]", {"B": ("n",)}, lambda s, m, n, B: s + B),
    Bias(
        "odd 4-D with a constant index",
        "S0[b,h,m,n] + B[b,0,m,clamp(n, 0, 3)]",
        "B[b,i,m,j]",
        {"B": ("b", 3, "n", 4)},
        lambda s, m, n, B: s + B[:, 0][:, None, :, n.clamp(0, 3)],
    ),
    Bias(
        "through a table of indices", "S0[b,h,m,n] + B[T[n]]", "B[u], T[n]", {"B": (11,), "T": ("n",)}, lambda s, m, n, B, T: s + B[T],
        integers={"T": 11},
    ),
    Bias("symmetric, read twice", "S0[b,h,m,n] + B[m,n] + B[n,m]", "B[m,n]", {"B": ("n", "n")}, lambda s, m, n, B: s + B + B.T),
    Bias("flipped", "S0[b,h,m,n] + B[M - 1 - m,n]", "B[m,n]", {"B": ("n", "n")}, lambda s, m, n, B: s + B.flip(0)),
    Bias("head gate", "S0[b,h,m,n] * sigmoid(G[h])", "G[h]", {"G": ("h",)}, lambda s, m, n, G: s * G.sigmoid()[:, None, None]),
    Bias(
        "two tensors", "S0[b,h,m,n] + B[m,n] + C[h,n]", "B[m,n], C[h,n]", {"B": ("n", "n"), "C": ("h", "n")},
        lambda s, m, n, B, C: s + B + C[:, None],
    ),
    Bias("scalar", "S0[b,h,m,n] * t", "", {"t": ()}, lambda s, m, n, t: s * t, parameters="t = 1.0"),
]  # fmt: skip
