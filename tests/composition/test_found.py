"""What random compositions found, each in its smallest form: tile programs against the evaluator."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

import einsum_compiler as ec
from tests.variants.agreement import assert_close, evaluated, interpreted

EXTENTS = {"b": 1, "h": 4, "g": 2, "o": 4, "m": 17, "n": 9, "j": 1, "v": 4, "u": 9, "e": 3, "f": 2, "i": 3}
CASES = {
    # The tile of a streamed rank reaches beyond its extent also where an index is a function of the rank.
    "a streamed rank below a quotient": """cascade c(Q[b,h,m,e], K[b,g,n,e], WM[o,h], V[b,g,n,f], WO[h,f,i]) -> Y[b,m,i] {
        S[b,h,m,n] = Q[b,h,m,e] * K[b,h // (H // G),n,e]
        A[b,h,m,n] = softmax[n](S[b,h,m,n])
        X[b,h,m,n] = A[b,o,m,n] * WM[o,h]
        R[b,h,m,f] = X[b,h,m,n] * V[b,h // (H // G),n,f]
        Y[b,m,i] = R[b,h,m,f] * WO[h,f,i] }""",
    # A streamed rank with a constant extent, which a coefficient makes of it.
    "a streamed rank of constant extent": """cascade c(Q[b,h,m,e], K[b,g,v,u,e], HI[b,m]) -> D[b,h,m] {
        S[b,h,m,v,u] = Q[b,h,m,e] * K[b,h // (H // G),v,u,e] where v * U + u >= HI[b,m]
        MX[b,h,m] = max[v,u](S[b,h,m,v,u])
        P[b,h,m,v,u] = relu(S[b,h,m,v,u] - MX[b,h,m] + 2)
        D[b,h,m] = sum[v,u](P[b,h,m,v,u]) }""",
    # exp(S - max S) is 0 at a removed point only where the maximum is finite.
    "a maximum of no points, held whole": """cascade c(Q[b,h,m,e], K[b,n,e], SQ[b,m], SK[b,n], T[n]) -> L[b,h,m], Y[b,h] {
        S[b,h,m,n] = Q[b,h,m,e] * K[b,n,e] where SQ[b,m] == SK[b,n]
        L[b,h,m] = logsumexp[n](S[b,h,m,n])
        C[b,h,m] = sum[n](S[b,h,m,n])
        Y[b,h] = sum[m](C[b,h,m]) }""",
    # A context inside a function whose derivative is unknown.
    "a difference of maps, one divided by a bounded sum": """cascade c(Q[b,h,m,e], K[b,n,e], V[b,n,f], LA[h]) -> Y[b,h,m,f] {
        S[b,h,m,n] = Q[b,h,m,e] * K[b,n,e]
        A[b,h,m,n] = softmax[n](S[b,h,m,n])
        D[b,h,m] = sum[n](abs(S[b,h,m,n]))
        Z[b,h,m,n] = A[b,h,m,n] - LA[h] * S[b,h,m,n] / max(D[b,h,m], 1) + S[b,h,m,n] * 0.1
        Y[b,h,m,f] = Z[b,h,m,n] * V[b,n,f] }""",
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("extents", [{}, {"n": 1, "m": 65}], ids=["nine keys", "one key"])
def test_found(name: str, extents: Mapping[str, int]) -> None:
    kernel = ec.compile(CASES[name])
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for declared in kernel.cascade.inputs:
        shape = [{**EXTENTS, **extents}[r] for r in declared.ranks]
        if declared.name in ("SQ", "SK", "HI"):
            tensors[declared.name] = torch.randint(0, 3, shape, generator=generator)
        else:
            tensors[declared.name] = torch.randn(shape, generator=generator, dtype=torch.float64)
    binding = kernel.binding(**tensors)
    assert_close(interpreted(kernel, binding), evaluated(kernel, binding))


def test_a_rank_that_only_a_called_cascade_reduces() -> None:
    text = "cascade pooled(X[b,t]; I = T // 2, R = 2) -> P[b,i] { P[b,i] = logsumexp[r](X[b,2 * i + r]) }"
    x = torch.randn(3, 11)
    expected = torch.logsumexp(x[:, :10].double().reshape(3, 5, 2), -1)
    torch.testing.assert_close(ec.reference(text)(x), expected)
    ec.compile(text).validate(x)


@pytest.mark.parametrize("roles", ["program b, h, m, n:8  stream i:16", "program b, h, m, n:8, i:2  resident e"])
def test_a_fibre_along_a_rank_that_is_split_elsewhere(roles: str) -> None:
    """What 'in' searches is held whole, also where the kernel splits a rank of its name."""
    axes, read = ("b,h,m,n,i", "Q[b,h,m,e]") if "i:2" in roles else ("b,h,m,n", "Q[b,h,m,i]")
    text = f"""cascade c({read}, W[h,{read[-2]}], K[b,n,i], LI[b,i]) -> X[{axes}] {{
        S[{axes}] = {read} * W[h,{read[-2]}] * K[b,n,i]
        X[{axes}] = relu(S[{axes}]) where n in LI[b, :] }}"""
    kernel = ec.compile(text, plan=f"plan c {{ kernel X {{ {roles} }} }}")
    generator = torch.Generator().manual_seed(0)
    tensors = {
        t.name: torch.randn([EXTENTS[r] for r in t.ranks], generator=generator, dtype=torch.float64)
        for t in kernel.cascade.inputs
    }
    binding = kernel.binding(**{**tensors, "LI": torch.tensor([[0, 4, 7]])})
    assert_close(interpreted(kernel, binding), evaluated(kernel, binding))
