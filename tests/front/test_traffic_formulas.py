"""``Kernel.traffic`` and what ``einsumc bound`` prints of it."""

from __future__ import annotations

import einsum_compiler as ec
from einsum_compiler import tables
from einsum_compiler.passes.traffic.symbolic import evaluated
from einsum_compiler.traffic_formulas import formula_text

TEXT = "cascade one(Q[m,e], K[n,e], V[n,f]) -> O[m,f] { S[m,n] = Q[m,e] * K[n,e]  A[m,n] = softmax[n](S[m,n])  O[m,f] = A[m,n] * V[n,f] }"
PLAN = "plan one { kernel O { program m:64  stream n:64  resident e, f } }"


def test_formulas_past_every_cache() -> None:
    kernel = ec.compile(TEXT, plan=PLAN, backend="cpu")
    sizes = {"m": 4096, "n": 4096, "e": 64, "f": 64}
    found = kernel.traffic(sizes, device="h200")
    last = found[-1].formulas
    assert last is not None and last.kept == ""
    names = {"m": 4096, "n": 4096}
    assert {t: evaluated(f.loaded, names) for t, f in last.tensors.items()} == {
        "Q": 2**18,
        "K": 2**18,
        "V": 2**18,
        "O": 0,
    }
    assert last.holds(names) and last.holds({"m": 64, "n": 64}) and not last.holds({"m": 2**20, "n": 2**20})
    first = found[0].formulas
    assert first is not None and first.kept is None
    assert evaluated(first.tensors["K"].loaded, names) == 64 * 2**18
    text = tables.text_of(*formula_text(found))
    assert "the whole kernel fits" in text and "where 512*M + 512*N <= " in text and "K: 64*N loaded" in text
