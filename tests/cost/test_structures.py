"""Which tensors are stored between kernels, where the rough estimate that rules most ways out is far from what a kernel takes."""

from __future__ import annotations

import pytest
import torch

import einsum_compiler as ec
from einsum_compiler.ir.plan_parser import parse_plan

# What a kernel computes again, or holds whole, has a rank (d, b) that both operands of a product carry innermost: registers hold one such product at a time.
PROJECTED = """cascade t(Z[k,i,c], W[c,d], B[k,j,d]) -> X[i,j,d] {
  A[k,i,d] = Z[k,i,c] * W[c,d]
  X[i,j,d] = A[k,i,d] * B[k,j,d]
}"""
CENTRED = """cascade t(A[k,i,d], B[k,j,d]) -> O[i,j,d] {
  X[i,j,d] = A[k,i,d] * B[k,j,d]
  M[i,j] = mean[d](X[i,j,d])
  O[i,j,d] = X[i,j,d] - M[i,j]
}"""
TWICE = """cascade t(Z[k,i,c], W[c,d], B[k,j,d], G[i,j,d]) -> DZ[k,i,c], DW[c,d], DB[k,j,d] {
  A[k,i,d] = Z[k,i,c] * W[c,d]
  DA[k,i,d] = G[i,j,d] * B[k,j,d]
  DZ[k,i,c] = DA[k,i,d] * W[c,d]
  DW[c,d] = DA[k,i,d] * Z[k,i,c]
  DB[k,j,d] = G[i,j,d] * A[k,i,d]
}"""
BESIDE = """cascade t(Q[m,e,b], K[n,e,b], V[n,f,b], B[m,n]) -> O[m,f,b] {
  O[m,f,b] = softmax[n](sum[e](Q[m,e,b] * K[n,e,b]) + B[m,n]) * V[n,f,b]
}"""
SIZES = {"i": 128, "j": 128, "k": 128, "c": 64, "d": 64, "m": 512, "n": 512, "e": 64, "f": 64, "b": 8}


def stored(text: str) -> list[tuple[str, ...]]:
    """The outputs of the kernels of the chosen plan."""
    kernel = ec.compile(text, backend="cpu")
    tensors = [torch.empty([SIZES[r] for r in t.ranks], device="meta") for t in kernel.cascade.inputs]
    return [k.outputs for k in parse_plan(kernel.ir("plan", *tensors)).kernels]


@pytest.mark.parametrize(
    ("text", "kernels"),
    [
        (PROJECTED, [("A",), ("X",)]),
        (CENTRED, [("X",), ("O",)]),
        (TWICE, [("A",), ("DA",), ("DZ",), ("DW",), ("DB",)]),  # two more than by the laws of fusion
    ],
    ids=["projected", "centred", "twice"],
)
def test_what_takes_far_more_than_the_rough_estimate_is_compared_with_more_ways(
    text: str, kernels: list[tuple[str, ...]]
) -> None:
    assert stored(text) == kernels


def test_a_batch_that_lies_innermost_is_not_tiled_for_what_lacks_it() -> None:
    """Tiles of b would share B[m,n]; their products would run one by one over elements that lie apart."""
    kernel = ec.compile(BESIDE, backend="cpu")
    tensors = [torch.empty([SIZES[r] for r in t.ranks], device="meta") for t in kernel.cascade.inputs]
    (plan,) = parse_plan(kernel.ir("plan", *tensors)).kernels
    assert plan.tile("b") == 1 and plan.tile("m") > 1


@pytest.mark.parametrize(("rows", "size"), [(64, 16), (1 << 17, 4)])
def test_a_short_streamed_rank_has_a_tile_of_its_own_size_where_it_costs(rows: int, size: int) -> None:
    """Four heads in a tile of 16 are four times the work; what is little work shares the kernel of other lengths."""
    text = "cascade mix(W[g,h], S[h,m]) -> T[g,m] { T[g,m] = W[g,h] * S[h,m] }"
    kernel = ec.compile(text, backend="cpu")
    (plan,) = parse_plan(
        kernel.ir("plan", torch.empty(4, 4, device="meta"), torch.empty(4, rows, device="meta"))
    ).kernels
    assert plan.stream is not None and (plan.stream.rank, plan.stream.size) == ("h", size)


def test_tiles_hold_the_nearest_ranks_of_each_operand_whole() -> None:
    """Rows (i, c) and columns (j, d): tiles of i and j alone would gather what they load, and scatter what they store."""
    kernel = ec.compile("cascade outer(A[s,i,c], B[s,j,d]) -> O[i,j,c,d] { O[i,j,c,d] = A[s,i,c] * B[s,j,d] }")
    a = torch.empty(64, 48, 16, device="meta")
    (plan,) = parse_plan(kernel.ir("plan", a, a)).kernels
    tiles = {t.rank: t.size for t in plan.program}
    assert (tiles["c"], tiles["d"]) == (16, 16) and tiles["i"] > 1 < tiles["j"]


def test_vectors_lie_along_channels_that_are_innermost() -> None:
    # Comparisons of a program's own coordinates (y + j < Y) are made once, not at all coordinates of the rank.
    text = "cascade t(X[k,y,x,c], W[j,i,c]) -> O[k,y,x,c] { O[k,y,x,c] = sum[i,j](W[j,i,c] * default(X[k,y + j - 1,x + i - 1,c], 0)) }"
    kernel = ec.compile(text, backend="cpu")
    plan = parse_plan(
        kernel.ir("plan", torch.empty(4, 32, 32, 32, device="meta"), torch.empty(3, 3, 32, device="meta"))
    )
    assert {t.rank: t.size for t in plan.kernels[0].program}["c"] == 32
