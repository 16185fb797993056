"""Cases that meet are refused before code is generated where ranks and extents alone decide it, as the evaluator refuses them."""

from __future__ import annotations

import itertools
import re

import pytest
import torch

import einsum_compiler as ec
from einsum_compiler.backends.reference.evaluate import evaluate
from einsum_compiler.ir.cascade import Cascade
from einsum_compiler.ir.errors import SpecError
from einsum_compiler.ir.parser import parse
from einsum_compiler.ir.scalar import evaluate_scalar
from einsum_compiler.passes.disjoint import check_disjoint

X = torch.ones(3, 5)


def cases(*filters: str) -> str:
    return f"cascade c(X[i,j]; W: int = 1) -> A[i,j] {{ {' '.join(f'A[i,j] = X[i,j] where {f}' for f in filters)} }}"


def found(cascade: Cascade) -> str:
    try:
        check_disjoint(cascade, {"i": 3, "j": 5, "a": 3, "b": 5})
    except SpecError as error:
        return error.message
    return ""


FILTERS = (
    "j <= i", "j > i", "i // 2 == j % 3", "not (i + j < 4)", "abs(i - j) < 2 or i == 2", "2 * i - J < min(j, 1)", "0 < j <= I - 2", "max(i, j) >= 4",
)  # fmt: skip


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(FILTERS, 2)))
def test_what_the_evaluator_finds(one: str, other: str) -> None:
    cascade = parse(cases(one, other)).cascade()
    message = found(cascade)
    try:
        evaluate(cascade, {"X": X})
        assert not message
    except SpecError:
        place = {rank: int(at) for rank, at in re.findall(r"(\w) = (\d)", message)}
        assert all(evaluate_scalar(e.where, {**place, "I": 3, "J": 5}) for e in cascade.equations if e.where)


def test_what_parameters_and_tensors_decide_is_left_to_the_evaluator() -> None:
    assert found(parse(cases("j <= W", "j >= 1")).cascade()) == ""
    assert found(parse(cases("X[i,j] > 0", "j >= 1")).cascade()) == ""


def test_a_conjunct_over_a_reduced_rank_says_nothing_of_the_left_side() -> None:
    text = "cascade c(X[i,j]) -> A[i] { A[i] = sum[j](X[i,j]) where j > 2 and i < 1  A[i] = 0 where i > 0 }"
    assert found(parse(text).cascade()) == ""


def test_ranks_match_by_position() -> None:
    text = "cascade c(X[i,j]) -> A[i,j] { A[i,j] = X[i,j] where i < 1  A[a,b] = 0 where b < 1 }"
    assert found(parse(text).cascade()) == "the cases of A overlap at a = 0, b = 0"


def test_a_kernel_says_it_at_its_first_call() -> None:
    kernel = ec.compile(cases("j < 2", "j > 2"), backend="cpu")
    assert kernel(X).sum() == 12
    with pytest.raises(SpecError) as caught:
        ec.compile(cases("j <= i", "j >= i"), backend="cpu")(X)
    assert str(caught.value).splitlines() == [
        "<text>:1:72: error: the cases of A overlap at i = 0, j = 0",
        "  cascade c(X[i,j]; W: int = 1) -> A[i,j] { A[i,j] = X[i,j] where j <= i A[i,j] = X[i,j] where j >= i }",
        "                                                                         ^~~~~~~~~~~~~~~~~~~~~~~~~~~~",
        "note: make the filters disjoint, or mark the last case with else",
    ]
