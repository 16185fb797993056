"""The reference at some rows: the same values as the reference of the whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from einsum_compiler.backends.reference.evaluate import evaluate
from einsum_compiler.derivation import derive
from einsum_compiler.nominal import nominal_binding
from einsum_compiler.tuning.sampled import free_ranks, sample

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SHIFTED = "cascade shifted(X[m,e]) -> Y[m,e] {\n  Y[m,e] = X[m,e] + default(X[m - 1,e], 0)\n}"
SUMS = "cascade sums(X[m,n]) -> S[n] {\n  S[n] = sum[m](X[m,n] * n) / M\n}"
RECURRENCE = "cascade scan(X[t,e]) -> H[t,e] {\n  H[t+1,e] = H[t,e] * 0.5 + X[t,e]\n}"


SIZES = {"b": 2, "h": 6, "g": 3, "m": 29, "n": 31, "e": 8, "f": 5, "left": 7, "t": 40}


@pytest.mark.parametrize(
    ("text", "free"),
    [
        ("causal.ein", ["b", "h", "m"]),
        ("window.ein", ["b", "h", "m"]),
        ("segment.ein", ["b", "h", "m"]),
        ("alibi.ein", ["b", "h", "m"]),
        ("bias.ein", ["b", "h", "m"]),
        ("cross.ein", ["b", "h", "m"]),
        (SHIFTED, ["e"]),
        (SUMS, ["n"]),
        (RECURRENCE, ["e"]),
    ],
)
def test_sampled_rows_are_the_rows_of_the_whole(text: str, free: list[str]) -> None:
    text = text if "\n" in text else (EXAMPLES / text).read_text()
    derivation = derive(text, "<test>", None)
    cascade = derivation.stages[0][1]
    known = {r for t in derivation.declared.inputs for r in t.ranks} | {p.name for p in derivation.declared.parameters}
    binding = nominal_binding(derivation.declared, {n: v for n, v in SIZES.items() if n in known}, seed=0)
    assert [r for r in free_ranks(cascade) if r != "f"] == free
    sampled = sample(cascade, binding.extents, 200)
    assert sampled.coordinates
    for rank, chosen in sampled.coordinates.items():
        assert chosen[0] == 0 and chosen[-1] == binding.extents[rank] - 1 and len(chosen) == len(chosen.unique())
        assert 4 <= len(chosen) < binding.extents[rank]
    whole = evaluate(cascade, binding.tensors, binding.scalars, binding.extents, module=derivation.module)
    inner = sampled.binding(binding)
    some = evaluate(sampled.cascade, inner.tensors, inner.scalars, inner.extents, module=derivation.module)
    for name, value in sampled.outputs(whole).items():
        torch.testing.assert_close(some[name], value, rtol=0, atol=1e-12)


def test_a_small_program_is_taken_whole() -> None:
    derivation = derive(SUMS, "<test>", None)
    cascade = derivation.stages[0][1]
    found = sample(cascade, {"m": 20, "n": 30}, 600)
    assert found.cascade is cascade and not found.coordinates
