"""Sizes of tiles."""

from __future__ import annotations

import pytest

from einsum_compiler.ir.parser import parse
from einsum_compiler.passes.fuse import fuse
from einsum_compiler.passes.normalize import normalize
from einsum_compiler.passes.partition import Partition, partition, tile_class

TEXT = """
cascade c(Q[b,h,m,e], K[b,g,n,e]) -> X[b,h,m] {
  S[b,h,m,n] = Q[b,h,m,e] * K[b,h // (H // G),n,e]
  X[b,h,m] = max[n](S[b,h,m,n])
}
"""


@pytest.mark.parametrize(
    ("extent", "target", "powers", "size"),
    [
        (1, 96, False, 1),
        (17, 96, False, 24),
        (37, 96, False, 48),
        (37, 128, True, 64),
        (96, 96, False, 96),
        (5000, 96, False, 96),
    ],
)
def test_tile_classes_cover_the_extent_or_are_the_target(extent: int, target: int, powers: bool, size: int) -> None:
    assert tile_class(extent, target, powers) == size


def test_nearby_lengths_share_a_plan() -> None:
    plans = set()
    for length in (33, 37, 48):
        extents = {"b": 1, "h": 4, "g": 2, "m": length, "n": length, "e": 8}
        (kernel,) = fuse(normalize(parse(TEXT).cascade()), extents)
        plans.add(str(partition(kernel, extents)))
    assert len(plans) == 1


def test_one_query_of_grouped_heads_takes_the_heads_of_a_group_as_rows() -> None:
    extents = {"b": 1, "h": 8, "g": 2, "m": 1, "n": 4096, "e": 64}
    (kernel,) = fuse(normalize(parse(TEXT).cascade()), extents)
    assert partition(kernel, extents).tile("h") == 4


def test_heads_grouped_by_a_parameter_have_a_plan_for_all_its_values() -> None:
    extents = {"b": 1, "h": 8, "g": 2, "m": 1, "n": 100, "e": 16}
    text = TEXT.replace("K[b,g,n,e])", "K[b,g,n,e]; group: int)").replace("H // G", "group")
    (kernel,) = fuse(normalize(parse(text).cascade()), extents)
    assert {t.rank: t.size for t in partition(kernel, extents).program}["h"] == 1


def test_powers_of_two_where_a_backend_needs_them() -> None:
    extents = {"b": 1, "h": 4, "g": 2, "m": 37, "n": 37, "e": 8}
    (kernel,) = fuse(normalize(parse(TEXT).cascade()), extents)
    plan = partition(kernel, extents, Partition(powers_of_two=True))
    assert all(t.size & (t.size - 1) == 0 for t in (*plan.program, *((plan.stream,) if plan.stream else ())))


@pytest.mark.parametrize(
    ("text", "tiled"),
    [
        ("cascade c(X[m,n], T[r]) -> Y[r] { Y[r] = sum[m](X[m,r + m - M + 1]) * T[r] }", "r"),  # side by side
        ("cascade c(X[b,t], T[i]) -> Y[b,i] { Y[b,i] = max[r](X[b,2 * i + r]) * T[i] }", "i"),  # every second one
        ("cascade c(X[b,c,y,x], W[p]) -> Y[b,c,y,x] { Y[b,c,y,x] = sum[p](X[b,c,y + p,x + 1] * W[p]) }", "x"),  # of two
        ("cascade c(X[m,n]) -> Y[m] { Y[m] = sum[n](X[m,n]) }", ""),  # vectors along the sum
    ],
)
def test_vectors_along_neighbours_in_memory(text: str, tiled: str) -> None:
    cascade = normalize(parse(text).cascade())
    extents = dict.fromkeys("bcimnrtyx", 100) | {"p": 3, "r": 199 if "X[m,r" in text else 3}
    (kernel,) = fuse(cascade, extents)
    tiles = {t.rank: t.size for t in partition(kernel, extents).program}
    assert max(tiles, key=lambda r: tiles[r]) == tiled if tiled else set(tiles.values()) == {1}


def test_few_taps_are_one_tile_and_other_short_lengths_share_one() -> None:
    (taps,) = fuse(
        normalize(parse("cascade c(X[b,t], W[k]) -> Y[b,u] { Y[b,u] = X[b,u + k] * W[k] }").cascade()),
        dict.fromkeys("btu", 100) | {"k": 3},
    )
    (keys,) = fuse(
        normalize(parse("cascade c(X[b,k], W[k,e]) -> Y[b,e] { Y[b,e] = X[b,k] * W[k,e] }").cascade()),
        {"b": 9, "e": 9, "k": 3},
    )
    extents = dict.fromkeys("btue", 100) | {"k": 3}
    assert [t.size for t in partition(taps, extents).streams] == [3]
    assert [t.size for t in partition(taps, extents, Partition(powers_of_two=True)).streams] == [16]
    assert [t.size for t in partition(taps, extents | {"k": 40}).streams] == [48]
    assert [t.size for t in partition(keys, extents).streams] == [16]


def test_points_are_put_side_by_side_into_a_rank_that_only_filters_have() -> None:
    text = "cascade c(X[t,a,d], y[t]; V: int) -> Y[v,a,d] { Y[v,a,d] = sum[t](X[t,a,d] where y[t] == v) }"
    (kernel,) = fuse(normalize(parse(text).cascade()), extents := {"t": 500, "a": 90, "d": 64, "v": 300})
    tiles = {t.rank: t.size for t in partition(kernel, extents).program}
    assert tiles["v"] > 1 and tiles["d"] > 1 and tiles["a"] == 1


@pytest.mark.parametrize("index", ["2 * j + q", "j * 2 + q", "q + j * 2"])
def test_vectors_run_along_a_rank_that_steps_by_a_number(index: str) -> None:
    extents = {"i": 64, "u": 64, "v": 128, "j": 64, "p": 2, "q": 2}
    text = f"cascade c(G[u,v]; J: int, P = 2, Q = 2) -> A[i,j] {{ A[i,j] = sum[p,q](G[i * 2 + p,{index}]) }}"
    (kernel,) = fuse(normalize(parse(text).cascade()), extents)
    assert {t.rank: t.size for t in partition(kernel, extents).program} == {"i": 1, "j": 64}
