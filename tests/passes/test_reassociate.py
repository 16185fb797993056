"""The order of contractions: what is derived, what is refused and why, and which order is chosen at which sizes."""

from __future__ import annotations

from zlib import crc32

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from einsum_compiler.ir.cascade import Cascade
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.parser import parse
from einsum_compiler.ir.verify import verify
from einsum_compiler.passes.bracketing.cost import operations_and_bytes
from einsum_compiler.passes.certificate import Transformed
from einsum_compiler.passes.inline import inline
from einsum_compiler.passes.normalize import normalize
from einsum_compiler.passes.reassociate import (
    Reassociate,
    chosen,
    ordered,
    orders_of,
    reassociate,
)
from tests import strategies
from tests.passes.support import evaluated, inputs_of, round_trip, run, same

QUADRATIC = """cascade linear(Q[m,e], K[n,e], V[n,f]; W = 4) -> O[m,f] {{
  S[m,n] = Q[m,e] * K[n,e]{where}
  O[m,f] = S[m,n] * V[n,f]
}}"""
NORMALISED = """cascade linear(Q[m,e], K[n,e], V[n,f]) -> O[m,f] {
  PQ[m,e] = exp(Q[m,e])  PK[n,e] = exp(K[n,e])
  S[m,n] = PQ[m,e] * PK[n,e]
  Z[m] = sum[n](S[m,n])
  A[m,n] = S[m,n] / Z[m]
  O[m,f] = A[m,n] * V[n,f]
}"""
LATENT = """cascade latent(Q[h,m,e], C[n,k], WK[h,e,k], WV[h,f,k], QR[h,m,r], KR[n,r]) -> O[h,m,f] {
  K[h,n,e] = C[n,k] * WK[h,e,k]
  V[h,n,f] = C[n,k] * WV[h,f,k]
  S[h,m,n] = (Q[h,m,e] * K[h,n,e] + QR[h,m,r] * KR[n,r]) / sqrt(E + R)
  A[h,m,n] = softmax[n](S[h,m,n])
  O[h,m,f] = A[h,m,n] * V[h,n,f]
}"""
ABSORBED = """cascade latent(Q[h,m,e], C[n,k], WK[h,e,k], WV[h,f,k], QR[h,m,r], KR[n,r]) -> O[h,m,f] {
  QC[h,m,k] = Q[h,m,e] * WK[h,e,k]
  S[h,m,n] = (QC[h,m,k] * C[n,k] + QR[h,m,r] * KR[n,r]) / sqrt(E + R)
  A[h,m,n] = softmax[n](S[h,m,n])
  OC[h,m,k] = A[h,m,n] * C[n,k]
  O[h,m,f] = OC[h,m,k] * WV[h,f,k]
}"""
LONG = {"m": 4096, "n": 4096, "e": 64, "f": 64}
SHORT = {"m": 16, "n": 16, "e": 64, "f": 64}
PREFILL = {"h": 16, "m": 4096, "n": 4096, "e": 128, "f": 128, "k": 512, "r": 64}
DECODE = {**PREFILL, "m": 1}


def at(text: str, sizes: dict[str, int]) -> Transformed:
    """The pass at some sizes, with its values checked on small ones and its text parsed back."""
    module = parse(text)
    cascade = normalize(inline(module.cascade(), module))
    found = reassociate(cascade, Reassociate(tuple(f"{r}:{n}" for r, n in sizes.items())))
    verify(found.cascade)
    round_trip(found.cascade)
    tensors = inputs_of(module.cascade())
    same(evaluated(module.cascade(), tensors, module), evaluated(found.cascade, tensors))
    assert ordered(cascade, orders_of(found)).cascade == found.cascade if orders_of(found) else found.cascade == cascade
    return found


def orders(text: str, sizes: dict[str, int]) -> tuple[str, ...]:
    return orders_of(at(text, sizes))


def refusals(found: Transformed) -> str:
    return "\n".join(c.reason for c in found.certificates if c.form == "refused")


