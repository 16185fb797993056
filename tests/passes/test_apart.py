"""Chains of their own for reductions that need the points of one tensor in different ranks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import einsum_compiler as ec
from einsum_compiler.backends.reference.evaluate import evaluate
from einsum_compiler.cost.device import device_for
from einsum_compiler.derivation import output_dtypes
from einsum_compiler.gradients import gradient_kernels
from einsum_compiler.ir.cascade import Cascade
from einsum_compiler.ir.parser import parse
from einsum_compiler.ir.plan_parser import parse_plan
from einsum_compiler.ir.verify import verify
from einsum_compiler.ordering import forms
from einsum_compiler.passes.apart import apart, has_chains
from einsum_compiler.passes.differentiate import differentiate
from einsum_compiler.passes.inline import inline
from einsum_compiler.passes.normalize import normalize
from einsum_compiler.planning import plan_kernels
from einsum_compiler.residuals import backward_binding
from einsum_compiler.specialise import request
from tests.budget import assert_within_budget
from tests.passes.support import evaluated, inputs_of, round_trip, same
from tests.passes.test_differentiate import arguments

GRIDS = """cascade grids(Q[y,x,e], K[v,u,e]) -> R[y,x], C[v,u] {
  S[y,x,v,u] = Q[y,x,e] * K[v,u,e] where y - 2 <= v <= y + 2 and x - 2 <= u <= x + 2
  P[y,x,v,u] = exp(S[y,x,v,u])
  R[y,x]     = sum[v,u](P[y,x,v,u])
  C[v,u]     = sum[y,x](P[y,x,v,u])
}"""
APART = """  P.y_x[v,u,y_x] = exp(S.y_x[v,u,y_x])
  P.v_u[y,x,v_u] = exp(S.v_u[y,x,v_u])
  R[y,x] = sum[v_u](P.v_u[y,x,v_u])
  C[v,u] = sum[y_x](P.y_x[v,u,y_x])"""


def normal(text: str) -> Cascade:
    module = parse(text)
    return normalize(inline(module.cascades[0], module))


def test_each_reduction_streams_ranks_of_its_own() -> None:
    cascade = normal(GRIDS)
    found = apart(cascade)
    verify(found.cascade)
    assert set(APART.splitlines()) <= set(str(found.cascade).splitlines())
    assert "S.y_x[v,u,y_x] = sum[e](Q[y_x // X,y_x % X,e] * K[v,u,e]) where" in str(found.cascade)
    assert {t.tensor for e in found.cascade.equations for t in e.targets}.isdisjoint({"S", "P"})
    assert [c.tensor for c in found.certificates] == ["R", "C"]
    round_trip(found.cascade)
    tensors = inputs_of(cascade)
    same(evaluated(cascade, tensors), evaluated(found.cascade, tensors))


def test_a_chain_stays_where_another_reader_needs_it() -> None:
    cascade = normal(GRIDS.replace("C[v,u] {", "C[v,u], P[y,x,v,u] {"))
    found = apart(cascade).cascade
    assert {"P", "P.v_u", "P.y_x"} <= {e.target.tensor for e in found.equations}
    tensors = inputs_of(cascade)
    same(evaluated(cascade, tensors), evaluated(found, tensors))


def test_a_reduction_over_a_line_shares_with_one_over_a_grid() -> None:
    cascade = normal(GRIDS.replace("y,x", "m").replace("y - 2 <= v <= y + 2 and x - 2 <= u <= x + 2", "v + u <= m"))
    found = apart(cascade)
    assert [c.tensor for c in found.certificates] == ["R"]
    tensors = inputs_of(cascade)
    same(evaluated(cascade, tensors), evaluated(found.cascade, tensors))


def test_nothing_is_copied_where_one_loop_serves_all() -> None:
    lines = (
        GRIDS.replace("y,x", "m").replace("v,u", "n").replace("y - 2 <= v <= y + 2 and x - 2 <= u <= x + 2", "n <= m")
    )
    assert not has_chains(normal(lines))  # each is over one rank
    one = GRIDS.replace(", C[v,u]", "").replace("  C[v,u]     = sum[y,x](P[y,x,v,u])\n", "")
    assert not has_chains(normal(one))  # flatten merges the only pair
    product = "cascade c(X[b,m,i], G[b,m,j], W[i,j]) -> D[i,j], Y[b,m,i] { D[i,j] = X[b,m,i] * G[b,m,j]  Y[b,m,i] = G[b,m,j] * W[i,j] }"
    assert not has_chains(normal(product))  # both read inputs


def test_windows_on_a_grid_choose_it_and_the_plan_says_so() -> None:
    kernel = ec.compile(GRIDS, backend="cpu")
    generator = torch.Generator().manual_seed(0)
    large = {n: torch.randn(64, 64, 8, generator=generator) / 8 for n in "QK"}
    text = kernel.ir("plan", **large)
    assert "order apart\n" in text and "stream v_u:(" in text and "stream y_x:(" in text
    report = str(kernel.explain(**large))
    assert "R computes what it sums over v, u for itself, so that these stream as one rank" in report
    assert re.search(r"│ v +│ +1 │ +1 │", report) and re.search(r"│ y +│ +1 │ +1 │", report)
    small = {n: torch.randn(9, 7, 5, generator=generator, dtype=torch.float64) for n in "QK"}
    plan = parse_plan(text)
    assert str(plan) == text
    given = ec.compile(GRIDS, plan=plan, backend="cpu")
    expected = ec.reference(GRIDS)(**small)
    for found, gold in zip(given(**small), expected, strict=True):
        torch.testing.assert_close(found, gold, rtol=1e-12, atol=1e-12)
    exact = ec.reference(GRIDS)(**large)
    plain = ec.compile(GRIDS, backend="reference")(**large)
    for found, gold, near in zip(kernel(**large), exact, plain, strict=True):
        assert_within_budget(found, near, gold)


@pytest.mark.parametrize("stem", ["disc", "halo", "natten", "swin"])
def test_backward_passes_of_operators_on_grids(stem: str) -> None:
    """The gradient of every example on a grid has chains for the sums over queries and over keys, of the same values."""
    path = Path("examples") / f"{stem}.ein"
    module = parse(path.read_text())
    for cascade in module.cascades:
        declared = normalize(inline(cascade, module))
        names = [t.name for t in declared.inputs]
        backward = normalize(differentiate(declared, names, "f64").backward)
        found = apart(backward)
        expected = {"Q.grad", "K.grad.at", "V.grad.at"} if any(len(t.ranks) > 4 for t in declared.inputs) else set()
        assert {c.tensor for c in found.certificates} >= expected
        tensors, parameters = arguments(backward)
        values = [evaluate(c, tensors, parameters) for c in (backward, found.cascade)]
        same(*values)


def test_an_order_of_contractions_may_leave_nothing_to_copy() -> None:
    text = """cascade linear(Q[y,x,e], K[v,u,e], V[v,u,f]) -> O[y,x,f], C[v,u] {
  S[y,x,v,u] = Q[y,x,e] * K[v,u,e]
  O[y,x,f]   = S[y,x,v,u] * V[v,u,f]
  C[v,u]     = sum[y,x](S[y,x,v,u])
}"""
    assert has_chains(normal(text))
    kernel = ec.compile(text, backend="cpu")
    sizes = kernel.binding(**{n: torch.zeros(40, 40, 8) for n in "QKV"}).extents
    with_orders = forms(kernel.derivation, sizes, {})
    assert () in with_orders and len(with_orders[1]) == 2 and len(with_orders) == 2
    assert "kernel" in kernel.ir("plan", **{n: torch.zeros(40, 40, 8) for n in "QKV"})


def test_a_form_that_no_gpu_can_hold_is_passed_over() -> None:
    """Merged in one way only, a kernel of this backward pass holds one axis of the pairs whole, which is more than Triton takes in a tile."""
    kernel = ec.compile(Path("examples/natten.ein"), backend="triton", target="sm_90")
    tensors = {n: torch.empty(1, 2, 64, 64, 64, device="meta").requires_grad_() for n in "QKV"}
    kernels = gradient_kernels(kernel, {**tensors, "wy": 7, "wx": 7})
    binding = kernel.binding(**tensors, wy=7, wx=7)
    types = output_dtypes(kernels.forward.derivation, dict.fromkeys(tensors, "f32"))
    given = backward_binding(kernels.gradient, binding, types)
    derivation = kernels.backward.derivation
    wanted = request(derivation, given, "triton")
    device = device_for("triton", "sm_90")
    planned = plan_kernels(
        derivation, wanted.extents, "triton", wanted.dtypes, None, wanted.numbers, device, compiled=False
    )
    assert planned[0].orders == ("apart",)
