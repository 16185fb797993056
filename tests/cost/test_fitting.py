"""Plans that spill when they are compiled for a GPU are passed over; matrix units are given no batches."""

from __future__ import annotations

import pytest

from einsum_compiler import fitting
from einsum_compiler.cost.candidates import candidate_plans, search
from einsum_compiler.cost.choice import Choice
from einsum_compiler.cost.considered import passed_over
from einsum_compiler.cost.device import device
from einsum_compiler.derivation import Derivation, derive
from einsum_compiler.fitting import Excess, Sizes, fitted
from einsum_compiler.ir.plan import KernelPlan

H100 = device("h100")
EXTENTS = {"b": 2, "h": 16, "m": 4096, "n": 4096, "e": 64, "f": 64}
SHARED_BY_HEADS = """
cascade classes(Q[b,h,m,e], K[b,h,n,e], V[b,h,n,f], BI[b,m,n]; scale = 1/sqrt(E)) -> O[b,h,m,f] {
  S[b,h,m,n] = Q[b,h,m,e] * K[b,h,n,e] * scale + BI[b,m,n]
  A[b,h,m,n] = softmax[n](S[b,h,m,n])
  O[b,h,m,f] = A[b,h,m,n] * V[b,h,n,f]
}
"""


def types(derivation: Derivation) -> dict[str, str]:
    stored = {e.target.tensor: "f32" for e in derivation.normalized.equations}
    return stored | {t.name: "bf16" for t in (*derivation.normalized.inputs, *derivation.normalized.outputs)}


def fit(monkeypatch: pytest.MonkeyPatch, excess: dict[int, Excess], otherwise: Excess) -> fitting.Fitted:
    """The plan that is taken where kernels take ``excess`` by their number of warps, else ``otherwise``."""

    def beyond(kernel: object, plan: KernelPlan, on: object) -> Excess:
        return excess.get(plan.launch.warps, otherwise)

    monkeypatch.setattr(fitting, "_beyond", beyond)
    derivation = derive(SHARED_BY_HEADS, "<test>", None)
    found = search(derivation, EXTENTS, "triton", types(derivation), H100, {})
    return fitted(derivation, found.options, Sizes(EXTENTS, types(derivation), {}), H100)


def test_the_first_plan_that_fits_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    derivation = derive(SHARED_BY_HEADS, "<test>", None)
    first = search(derivation, EXTENTS, "triton", types(derivation), H100, {}).plans[0].plan
    found = fit(monkeypatch, {}, Excess())
    assert found.plan == first and found.passed_over == ()


def test_more_warps_before_other_tiles_and_what_was_passed_over_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    found = fit(monkeypatch, {0: Excess(spills=16)}, Excess())
    (kernel,) = found.plan.kernels
    ((passed, reason),) = found.passed_over
    assert kernel.launch.warps == 8 and passed.launch.warps == 0
    assert (kernel.program, kernel.stream) == (passed.program, passed.stream)
    assert reason == "spills 16 in every thread"
    (line,) = passed_over(Choice(found.plan, EXTENTS, (), {}, found.passed_over))
    assert line.startswith("passed over: O: m:") and line.endswith(reason)


def test_where_nothing_fits_the_one_that_lacks_least(monkeypatch: pytest.MonkeyPatch) -> None:
    found = fit(monkeypatch, {8: Excess(spills=8)}, Excess(shared=1024))
    assert found.plan.kernels[0].launch.warps == 8
    assert all(reason for _, reason in found.passed_over)
    assert len(found.passed_over) >= 1


def test_no_tile_of_a_rank_that_both_operands_of_every_product_have() -> None:
    """A bias that all heads share is reused by a tile of heads, but the products of the heads share nothing."""
    derivation = derive(SHARED_BY_HEADS, "<test>", None)
    plans = [s.plan for s in candidate_plans(derivation, EXTENTS, "triton", types(derivation), H100, {})]
    assert all(k.tile("h") == 1 for p in plans for k in p.kernels)
    assert plans[0].kernels[0].tile("m") >= 32
