"""The order of contractions in plans: chosen for the sizes of each call, visible, given back, and right."""

from __future__ import annotations

import re

import pytest
import torch

import einsum_compiler as ec
from einsum_compiler.bounding import bounds
from einsum_compiler.compilation import compilation
from einsum_compiler.cost.considered import compared
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.plan_parser import parse_plan
from einsum_compiler.movement import moved_elements
from tests.budget import assert_within_budget
from tests.passes.test_reassociate import ABSORBED, LATENT, NORMALISED, QUADRATIC
from tests.variants.agreement import assert_close, evaluated, interpreted

SIZES = {"h": 2, "m": 1, "n": 160, "e": 16, "f": 16, "k": 40, "r": 8}
DECODE, PREFILL = SIZES, {**SIZES, "m": 200, "n": 60}
LINEAR = {"m": 300, "n": 330, "e": 8, "f": 6}


def inputs(kernel: ec.Kernel, sizes: dict[str, int], dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        t.name: torch.randn([sizes[r] for r in t.ranks], generator=generator, dtype=dtype)
        for t in kernel.cascade.inputs
    }


def computed(cascades: str) -> set[str]:
    """The ranks of every tensor that equations define, in alphabetic order: ``hen`` for ``K[h,n,e]``."""
    found = re.findall(r"^  [\w.]+\[([\w,]+)\] = ", cascades, re.MULTILINE)
    return {"".join(sorted(ranks.split(","))) for ranks in found}


@pytest.mark.parametrize("text", [LATENT, ABSORBED])
def test_one_text_of_latent_attention_decodes_absorbed_and_prefills_expanded(text: str) -> None:
    kernel = ec.compile(text)
    decode, prefill = (kernel.ir("fuse", **inputs(kernel, s)) for s in (DECODE, PREFILL))
    assert not {"ehn", "fhn"} & computed(decode) and "hkm" in computed(decode)
    assert {"ehn", "fhn"} <= computed(prefill) and "hkm" not in computed(prefill)
    for sizes in (DECODE, PREFILL):
        binding = kernel.binding(**inputs(kernel, sizes))
        assert_close(interpreted(kernel, binding), evaluated(kernel, binding))


@pytest.mark.parametrize("text", [QUADRATIC.format(where=""), NORMALISED, QUADRATIC.format(where=" where n < W")])
def test_linear_attention_never_holds_scores_where_it_is_long(text: str) -> None:
    kernel = ec.compile(text)
    tensors = inputs(kernel, LINEAR)
    assert "[m,n]" not in kernel.ir("fuse", **tensors)
    binding = kernel.binding(**tensors)
    assert_close(interpreted(kernel, binding), evaluated(kernel, binding))
    short = inputs(kernel, {"m": 4, "n": 4, "e": 64, "f": 64})
    assert "order" not in kernel.ir("plan", **short)


def test_the_order_is_part_of_the_plan_and_of_the_explanation() -> None:
    kernel = ec.compile(NORMALISED)
    tensors = inputs(kernel, LINEAR)
    text = kernel.ir("plan", **tensors)
    assert "order deferred\n" in text and "order O.acc = PQ[m,e] * (PK[n,e] * V[n,f])\n" in text
    plan = parse_plan(text)
    assert str(plan) == text
    again = ec.compile(NORMALISED, plan=plan)
    assert again.ir("plan", **tensors) == text and again.ir("tile", **tensors) == kernel.ir("tile", **tensors)
    assert "O.acc.part[e,f] = sum[n](PK[n,e] * V[n,f])" in kernel.ir("reassociate", **tensors)
    report = str(kernel.explain(**tensors))
    assert "the products in O.acc are multiplied in another order than written" in report
    assert "O.acc = PQ[m,e] * (PK[n,e] * V[n,f])" in report


def test_the_bound_beside_a_plan_is_that_of_its_order() -> None:
    """As written, with scores, 300 x 330 x 14^2/S elements at least; the plan never forms scores, so that number says nothing about it."""
    kernel = ec.compile(QUADRATIC.format(where=""), backend="cpu")
    binding = kernel.binding(**inputs(kernel, {"m": 3000, "n": 3300, "e": 32, "f": 32}, torch.float32))
    compiled = compilation(kernel.derivation, binding, "cpu", None)
    assert compiled.plan.orders
    moved = sum(n or 0 for n in moved_elements(compiled).values())
    found, written = (bounds(d, binding, None, 2048) for d in (compiled.ordered, compiled.derivation))
    assert found.report.compulsory.value == written.report.compulsory.value == 2 * 32 * (3000 + 3300)
    assert found.value <= moved < written.value
    # The plans compared: the chosen one first, and the best of the program as written.
    choice = compared(kernel.derivation, compiled.request)
    assert choice.considered[0][0] == compiled.plan
    assert choice.considered[-1][0].orders == ()
    text = kernel.explain(**binding.tensors)
    assert "│ O = Q[m,e] * (K[n,e] * V[n,f])" in text


def test_a_plan_with_an_order_the_program_does_not_have() -> None:
    kernel = ec.compile(QUADRATIC.format(where=""))
    tensors = inputs(kernel, LINEAR)
    plan = parse_plan(kernel.ir("plan", **tensors).replace("V[n,f])", "V[n,g])"))
    with pytest.raises(PlanError, match="no contraction of this program has the order"):
        ec.compile(QUADRATIC.format(where=""), plan=plan).ir("plan", **tensors)


def test_a_causal_filter_keeps_the_scores() -> None:
    kernel = ec.compile(QUADRATIC.format(where=" where n <= m"))
    assert "order" not in kernel.ir("plan", **inputs(kernel, LINEAR))


def test_compiled_code_in_another_order_is_as_exact_as_pytorch() -> None:
    kernel = ec.compile(QUADRATIC.format(where=""))
    tensors = inputs(kernel, LINEAR, torch.float32)
    q, k, v = tensors.values()
    plain = q @ (k.T @ v)
    assert_within_budget(kernel(**tensors), plain, q.double() @ (k.double().T @ v.double()))