def test_linear_attention_is_linear_where_it_is_long_and_quadratic_where_it_is_short() -> None:
    text = QUADRATIC.format(where="")
    assert orders(text, LONG) == ("O = Q[m,e] * (K[n,e] * V[n,f])",)
    assert orders(text, SHORT) == ()
    assert str(at(text, LONG).cascade) == (
        "cascade linear(Q[m,e], K[n,e], V[n,f]; W = 4) -> O[m,f] {\n"
        "  O.part[e,f] = sum[n](K[n,e] * V[n,f])\n"
        "  O[m,f] = sum[e](Q[m,e] * O.part[e,f])\n"
        "}"
    )


def test_a_normaliser_is_deferred_first_and_is_linear_too() -> None:
    found = at(NORMALISED, LONG)
    assert [c.step for c in found.certificates if c.form != "refused"] == ["defer", "reassociate", "reassociate"]
    lines = str(found.cascade)
    assert "Z.part[e] = sum[n](PK[n,e])" in lines and "O[m,f] = if(Z[m] == 0, 0, O.acc[m,f] / Z[m])" in lines
    assert not any({"m", "n"} <= {*e.target.ranks, *getattr(e.value, "ranks", ())} for e in found.cascade.equations)
    assert orders(NORMALISED, SHORT) == ()


@pytest.mark.parametrize("text", [LATENT, ABSORBED])
def test_latent_attention_is_absorbed_for_decoding_and_expanded_for_prefill_however_it_is_written(text: str) -> None:
    absorbed, expanded = str(at(ABSORBED, DECODE).cascade), str(at(LATENT, PREFILL).cascade)
    assert "[h,n,e]" not in str(at(text, DECODE).cascade) and "[h,n,f]" not in str(at(text, DECODE).cascade)
    assert "[h,m,k]" not in str(at(text, PREFILL).cascade)
    assert ("[h,m,k]" in absorbed, "[h,n,e]" in expanded) == (True, True)


def test_a_product_of_many_is_cut_in_the_best_order() -> None:
    text = "cascade chain(A[m,k], B[k,e], C[e,n]) -> O[m,n] { O[m,n] = A[m,k] * B[k,e] * C[e,n] }"
    assert orders(text, {"m": 1000, "k": 10, "e": 1000, "n": 10}) == ("O = A[m,k] * (B[k,e] * C[e,n])",)
    assert orders(text, {"m": 10, "k": 1000, "e": 10, "n": 1000}) == ("O = (A[m,k] * B[k,e]) * C[e,n]",)


def test_long_chains_have_the_order_of_dynamic_programming() -> None:
    # The textbook chain 30 x 35 x 15 x 5 x 10 x 20 x 25: 15125 multiplications for ((A (B C)) ((D E) F)).
    text = """cascade chain(A[m,k], B[k,e], C[e,n], D[n,f], E1[f,j], F1[j,r]) -> O[m,r] {
      O[m,r] = A[m,k] * B[k,e] * C[e,n] * D[n,f] * E1[f,j] * F1[j,r]
    }"""
    sizes = {"m": 30, "k": 35, "e": 15, "n": 5, "f": 10, "j": 20, "r": 25}
    assert orders(text, sizes) == ("O = (A[m,k] * (B[k,e] * C[e,n])) * ((D[n,f] * E1[f,j]) * F1[j,r])",)


def test_a_sum_over_one_factor_moves_onto_it() -> None:
    text = "cascade total(Q[m,e], K[n,e]) -> D[m] { S[m,n] = Q[m,e] * K[n,e]  D[m] = sum[n](S[m,n]) }"
    assert "D.part[e] = sum[n](K[n,e])" in str(at(text, LONG).cascade)


def test_a_filter_over_one_rank_acts_in_the_product_that_sums_it() -> None:
    found = at(QUADRATIC.format(where=" where n < W"), LONG)
    assert "O.part[e,f] = sum[n](K[n,e] * V[n,f] where n < W)" in str(found.cascade)
    found = at(QUADRATIC.format(where=" where m < W"), LONG)
    assert orders_of(found) == ("O = Q[m,e] * (K[n,e] * V[n,f])",)


