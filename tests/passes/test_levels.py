"""Pass counts with known answers (theory.md 8.1; laws.md, E6) and the pairs that force them."""

from __future__ import annotations

import pytest

from einsum_compiler.ir.parser import parse
from einsum_compiler.passes.analysis.levels import pass_levels, passes
from einsum_compiler.passes.inline import inline
from tests.passes import zoo
from tests.passes.support import run

CASCADE_1 = "cascade one(A[k], B[k]) -> Z[] { Y[] = A[k] * B[k] Z[] = sum[k](Y[] * A[k]) }"
CASCADE_2 = "cascade two(A[k], B[k]) -> Z[] { Y[] = A[k] * B[k] X[] = sum[k](A[k]) Z[] = Y[] * X[] }"
CASCADE_3 = """
cascade three(A[i], B[i]) -> Z[] {
  RY[0] = 0
  RZ[0] = 0
  RY[i+1] = RY[i] + A[i] * B[i]
  RZ[i+1] = RZ[i] * RY[i+1] / RY[i] + RY[i+1] * A[i]
  Z[] = RZ[I]
}
"""
NAIVE = """
cascade naive(Q[e,p], K[e,m], V[f,m]) -> AV[f,p] {
  QK[m,p] = Q[e,p] * K[e,m]
  SN[m,p] = exp(QK[m,p])
  SD[p] = sum[m](SN[m,p])
  A[m,p] = SN[m,p] / SD[p]
  AV[f,p] = A[m,p] * V[f,m]
}
"""
CASCADE_4 = """
cascade four(Q[e,p], K[e,m], V[f,m]) -> AV[f,p] {
  QK[m,p] = Q[e,p] * K[e,m]
  GM[p] = max[m](QK[m,p])
  SN[m,p] = exp(QK[m,p] - GM[p])
  SD[p] = sum[m](SN[m,p])
  A[m,p] = SN[m,p] / SD[p]
  AV[f,p] = A[m,p] * V[f,m]
}
"""
CASCADE_4_DEFERRED = """
cascade four(Q[e,p], K[e,m], V[f,m]) -> AV[f,p] {
  QK[m,p] = Q[e,p] * K[e,m]
  GM[p] = max[m](QK[m,p])
  SN[m,p] = exp(QK[m,p] - GM[p])
  SD[p] = sum[m](SN[m,p])
  SNV[f,p] = SN[m,p] * V[f,m]
  AV[f,p] = SNV[f,p] / SD[p]
}
"""
TWO_PASS = """
cascade two_pass(Q[e,p], BK[e,s,r], BV[f,s,r]) -> AV[f,p] {
  BQK[s,r,p] = Q[e,p] * BK[e,s,r]
  LM[s,p] = max[r](BQK[s,r,p])
  SLN[s,r,p] = exp(BQK[s,r,p] - LM[s,p])
  SLD[s,p] = sum[r](SLN[s,r,p])
  GM[p] = max[s](LM[s,p])
  PRM[s,p] = exp(LM[s,p] - GM[p])
  SD[p] = sum[s](SLD[s,p] * PRM[s,p])
  SLNV[f,s,p] = sum[r](SLN[s,r,p] * BV[f,s,r])
  AV[f,p] = sum[s](SLNV[f,s,p] * PRM[s,p]) / SD[p]
}
"""
CASCADE_5 = """
cascade five(Q[e,p], BK[e,s,r], BV[f,s,r]) -> AV[f,p] {
  RM[0,p] = -inf
  RD[0,p] = 0
  RNV[f,0,p] = 0
  BQK[s,r,p] = Q[e,p] * BK[e,s,r]
  LM[s,p] = max[r](BQK[s,r,p])
  RM[s+1,p] = max(RM[s,p], LM[s,p])
  SLN[s,r,p] = exp(BQK[s,r,p] - RM[s+1,p])
  SLD[s,p] = sum[r](SLN[s,r,p])
  SLNV[f,s,p] = SLN[s,r,p] * BV[f,s,r]
  PRM[s,p] = exp(RM[s,p] - RM[s+1,p])
  SPD[s,p] = RD[s,p] * PRM[s,p]
  RD[s+1,p] = SLD[s,p] + SPD[s,p]
  SPNV[f,s,p] = RNV[f,s,p] * PRM[s,p]
  RNV[f,s+1,p] = SLNV[f,s,p] + SPNV[f,s,p]
  AV[f,p] = RNV[f,S,p] / RD[S,p]
}
"""
# Without the row-sum trick dD needs all of dA before dS can be formed; dP1 has n on the left only (laws.md, E6).
BACKWARD = """
cascade backward(P[m,n], D[m], V[n,f], K[n,e], dO[m,f]) -> dQ[m,e] {
  dA[m,n] = dO[m,f] * V[n,f]
  dD[m] = -sum[n](dA[m,n] * P[m,n]) / (D[m] * D[m])
  dP1[m,n] = dD[m]
  dP2[m,n] = dA[m,n] / D[m]
  dS[m,n] = (dP1[m,n] + dP2[m,n]) * P[m,n]
  dQ[m,e] = dS[m,n] * K[n,e]
}
"""
BACKWARD_TRICK = BACKWARD.replace("dO[m,f]) ->", "dO[m,f], O[m,f]) ->").replace(
    "-sum[n](dA[m,n] * P[m,n]) / (D[m] * D[m])", "-sum[f](dO[m,f] * O[m,f]) / D[m]"
)


