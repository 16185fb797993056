"""Tile programs: fills, membership, limits of integers, existence."""

from __future__ import annotations

import pytest
import torch

import einsum_compiler as ec
from einsum_compiler.ir.expression import Read
from einsum_compiler.ir.tile import Dot, Loop, Map, Reduce, Select, Statement
from einsum_compiler.ir.tile_ranges import loop_body
from tests.front.visited import kernels
from tests.variants.agreement import Variant, check, integers

TWO_MASKS = """
cascade c(Q[m,e], K[n,e]) -> A[m], B[m] {
  S[m,n] = Q[m,e] * K[n,e]
  A[m] = max[n](S[m,n] where n <= m)
  B[m] = max[n](S[m,n] where n > m - 5)
}
"""


def loop_of(text: str, *tensors: torch.Tensor) -> tuple[Statement, ...]:
    (kernel,) = kernels(ec.compile(text), *tensors)
    (loop,) = (s for s in kernel.body if isinstance(s, Loop))
    return loop.body


def test_two_filters_of_one_score_fill_two_copies() -> None:
    body = loop_of(TWO_MASKS, torch.zeros(40, 8), torch.zeros(50, 8))
    selects = {s.target: s for s in body if isinstance(s, Select)}
    chains = []
    for reduce in (s for s in body if isinstance(s, Reduce)):
        chain = [reduce.value.tensor]  # type: ignore[attr-defined]
        while chain[-1] in selects:
            chain.append(selects[chain[-1]].value.tensor)  # type: ignore[attr-defined]
        chains.append(chain)
    first, second = chains
    assert first.pop() == second.pop() == "S.n" and first and second and not {*first} & {*second}


def test_whole_tiles_test_only_what_is_not_known_of_them() -> None:
    text = "cascade c(X[m,n]) -> Y[m] { E[m,n] = exp(X[m,n]) where X[m,n] > 0\n Y[m] = sum[n](E[m,n]) }"
    (kernel,) = kernels(ec.compile(text), torch.zeros(40, 50))
    (loop,) = (s for s in kernel.body if isinstance(s, Loop))
    tested = [[str(s.condition) for s in loop_body(loop, p) if isinstance(s, Select)] for p in (False, True)]
    assert [len(conditions) for conditions in tested] == [1, 2]
    assert not any("N" in c for c in tested[0])


def test_membership_is_an_any_over_the_fibre() -> None:
    text = "cascade c(X[m,n], L[m,u]) -> Y[m] { Y[m] = max[n](X[m,n] where n in L[m,:]) }"
    body = loop_of(text, torch.zeros(40, 50), torch.zeros(40, 3, dtype=torch.int64))
    anys = [s for s in body if isinstance(s, Reduce) and s.operator == "any"]
    assert [[a.rank for a in s.over] for s in anys] == [["u"]]


def test_membership_in_a_computed_tensor_reads_it_from_memory() -> None:
    text = "cascade c(X[m,n], L[m,u]) -> Y[m] { T[m,u] = L[m,u] + 1  Y[m] = sum[n](X[m,n] where n in T[m,:]) }"
    variant = Variant("computed list", text, {"L": integers(0, 9)})
    check(variant, {"m": 40, "n": 50, "u": 3})


@pytest.mark.parametrize(("operator", "limit"), [("max", -(2**63)), ("min", 2**63 - 1)])
def test_extrema_of_integers_start_from_the_limits_of_their_type(operator: str, limit: int) -> None:
    text = f"cascade c(X[m,n]) -> Y[m] {{ Y[m] = {operator}[n](X[m,n]) }}"
    (kernel,) = kernels(ec.compile(text), torch.zeros(40, 50, dtype=torch.int64))
    (loop,) = (s for s in kernel.body if isinstance(s, Loop))
    assert [str(c.initial) for c in loop.carries] == [str(type(loop.carries[0].initial)(limit))]


@pytest.mark.parametrize(
    ("weight", "where"),
    [
        ("G[m] / Z[m] * exp(S[m,n])", ""),  # 0 / 0 where a tile is padded
        ("exp(S[m,n] - G[m] * 1000)", ""),  # overflows there
        ("S[m,n] / (m - n)", " where m != n"),
        ("exp(1000 * (m - n))", " where m <= n"),
        ("log(Z[m]) * S[m,n]", ""),
        ("rsqrt(n - m) * S[m,n]", " where m < n"),
    ],
)
def test_removed_points_of_a_product_need_not_be_finite(weight: str, where: str) -> None:
    text = (
        "cascade c(G[m], Z[m], S[m,n], X[m,f]) -> O[n,f] {\n"
        f"  W[m,n] = {weight}{where}\n  O[n,f] = sum[m](W[m,n] * X[m,f])\n}}"
    )
    near_one = lambda g, shape: torch.rand(shape, generator=g, dtype=torch.float64) * 1e-3 + 1
    check(Variant(weight, text, {"G": near_one, "Z": near_one}), {"m": 37, "n": 41})


def test_a_filter_without_a_summed_rank_is_tested_once_for_every_sum() -> None:
    text = """cascade c(U[m,f], V[n,f]) -> Y[m] {
  A[m,n] = sum[f](U[m,f] * V[n,f] where n <= m)
  Y[m]   = sum[n](A[m,n] * A[m,n])
}"""
    body = loop_of(text, torch.zeros(40, 8), torch.zeros(50, 8))
    (dot,) = (s for s in body if isinstance(s, Dot))
    assert [t.rank for t in dot.type.axes] == ["m.0", "n.0"] and (dot.left, dot.right) == ("U.tile", "V.tile")
    assert all(len(s.type.axes) <= 2 for s in body if isinstance(s, (Map, Select)))
    u, v = torch.randn(40, 8, dtype=torch.float64), torch.randn(50, 8, dtype=torch.float64)
    v[45:] = torch.nan  # no row sees them
    torch.testing.assert_close(ec.compile(text)(u, v), ec.reference(text)(u, v), rtol=1e-12, atol=1e-12)


