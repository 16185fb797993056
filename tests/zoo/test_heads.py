"""Definitions by cases: heads with different programs in one launch, each of which pays only for its own work."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

import einsum_compiler as ec
from einsum_compiler.inspection import tile_kernels
from einsum_compiler.ir.plan_parser import parse_plan
from einsum_compiler.tile_lists import build_tile_list
from tests.budget import assert_within_budget

# Two heads with windows and a slope, two that see all of the past under a soft cap, two that see every fourth block.
TEXT = """
cascade heads(Q[b,h,m,e], K[b,h,n,e], V[b,h,n,f], SL[h]; W: int = 100, scale = 1/sqrt(E)) -> O[b,h,m,f], L[b,h,m] {
  S[b,h,m,n] = Q[b,h,m,e] * K[b,h,n,e] * scale
  X[b,h,m,n] = S[b,h,m,n] - SL[h] * (m - n) where h < 2 and n <= m and m - n < W
  X[b,h,m,n] = 3 * tanh(S[b,h,m,n] / 3) where 2 <= h < 4 and n <= m
  X[b,h,m,n] = S[b,h,m,n] where h >= 4 and n <= m and (m // 64 - n // 64) % 4 == 0
  MX[b,h,m]  = max[n](X[b,h,m,n])
  P[b,h,m,n] = exp(X[b,h,m,n] - MX[b,h,m])
  D[b,h,m]   = sum[n](P[b,h,m,n])
  A[b,h,m,n] = P[b,h,m,n] / D[b,h,m]
  O[b,h,m,f] = A[b,h,m,n] * V[b,h,n,f]
  L[b,h,m]   = MX[b,h,m] + log(D[b,h,m])
}
"""


def visible(M: int, W: int) -> Tensor:
    """Which keys every head sees, [h,m,n]."""
    m, n = torch.arange(M)[:, None], torch.arange(M)[None]
    past = n <= m
    return torch.stack([past & (m - n < W)] * 2 + [past] * 2 + [past & ((m // 64 - n // 64) % 4 == 0)] * 2)


def program(Q: Tensor, K: Tensor, V: Tensor, SL: Tensor, W: int) -> tuple[Tensor, Tensor]:
    M = Q.shape[2]
    S = Q @ K.mT / Q.shape[-1] ** 0.5
    apart = torch.arange(M)[:, None] - torch.arange(M)[None]
    window, capped, blocks = S[:, :2] - SL[:2, None, None] * apart, 3 * torch.tanh(S[:, 2:4] / 3), S[:, 4:]
    S = torch.cat([window, capped, blocks], 1).masked_fill(~visible(M, W), -torch.inf)
    return S.softmax(-1) @ V, S.logsumexp(-1)


def inputs(M: int, E: int = 32) -> dict[str, Tensor]:
    return {**{n: torch.randn(1, 6, M, E) for n in "QKV"}, "SL": torch.rand(6)}


@pytest.mark.parametrize(
    "M", [277, pytest.param(1, marks=pytest.mark.slow), pytest.param(1025, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("backend", ["cpu", pytest.param("reference", marks=pytest.mark.slow)])
def test_each_head_has_its_program(M: int, backend: str) -> None:
    tensors = inputs(M)
    actual = (ec.reference(TEXT) if backend == "reference" else ec.compile(TEXT, backend=backend))(**tensors, W=100)
    exact = program(**{n: t.double() for n, t in tensors.items()}, W=100)
    for found, near, gold in zip(actual, program(**tensors, W=100), exact, strict=True):
        assert_within_budget(found, near, gold, "heads")


@pytest.mark.parametrize("W", [1, 100, 1000])
def test_one_launch_visits_for_each_head_the_tiles_that_its_mask_touches(W: int) -> None:
    M = 1000
    kernel = ec.compile(TEXT, backend="cpu")
    binding = kernel.binding(**inputs(M), W=W)
    (launch,) = tile_kernels(kernel.derivation, binding, "cpu", None)
    (plan,) = parse_plan(kernel.ir("plan", **inputs(M), W=W)).kernels
    (schedule,) = launch.schedules
    offsets, _ = build_tile_list(schedule, {}, binding.scalars, binding.extents)
    assert plan.stream is not None
    rows, columns = plan.tile("m"), plan.stream.size
    # Two lists for every program: full tiles, then partial ones.
    found = torch.as_tensor(offsets)[::2].diff().reshape(6, -1).sum(1)
    allow = torch.nn.functional.pad(visible(M, W), (0, -M % columns, 0, -M % rows))
    touched = allow.unflatten(1, (-1, rows)).unflatten(3, (-1, columns)).amax((2, 4)).sum((1, 2))
    assert found.tolist() == touched.tolist()
    window, dense, blocks = touched[0], touched[2], touched[4]
    assert blocks < 0.4 * dense and (window < 0.4 * dense or W == 1000)


def test_functions_of_one_head_are_not_computed_for_others() -> None:
    source = ec.compile(TEXT, backend="cpu").source("cpu", **inputs(277))
    lines = source.splitlines()
    capped = [i for i, line in enumerate(lines) if "tile::tanh(" in line and not line.startswith("//")]
    assert capped
    for i in capped:
        before = [line for line in lines[max(0, i - 12) : i] if re.search(r"\bif \(|for_each_column|fold_row", line)]
        assert before and "if (" in before[-1], lines[i]
