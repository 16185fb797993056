"""The running form: the same values for every tile size and every hard input, with its certificates and refusals."""

from __future__ import annotations

import math

import pytest
import torch

from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.parser import parse
from einsum_compiler.passes.analysis.levels import passes
from einsum_compiler.passes.defer import defer
from einsum_compiler.passes.inline import inline
from einsum_compiler.passes.normalize import normalize
from einsum_compiler.passes.online import Online, online
from tests.passes import wide_zoo, zoo
from tests.passes.support import check, evaluated, inputs_of, run, same

EVERY = [name for name in dir(zoo) if name.isupper() and name != "PAGED"]

ONE_PASS_ATTENTION = """\
cascade attention(Q[b,h,m,e], K[b,g,n,e], V[b,g,n,f]; scale = 1 / sqrt(E), N.0 = 128, N.1 = ceil(N / N.0)) -> O[b,h,m,f], L[b,h,m] {
  S.sum.n[b,h,m,n.1,n.0] = sum[e](Q[b,h,m,e] * K[b,h // (H // G),n.1 * N.0 + n.0,e]) where n.1 * N.0 + n.0 < N
  S.n[b,h,m,n.1,n.0] = S.sum.n[b,h,m,n.1,n.0] * scale where n.1 * N.0 + n.0 < N
  MX.n[b,h,m,n.1] = max[n.0](S.n[b,h,m,n.1,n.0] where n.1 * N.0 + n.0 < N)
  MX.run[b,h,m,0] = -inf
  MX.run[b,h,m,n.1 + 1] = max(MX.run[b,h,m,n.1], MX.n[b,h,m,n.1])
  MX.cur[b,h,m,n.1] = if(MX.run[b,h,m,n.1 + 1] == -inf, 0, MX.run[b,h,m,n.1 + 1])
  P.n[b,h,m,n.1,n.0] = exp(S.n[b,h,m,n.1,n.0] - MX.cur[b,h,m,n.1]) where n.1 * N.0 + n.0 < N
  D.n[b,h,m,n.1] = sum[n.0](P.n[b,h,m,n.1,n.0] where n.1 * N.0 + n.0 < N)
  D.fix[b,h,m,n.1] = if(MX.run[b,h,m,n.1] == MX.run[b,h,m,n.1 + 1], 1, exp(MX.run[b,h,m,n.1] - MX.cur[b,h,m,n.1]))
  D.run[b,h,m,0] = 0
  D.run[b,h,m,n.1 + 1] = D.run[b,h,m,n.1] * D.fix[b,h,m,n.1] + D.n[b,h,m,n.1]
  O.acc.n[b,h,m,f,n.1] = sum[n.0](P.n[b,h,m,n.1,n.0] * V[b,h // (H // G),n.1 * N.0 + n.0,f] where n.1 * N.0 + n.0 < N)
  O.acc.run[b,h,m,f,0] = 0
  O.acc.run[b,h,m,f,n.1 + 1] = O.acc.run[b,h,m,f,n.1] * D.fix[b,h,m,n.1] + O.acc.n[b,h,m,f,n.1]
  D[b,h,m] = D.run[b,h,m,N.1]
  O.acc[b,h,m,f] = O.acc.run[b,h,m,f,N.1]
  O[b,h,m,f] = if(D[b,h,m] == 0, 0, O.acc[b,h,m,f] / D[b,h,m])
  MX[b,h,m] = MX.run[b,h,m,N.1]
  L[b,h,m] = MX[b,h,m] + log(D[b,h,m])
}"""


def test_six_equations_become_the_one_pass_cascade() -> None:
    assert str(run(zoo.ATTENTION, "normalize,defer,online").cascade) == ONE_PASS_ATTENTION


@pytest.mark.parametrize("name", EVERY)
def test_every_form_has_the_same_values(name: str) -> None:
    check(getattr(zoo, name), pipeline="inline,normalize,defer,online{tile=3}")


@pytest.mark.parametrize(
    "name", ["CAUSAL", "LIBRARY", "SINK", "ROW_STATS", "LAYERNORM_GEMM", "UNION", "CLIPPED", "CASES"]
)
@pytest.mark.parametrize("tile", [1, 16])
def test_tiles_of_one_and_tiles_longer_than_the_stream(name: str, tile: int) -> None:
    check(getattr(zoo, name), pipeline=f"inline,normalize,defer,online{{tile={tile}}}")