SCORES = "S[m,n] = Q[m,e] * K[n,e] * D"
SINGULAR = {
    "a maximum": f"D[m,n] = 1 / sqrt(m - n) where n < m  {SCORES}[m,n]  Y[m] = max[n](S[m,n])",
    "a sum of a function": f"D[m,n] = log(m - n) where n < m  {SCORES}[m,n]  Y[m] = sum[n](abs(S[m,n]))",
    "an online softmax": f"D[m,n] = exp(99 * (n - m)) where n <= m  {SCORES}[m,n]  Y[m] = logsumexp[n](S[m,n])",
    "a filter of its own": f"D[m,n] = 1 / (m - n) where n != m  {SCORES}[m,n] where n <= m  Y[m] = logsumexp[n](S[m,n])",
    "a filter that is data": f"D[m,n] = 1 / B[m,n] where B[m,n] > 0  {SCORES}[m,n]  Y[m] = max[n](S[m,n])",
    "a band": f"D[m,n] = rsqrt(m - n) where n < m and m - n < 9  {SCORES}[m,n]  Y[m] = max[n](S[m,n])",
    "a sum that leaves": "D[m] = 1 / L[m] where L[m] > 0  Y[m] = sum[n](X[m,n] * D[m])",
    "a sum that leaves, of products": "D[m,f] = 1 / F[m,f] where F[m,f] > 0  Z[m,f] = sum[n](X[m,n] * V[n,f] * D[m,f] where n <= m)  Y[m] = sum[f](Z[m,f])",
    "rows of both operands": "D[m] = 1 / L[m] where L[m] > 0  S[m,n] = Q[m,e] * D[m] * T[m,n,e]  Y[m] = max[n](S[m,n])",
    "no summed point": "S[m,n] = sum[e](Q[m,e] * K[n,e] / B[m,n] where e < B[m,n])  Y[m] = max[n](S[m,n])",
    "a power of coordinates": "Y[m] = sum[n](X[m,n] * exp(99 * (n - m)) where n <= m)",
}


@pytest.mark.parametrize("name", SINGULAR)
def test_a_factor_is_infinite_where_its_filter_removed_it(name: str) -> None:
    declared = {"Q": "m,e", "K": "n,e", "V": "n,f", "X": "m,n", "B": "m,n", "L": "m", "F": "m,f", "T": "m,n,e"}
    used = ", ".join(f"{n}[{ranks}]" for n, ranks in declared.items() if f"{n}[" in SINGULAR[name])
    text = f"cascade c({used or 'X[m,n]'}) -> Y[m] {{ {SINGULAR[name]} }}"
    counts = lambda g, shape: torch.randint(0, 9, shape, generator=g).double()
    check(Variant(name, text, {"B": counts, "L": counts, "F": counts}), {"m": 37, "n": 41})


def test_a_finite_factor_leaves_the_filter_before_it() -> None:
    text = """cascade c(Q[m,e], K[n,e], B[m,n]) -> Y[m] {
  D[m,n] = tanh(B[m,n]) where n <= m
  S[m,n] = Q[m,e] * K[n,e] * D[m,n]
  Y[m]   = max[n](S[m,n])
}"""
    body = loop_of(text, torch.zeros(40, 8), torch.zeros(50, 8), torch.zeros(40, 50))
    (dot,) = (s for s in body if isinstance(s, Dot))
    first = next(s for s in body if isinstance(s, Select))
    assert isinstance(first.value, Read) and first.value.tensor == dot.target


def test_a_copy_of_a_running_sum_is_what_the_trip_makes_of_it() -> None:
    text = """cascade c(R[m,n], G[m,n], V[n,f]) -> O[m,f] {
      D[m] = sum[n](R[m,n])
      C[m,n] = D[m]
      W[m,n] = (G[m,n] + C[m,n]) * sin(G[m,n])
      O[m,f] = W[m,n] * V[n,f]
    }"""
    kernel = ec.compile(text, plan="plan c { kernel O { program m:16  stream n:32  resident f } }")
    generator = torch.Generator().manual_seed(0)
    kernel.validate(*(torch.randn(*shape, generator=generator) for shape in ((19, 70), (19, 70), (70, 5))))


def test_a_state_read_trip_by_trip_runs_beside_its_reader() -> None:
    """The moment of V, which waits for nothing, corrects O by what D has become: of the trips before, not of all."""
    text = """cascade c(G[m,n], H[m,n], V[n,f]) -> O[m,f] {
      X[m] = max[n](G[m,n])
      R[m,n] = tanh(G[m,n] * X[m])
      D[m] = sum[n](R[m,n])
      C[m,n] = D[m]
      W[m,n] = (R[m,n] + C[m,n]) * sin(H[m,n])
      O[m,f] = W[m,n] * V[n,f]
    }"""
    kernel = ec.compile(text, plan="plan c { kernel O { program m:16  stream n:32  resident f } }")
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(*shape, generator=generator) for shape in ((19, 70), (19, 70), (70, 5))]
    kernel.validate(*tensors)
    assert "O.moment" in str(kernel.ir("tile", *tensors))
