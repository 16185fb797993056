"""Pipeline strings, and the passes that prepare the algebra."""

from __future__ import annotations

import pytest

from einsum_compiler.ir.errors import SpecError, VerifyError
from einsum_compiler.ir.parser import parse
from einsum_compiler.ir.verify import verify
from einsum_compiler.passes import PASSES
from einsum_compiler.passes.analysis.graph import consumers, dependence_graph, recurrences, to_dot
from einsum_compiler.passes.online import Online
from einsum_compiler.passes.pipeline import Context, parse_pipeline, print_pipeline, run_pipeline
from einsum_compiler.passes.precision import precision
from tests.passes import zoo
from tests.passes.support import check, evaluated, inputs_of, round_trip, run, same


def test_the_registry_names_its_passes() -> None:
    usual = ["inline", "normalize", "flatten", "split", "defer", "online", "precision"]
    assert [name for name in PASSES if name in usual] == usual
    assert all(name == step.name for name, step in PASSES.items())


@pytest.mark.parametrize(
    "text",
    [
        "inline,normalize,flatten,defer,online{tile=64},precision",
        "online{tile=8 ranks=n+k}",
        "normalize{distribute=false}",
        "",
    ],
)
def test_pipelines_print_and_parse_back(text: str) -> None:
    stages = parse_pipeline(text, PASSES)
    assert print_pipeline(stages) == text
    assert parse_pipeline(print_pipeline(stages), PASSES) == stages


def test_options_reach_the_pass() -> None:
    (stage,) = parse_pipeline("online{ tile=8  ranks=n+k }", PASSES)
    assert stage.options == Online(tile=8, ranks=("n", "k"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("inlin", f"unknown pass 'inlin'; one of {', '.join(PASSES)}"),
        ("online{tiles=3}", "pass 'online' has no option 'tiles'; its options are tile, ranks, running"),
        ("flatten{x=1}", "pass 'flatten' has no option 'x'; it has none"),
        ("online{tile=big}", "option 'tile' of pass 'online' takes int, not 'big'"),
        ("online{tile=3", "unbalanced braces in the pipeline 'online{tile=3'"),
        ("on line", "'on line' is not a pass; write NAME or NAME{option=value}"),
    ],
)
def test_wrong_pipelines(text: str, message: str) -> None:
    with pytest.raises(SpecError) as error:
        parse_pipeline(text, PASSES)
    assert error.value.message == message


def test_records_keep_text_time_and_certificates() -> None:
    result = run(zoo.ATTENTION)
    assert [r.stage for r in result.records] == ["inline", "normalize", "defer", "online{tile=4}"]
    assert all(r.text == str(r.cascade) and r.seconds >= 0 for r in result.records)
    assert {c.step for c in result.certificates} == {"defer", "online"}
    assert result.after("defer") == result.records[2].cascade


def test_a_failing_check_names_the_pass() -> None:
    def fails(before: object, after: object) -> None:
        raise SpecError("the values differ")

    with pytest.raises(VerifyError) as error:
        run_pipeline(parse(zoo.NAIVE).cascade(), parse_pipeline("normalize", PASSES), Context(), verify, fails)
    assert error.value.message == "after normalize: the values differ"


def test_verify_each_compares_values() -> None:
    module = parse(zoo.LIBRARY)
    tensors = inputs_of(module.cascade())

    def compare(before: object, after: object) -> None:
        same(evaluated(before, tensors, module), evaluated(after, tensors, module))  # type: ignore[arg-type]

    stages = parse_pipeline("inline,normalize,flatten,defer,online{tile=3},precision", PASSES)
    run_pipeline(module.cascade(), stages, Context(module), verify, compare)


# -- inline


