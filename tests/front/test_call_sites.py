"""Errors inside of called cascades that only the types of a call, or a backend, bring out: they show the calls that lead there."""

from __future__ import annotations

import pytest
import torch

import einsum_compiler as ec

PICK = "cascade pick(X[n], I[m]) -> Y[m] { Y[m] = X[I[m]] }\ncascade f(A[i], B[j]) -> O[j] { O[j] = pick(A[i], B[j]) }"
SORTED = "cascade order(X[n]) -> Y[n] { Y[k] = argsort[n](X[n]) }\ncascade f(A[i]) -> O[i] { O[i] = order(A[i]) }"


def test_a_type_of_an_argument() -> None:
    kernel = ec.compile(PICK)
    assert kernel(torch.arange(3.0), torch.tensor([2, 0])).tolist() == [2, 0]
    with pytest.raises(ec.SpecError) as caught:
        kernel(torch.ones(3), torch.ones(2))
    assert str(caught.value).splitlines() == [
        "<text>:1:45: error: an index of X is an integer, found a value of type f32",
        "  cascade pick(X[n], I[m]) -> Y[m] { Y[m] = X[I[m]] }",
        "                                              ^~~~",
        "<text>:2:40: note: called here",
        "  cascade f(A[i], B[j]) -> O[j] { O[j] = pick(A[i], B[j]) }",
        "                                         ^~~~~~~~~~~~~~~~",
        "note: give it an integer tensor of its own: I[...] = cast(floor(...), i32)",
    ]


def test_what_no_backend_compiles() -> None:
    with pytest.raises(ec.PlanError) as caught:
        ec.compile(SORTED)(torch.ones(3))
    assert str(caught.value).splitlines()[:5] == [
        "<text>:1:38: error: argsort has no compiled form: no backend generates code for it",
        "  cascade order(X[n]) -> Y[n] { Y[k] = argsort[n](X[n]) }",
        "                                       ^~~~~~~~~~~~~~~~",
        "<text>:2:34: note: called here",
        "  cascade f(A[i]) -> O[i] { O[i] = order(A[i]) }",
    ]