@pytest.mark.parametrize("name", [name for name in dir(wide_zoo) if name.isupper()])
def test_wider_cascades(name: str) -> None:
    text = getattr(wide_zoo, name)
    tensors = inputs_of(parse(text).cascade(), {"t": 6})
    check(text, tensors, "inline,normalize,flatten,defer,online{tile=4}")


@pytest.mark.parametrize(
    ("name", "rank", "least"),
    [
        ("STAT_TOPK", "n", 2),
        ("TOPK", "n", 1),
        ("GATED", "k", 1),
        ("AGENT", "n", 1),
        ("ENTROPY", "n", 1),
        ("TENSOR3", "j_k", 1),
    ],
)
def test_passes_of_wider_cascades(name: str, rank: str, least: int) -> None:
    result = run(getattr(wide_zoo, name), "inline,normalize,flatten,defer,online{tile=4}")
    assert passes(result.cascade, f"{rank}.1") == least


@pytest.mark.parametrize(
    ("name", "rank", "reason"),
    [
        ("RETENTION", "t", "the recurrence of S runs along it"),
        ("HEADS", "n", "the reduction of A.mx is part of a recurrence"),
    ],
)
def test_ranks_that_cannot_be_streamed(name: str, rank: str, reason: str) -> None:
    with pytest.raises(PlanError) as error:
        run(getattr(wide_zoo, name), f"inline,normalize,online{{ranks={rank}}}")
    assert error.value.message == f"rank {rank} cannot be streamed: {reason}"


@pytest.mark.parametrize(
    "name", ["ATTENTION", "CAUSAL", "EMPTY_ROWS", "LIBRARY", "SINK", "DIFFERENTIAL", "LOG_SUM", "UNION", "EXP2"]
)
def test_logits_of_ten_thousand_neither_overflow_nor_vanish(name: str) -> None:
    text = getattr(zoo, name)
    tensors = inputs_of(parse(text).cascade(), scale=150.0)
    check(text, tensors)


@pytest.mark.parametrize("rising", [True, False])
def test_a_maximum_that_moves_at_every_tile(rising: bool) -> None:
    text = "cascade c(S[m,n], V[n,f]) -> O[m,f] { A[m,n] = softmax[n](S[m,n]) O[m,f] = A[m,n] * V[n,f] }"
    scores = torch.arange(11, dtype=torch.float64).expand(3, 11) * (2e4 if rising else -2e4)
    check(text, {"S": scores, "V": torch.randn(11, 2, dtype=torch.float64)})


@pytest.mark.parametrize("where", ["first", "middle", "last", "all"])
def test_tiles_of_minus_infinity_leave_the_state_as_it_is(where: str) -> None:
    """Hazard H2: -inf - (-inf) in the factor."""
    text = "cascade c(S[m,n], V[n,f]) -> O[m,f], L[m] { A[m,n] = softmax[n](S[m,n]) O[m,f] = A[m,n] * V[n,f] L[m] = logsumexp[n](S[m,n]) }"
    scores = torch.randn(3, 12, dtype=torch.float64)
    scores[
        :, {"first": slice(0, 4), "middle": slice(4, 8), "last": slice(8, 12), "all": slice(0, 12)}[where]
    ] = -math.inf
    tensors = {"S": scores, "V": torch.randn(12, 2, dtype=torch.float64)}
    found = evaluated(check(text, tensors).cascade, tensors)
    assert not found["O"].isnan().any()
    if where == "all":
        assert (found["O"] == 0).all() and (found["L"] == -math.inf).all()


def test_scores_of_minus_infinity_without_a_filter_may_only_lose_nan() -> None:
    tensors = inputs_of(parse(zoo.ATTENTION).cascade())
    tensors["K"][..., 0:4, :] = torch.tensor([-math.inf, 0.0, 0.0])
    check(zoo.ATTENTION, tensors)


def test_a_context_that_returns_to_zero_is_deferred_and_never_divided_by() -> None:
    """Hazard H1: A = [1, 1, 1, 1], B = [1, -1, 1, 1]; a running quotient gives 4, the truth is 8."""
    text = "cascade c(A[n], B[n]) -> Z[] { Y[] = A[n] * B[n] Z[] = sum[n](Y[] * A[n]) }"
    tensors = {"A": torch.ones(4, dtype=torch.float64), "B": torch.tensor([1.0, -1.0, 1.0, 1.0], dtype=torch.float64)}
    result = check(text, tensors, "normalize,defer,online{tile=1 ranks=n}")
    assert float(evaluated(result.cascade, tensors)["Z"]) == 8.0


