"""Programs whose indices lead outside of tensors, or whose filters hide such places: addresses are computed there and may not be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import torch
from torch import Tensor

# What stands in tables where no element is meant: before the first, behind the last, and what 32 bits cut to a small number.
NOWHERE = (-1, -7, 10**6, -(10**6), 2**31 - 1, -(2**31))
FAR = (*NOWHERE, 2**32, 2**32 + 1, -(2**32), 2**33 - 1, 2**40, 2**62, -(2**62), 2**63 - 1, -(2**63))


@dataclass(frozen=True)
class Text:
    """A program, the extents of its ranks; ``tables``: of each input of whole numbers the extent that they count in."""

    text: str
    sizes: Mapping[str, tuple[int, ...]]
    tables: Mapping[str, str] = field(default_factory=dict)
    scalars: Mapping[str, Any] = field(default_factory=dict)
    hidden: Mapping[str, str] = field(default_factory=dict)

    def inputs(self, inputs: Mapping[str, tuple[str, ...]], dtype: torch.dtype, chance: Random) -> dict[str, Tensor]:
        """Tensors of random sizes. Of a table most entries lead into the tensor, the others nowhere."""
        sizes = {rank: chance.choice(options) for rank, options in self.sizes.items()}
        if chance.random() < 0.15:
            sizes[chance.choice(list(sizes))] = 0
        found: dict[str, Tensor] = {}
        for name, ranks in inputs.items():
            shape = [sizes[r] for r in ranks]
            if name not in self.tables:
                found[name] = torch.randn(shape).to(dtype)
                continue
            wide = chance.random() < 0.5
            entries = torch.randint(0, max(sizes[self.tables[name]], 1), shape)
            outside = torch.tensor(FAR if wide else NOWHERE)[torch.randint(0, len(FAR if wide else NOWHERE), shape)]
            entries = torch.where(torch.rand(shape) < 0.3, outside, entries)
            found[name] = entries if wide else entries.to(torch.int32)
        return found


LENGTHS, WIDTHS = (1, 3, 17, 37, 77), (5, 7, 12, 16, 32)
ATTEND = """
  P[b,h,m,n] = exp(S[b,h,m,n] - max[n](S[b,h,m,n]))
  O[b,h,m,f] = P[b,h,m,n] / sum[n](P[b,h,m,n]) * """
COMMON = {"b": (1, 2), "h": (1, 2, 3), "m": LENGTHS, "n": LENGTHS, "e": WIDTHS, "f": WIDTHS}
TEXTS = {
    "pages": Text(
        "cascade pages(Q[b,h,m,e], K[p,t,e], V[p,t,f], PT[b,c], X[b,h,n]) -> O[b,h,m,f] {\n"
        "  S[b,h,m,n] = Q[b,h,m,e] * K[PT[b,n // T],n % T,e] + X[b,h,n]" + ATTEND + "V[PT[b,n // T],n % T,f]\n}",
        {**COMMON, "p": (1, 3, 5), "t": (1, 3, 16), "c": (1, 4, 9)},
        {"PT": "p"},
    ),
    "pages behind a filter": Text(
        "cascade pages(Q[b,h,m,e], K[p,t,e], V[p,t,f], PT[b,c], L[b], X[b,h,n]) -> O[b,h,m,f] {\n"
        "  S[b,h,m,n] = Q[b,h,m,e] * K[PT[b,n // T],n % T,e] + X[b,h,n] where n < L[b] and n <= m + 5"
        + ATTEND
        + "V[PT[b,n // T],n % T,f]\n}",
        {**COMMON, "p": (1, 3, 5), "t": (1, 3, 16), "c": (1, 4, 9)},
        {"PT": "p", "L": "n"},
    ),
    "chosen keys": Text(
        "cascade chosen(Q[b,h,m,e], K[b,k,e], V[b,k,f], I[b,m,n]) -> O[b,h,m,f] {\n"
        "  S[b,h,m,n] = Q[b,h,m,e] * K[b,I[b,m,n],e]" + ATTEND + "V[b,I[b,m,n],f]\n}",
        {**COMMON, "k": LENGTHS},
        {"I": "k"},
    ),
    "distances": Text(
        "cascade distances(Q[b,h,m,e], K[b,h,n,e], V[b,h,n,f], R[h,r], D[r,e]) -> O[b,h,m,f] {\n"
        "  S[b,h,m,n] = Q[b,h,m,e] * K[b,h,n,e] + default(R[h,m - n + 3], 0) + Q[b,h,m,e] * default(D[n - m + 2,e], 0)"
        + ATTEND
        + "V[b,h,n,f]\n}",
        {**COMMON, "r": (1, 4, 9, 40)},
    ),
    "distances without a value": Text(
        "cascade distances(Q[b,h,m,e], K[b,h,n,e], V[b,h,n,f], R[h,r]) -> O[b,h,m,f] {\n"
        "  S[b,h,m,n] = Q[b,h,m,e] * K[b,h,n,e] + R[h,m - n + 3]" + ATTEND + "V[b,h,n,f]\n}",
        {**COMMON, "r": (1, 4, 9, 40)},
    ),
    "neighbours": Text(
        "cascade neighbours(X[b,y,x,e], W[i,j,e,f]; s = 1, d = 1) -> O[b,y,x,f] {\n"
        "  O[b,y,x,f] = default(X[b,s * y + d * i - 1,s * x + d * j - 2,e], 0) * W[i,j,e,f]\n}",
        {"b": (1, 2), "y": (1, 3, 7), "x": (1, 5, 17), "e": (1, 3, 5), "f": WIDTHS, "i": (1, 3), "j": (1, 3, 5)},
    ),
    "far": Text(
        "cascade far(X[m,e], Y[n]; s: int, t: int) -> O[m,e], Z[n,m] {\n"
        "  O[m,e] = default(X[m + s,e], 0) + default(X[m,e - t], 0) + default(X[s - m,t - e], 1)\n"
        "  Z[n,m] = default(Y[2 * n + s], 0) * default(X[m,n * t], 0) + default(Y[n // 2 - t], 2)\n}",
        {"m": LENGTHS, "e": WIDTHS, "n": LENGTHS},
        scalars={"s": NOWHERE[:4], "t": (1, 5, -3, 10**6)},
    ),
    "lookup": Text(
        "cascade lookup(T[k,l,e], I[m], J[m,n], W[m,n]) -> O[m,e], Z[m,n], C[n,m] {\n"
        "  O[m,e] = default(T[I[m],J[m,n] % L,e], 0) * W[m,n]\n"
        "  Z[m,n] = default(T[I[m] + 1,2 * J[m,n] - 1,0], -1)\n"
        "  C[n,m] = sum[e](default(T[J[m,n],2 * n,e], 0) * T[m + 1,I[m],e])\n}",
        {"k": (1, 3, 17), "l": (1, 5, 37), "e": WIDTHS, "m": LENGTHS, "n": LENGTHS},
        {"I": "k", "J": "l"},
    ),
    "transposed": Text(
        "cascade transposed(A[m,k], B[n,k], C[k,p,n]) -> X[m,n], Y[n,m], Z[p,m,n], U[n] {\n"
        "  X[m,n] = A[m,k] * B[n,k]\n  Y[n,m] = exp(A[m,k]) * B[n,k] where n != m\n"
        "  Z[p,m,n] = A[m,k] * C[k,p,n] * B[n,m % K]\n  U[n] = max[m,k](A[m,k] * B[n,k])\n}",
        {"m": LENGTHS, "k": WIDTHS, "n": LENGTHS, "p": (1, 3, 5)},
    ),
}
