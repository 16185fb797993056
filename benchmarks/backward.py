"""Backward passes on the CPU beside PyTorch's: ``python -m benchmarks.backward [--length 2048] [--prepare]``.

For causal and full attention in f32 and bf16: milliseconds of the backward pass alone, ours and that of ``scaled_dot_product_attention``, medians of
interleaved runs, the floor (the products of the plan at the peak rate of the machine), and the plan. ``--prepare`` compiles and runs everything once.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

import einsum_compiler as ec
from einsum_compiler.cost.device import device_for

TEXT = """
cascade attention(Q[b,h,m,e], K[b,h,n,e], V[b,h,n,f]; scale = 1/sqrt(E)) -> O[b,h,m,f] {{
  S[b,h,m,n] = Q[b,h,m,e] * K[b,h,n,e] * scale{where}
  MX[b,h,m]  = max[n](S[b,h,m,n])
  P[b,h,m,n] = exp(S[b,h,m,n] - MX[b,h,m])
  D[b,h,m]   = sum[n](P[b,h,m,n])
  A[b,h,m,n] = P[b,h,m,n] / D[b,h,m]
  O[b,h,m,f] = A[b,h,m,n] * V[b,h,n,f]
}}
"""
PRODUCTS = 5  # that no plan does without


def backward_seconds(forward: Callable[..., Tensor], tensors: list[Tensor], cotangent: Tensor) -> float:
    """Seconds of one backward pass."""
    out = forward(*tensors)
    begin = time.perf_counter()
    torch.autograd.grad(out, tensors, cotangent)
    return time.perf_counter() - begin


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--length", type=int, default=2048)
    options.add_argument("--runs", type=int, default=7)
    options.add_argument("--prepare", action="store_true")
    chosen = options.parse_args()
    length, runs = chosen.length, 1 if chosen.prepare else chosen.runs
    rate = device_for("cpu").product_rate("f32")
    for causal in (False, True):
        kernel = ec.compile(TEXT.format(where="  where n <= m" if causal else ""))

        def sdpa(q: Tensor, k: Tensor, v: Tensor, causal: bool = causal) -> Tensor:
            return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)

        for dtype in (torch.float32, torch.bfloat16):
            torch.manual_seed(0)
            tensors = [torch.randn(1, 8, length, 64, dtype=dtype, requires_grad=True) for _ in range(3)]
            cotangent = torch.randn(1, 8, length, 64, dtype=dtype)
            for forward in (kernel, sdpa):
                backward_seconds(forward, tensors, cotangent)
            times = [[backward_seconds(f, tensors, cotangent) for f in (kernel, sdpa)] for _ in range(runs)]
            ours, theirs = (1e3 * statistics.median(column) for column in zip(*times, strict=True))
            points = 8 * length * (length + 1) // 2 if causal else 8 * length * length
            floor = 1e3 * PRODUCTS * 2 * 64 * points / rate
            name = f"{'causal' if causal else 'dense'} {str(dtype).removeprefix('torch.')}"
            print(
                f"{name:16} ours {ours:7.1f} ms  SDPA {theirs:7.1f} ms  ({theirs / ours:.2f} x)  f32 floor {floor:.1f} ms",
                flush=True,
            )


if __name__ == "__main__":
    main()