ROUNDED = """
cascade rounded(X[n]) -> Y[] {
  AM[] = max[n](abs(X[n]))
  R[n] = round(X[n] / AM[] * 8) / 8
  Y[] = sum[n](R[n] * AM[])
}
"""


def test_rounding_is_opaque() -> None:
    """Hazard H3: a running scale gives 1.3 where the text says 1.25; the reduction waits for the finished scale."""
    tensors = {"X": torch.tensor([0.3, 1.0], dtype=torch.float64)}
    result = check(ROUNDED, tensors, "normalize,defer,online{tile=1}")
    assert float(evaluated(result.cascade, tensors)["Y"]) == 1.25
    assert [c.form for c in result.certificates if c.tensor.startswith("Y") and c.step == "online"] == ["refused"]


def test_a_cast_is_opaque() -> None:
    text = "cascade c(S[m,n], V[n,f]) -> O[m,f] { MX[m] = max[n](S[m,n]) P: bf16[m,n] = exp(S[m,n] - MX[m]) O[m,f] = P[m,n] * V[n,f] }"
    result = check(text)
    (refusal,) = [c for c in result.certificates if c.form == "refused"]
    assert refusal.reason == (
        "cast(exp(S[m,n] - MX[m]), bf16) does not separate into a function of the points and a function of MX[m]"
    )


def test_moments_are_centred() -> None:
    """Hazard H5: the variance of 1e4 +- 1e-2 in float32 survives, where raw moments give 0."""
    result = run(zoo.VARIANCE)
    generator = torch.Generator().manual_seed(1)
    values = 1e4 + 1e-2 * torch.randn(2, 400, generator=generator, dtype=torch.float64)
    from einsum_compiler.backends.reference.evaluate import evaluate

    found = evaluate(result.cascade, {"X": values.float()}, dtype=torch.float32)["VAR"].double()
    torch.testing.assert_close(found, values.float().double().var(dim=1, correction=0), rtol=0.05, atol=0)


def test_a_maximum_of_negative_values_starts_below_them() -> None:
    """Hazard H6."""
    text = "cascade c(X[n]) -> MX[] { MX[] = max[n](X[n]) }"
    tensors = {"X": -torch.arange(1.0, 6.0, dtype=torch.float64)}
    assert float(evaluated(run(text, "normalize,online{tile=2 ranks=n}").cascade, tensors)["MX"]) == -1.0


def test_no_correction_holds_two_exponentials() -> None:
    for name in ("ATTENTION", "ROW_STATS", "LOG_SUM", "SINK"):
        for line in str(run(getattr(zoo, name)).cascade).splitlines():
            assert line.split(" = ", 1)[-1].count("exp(") <= 1, line


@pytest.mark.parametrize(
    ("name", "tensor", "form"),
    [
        ("ATTENTION", "D", "running"),
        ("LOG_SUM", "O.acc", "running"),
        ("DIFFERENTIAL", "O.term.acc", "running"),
        ("ROW_STATS", "T", "finite rank"),
        ("VARIANCE", "VAR.sum", "finite rank"),
        ("THIRD_MOMENT", "T.sum", "finite rank"),
        ("LAYERNORM_GEMM", "Y.acc", "finite rank"),
        ("SIGMOID_OF_MAX", "O", "refused"),
        ("CLIPPED", "O", "refused"),
    ],
)
def test_certificates(name: str, tensor: str, form: str) -> None:
    found = {c.tensor: c for c in run(getattr(zoo, name)).certificates if c.step == "online"}
    assert found[tensor].form == form
    assert bool(found[tensor].reason) == (form == "refused")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("sigmoid(S[m,n] - MX[m])", "sigmoid(S[m,n] - MX[m])"),
        ("relu(S[m,n] - MX[m] / 2)", "relu(S[m,n] - MX[m] / 2)"),
        ("clamp(S[m,n] - MX[m], -1, 0)", "clamp(S[m,n] - MX[m], -1, 0)"),
        ("floor(S[m,n] - MX[m])", "floor(S[m,n] - MX[m])"),
        ("max(S[m,n] - MX[m], -1)", "max(S[m,n] - MX[m], -1)"),
        ("exp(-(S[m,n] - MX[m]) ** 2)", "exp(2 * MX[m] * S[m,n])"),
    ],
)
def test_what_does_not_separate_is_refused_with_the_term_that_mixes(body: str, reason: str) -> None:
    text = f"cascade c(S[m,n]) -> O[m] {{ MX[m] = max[n](S[m,n]) O[m] = sum[n]({body}) }}"
    (refusal,) = [c for c in check(text).certificates if c.form == "refused"]
    assert refusal.reason == f"{reason} does not separate into a function of the points and a function of MX[m]"