def test_a_rank_that_is_summed_and_stored_too_has_two_names() -> None:
    text = "cascade linear(Q[m,e], K[n,e], V[n,e]) -> O[m,e] { S[m,n] = Q[m,e] * K[n,e]  O[m,e] = sum[n](S[m,n] * V[n,e]) }"
    assert str(at(text, LONG).cascade) == (
        "cascade linear(Q[m,e], K[n,e], V[n,e]; E_IN: int = E) -> O[m,e] {\n"
        "  O.part[e_in,e] = sum[n](K[n,e_in] * V[n,e])\n"
        "  O[m,e] = sum[e_in](Q[m,e_in] * O.part[e_in,e])\n"
        "}"
    )
    assert at(text, SHORT).cascade.parameters == ()
    # An inner sum that no order wants outside stays what it is.
    apart = "cascade f(X[m,e], Y[n,e]) -> O[m,e] { D[m,n] = sum[e]((X[m,e] - Y[n,e])**2)  O[m,e] = sum[n](D[m,n] * Y[n,e]) }"
    at(apart, LONG)


def test_scales_stay_and_a_tensor_with_other_readers_too() -> None:
    text = "cascade two(Q[m,e], K[n,e], V[n,f]; c = 0.5) -> O[m,f], X[m] { S[m,n] = c * Q[m,e] * K[n,e]  O[m,f] = S[m,n] * V[n,f]  X[m] = max[n](S[m,n]) }"
    found = at(
        text, LONG
    )  # the scores are needed for the maximum, and the product with V is cheaper the other way still
    assert orders_of(found) == () or "max[n](S[m,n])" in str(found.cascade)
    found = at(text.replace(", X[m] {", " {").replace("X[m] = max[n](S[m,n])", ""), LONG)
    assert "O[m,f] = O.sum[m,f] * c" in str(found.cascade)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (
            "S[m,n] = Q[m,e] * K[n,e] where n <= m",
            "n <= m ties n and m together: neither is summed before it has acted",
        ),
        ("S[m,n] = max[e](Q[m,e] * K[n,e])", "S is a factor of its own: it is a max"),
        (
            "T[m,n] = Q[m,e] * K[n,e]  S[m,n] = exp(T[m,n])",
            "S is a factor of its own: it is 'exp', which is not linear",
        ),
        ("S: bf16[m,n] = Q[m,e] * K[n,e]", "S is a factor of its own: it is rounded to bf16"),
        ("T[m,n] = Q[m,e] * K[n,e]  S[m,n] = cast(T[m,n], bf16)", "S is a factor of its own: it is rounded to bf16"),
        ("T[m,n] = Q[m,e] * K[n,e]  S[m,n] = T[m,n] / (1 + U[n])", "S is a factor of its own: it is a quotient"),
        ("T[m,n] = Q[m,e] * K[n,e]  S[m,n] = T[m,n] * T[m,n]", "T is a factor of its own: it is a factor twice"),
        (
            "T[m,n] = Q[m,e] * K[n,e]  S[m,n] = default(T[m,n - 1], 0)",
            "S is a factor of its own: it is 'default', which is not linear",
        ),
    ],
)
def test_what_stands_in_the_way_is_said(line: str, reason: str) -> None:
    text = f"cascade barred(Q[m,e], K[n,e], V[n,f], U[n]) -> O[m,f] {{ {line}  O[m,f] = S[m,n] * V[n,f] }}"
    found = at(text, {**LONG, "m": 65536, "n": 65536})
    assert orders_of(found) == ()
    assert reason in refusals(found)


