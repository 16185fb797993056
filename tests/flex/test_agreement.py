"""Every mask and score function of FlexAttention, restated in the language, against FlexAttention as PyTorch runs it uncompiled."""

from __future__ import annotations

import pytest
import torch

import einsum_compiler as ec
from tests.budget import assert_within_budget
from tests.flex.case import Case, operands, uncompiled
from tests.flex.cases import CASES, case


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_text_says_what_flexattention_computes(case: Case) -> None:
    sizes = case.sizes(64)
    captures = case.captures(sizes)
    q, k, v = operands(sizes)
    out, lse = uncompiled(case, captures, q, k, v)
    found, found_lse = ec.reference(case.text)(q, k, v, **captures)
    torch.testing.assert_close(found, out, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found_lse, lse, rtol=1e-12, atol=1e-12)


COMPILED = (
    "document, prefix language model",
    "NATTEN, Morton order",
    "sliding tiles, 2-D with text",
    "shared prefix",
    "Graphormer, edges",
    "decay with the distance of places",
    "exclusive or of the positions",
)


@pytest.mark.parametrize("name", COMPILED)
def test_compiled(name: str) -> None:
    _check_compiled(case(name))


@pytest.mark.slow
@pytest.mark.parametrize("case", [c for c in CASES if c.name not in COMPILED], ids=str)
def test_compiled_all(case: Case) -> None:
    _check_compiled(case)


@pytest.mark.parametrize("name", ["VSA, block map", "VSA, selected tiles"])
def test_a_table_with_an_entry_for_every_tile(name: str) -> None:
    """``T[n // 64]`` of tiles of 64 keys is one entry, which no position inside the tile may ask for."""
    _check_compiled(case(name), "plan flex { kernel O, L { program b, h, m:48  stream n:64  resident e, f } }")


def _check_compiled(case: Case, plan: str | None = None) -> None:
    """In f32 on the CPU, within the budget that FlexAttention's own error in f32 leaves."""
    sizes = case.sizes(256)
    gold = uncompiled(case, case.captures(sizes), *operands(sizes))
    captures, tensors = case.captures(sizes, torch.float32), operands(sizes, dtype=torch.float32)
    plain = uncompiled(case, captures, *tensors)
    found = ec.compile(case.text, backend="cpu", plan=plan)(*tensors, **captures)
    for name, actual, expected, exact in zip(("output", "log-sum-exp"), found, plain, gold, strict=True):
        assert_within_budget(actual, expected, exact, name)
