"""Decoding, one query over many keys: the time that reading K and V takes, beside SDPA and the read bandwidth of the machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

import einsum_compiler as ec

DECODING = """
cascade decoding(Q[b,h,m,e], K[b,g,n,e], V[b,g,n,f]; scale = 1/sqrt(E)) -> O[b,h,m,f] {
  S[b,h,m,n] = Q[b,h,m,e] * K[b,h // (H // G),n,e] * scale
  A[b,h,m,n] = softmax[n](S[b,h,m,n])
  O[b,h,m,f] = A[b,h,m,n] * V[b,h // (H // G),n,f]
}
"""


@dataclass
class Decoding:
    """One query of 32 heads over 32k keys of 8 heads, D 128: bytes of K and V by the time, beside the read bandwidth of PyTorch's sum."""

    dtype: str
    ours: float
    sdpa: float
    ratio_sdpa: float
    gigabytes: float
    bandwidth: float
    error: float
    sdpa_error: float


def decode(dtype: str, runs: int) -> Decoding:
    """The decoding row of a type, the three programs interleaved."""
    kind = getattr(torch, dtype)
    torch.manual_seed(0)
    q = torch.randn(1, 32, 1, 128).to(kind)
    k, v = (torch.randn(1, 8, 32768, 128).to(kind) for _ in range(2))
    kernel = ec.compile(DECODING)
    plain = torch.nn.functional.scaled_dot_product_attention
    numbers = torch.ones(2**26)
    programs: dict[str, Callable[[], torch.Tensor]] = {
        "ours": lambda: kernel(q, k, v),
        "sdpa": lambda: plain(q, k, v, enable_gqa=True),
        "sum": lambda: numbers.sum(),
    }
    gold = plain(q.double(), k.double(), v.double(), enable_gqa=True)
    errors = [float((programs[name]().double() - gold).abs().max()) for name in ("ours", "sdpa")]
    assert errors[0] <= 2 * errors[1] + 2 * torch.finfo(kind).eps * float(gold.abs().max())
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(runs + 1):
        for name, program in programs.items():
            start = time.perf_counter()
            program()
            times[name].append(time.perf_counter() - start)
    ours, sdpa, read = (statistics.median(t[1:]) for t in times.values())
    moved = 2 * k.numel() * k.element_size()
    return Decoding(
        dtype, ours, sdpa, statistics.median(b / a for a, b in zip(times["ours"][1:], times["sdpa"][1:], strict=True)),
        moved / ours / 1e9, numbers.numel() * 4 / read / 1e9, *errors,
    )  # fmt: skip
