"""Formulas of what passes a cache: equal to the counts at the sizes they were found for, and at all others where their conditions hold."""

from __future__ import annotations

from collections.abc import Mapping
from math import floor
from typing import Any

import pytest
import sympy as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import einsum_compiler as ec
from einsum_compiler.compilation import compilation
from einsum_compiler.inspection import tile_kernels, with_tile_lists
from einsum_compiler.ir.plan_parser import parse_plan
from einsum_compiler.ir.tile import TileKernel
from einsum_compiler.passes.traffic import traffic_behind_cache
from einsum_compiler.passes.traffic.arrays import UnknownValues
from einsum_compiler.passes.traffic.cache_formulas import CacheFormulas, cache_formulas
from einsum_compiler.passes.traffic.formula_values import value
from einsum_compiler.passes.traffic.symbolic import evaluated
from tests.passes.traffic.attentions import attentions
from tests.passes.traffic.counted import random_plan
from tests.passes.traffic.test_cache import HEAD, HEADS, KERNEL, PLAN, PROGRAM, SHAPES
from tests.passes.traffic.test_exact import LENGTHS, PLAIN, SEGMENTS, TILES, attention_inputs

M, N = (sp.Symbol(name, integer=True, nonnegative=True) for name in "MN")
OTHERS = ((1, 1), (31, 70), (97, 130))


def check(kernel: TileKernel, found: CacheFormulas, sizes: Mapping[str, int], scalars: Mapping[str, Any]) -> int:
    """Known formulas against the counts; where conditions are known they hold exactly where the numeric model decides the same. Formulas compared."""
    counted = traffic_behind_cache(kernel, sizes, scalars, {}, found.capacity)
    if found.conditions is not None:
        assert found.holds(sizes, scalars) == (counted.kept == found.kept), (sizes, found.conditions, counted)
    if counted.kept != found.kept:
        return 0
    compared = 0
    for name, formula in found.tensors.items():
        for said, number in (
            (formula.loaded, counted.traffic[name].loaded),
            (formula.stored, counted.traffic[name].stored),
        ):
            if said is not None:
                assert evaluated(said, sizes, scalars) == number, (name, sizes, said)
                compared += 1
    footprint = [found.footprint[t] for t in found.footprint]
    if None not in footprint:
        inside = dict(counted.working_sets)[found.kept if found.kept is not None else counted.working_sets[-1][0]]
        names = {**{r.upper(): n for r, n in sizes.items()}, **scalars}
        assert floor(sum(value(f, names) for f in footprint)) == inside
    return compared


def program(where: str, plan: str = "program m:48  stream n:32") -> TileKernel:
    kernel = ec.compile("cascade one(Q[m,e], K[n,e], V[n,f]; W: int = 0) -> O[m,f] {" + PLAIN.format(where=where) + "}")
    binding = kernel.binding(Q=torch.empty(300, 64), K=torch.empty(400, 64), V=torch.empty(400, 16))
    text = f"plan one {{ kernel O {{ {plan}  resident e, f }} }}"
    (found,) = tile_kernels(kernel.derivation, binding, "cpu", parse_plan(text))
    return found


def heads(capacity: int, kept: str | None) -> CacheFormulas:
    kernel = ec.compile(HEADS)
    binding = kernel.binding(**{name: torch.empty(shape) for name, shape in SHAPES.items()})
    (found,) = tile_kernels(kernel.derivation, binding, "cpu", parse_plan(PLAN))
    return cache_formulas(found, kept, capacity)


def test_grouped_heads_by_hand() -> None:
    """Four heads of 64 wide rows, two of keys; f32. The number of heads is that of the sizes."""
    tiles = sp.floor((M + 63) / 64)
    everything, head, one, nothing = (
        heads(KERNEL, ""),
        heads(HEAD, "h"),
        heads(PROGRAM, "m.1"),
        heads(PROGRAM - 1, None),
    )
    keys = [f.tensors["K"].loaded for f in (everything, head, one, nothing)]
    assert keys == [2 * 64 * N, 2 * 64 * N, 4 * 64 * N, 4 * 64 * N * tiles]
    assert {f.tensors["Q"].loaded for f in (everything, head, one, nothing)} == {4 * 64 * M}
    assert head.footprint == {"Q": 256 * M, "K": 256 * N, "V": 256 * N, "O": 256 * M}
    # A head fits (four times in four times the room), all four with their two heads of keys do not.
    assert head.conditions == (
        sp.Le(4 * (512 * M + 512 * N), 4 * HEAD, evaluate=False), sp.Gt(4 * 512 * M + 2 * 512 * N, HEAD, evaluate=False),
    )  # fmt: skip