def test_inline_matches_ranks_and_names_below_the_caller() -> None:
    text = "cascade c(S[b,m,n]) -> A[b,n,m] { A[b,n,m] = softmax[n](S[b,m,n] * 2) where n <= m }"
    assert str(check(text, pipeline="inline").cascade) == (
        "cascade c(S[b,m,n]) -> A[b,n,m] {\n"
        "  A.argument[b,n,m] = S[b,m,n] * 2 where n <= m\n"
        "  A.mx[b,m] = max[n](A.argument[b,n,m])\n"
        "  A.p[b,m,n] = exp(A.argument[b,n,m] - A.mx[b,m]) where A.argument[b,n,m] > -inf\n"
        "  A.d[b,m] = sum[n](A.p[b,m,n])\n"
        "  A.a[b,m,n] = A.p[b,m,n] / A.d[b,m]\n"
        "  A[b,n,m] = A.a[b,m,n] where n <= m\n"
        "}"
    )


def test_inline_of_user_cascades_with_several_results() -> None:
    text = """
    def twice(x) = 2 * x
    cascade stats(X[i,j]; c = 3) -> S[i], M[i] { S[i] = sum[j](X[i,j]) * c M[i] = max[j](twice(X[i,j])) }
    cascade main(Y[m,n]) -> A[m], B[m], Z[m] {
      A[m], B[m] = stats(Y[m,n], 5)
      Z[m] = logsumexp[n](Y[m,n]) + A[m]
    }
    """
    check(text, pipeline="inline,normalize")


def test_inline_refuses_an_unknown_cascade() -> None:
    from einsum_compiler.passes.inline import inline

    with pytest.raises(SpecError) as error:
        inline(parse("cascade c(S[n]) -> A[n] { A[n] = softmaxx[n](S[n]) }").cascade())
    assert error.value.message == "unknown cascade 'softmaxx'"


# -- normalize


@pytest.mark.parametrize(
    ("equations", "expected"),
    [
        ("Z[m] = sum[n](X[m,n]) * 2 + 1", ["Z.sum[m] = sum[n](X[m,n])", "Z[m] = Z.sum[m] * 2 + 1"]),
        ("Z[m] = X[m,n] * X[m,n] * c", ["Z.sum[m] = sum[n](X[m,n] * X[m,n])", "Z[m] = Z.sum[m] * c"]),
        ("Z[m] = sum[n](-2 / X[m,n])", ["Z.sum[m] = sum[n](1 / X[m,n])", "Z[m] = Z.sum[m] * -2"]),
        ("Z[m] = mean[n](X[m,n])", ["Z.sum[m] = sum[n](X[m,n])", "Z[m] = Z.sum[m] / N"]),
        (
            "Z[m] = mean[n](X[m,n] where n <= m)",
            [
                "Z.sum[m] = sum[n](X[m,n] where n <= m)",
                "Z.sum2[m] = sum[n](1 where n <= m)",
                "Z[m] = Z.sum[m] / Z.sum2[m]",
            ],
        ),
        ("Z[m] = sum[n](X[m,n]) where n <= m and m < 3", ["Z[m] = sum[n](X[m,n] where n <= m) where m < 3"]),
        (
            "Z: bf16[m] = max[n](X[m,n])",
            ["Z.max[m] = max[n](X[m,n])", "Z: bf16[m] = Z.max[m]"],
        ),
        (
            "Z[m] = max[n](exp(X[m,n])) + log(max[n](exp(X[m,n])))",
            ["Z.max[m] = max[n](exp(X[m,n]))", "Z[m] = Z.max[m] + log(Z.max[m])"],
        ),
    ],
)
def test_normal_form(equations: str, expected: list[str]) -> None:
    text = f"cascade c(X[m,n]; c = 2.0) -> Z[m] {{ {equations} }}"
    result = check(text, pipeline="normalize")
    assert [line.strip() for line in str(result.cascade).splitlines()[1:-1]] == expected


def test_normalize_keeps_the_domain_of_what_leaves_a_sum() -> None:
    """An empty factor empties the product but not the sum around it, so it stays inside."""
    check("cascade c(X[m,n], Y[m]) -> Z[m] { F[m] = Y[m] where m < 3 Z[m] = sum[n](X[m,n] * F[m]) + 1 }")


def test_sums_with_different_domains_are_not_split() -> None:
    check("cascade c(X[m,n], Y[n]) -> Z[m] { F[n] = Y[n] where n < 4 Z[m] = sum[n](X[m,n] + F[n]) }")