def test_names_do_not_matter() -> None:
    """Renamed tensors and ranks, reordered equations, exp2 for exp, two value tensors, an extra equation."""
    text = """
    cascade other(Key[w,u,c], Query[w,v,x,c], Val[w,u,d], Val2[w,u,z]) -> Out[w,v,x,d], Out2[w,v,x,z] {
      Weight[w,v,x,u] = exp2(Score[w,v,x,u] - Top[w,v,x])
      Out2[w,v,x,z] = Share[w,v,x,u] * Val2[w,u,z]
      Score[w,v,x,u] = Query[w,v,x,c] * Key[w,u,c]
      Unused[w,u] = sum[c](Key[w,u,c])
      Top[w,v,x] = max[u](Score[w,v,x,u])
      Share[w,v,x,u] = Weight[w,v,x,u] / Mass[w,v,x]
      Mass[w,v,x] = sum[u](Weight[w,v,x,u])
      Out[w,v,x,d] = Share[w,v,x,u] * Val[w,u,d]
    }
    """
    tensors = inputs_of(parse(text).cascade(), {"w": 2, "u": 9, "c": 3, "v": 2, "x": 5, "d": 2, "z": 3})
    result = check(text, tensors)
    assert passes(result.cascade, "u.1") == 1
    assert "Unused" not in str(result.cascade)


@pytest.mark.parametrize("extent", [0, 1, 3, 4, 5, 12])
def test_ragged_and_empty_streams(extent: int) -> None:
    tensors = inputs_of(parse(zoo.CAUSAL).cascade(), {"n": extent})
    check(zoo.CAUSAL, tensors)


def test_join_law_of_the_states() -> None:
    """Any tile size is a merge tree of its own: the finished values agree."""
    tensors = inputs_of(parse(zoo.ROW_STATS).cascade(), {"n": 13})
    module = parse(zoo.ROW_STATS)
    cascade = defer(normalize(inline(module.cascade(), module))).cascade
    expected = evaluated(cascade, tensors)
    for tile in range(1, 15):
        same(expected, evaluated(online(cascade, Online(tile)).cascade, tensors))


@pytest.mark.parametrize("context", ["mean[n](X[m,n])", "sum[n](X[m,n])"])
def test_a_context_that_starts_at_zero_and_jumps_far(context: str) -> None:
    """exp(0 - (-1e4)) is infinite while the state is still 0."""
    text = f"cascade c(X[m,n], V[n,f]) -> O[m,f] {{ MU[m] = {context} O[m,f] = sum[n](exp((X[m,n] - MU[m]) / 100) * V[n,f]) }}"
    tensors = inputs_of(parse(text).cascade())
    tensors["X"] = tensors["X"] * 0.1 - 2e4
    if "sum" in context:
        tensors["X"][:, 1:] = 0
    check(text, tensors)


@pytest.mark.parametrize(
    ("weight", "reason"),
    [
        ("relu(S[m,n] - 3)", "it divides by D[m], which may be 0 until its last point"),
        ("S[m,n]", "it divides by D[m], which may be 0 until its last point"),
        ("sigmoid(S[m,n])", ""),
    ],
)
def test_a_running_divisor_is_positive_from_its_first_point(weight: str, reason: str) -> None:
    """Tiles whose weights are all 0 come first: 0 / 0 must not enter the states."""
    text = f"""cascade f(S[m,n], B[n], V[n,f]) -> O[m,f] {{
      P[m,n] = {weight}
      D[m]   = sum[n](P[m,n])
      O[m,f] = sum[n]((P[m,n] / D[m] + B[n]) * V[n,f])
    }}"""
    cascade = normalize(inline(parse(text).cascade(), None))
    found = online(cascade, Online(2, ("n",)))
    assert [c.reason for c in found.certificates if c.form == "refused"] == ([reason] if reason else [])
    tensors = {
        "S": torch.arange(8.0).reshape(1, 8).double(),
        "B": torch.ones(8).double(),
        "V": torch.ones(8, 2).double(),
    }
    same(evaluated(cascade, tensors), evaluated(found.cascade, tensors))
