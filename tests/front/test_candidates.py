"""Every plan that a search would try: it builds, its kernels are told apart, and its values are right."""

from __future__ import annotations

import itertools

import pytest
import torch

import einsum_compiler as ec
from einsum_compiler.ir.plan import Plan
from einsum_compiler.specialise import kernel_key, plan_of, request
from einsum_compiler.tuning.candidates import candidates
from tests.variants.agreement import assert_close, evaluated, interpreted

SOFTMAX = """
cascade row_softmax(X[m,n]) -> Y[m,n] {
  Y[m,n] = softmax[n](X[m,n])
}
"""
RMSNORM_GEMM = """
cascade rmsnorm_gemm(X[m,k], G[k], W[n,k]; eps = 1e-6) -> Y[m,n] {
  R[m]   = rsqrt(sum[k](X[m,k] ** 2) / K + eps)
  Z[m,k] = X[m,k] * R[m] * G[k]
  Y[m,n] = Z[m,k] * W[n,k]
}
"""
LAYERNORM = """
cascade layernorm_rows(X[m,n], W[n], B[n]; eps = 1e-5) -> Y[m,n] {
  MU[m]  = sum[n](X[m,n]) / N
  VA[m]  = sum[n]((X[m,n] - MU[m]) ** 2) / N
  Y[m,n] = (X[m,n] - MU[m]) * rsqrt(VA[m] + eps) * W[n] + B[n]
}
"""
CAUSAL = """
cascade causal(Q[h,m,e], K[h,n,e], V[h,n,f], B[h,m,n]) -> O[h,m,f], L[h,m] {
  S[h,m,n] = Q[h,m,e] * K[h,n,e] + B[h,m,n] where n <= m + 1
  O[h,m,f] = softmax[n](S[h,m,n]) * V[h,n,f]
  L[h,m]   = logsumexp[n](S[h,m,n])
}
"""
LINEAR = """
cascade linear(Q[m,e], K[n,e], V[n,f]) -> O[m,f] {
  S[m,n] = Q[m,e] * K[n,e]
  O[m,f] = S[m,n] * V[n,f]
}
"""
NETWORK = """
cascade network(A[m,k], B[k,n], C[n,e]) -> Y[m,e] {
  Y[m,e] = A[m,k] * B[k,n] * C[n,e]
}
"""
COLUMNS = """
cascade columns(X[m,n]) -> S[n], P[n] {
  S[n] = sum[m](X[m,n])
  P[n] = max[m](X[m,n] - S[n])
}
"""
SIZES = {"h": 2, "m": 20, "n": 70, "k": 45, "e": 16, "f": 8, "j": 12}
PROGRAMS = {"softmax": SOFTMAX, "rmsnorm": RMSNORM_GEMM, "layernorm": LAYERNORM, "causal": CAUSAL, "linear": LINEAR, "network": NETWORK, "columns": COLUMNS}  # fmt: skip
MOST = 4  # plans of a program whose values are compared: all structures, and of the others an even choice


def structure(plan: Plan) -> object:
    return tuple((k.outputs, k.contexts) for k in plan.kernels), plan.orders, bool(plan.splits)


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_candidate_builds_and_is_right(name: str) -> None:
    kernel = ec.compile(PROGRAMS[name], backend="cpu")
    generator = torch.Generator().manual_seed(0)
    tensors = {
        t.name: torch.randn([SIZES[r] for r in t.ranks], generator=generator, dtype=torch.float64)
        for t in kernel.cascade.inputs
    }
    binding = kernel.binding(**tensors)
    derivation, wanted = kernel.derivation, request(kernel.derivation, binding, "cpu")
    plans = [c.plan for c in candidates(derivation, binding, "cpu", exhaustive=True)]
    kinds = {structure(p): p for p in reversed(plans)}

    # A kernel is kept under its key: the same key, the same program.
    kept: dict[str, str] = {}
    for plan in plans:
        for planned in plan_of(derivation, wanted, plan):
            text = f"{planned.part.cascade}\n{planned.plan}"
            assert kept.setdefault(kernel_key(derivation, planned, wanted, "native"), text) == text

    gold = evaluated(kernel, binding)
    chosen = dict.fromkeys([*kinds.values(), *itertools.islice(plans, 0, None, -(-len(plans) // MOST))])
    for plan in chosen:
        assert_close(interpreted(ec.compile(PROGRAMS[name], backend="cpu", plan=plan), binding), gold)


@pytest.mark.parametrize(("name", "least"), [("network", 2), ("linear", 2), ("softmax", 1)])
def test_a_search_varies_the_order_of_contractions(name: str, least: int) -> None:
    kernel = ec.compile(PROGRAMS[name], backend="cpu")
    tensors = {t.name: torch.zeros([SIZES[r] for r in t.ranks]) for t in kernel.cascade.inputs}
    found = candidates(kernel.derivation, kernel.binding(**tensors), "cpu")
    orders = {c.plan.orders for c in found}
    assert () in orders and len(orders) >= least
