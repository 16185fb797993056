"""What `make demo` runs: a variant written here, what the compiler derives from it, and a real model.

python examples/demo.py
"""

from __future__ import annotations

import time

import sentence_model
import torch

import einsum_compiler as ec

# The mathematics as on paper: three passes over the keys, a division per weight, no word about tiles.
VARIANT = """
def softcap(x, c) = c * tanh(x / c)

# A sliding window of W keys, soft-capped scores, a linear penalty on distance, grouped heads.
cascade variant(Q[b,h,m,e], K[b,g,n,e], V[b,g,n,f], slope[h]; W: int, c = 20.0, scale = 1/sqrt(E)) -> O[b,h,m,f] {
  R[b,h,m,n] = Q[b,h,m,e] * K[b,h // (H // G),n,e] * scale   where n <= m and m - n < W
  S[b,h,m,n] = softcap(R[b,h,m,n], c) - slope[h] * (m - n)
  MX[b,h,m]  = max[n](S[b,h,m,n])
  P[b,h,m,n] = exp(S[b,h,m,n] - MX[b,h,m])
  D[b,h,m]   = sum[n](P[b,h,m,n])
  A[b,h,m,n] = P[b,h,m,n] / D[b,h,m]
  O[b,h,m,f] = A[b,h,m,n] * V[b,h // (H // G),n,f]
}
"""


def heading(text: str) -> None:
    print(f"\n== {text}", flush=True)


def variant() -> None:
    """Compile the text above, show what was derived, check it and time it."""
    torch.manual_seed(0)
    length, window = 1024, 128
    Q = torch.randn(1, 8, length, 64)
    K, V = torch.randn(1, 2, length, 64), torch.randn(1, 2, length, 64)
    slope = 2.0 ** -torch.arange(1.0, 9.0)

    heading("1. An attention variant, as written")
    print(VARIANT.strip())

    heading("2. Compiling")
    started = time.perf_counter()
    kernel = ec.compile(VARIANT)
    kernel(Q, K, V, slope, W=window)
    print(f"first call after {time.perf_counter() - started:.1f} s; what was derived:\n")
    kernel.explain(Q, K, V, slope, W=window)

    heading(f"3. Checking it against float64, and timing it ({length} queries and keys, window {window})")
    print(kernel.validate(Q, K, V, slope, W=window))
    print(kernel.benchmark(Q, K, V, slope, W=window))


def main() -> int:
    variant()
    heading("4. A sentence model with its attention compiled")
    return sentence_model.main()


if __name__ == "__main__":
    raise SystemExit(main())