def test_causal_rows_share_the_keys_up_to_the_last_tile() -> None:
    found = cache_formulas(program(" where n <= m", "program m:64  stream n:32"), "m.1", 1)
    assert found.tensors["K"].loaded == 64 * sp.Min(N, 64 * sp.floor((M + 63) / 64))


@pytest.mark.parametrize(
    "where",
    [
        "",
        " where n <= m",
        pytest.param(" where n <= m and m - n < W", marks=pytest.mark.slow),  # half a minute of SymPy each
        " where n % 3 == 0",
        pytest.param(" where abs(m - n) < W or n < 2", marks=pytest.mark.slow),
        pytest.param(" where n // 16 <= m // 16", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("plan", ["program m:48  stream n:32", "program m:32  stream n:64"])
def test_formulas_hold_where_their_conditions_do(where: str, plan: str) -> None:
    kernel, scalars = program(where, plan), {"W": 40}
    compared = 0
    for capacity in (10_000, 40_000, 10_000_000):
        kept = traffic_behind_cache(kernel, {"m": 97, "n": 130}, scalars, {}, capacity).kept
        found = cache_formulas(kernel, kept, capacity)
        assert found.conditions is not None and not found.reasons
        compared += sum(check(kernel, found, {"m": m, "n": n}, scalars) for m, n in OTHERS)
    assert compared >= 2 * 8


@pytest.mark.slow
@given(attentions(), st.sampled_from([2, 4]), LENGTHS, TILES, st.sampled_from([500, 2000, 8000, 10**7]))
@settings(max_examples=12, deadline=None)
def test_random_attentions_and_plans(
    text: str, count: int, lengths: tuple[int, int], tiles: list[int], capacity: int
) -> None:
    kernel = ec.compile(text)
    tensors = attention_inputs(kernel, count, *lengths)
    binding = kernel.binding(**tensors)
    plan = random_plan(parse_plan(kernel.ir("plan", **tensors)), tiles)
    scalars = {**binding.scalars, "W": 6}
    for part in compilation(kernel.derivation, binding, "cpu", plan).parts:
        sizes = {**binding.extents, **part.planned.extents}
        known = with_tile_lists(part.tile, binding.tensors, scalars, sizes)
        try:
            counted = traffic_behind_cache(part.tile, sizes, scalars, known, capacity)
        except UnknownValues:
            continue
        found = cache_formulas(part.tile, counted.kept, capacity)
        unknown = [n for n, f in found.tensors.items() if None in (f.loaded, f.stored)]
        assert bool(unknown or found.conditions is None) == bool(found.reasons)
        for name, formula in found.tensors.items():
            if formula.loaded is not None:
                assert evaluated(formula.loaded, sizes, scalars) == counted.traffic[name].loaded, (name, formula)
        assert found.conditions is None or found.holds(sizes, scalars)
        if found.conditions is not None:
            for m, n in OTHERS[:2]:
                if not part.planned.extents:
                    check(part.tile, found, {**sizes, "m": m, "n": n}, scalars)


def test_lists_of_tiles_have_numbers_and_no_formula() -> None:
    kernel = ec.compile(SEGMENTS)
    segments = torch.zeros(48, dtype=torch.int32)
    tensors = {n: torch.empty(48, 8) for n in "QKV"} | {"SQ": segments, "SK": segments}
    plan = parse_plan("plan s { kernel O { program m:16  stream n:16  resident e, f } }")
    (found,) = tile_kernels(kernel.derivation, kernel.binding(**tensors), "cpu", plan)
    formulas = cache_formulas(found, "", 10**6)
    assert formulas.conditions is None and formulas.tensors["K"].loaded is None
    assert formulas.tensors["Q"].loaded == 8 * M
    assert "which tiles are visited is found at run time" in formulas.reasons
    assert not formulas.holds({"m": 48, "n": 48})
