"""Warnings on legal texts: each trap of the language that a text can fall into, and its safe neighbours."""

from __future__ import annotations

import warnings

import pytest

from einsum_compiler.ir.errors import EinsumWarning
from einsum_compiler.ir.lint import findings, lint
from einsum_compiler.ir.parser import parse
from einsum_compiler.ir.verify import verify_module
from tests.ir.texts import TEXTS


def messages(text: str) -> list[str]:
    module = parse(text)
    verify_module(module)
    return [f.message for f in findings(module.cascade(), module)]


def test_an_extent_with_the_name_of_a_tensor() -> None:
    text = "cascade f(X[m,d], D[m]) -> A[m] {\n  A[m] = X[m,d] / D\n}"
    with pytest.warns(EinsumWarning) as caught:
        lint(parse(text).cascade())
    assert [str(w.message) for w in caught] == [
        (
            "<text>:2:19: warning: D is the extent of rank d here, and there is a tensor D\n"
            "    A[m] = X[m,d] / D\n"
            "                    ^\n"
            "note: a read of the tensor has brackets: D[...]"
        )
    ]


NEIGHBOURS = "cascade f(Q[m,e], K[n,e]; O = 3) -> S[m,o] {{ S[m,o] = {} }}"


def test_a_sum_that_can_be_empty_as_a_whole() -> None:
    assert messages(NEIGHBOURS.format("Q[m,e] * K[m + o - 1,e]")) == [
        "m + o - 1 may lie outside K for every point of this sum: the result is then the sum of nothing, and not empty"
    ]


@pytest.mark.parametrize(
    "value",
    [
        "Q[m,e] * K[m + o - 1,e] where 0 <= m + o - 1 < N",  # hidden by a filter on the score
        "Q[m,e] * default(K[m + o - 1,e], 0)",  # padded
        "Q[m,e] * K[m // 2,e] * o",
        "K[m + e,e] * o",  # some points of the sum lie inside
    ],
)
def test_safe_neighbours(value: str) -> None:
    assert messages(NEIGHBOURS.format(value)) == []


def test_a_condition_over_a_rank_that_is_reduced_and_stored() -> None:
    """It acts in the reduction alone, in every back end; the kernels are compared in tests/front/test_driver.py."""
    text = "cascade f(X[m,n]) -> P[m,n] {{\n  P[m,n] = X[m,n] / {} where n <= m\n}}"
    assert messages(text.format("sum[n](X[m,n])")) == [
        "this condition acts inside the reduction over n alone: P is defined at every n"
    ]
    assert messages(text.format("(M + 1)")) == []


def test_a_quotient_of_two_sums() -> None:
    text = (
        "cascade f(P[m,n], V[n,f]) -> O[m,f] {{\n  D[m] = P[m,n]\n  N[m,f] = P[m,n] * V[n,f]\n"
        "  A[m,n] = P[m,n] / D[m]\n  O[m,f] = {}\n}}"
    )
    assert messages(text.format("N[m,f] / D[m]")) == ["a quotient of two sums over n is 0/0 where nothing is summed"]
    assert messages(text.format("if(D[m] == 0, 0, N[m,f] / D[m])")) == []
    assert messages(text.format("A[m,n] * V[n,f]")) == []


def test_a_quotient_of_two_sums_where_a_filter_tests_the_divisor() -> None:
    text = (
        "cascade f(P[m,n], V[n,f], LEN: i32[m], X[m]) -> O[m,f] {{\n  D[m] = sum[n](P[m,n] where n < LEN[m])\n"
        "  N[m,f] = sum[n](P[m,n] * V[n,f] where n < LEN[m])\n  O[m,f] = N[m,f] / D[m] {}\n}}"
    )
    assert messages(text.format("where D[m] > 0")) == []
    assert messages(text.format("where LEN[m] > 0")) == []  # what the divisor is computed from
    assert messages(text.format("where X[m] > 0")) == ["a quotient of two sums over n is 0/0 where nothing is summed"]


@pytest.mark.parametrize("name", TEXTS)
def test_good_texts_have_no_warnings(name: str) -> None:
    module = parse(TEXTS[name])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for cascade in module.cascades:
            lint(cascade, module)


JOINED = """
cascade f(X[n,e], Y[m,e]{}) -> C[k,e] {{
  C[k,e] = X[{},e] where k < N
  C[k,e] = Y[k - N,e] where {}
}}"""


@pytest.mark.parametrize("condition", ["k >= N", "N <= k"])
def test_a_case_beyond_the_extent_that_another_case_gives(condition: str) -> None:
    text = JOINED.format("", "k", condition)
    assert messages(text) == ["this never holds: k runs over axis 0 of X, which it reads as a bare rank"]


def test_a_case_within_the_extent_of_a_parameter() -> None:
    assert messages(JOINED.format("; K = N + M", "k + 0", "k >= N")) == []
