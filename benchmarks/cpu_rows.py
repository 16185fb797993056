"""Attention of one shape and mask beside its peers, forward and backward, on tensors whose values are compared before anything is timed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

import einsum_compiler as ec
from benchmarks.cpu_peers import onnx_runtime, openvino

TEXT = """
cascade attention(Q[b,h,m,e], K[b,h,n,e], V[b,h,n,f]; scale = 1/sqrt(E)) -> O[b,h,m,f] {{
  S[b,h,m,n] = Q[b,h,m,e] * K[b,h,n,e] * scale {filter}
  A[b,h,m,n] = softmax[n](S[b,h,m,n])
  O[b,h,m,f] = A[b,h,m,n] * V[b,h,n,f]
}}
"""


@dataclass(frozen=True)
class Row:
    """One shape and mask: the filter in the language and the same as a predicate of FlexAttention."""

    name: str
    dtype: str
    length: int
    filter: str = ""
    mask: str = ""
    goal_sdpa: float = 0.0
    goal_flex: float = 0.0


ROWS = (
    Row("f32 dense", "float32", 2048, goal_sdpa=2.2, goal_flex=3.5),
    Row("f32 causal", "float32", 2048, "where n <= m", "causal", 2.2, 2.0),
    Row("f32 window 256", "float32", 4096, "where n <= m and m - n < 256", "window", 2.2, 2.0),
    Row("bf16 dense", "bfloat16", 2048, goal_sdpa=4.0, goal_flex=7.0),
    Row("bf16 causal", "bfloat16", 2048, "where n <= m", "causal", 4.0, 7.0),
)

PREDICATES: dict[str, Callable[..., torch.Tensor]] = {
    "causal": lambda b, h, m, n: n <= m,
    "window": lambda b, h, m, n: (n <= m) & (m - n < 256),
}


@dataclass
class Result:
    """Median seconds of each program, and the medians of the ratios peer / ours."""

    row: str
    ours: float
    sdpa: float
    flex: float | None
    ratio_sdpa: float
    ratio_flex: float | None
    gigaflops: float
    goal_sdpa: float
    goal_flex: float
    error: float
    sdpa_error: float
    others: dict[str, float]  # median ratios to ONNX Runtime and OpenVINO, where installed


def measure(row: Row, runs: int, with_flex: bool) -> Result:
    """One row."""
    dtype = getattr(torch, row.dtype)
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 8, row.length, 64).to(dtype) for _ in range(3))
    dense_mask = None
    if row.mask:
        m, n = torch.arange(row.length)[:, None], torch.arange(row.length)[None]
        dense_mask = PREDICATES[row.mask](0, 0, m, n)
    kernel = ec.compile(TEXT.format(filter=row.filter))
    is_causal = row.mask == "causal"

    def ours() -> torch.Tensor:
        return kernel(q, k, v)

    def sdpa() -> torch.Tensor:
        mask = None if is_causal else dense_mask
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=is_causal)

    programs: dict[str, Callable[[], torch.Tensor]] = {"ours": ours, "sdpa": sdpa}
    if with_flex:
        block_mask = (
            create_block_mask(PREDICATES[row.mask], None, None, row.length, row.length, device="cpu")
            if row.mask
            else None
        )
        # Every row starts anew: FlexAttention falls back to an uncompiled program after eight recompilations.
        torch._dynamo.reset()
        compiled = torch.compile(flex_attention)
        programs["flex"] = lambda: compiled(q, k, v, block_mask=block_mask)
    if row.mask in ("", "causal"):
        for name, make in (("onnx_runtime", onnx_runtime), ("openvino", openvino)):
            peer = make(q, k, v, is_causal, torch.get_num_threads())
            if peer is not None:
                programs[name] = peer
    gold = torch.nn.functional.scaled_dot_product_attention(q.double(), k.double(), v.double(), attn_mask=dense_mask)
    errors = {name: float((program().double() - gold).abs().max()) for name, program in programs.items()}
    band = 2 * torch.finfo(dtype).eps * float(gold.abs().max())
    assert errors["ours"] <= 2 * errors["sdpa"] + band, (
        f"{row.name}: error {errors['ours']} against SDPA's {errors['sdpa']}"
    )
    times: dict[str, list[float]] = {name: [] for name in programs}
    with torch.no_grad():
        for _ in range(runs + 1):
            for name, program in programs.items():
                start = time.perf_counter()
                program()
                times[name].append(time.perf_counter() - start)
    times = {name: t[1:] for name, t in times.items()}
    pairs = row.length**2 if not row.mask else int(dense_mask.sum()) if dense_mask is not None else 0
    median = {name: statistics.median(t) for name, t in times.items()}

    def ratio(peer: str) -> float:
        return statistics.median(a / b for a, b in zip(times[peer], times["ours"], strict=True))

    return Result(
        row.name, median["ours"], median["sdpa"], median.get("flex"), ratio("sdpa"), ratio("flex") if with_flex else None,
        4 * pairs * 64 * 8 / median["ours"] / 1e9, row.goal_sdpa, row.goal_flex, errors["ours"], errors["sdpa"],
        {name: ratio(name) for name in ("onnx_runtime", "openvino") if name in programs},
    )  # fmt: skip


@dataclass
class Backward:
    """Gradients of all three inputs: median seconds of our backward pass and of SDPA's, and of forward and backward passes together.

    ``gigaflops``: of the five products that a backward pass cannot do without.
    """

    row: str
    ours: float
    sdpa: float
    ratio_sdpa: float
    ours_both: float
    sdpa_both: float
    ratio_both: float
    gigaflops: float
    goal_sdpa: float
    error: float
    sdpa_error: float


def backward(row: Row, runs: int) -> Backward:
    """The backward pass of a forward row (dense or causal), interleaved with SDPA's. (FlexAttention has none on CPUs.)"""
    dtype = getattr(torch, row.dtype)
    torch.manual_seed(0)
    leaves = [torch.randn(1, 8, row.length, 64).to(dtype).requires_grad_() for _ in range(3)]
    cotangent = torch.randn(1, 8, row.length, 64).to(dtype)
    is_causal = row.mask == "causal"
    kernel = ec.compile(TEXT.format(filter=row.filter))

    def sdpa(*tensors: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(*tensors, is_causal=is_causal)

    programs: dict[str, Callable[..., torch.Tensor]] = {"ours": kernel, "sdpa": sdpa}
    gold = _gradients(leaves, cotangent, is_causal)
    errors = {
        name: max(
            float((a.double() - g).abs().max())
            for a, g in zip(torch.autograd.grad(program(*leaves), leaves, cotangent), gold, strict=True)
        )
        for name, program in programs.items()
    }
    band = 2 * torch.finfo(dtype).eps * max(float(g.abs().max()) for g in gold)
    assert errors["ours"] <= 2 * errors["sdpa"] + band, f"backward {row.name}: {errors}"
    alone: dict[str, list[float]] = {name: [] for name in programs}
    both: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(runs + 1):
        for name, program in programs.items():
            start = time.perf_counter()
            out = program(*leaves)
            between = time.perf_counter()
            torch.autograd.grad(out, leaves, cotangent)
            end = time.perf_counter()
            alone[name].append(end - between)
            both[name].append(end - start)
    medians = [statistics.median(t[1:]) for times in (alone, both) for t in times.values()]
    ratios = [
        statistics.median(b / a for a, b in zip(times["ours"][1:], times["sdpa"][1:], strict=True))
        for times in (alone, both)
    ]
    points = row.length * (row.length + 1) // 2 if is_causal else row.length**2
    return Backward(
        row.name, *medians[:2], ratios[0], *medians[2:], ratios[1], 5 * 2 * 64 * 8 * points / medians[0] / 1e9,
        2.2 if row.dtype == "float32" else 2.0, errors["ours"], errors["sdpa"],
    )  # fmt: skip


def _gradients(leaves: list[torch.Tensor], cotangent: torch.Tensor, is_causal: bool) -> tuple[torch.Tensor, ...]:
    """Gradients of attention in float64, by plain products."""
    q, k, v = exact = [t.detach().double().requires_grad_() for t in leaves]
    scores = q @ k.mT / 8
    if is_causal:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1), -torch.inf)
    return torch.autograd.grad(torch.softmax(scores, -1) @ v, exact, cotangent.double())