def test_a_factor_that_may_be_infinite_does_not_leave_a_sum_that_may_be_empty() -> None:
    text = """cascade rows(X[m,n], K[n,e], V[e,f]; W = 0) -> O[m,f] {
      R[m] = 1 / sum[n](X[m,n]**2)
      S[m,e] = R[m] * K[n,e] * X[m,n] where n < W
      O[m,f] = S[m,e] * V[e,f]
    }"""
    found = at(text, {"m": 4096, "n": 4096, "e": 4096, "f": 1})
    # Another order is found, but the factor stays in the sum over n, which may be empty: outside it would turn a 0 into NaN.
    last = str(found.cascade).splitlines()[-2]
    assert orders_of(found) and last.startswith("  O[m,f] = ") and "R[m]" not in last
    gemm = """cascade gemm(X[m,k], G[k], W[k,f]) -> Y[m,f] {
      Z[m,k] = X[m,k] * rsqrt(mean[n](X[m,n]**2)) * G[k]  Y[m,f] = Z[m,k] * W[k,f]
    }""".replace("[n]", "[k]").replace("X[m,n]", "X[m,k]")
    kept = at(gemm, {"m": 4096, "k": 4096, "f": 4096})
    assert "may be infinite where a sum that it would leave is empty ('defer' has a guard for that)" in refusals(kept)


def test_a_long_chain_with_such_a_factor_has_the_best_order_of_those_that_keep_it_inside() -> None:
    text = """cascade outer(G[i,j,z], X[s,i,c], W[c,p], U[p,q,z], R[i]) -> Y[s,j,q] {
      V[s,i] = sum[c](X[s,i,c]**2)
      N[s,i,c] = X[s,i,c] * rsqrt(V[s,i])
      A[s,i,p] = sum[c](N[s,i,c] * W[c,p]) * R[i]
      Y[s,j,q] = G[i,j,z] * A[s,i,p] * U[p,q,z]
    }"""
    sizes = {"s": 64, "i": 48, "j": 48, "c": 64, "p": 16, "q": 16, "z": 64}
    found = chosen(normalize(inline(parse(text).cascade())), sizes, operations_and_bytes)
    # Nothing is deferred: the order with the fewest operations of all sums over c before the square root is met.
    kept = "(G[i,j,z] * U[p,q,z]) * ((X[s,i,c] * ((rsqrt(V[s,i])) * R[i])) * W[c,p])"
    assert orders_of(found) == (f"Y = {kept}",)


def test_sizes_and_orders_that_do_not_fit() -> None:
    cascade = normalize(parse(QUADRATIC.format(where="")).cascade())
    with pytest.raises(PlanError, match="give sizes for e, f, n, as in sizes=m:4096"):
        reassociate(cascade, Reassociate(("m:3",)))
    with pytest.raises(PlanError, match="'m=3' is not a size"):
        reassociate(cascade, Reassociate(("m=3",)))
    with pytest.raises(PlanError, match=r"no contraction of this program has the order 'O = \(Q\[m,e\]'"):
        ordered(cascade, ("O = (Q[m,e]",))


def test_it_is_a_pass_of_pipelines() -> None:
    found = run(QUADRATIC.format(where=""), "inline,normalize,reassociate{sizes=m:4096+n:4096+e:64+f:64}")
    assert "O.part[e,f]" in str(found.cascade)


CASCADES = st.one_of(
    strategies.cascades(6, strategies.PLAIN_STEPS), strategies.cascades(6, (strategies._contraction, strategies._join))
)


@given(CASCADES, st.tuples(*[st.sampled_from([1, 8, 512])] * 4), st.integers(0, 9))
@settings(max_examples=60)
def test_every_order_of_random_cascades_has_the_same_values(
    cascade: Cascade, extents: tuple[int, ...], seed: int
) -> None:
    normal = normalize(inline(cascade, None))
    sizes = dict(zip("mnef", extents, strict=True))
    for cost in (
        operations_and_bytes,
        lambda c, e, _: float(-len(c.equations)),
        lambda c, e, _: float(crc32(str(c).encode()) % 97),
    ):
        found = chosen(normal, sizes, cost)
        verify(found.cascade)
        round_trip(found.cascade)
        tensors = inputs_of(cascade, {"m": 4, "n": 5, "e": 3, "f": 2}, seed)
        before = evaluated(cascade, tensors)
        assert all(value.dtype == torch.float64 for value in before.values())
        same(before, evaluated(found.cascade, tensors))
        if orders_of(found):
            assert ordered(normal, orders_of(found)).cascade == found.cascade
