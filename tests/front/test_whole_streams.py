"""Streams that one tile holds: what waits for a finished reduction waits inside of the one trip, at any length up to the tile."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import einsum_compiler as ec
from einsum_compiler.derivation import derive
from einsum_compiler.ir.binding import Binding, bind
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.plan import Plan
from einsum_compiler.ir.plan_parser import parse_plan
from einsum_compiler.ir.tile import Loop
from einsum_compiler.specialise import kernel_key, lower_planned, plan_of, request
from tests.variants.agreement import assert_close, evaluated, interpreted

LAYERNORM = """
cascade layernorm_rows(X[m,n], W[n]; eps = 1e-5) -> Y[m,n], V[m] {
  MU[m]  = mean[n](X[m,n])
  V[m]   = mean[n]((X[m,n] - MU[m]) ** 2)
  Y[m,n] = (X[m,n] - MU[m]) * rsqrt(V[m] + eps) * W[n]
}
"""
TWICE = """
cascade twice(X[m,n]) -> Y[m,n] {
  S[m,n] = X[m,n] where n <= 2 * m - 3
  Z[m,n] = 4 * softmax[n](S[m,n])
  Y[m,n] = softmax[n](Z[m,n])
}
"""
POSITION = """
cascade position(X[m,n]) -> I[m], Y[m,n] {
  I[m]   = argmax[n](X[m,n])
  Y[m,n] = if(n == I[m], 0, X[m,n] - sum[n](X[m,n]))
}
"""
BETWEEN = """
cascade between(Q[m,e], K[n,e], V[n,f], W[f,g], U[n,g]) -> Y[m,n], L[m] {
  S[m,n] = Q[m,e] * K[n,e]
  L[m]   = logsumexp[n](S[m,n])
  O[m,f] = exp(S[m,n] - L[m]) * V[n,f]
  Z[m,g] = tanh(sum[f](O[m,f] * W[f,g]))
  Y[m,n] = Z[m,g] * U[n,g]
}
"""
CLIPPED = """
cascade clipped(Q[m,e], K[n,e], V[n,f]) -> O[m,f] {
  S[m,n] = Q[m,e] * K[n,e] where n < m
  A[m,n] = softmax[n](S[m,n])
  T[m]   = max[n](A[m,n])
  O[m,f] = relu(A[m,n] - 0.25 * T[m]) * V[n,f]
}
"""
SAME = """
cascade same(X[m,n]) -> Y[m,n], Z[m,n] {
  A[m,n] = softmax[n](X[m,n])
  Y[m,n] = A[m,n]
  Z[m,n] = A[m,n]
}
"""
PROGRAMS = {
    "same": SAME,
    "layernorm": LAYERNORM,
    "twice": TWICE,
    "position": POSITION,
    "between": BETWEEN,
    "clipped": CLIPPED,
}
SIZES = {"m": 21, "e": 8, "f": 6, "g": 5}


def binding_of(text: str, n: int) -> Binding:
    torch.manual_seed(n)
    cascade = derive(text, "<test>", None).declared
    tensors = {t.name: torch.randn([{**SIZES, "n": n}[r] for r in t.ranks]) for t in cascade.inputs}
    return bind(cascade, (), tensors)


def whole_plan(text: str, backend: str) -> Plan:
    """The plan that is chosen at 20 coordinates, its stream whole in a tile of 32."""
    derivation, binding = derive(text, "<test>", None), binding_of(text, 20)
    (planned,) = plan_of(derivation, request(derivation, binding, backend), None)
    kernel = str(planned.plan).replace("  contexts whole", "").replace(" }", "  contexts whole }")
    stream = planned.plan.stream
    assert stream is not None
    return parse_plan(f"plan {derivation.declared.name} {{ {kernel.replace(f'n:{stream.size}', 'n:32')} }}")


BUILT = [("between", "cpu"), ("clipped", "cpu"), ("between", "triton")]  # compiled or run by Triton's interpreter too


@pytest.mark.parametrize(("name", "backend"), dict.fromkeys([*BUILT, *((name, "cpu") for name in PROGRAMS)]))
def test_any_length_up_to_the_tile_runs_in_one_sweep_of_one_kernel(name: str, backend: str) -> None:
    text, plan = PROGRAMS[name], whole_plan(PROGRAMS[name], backend)
    derivation = derive(text, "<test>", None)
    keys = set()
    for n in (1, 7, 31, 32):
        binding = binding_of(text, n)
        wanted = request(derivation, binding, backend)
        (planned,) = plan_of(derivation, wanted, plan)
        tile = lower_planned(planned, wanted)
        assert sum(isinstance(s, Loop) for s in tile.body) == 1
        keys.add(kernel_key(derivation, planned, wanted, ""))
        kernel = ec.compile(text, backend=backend, plan=plan)
        exact = replace(binding, tensors={name: t.double() for name, t in binding.tensors.items()})
        assert_close(interpreted(kernel, exact, backend), evaluated(kernel, exact))
        if (name, backend) in BUILT:
            assert_close(kernel.run(binding), evaluated(kernel, binding), 1e-4)
    assert len(keys) == 1  # a length is an argument of the kernel


def test_a_longer_stream_is_refused_and_chosen_plans_sweep_it() -> None:
    derivation, binding = derive(LAYERNORM, "<test>", None), binding_of(LAYERNORM, 33)
    with pytest.raises(PlanError, match="kernel V, Y has tiles of 32, and n is 33"):
        plan_of(derivation, request(derivation, binding, "cpu"), whole_plan(LAYERNORM, "cpu"))
    chosen = {}
    for n in (33, 3000):
        binding = binding_of(LAYERNORM, n)
        (planned,) = plan_of(derivation, request(derivation, binding, "cpu"), None)
        chosen[n] = planned.plan.whole
    assert chosen == {33: True, 3000: False}


def test_plans_say_whole_and_parse() -> None:
    plan = whole_plan(LAYERNORM, "cpu")
    assert parse_plan(str(plan)) == plan and plan.kernels[0].whole and "contexts whole" in str(plan)
    with pytest.raises(PlanError, match="contexts are running, finished or whole, not 'half'"):
        parse_plan(str(plan).replace("whole", "half"))


def test_what_a_row_without_points_leaves_is_not_tested_where_every_row_has_one() -> None:
    """The last tile has a coordinate, so its maximum is one of a point: what the filter removed is exp(-inf), without another select."""
    text = "cascade weights(X[m,n]; c) -> D[m] { S[m,n] = c * X[m,n]  D[m] = sum[n](exp(S[m,n] - max[n](S[m,n]))) }"
    plan = parse_plan("plan weights { kernel D { program m  stream n:32  contexts whole } }")
    kernel = ec.compile(text, backend="cpu", plan=plan)
    assert kernel.ir("tile", torch.randn(5, 20), 0.5).count("= select") == 1


def test_explain_says_that_nothing_is_read_again(capsys: pytest.CaptureFixture[str]) -> None:
    kernel = ec.compile(LAYERNORM, backend="cpu")
    text = kernel.explain(torch.randn(50, 77), torch.randn(77))
    capsys.readouterr()
    assert "one tile holds all of n: V.sum waits there for what it depends on, and reads nothing again" in " ".join(
        text.split()
    )
    (row,) = [line for line in text.splitlines() if line.startswith("│ n ")]
    assert [cell.strip() for cell in row.split("│")[2:4]] == ["3", "1"]
