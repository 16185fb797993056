"""What is read at other coordinates than its own, computed where it is read."""

from __future__ import annotations

import pytest
import torch

import einsum_compiler as ec
from einsum_compiler.cost.candidates import by_structure
from einsum_compiler.cost.device import device_for
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.parser import parse
from einsum_compiler.passes.fuse import fuse
from einsum_compiler.passes.normalize import normalize
from einsum_compiler.passes.rematerialise import rematerialise
from einsum_compiler.specialise import request
from tests.variants.agreement import assert_close, evaluated, interpreted

NORMS = """
cascade norms(Q[h,m,e], K[g,n,e], V[g,n,f]) -> O[h,m,f] {
  N2[g,n] = sum[e](K[g,n,e] ** 2)
  KN[g,n,e] = K[g,n,e] * rsqrt(N2[g,n] + 1e-6)
  S[h,m,n] = Q[h,m,e] * KN[h // 2,n,e]
  A[h,m,n] = softmax[n](S[h,m,n])
  O[h,m,f] = A[h,m,n] * V[h // 2,n,f]
}"""


def again(text: str, *stored: str, **extents: int) -> str:
    return str(rematerialise(normalize(parse(text).cascade()), stored, extents, 100))


def test_an_equation_stands_where_it_is_read() -> None:
    text = "cascade c(X[n]) -> Y[m] { T[n] = exp(X[n])  Y[m] = sum[k](T[m + k] where k < 2) }"
    assert again(text, m=5, n=9, k=3) == (
        "cascade c(X[n]) -> Y[m] {\n"
        "  T.at[m,k] = exp(X[m + k]) where m + k < N\n"
        "  Y[m] = sum[k](T.at[m,k] where k < 2)\n"
        "}"
    )


def test_what_it_reads_stands_there_too_unless_it_is_stored() -> None:
    text = "cascade c(X[g,n,e]) -> Y[h,n] { N2[g,n] = sum[e](X[g,n,e] ** 2)  T[g,n] = sqrt(N2[g,n])  Y[h,n] = T[h // 2,n] * 2 }"
    both, one = again(text, g=2, h=4, n=9, e=4), again(text, "N2", g=2, h=4, n=9, e=4)
    assert "N2.at[h,n] = sum[e](X[h // 2,n,e]**2) where h // 2 < G" in both
    assert "T.at[h,n] = sqrt(N2[h // 2,n]) where h // 2 < G" in one


def test_a_filter_comes_along_and_the_range_of_the_index() -> None:
    text = "cascade c(X[n]) -> Y[n] { T[n] = X[n] where n % 2 == 0  Y[n] = default(T[n - 1], 5) }"
    assert "T.at[n] = X[n - 1] where 0 <= n - 1 and n - 1 < N and (n - 1) % 2 == 0" in again(text, n=9)


@pytest.mark.parametrize(
    ("text", "extents"),
    [
        # The rank that T sums stands in the index.
        ("cascade c(X[n,e], W[m,e]) -> Y[m] { T[n] = sum[e](X[n,e])  Y[m] = sum[e](T[e + m] * W[m,e]) }", {"n": 9, "m": 4, "e": 5}),
        ("cascade c(X[n,e]) -> Y[n] { T[n] = sum[e](X[n,e])  Y[n] = default(T[n - 1], 0) }", {"n": 9, "e": 101}),
        ("cascade c(X[n,e]) -> Y[n,j] { T[n,j] = topk[e](X[n,e], count = 2)  Y[n,j] = default(T[n - 1,j], 0) }", {"n": 9, "e": 8, "j": 2}),
    ],
    ids=["captured", "long", "selection"],
)  # fmt: skip
def test_what_cannot_stand_there_is_left(text: str, extents: dict[str, int]) -> None:
    assert ".at[" not in again(text, **extents)


def test_a_plan_that_does_not_store_it_has_one_kernel() -> None:
    kernel = ec.compile(NORMS, backend="cpu")
    plan = "plan norms { kernel O { program h, m:8  stream n:16  resident e, f } }"
    generator = torch.Generator().manual_seed(0)
    for M, N in ((9, 37), (1, 16), (17, 1)):
        shapes = {"Q": (4, M, 8), "K": (2, N, 8), "V": (2, N, 3)}
        tensors = {n: torch.randn(s, generator=generator, dtype=torch.float64) for n, s in shapes.items()}
        kernel = ec.compile(NORMS, backend="cpu", plan=plan)
        binding = kernel.binding(**tensors)
        assert_close(interpreted(kernel, binding), evaluated(kernel, binding))


def test_the_price_decides() -> None:
    """One query reads every key once, so its norm is computed there; many queries share stored ones."""
    kernel = ec.compile(NORMS, backend="cpu")
    times = {}
    for M in (1, 4000):
        tensors = {"Q": (4, M, 64), "K": (2, 4000, 64), "V": (2, 4000, 64)}
        binding = kernel.binding(**{n: torch.empty(s, device="meta") for n, s in tensors.items()})
        wanted = request(kernel.derivation, binding, "cpu")
        found = by_structure(kernel.derivation, wanted.extents, "cpu", wanted.dtypes, device_for("cpu"), {})
        times[M] = {len(s.plan.kernels): s.prediction.seconds for s in found}
    assert times[1][1] < 0.7 * times[1][2]
    assert times[4000][2] < times[4000][1]


def test_what_no_kernel_can_hold_must_be_stored() -> None:
    text = "cascade c(X[n,f], A[m,n]) -> O[m,f] { N2[n] = sum[f](X[n,f] ** 2)  T[n,f] = X[n,f] / N2[n]  O[m,f] = sum[n](A[m,n] * T[clamp(n + 1, 0, N - 1),f]) }"
    with pytest.raises(PlanError) as refused:
        fuse(normalize(parse(text).cascade()), {"m": 9, "n": 4000, "f": 500}, (), [("O",)])
    assert "'N2.at' would be computed where it is read" in str(refused.value)
    assert "the plan must store 'N2'" in str(refused.value)