def test_factors_of_a_contraction_are_computed_before_it() -> None:
    text = "cascade c(P[m,n], G[n], V[n,f]) -> O[m,f] { O[m,f] = P[m,n] * exp(G[n]) * V[n,f] }"
    result = check(text, pipeline="normalize")
    assert "  O.factor[m,n] = P[m,n] * exp(G[n])\n  O[m,f] = sum[n](O.factor[m,n] * V[n,f])" in str(result.cascade)


# -- defer


def test_an_empty_fibre_stays_zero_whatever_the_factor() -> None:
    text = """
    cascade c(X[m,n], V[n,f]) -> O[m,f] {
      D[m] = sum[n](X[m,n] where n < m)
      A[m,n] = X[m,n] / D[m] where n < m
      O[m,f] = A[m,n] * V[n,f]
    }
    """
    result = check(text)
    found = evaluated(result.cascade, inputs_of(parse(text).cascade()))
    assert (found["O"][0] == 0).all()
    # The weights may cancel, so D = 0 does not say that the sum is 0: the accumulator is tested.
    assert "if(O.acc[m,f] == 0, 0, O.acc[m,f] / D[m])" in str(result.after("defer"))


@pytest.mark.parametrize(
    "body", ["W[k] * default(Y[m,n], 0)", "W[k] * default(Y[m,n], 0) - exp(W[k]) * default(Y[m,n], 1)"]
)
def test_a_filter_stays_where_its_ranks_are(body: str) -> None:
    equations = f"Y[m,n] = sin(X[m,n]) where n < m\n O[m,n] = sum[k]({body}) where n <= m"
    result = check(f"cascade c(X[m,n], W[k]) -> O[m,n] {{ {equations} }}")
    assert "defer" in {c.step for c in result.certificates}


def test_defer_moves_summands_and_positive_factors_out_of_extrema() -> None:
    text = """
    cascade c(S[m,n]) -> B[m], C[m] {
      MX[m] = max[n](S[m,n])
      B[m] = max[n](S[m,n] - MX[m] * 2)
      P[m,n] = exp(S[m,n] - MX[m])
      D[m] = sum[n](P[m,n])
      C[m] = max[n](P[m,n] / (D[m] + 1))
    }
    """
    result = check(text)
    assert {c.tensor for c in result.certificates if c.step == "defer"} == {"B", "C"}


# -- precision


def test_narrow_inputs_round_the_computed_operand() -> None:
    result = run(zoo.ATTENTION)
    types = {"Q": "bf16", "K": "bf16", "V": "bf16"}
    found = precision(result.cascade, types)
    changed = [(a, b) for a, b in zip(result.cascade.equations, found.equations, strict=True) if a != b]
    assert len(changed) == 1
    assert "sum[n.0](cast(P.n[b,h,m,n.1,n.0], bf16) * V[" in str(found)
    round_trip(found)
    verify(found)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_wide_inputs_change_nothing(dtype: str) -> None:
    cascade = run(zoo.ATTENTION).cascade
    assert precision(cascade, dict.fromkeys("QKV", dtype)) == cascade


def test_the_lowest_precision_input_decides() -> None:
    cascade = parse("cascade c(A[m,k], B[k,n]) -> C[m,n] { C[m,n] = sum[k](A[m,k] * B[k,n]) }").cascade()
    assert "sum[k](cast(A[m,k], bf16) * B[k,n])" in str(precision(cascade, {"A": "f16", "B": "bf16"}))


