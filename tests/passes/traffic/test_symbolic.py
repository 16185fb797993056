"""Formulas of traffic: what a person would write down, and equal to the counts at any size."""

from __future__ import annotations

import pytest
import sympy as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import einsum_compiler as ec
from einsum_compiler.inspection import tile_kernels
from einsum_compiler.ir.cascade import Cascade
from einsum_compiler.ir.plan_parser import parse_plan
from einsum_compiler.ir.tile import TileKernel
from einsum_compiler.passes.traffic import traffic_of
from einsum_compiler.passes.traffic.symbolic import evaluated, symbolic
from tests import strategies
from tests.passes.traffic.attentions import attentions
from tests.passes.traffic.counted import compared, normal
from tests.passes.traffic.test_exact import EXTENTS, LENGTHS, PLAIN, STEPS, attention_inputs

M, N = (sp.Symbol(name, integer=True, nonnegative=True) for name in "MN")


def program(where: str, m: int, n: int) -> TileKernel:
    kernel = ec.compile("cascade one(Q[m,e], K[n,e], V[n,f]; W: int = 0) -> O[m,f] {" + PLAIN.format(where=where) + "}")
    binding = kernel.binding(Q=torch.empty(300, 64), K=torch.empty(400, 64), V=torch.empty(400, 16))
    plan = parse_plan(f"plan one {{ kernel O {{ program m:{m}  stream n:{n}  resident e, f }} }}")
    (found,) = tile_kernels(kernel.derivation, binding, "cpu", plan)
    return found


def test_dense_attention_reads_every_key_once_per_tile_of_rows() -> None:
    found = symbolic(program("", 96, 128))
    assert (found["Q"].loaded, found["O"].stored) == (64 * M, 16 * M)
    assert found["K"].loaded == 64 * N * sp.floor((M + 95) / 96)
    assert found["V"].loaded == 16 * N * sp.floor((M + 95) / 96)


def test_causal_attention_sums_the_keys_up_to_the_last_row_of_each_tile() -> None:
    tile = sp.Symbol("m.1", integer=True, nonnegative=True)
    found = symbolic(program(" where n <= m", 64, 64))["K"].loaded
    assert found == 64 * sp.Sum(sp.Min(N, 64 * tile + 64), (tile, 0, sp.floor((M + 63) / 64) - 1))
    assert evaluated(found, {"m": 256, "n": 256}) == 64 * (64 + 128 + 192 + 256)


@pytest.mark.parametrize(
    "where", ["", " where n <= m", " where n <= m and m - n < W", " where n % 3 == 0", " where n // 16 <= m // 16"]
)
@pytest.mark.parametrize(("m", "n"), [(1, 1), (96, 128), (97, 300), (300, 97)])
def test_formulas_hold_at_every_size(where: str, m: int, n: int) -> None:
    kernel = program(where, 48, 32)
    sizes, scalars = {"m": m, "n": n}, {"W": 40}
    exact = traffic_of(kernel, sizes, scalars, {})
    for name, formula in symbolic(kernel).items():
        assert evaluated(formula.loaded, sizes, scalars) == exact[name].loaded, name
        assert evaluated(formula.stored, sizes, scalars) == exact[name].stored, name


@given(strategies.cascades(4, STEPS), EXTENTS)
@settings(max_examples=15)
def test_random_cascades(cascade: Cascade, extents: tuple[int, ...]) -> None:
    kernel = ec.compile(str(cascade))
    check(kernel, normal(dict(zip("mnef", extents, strict=True)), kernel), {"W": 2})


@given(attentions(), st.sampled_from([2, 4]), LENGTHS)
@settings(max_examples=6)
def test_random_attentions(text: str, heads: int, lengths: tuple[int, int]) -> None:
    kernel = ec.compile(text)
    check(kernel, attention_inputs(kernel, heads, *lengths), {"W": 6})


def check(kernel: ec.Kernel, tensors: dict[str, torch.Tensor], scalars: dict[str, int]) -> None:
    for one in compared(kernel, kernel.binding(**tensors)):
        for name, formula in symbolic(one.kernel).items():
            exact = one.traffic[name]
            for said, counted in ((formula.loaded, exact.loaded), (formula.stored, exact.stored)):
                if said is None:
                    assert "values" in formula.reason or "run time" in formula.reason, formula.reason
                else:
                    assert evaluated(said, one.sizes, scalars) == counted, (name, said)
