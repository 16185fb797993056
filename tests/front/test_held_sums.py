"""Sums over several long ranks: one is a loop, the others are cut into chunks, and no kernel holds a long rank whole."""

from __future__ import annotations

import pytest
import torch

import einsum_compiler as ec
from einsum_compiler.cost import gpu_model
from einsum_compiler.cost.candidates import search
from einsum_compiler.cost.device import device
from einsum_compiler.derivation import derive
from einsum_compiler.ir.binding import bind
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.plan_parser import parse_plan
from einsum_compiler.passes.kernel_shape import SHORT
from einsum_compiler.specialise import kernel_key, plan_of, request

BUCKETS = """
cascade buckets(X[m,n], B: i64[r]; U = 12) -> T[u] {
  T[u] = sum[m,n](X[m,n] where B[n - m + M - 1] == u and n <= m + 40)
}
"""
THREE = "cascade three(X[a,m,n], B: i64[m,n]; U = 12) -> T[u] { T[u] = sum[a,m,n](X[a,m,n] where B[m,n] == u) }"
GREATEST = "cascade greatest(X[m,n]) -> T[] { T[] = max[m,n](X[m,n]) }"
SCORES = """
cascade scores(Q[m,e], K[n,e], A: i64[r]; U: int) -> T[u] {
  S[m,n] = Q[m,e] * K[n,e]
  T[u] = sum[m,n](exp(S[m,n]) where A[n - m + M - 1] == u)
}
"""


def inputs(text: str, m: int, n: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = {"a": 3, "m": m, "n": n, "r": m + n - 1}
    found = {}
    for tensor in derive(text, "<test>", None).declared.inputs:
        shape = [sizes[r] for r in tensor.ranks]
        made = torch.randn(shape, generator=generator) if tensor.dtype is None else None
        found[tensor.name] = torch.randint(0, 12, shape, generator=generator) if made is None else made
    return found


@pytest.mark.parametrize("backend", ["cpu", "triton"])
@pytest.mark.parametrize("text", [BUCKETS, THREE, GREATEST])
def test_no_long_rank_is_held_whole(text: str, backend: str) -> None:
    given = inputs(text, 150, 203)
    kernel = ec.compile(text, backend=backend)
    out = kernel(**given)
    wide = {n: t.double() if t.is_floating_point() else t for n, t in given.items()}
    torch.testing.assert_close(out.double(), ec.reference(text)(**wide), rtol=2e-6, atol=2e-5)
    plan = parse_plan(kernel.ir("plan"))
    assert {s.rank.rank for s in plan.splits} == ({"a", "m"} if text == THREE else {"m"})
    assert parse_plan(str(plan)) == plan
    sizes = {"a": 3, "m": 150, "n": 203}
    assert all(sizes.get(r, 1) <= SHORT for k in plan.kernels for r in k.resident)
    again = ec.compile(text, backend=backend, plan=str(plan))
    assert torch.equal(again(**given), out)


def test_lengths_share_kernels() -> None:
    derivation = derive(BUCKETS, "<test>", None)
    keys = []
    for m, n in ((1030, 1500), (1090, 1490)):
        binding = bind(derivation.declared, (), inputs(BUCKETS, m, n))
        wanted = request(derivation, binding, "cpu")
        keys.append([kernel_key(derivation, p, wanted, "") for p in plan_of(derivation, wanted, None)])
    assert keys[0] == keys[1] and len(keys[0]) > 1


def test_what_no_plan_keeps_within_a_tile_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    derivation = derive(SCORES, "<test>", None)
    extents = {"m": 4096, "n": 4096, "e": 64, "u": 1024, "r": 8191}
    dtypes = {"Q": "bf16", "K": "bf16", "A": "i64", "T": "f32", "S": "f32"}
    monkeypatch.setattr(gpu_model, "MOST_ELEMENTS", 1 << 14)
    with pytest.raises(PlanError, match=r"no tiles of T.* can be compiled for a GPU: a tile of [\d,]+ elements"):
        search(derivation, extents, "triton", dtypes, device("h100"), {})


def test_a_given_plan_with_too_large_a_tile_is_refused() -> None:
    plan = "plan scores { split T over n:512  kernel T.n { program n.3  stream m:512  resident e, n.2, u }  kernel T { program u stream n.3:16 } }"
    q, k, a = torch.ones(1024, 4), torch.ones(1024, 4), torch.zeros(2047, dtype=torch.int64)
    with pytest.raises(PlanError, match=r"needs a tile of .* elements; Triton takes at most 1,048,576"):
        ec.compile(SCORES, backend="triton", plan=plan)(q, k, a, U=16)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ("split T over q:16", "the plan splits q for T, which sums m beside its stream"),
        ("split T over m:16 into 0", "'split T over m:16 into 0': expected a positive number of chunks"),
    ],
)
def test_splits_that_do_not_fit(plan: str, message: str) -> None:
    whole = f"plan buckets {{ {plan}  kernel T {{ program u  stream n:32  resident m }} }}"
    with pytest.raises(PlanError) as raised:
        ec.compile(BUCKETS, plan=whole)(**inputs(BUCKETS, 150, 203))
    assert raised.value.message == message