def test_factors_leave_a_narrow_input_to_the_matrix_unit() -> None:
    """Of two computed operands one is an input times factors that the other has the ranks of."""
    text = """cascade c(P[m,n], T[m], Q[m,e], C[e], W[n,e]) -> O[n,e], R[n,e] {
      A[m,n] = exp(P[m,n])
      F[m,e] = T[m] * Q[m,e] where m > 2
      O[n,e] = sum[m](A[m,n] * F[m,e])
      G[m,e] = C[e] * Q[m,e]
      R[n,e] = sum[m](A[m,n] * G[m,e])
    }"""
    cascade = parse(text).cascade()
    rounded = precision(cascade, dict.fromkeys("PTQCW", "bf16"))
    assert "O[n,e] = sum[m](cast(A[m,n] * T[m], bf16) * Q[m,e] where m > 2)" in str(rounded)
    assert "R[n,e] = sum[m](A[m,n] * G[m,e])" in str(rounded)  # C has a rank that A lacks
    assert precision(cascade, dict.fromkeys("PTQCW", "f32")) == cascade
    pinned = parse(text.replace("F[m,e] =", "F: f32[m,e] =")).cascade()
    assert "sum[m](A[m,n] * F[m,e])" in str(precision(pinned, dict.fromkeys("PTQCW", "bf16")))


def test_a_pinned_type_stays() -> None:
    text = "cascade c(A[m,k], B[k,n]) -> C[m,n] { T: f16[m,k] = exp(A[m,k]) C[m,n] = sum[k](T[m,k] * B[k,n]) }"
    cascade = parse(text).cascade()
    assert precision(cascade, {"A": "f32", "B": "f32"}) == cascade  # T is rounded where it is written, B nowhere
    assert "cast(T" not in str(precision(cascade, {"A": "f16", "B": "f16"}))


# -- flatten


def test_boxes_become_one_streamed_rank() -> None:
    from einsum_compiler.passes.analysis.levels import passes

    for tile in (1, 5, 16):
        result = check(zoo.TWO_DIMENSIONS, pipeline=f"inline,normalize,flatten,defer,online{{tile={tile}}}")
    assert passes(result.cascade, "v_u.1") == 1


def test_three_ranks_and_a_tensor_with_one_of_them() -> None:
    text = """
    cascade c(Q[m,e], K[v,u,y,e], V[v,u,y,f], B[u]) -> O[m,f] {
      G[u] = exp(B[u])
      S[m,v,u,y] = Q[m,e] * K[v,u,y,e] + G[u] + v where u <= m
      A[m,v,u,y] = softmax[v,u,y](S[m,v,u,y])
      O[m,f] = A[m,v,u,y] * V[v,u,y,f]
    }
    """
    result = check(text, pipeline="inline,normalize,flatten,defer,online{tile=5}")
    assert "V_U_Y = V * U * Y" in str(result.cascade)


def test_a_merged_rank_keeps_extents_that_only_bare_reads_gave() -> None:
    """A sum over pairs whose terms read one of the two ranks each."""
    text = "cascade c(X[m]) -> O[], P[] { O[] = sum[m,k](X[m] - X[k] where m < k) P[] = sum[m,k](X[m] * X[k]) }"
    assert "; M_K = M * M" in str(check(text, pipeline="normalize,flatten").cascade)


@pytest.mark.parametrize(
    "ending",
    ["-> O[m], S[m,v,u] { S[m,v,u] = X[m,v,u] * 2", "-> O[m], R[m,v] { S[m,v,u] = X[m,v,u] R[m,v] = sum[u](S[m,v,u])"],
)
def test_ranks_that_something_needs_apart_are_not_merged(ending: str) -> None:
    text = f"cascade c(X[m,v,u]) {ending} D[m] = sum[v,u](S[m,v,u]) O[m] = sum[v,u](S[m,v,u] / D[m]) }}"
    assert "V_U" not in str(check(text, pipeline="normalize,flatten").cascade)


# -- the graph


def test_the_dependence_graph() -> None:
    cascade = run(zoo.ATTENTION).cascade
    graph = dependence_graph(cascade)
    assert graph.nodes["MX.n"]["kind"] == "reduction" and graph.nodes["K"]["kind"] == "input"
    assert recurrences(cascade) == (frozenset({"D.run"}), frozenset({"MX.run"}), frozenset({"O.acc.run"}))
    assert "O" in consumers(cascade, "MX.run") and "MX.run" not in consumers(cascade, "V")
    assert to_dot(cascade).startswith('digraph attention {\n  "Q" [shape=plaintext, label="Q[b,h,m,e]"];')
