"""Long sums in f32: the plan that is chosen stays within the error of PyTorch, which sums in pairs."""

from __future__ import annotations

import pytest
import torch

import einsum_compiler as ec
from einsum_compiler.cost.candidates import search
from einsum_compiler.cost.rounding import MOST_GROWTH
from einsum_compiler.ir.plan import Plan
from einsum_compiler.specialise import request
from tests.front.test_candidates import LAYERNORM, SOFTMAX
from tests.machine import ZEN3

COLUMNS = """
cascade column_sums(X[m,n]) -> S[n], Q[n] {
  S[n] = sum[m](X[m,n])
  Q[n] = sum[m](X[m,n] ** 2)
}
"""
ROWS = """
cascade row_sums(X[m,n]) -> S[m], Q[m] {
  S[m] = sum[n](X[m,n])
  Q[m] = sum[n](X[m,n] ** 2)
}
"""
ATTENTION = """
cascade attention(Q[m,e], K[n,e], V[n,f]) -> O[m,f] {
  S[m,n] = Q[m,e] * K[n,e] / 4
  O[m,f] = softmax[n](S[m,n]) * V[n,f]
}
"""


def tensors(kernel: ec.Kernel, dtype: torch.dtype = torch.float32, **sizes: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        t.name: torch.randn([sizes[r] for r in t.ranks], generator=generator).to(dtype) for t in kernel.cascade.inputs
    }


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        (COLUMNS, {"m": 512, "n": 96}),
        (COLUMNS, {"m": 8192, "n": 96}),
        (COLUMNS, {"m": 65536, "n": 40}),
        (ROWS, {"m": 24, "n": 65536}),
        (SOFTMAX, {"m": 16, "n": 8192}),
        (SOFTMAX, {"m": 8, "n": 65536}),
        (LAYERNORM, {"m": 8, "n": 65536}),
        (ATTENTION, {"m": 4, "n": 65536, "e": 16, "f": 8}),
    ],
)
def test_the_chosen_plan_keeps_the_budget(text: str, sizes: dict[str, int]) -> None:
    kernel = ec.compile(text, backend="cpu")
    kernel.validate(**tensors(kernel, **sizes))


def chosen(text: str, dtype: torch.dtype, **sizes: int) -> tuple[Plan, float]:
    kernel = ec.compile(text, backend="cpu")
    wanted = request(kernel.derivation, kernel.binding(**tensors(kernel, dtype, **sizes)), "cpu")
    best = search(kernel.derivation, wanted.extents, "cpu", wanted.dtypes, ZEN3, {}).plans[0]
    return best.plan, best.prediction.growth


def test_chains_are_cut_where_they_are_too_long() -> None:
    short, growth = chosen(COLUMNS, torch.float32, m=4096, n=1024)
    assert not short.splits and growth <= MOST_GROWTH
    long, growth = chosen(COLUMNS, torch.float32, m=65536, n=1024)
    assert long.splits and growth <= MOST_GROWTH  # though there are programs enough


def test_results_that_are_rounded_anyway_may_be_summed_in_any_chain() -> None:
    plan, growth = chosen(COLUMNS, torch.bfloat16, m=65536, n=1024)
    assert not plan.splits and growth < 0.01


def test_a_chain_that_was_known_to_be_too_long_misses_the_budget() -> None:
    plan = "plan column_sums { kernel S, Q { program n:64  stream m:16 } }"
    kernel = ec.compile(COLUMNS, backend="cpu", plan=plan)
    with pytest.raises(ec.AccuracyError):
        kernel.validate(**tensors(kernel, m=65536, n=40))