@pytest.mark.parametrize(
    ("text", "rank", "expected"),
    [
        (CASCADE_1, "k", 2),
        (CASCADE_2, "k", 1),
        (CASCADE_3, "i", 1),
        (NAIVE, "m", 2),
        (CASCADE_4, "m", 3),
        (CASCADE_4_DEFERRED, "m", 2),
        (TWO_PASS, "s", 2),
        (CASCADE_5, "s", 1),
        (zoo.LAYERNORM_GEMM, "k", 3),
        (zoo.SIGMOID, "n", 1),
        (zoo.LINEAR, "n", 1),
        (BACKWARD, "n", 2),
        (BACKWARD_TRICK, "n", 1),
    ],
    ids=[
        "1",
        "2",
        "3",
        "naive",
        "4",
        "4-deferred",
        "2-pass",
        "5",
        "layernorm",
        "sigmoid",
        "linear",
        "backward",
        "trick",
    ],
)
def test_known_pass_counts(text: str, rank: str, expected: int) -> None:
    module = parse(text)
    assert passes(inline(module.cascade(), module), rank) == expected


def test_a_pair_names_the_fibre_and_the_reduction_between() -> None:
    found = pass_levels(parse(CASCADE_4).cascade(), "m")
    assert [str(p) for p in found.pairs] == [
        "pass 2: SN reads QK again after GM has read all of it",
        "pass 3: A reads SN again after SD has read all of it",
    ]


def test_a_rank_that_nothing_carries_has_no_passes() -> None:
    assert passes(parse(CASCADE_4).cascade(), "z") == 0


@pytest.mark.parametrize(
    ("text", "rank", "before", "after"),
    [
        (zoo.ATTENTION, "n", 3, 1),
        (zoo.CAUSAL, "n", 3, 1),
        (zoo.LIBRARY, "n", 3, 1),
        (zoo.SOFTCAP_ALIBI, "n", 3, 1),
        (zoo.BIAS, "n", 3, 1),
        (zoo.SINK, "n", 3, 1),
        (zoo.DIFFERENTIAL, "n", 3, 1),
        (zoo.ROW_STATS, "n", 3, 1),
        (zoo.VARIANCE, "n", 2, 1),
        (zoo.THIRD_MOMENT, "n", 2, 1),
        (zoo.LAYERNORM_GEMM, "k", 3, 1),
        (zoo.URPE, "n", 3, 1),
        (zoo.LOG_SUM, "n", 3, 1),
        (zoo.MUSIC, "n", 3, 1),
        (zoo.UNION, "n", 2, 1),
        (zoo.UNION, "k", 2, 1),
        (zoo.CLIPPED, "n", 3, 2),
        (zoo.SIGMOID_OF_MAX, "n", 2, 2),
    ],
)
def test_online_reaches_the_least_number_of_passes(text: str, rank: str, before: int, after: int) -> None:
    module = parse(text)
    assert passes(inline(module.cascade(), module), rank) == before
    assert passes(run(text).cascade, f"{rank}.1") == after
