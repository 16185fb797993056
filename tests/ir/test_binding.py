"""Calls: what binds to what, and every way a call can be wrong with its whole message."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from einsum_compiler.ir.binding import bind
from einsum_compiler.ir.errors import EinsumError, ShapeError, SpecError
from einsum_compiler.ir.parser import parse

TEXT = (
    "cascade f(Q[m,e], K[n,e], I: i32[m]; W: int, scale = 1 / sqrt(E), r = 4, C = ceil(N / r), flag: bool = true)"
    " -> A[m,c] {\n  S[m,n] = Q[m,e] * K[n,e] * scale where n < W\n"
    "  A[m,c] = S[m,min(c * r, N - 1)] * if(flag, 1, 0) + I[m]\n}"
)
CASCADE = parse(TEXT).cascade()
Q, K, I = torch.zeros(3, 4), torch.zeros(10, 4), torch.zeros(3, dtype=torch.int32)


def test_positions_keywords_and_defaults() -> None:
    binding = bind(CASCADE, (Q, K), {"I": I, "W": 2})
    assert binding.extents == {"m": 3, "e": 4, "n": 10, "c": 3}
    assert binding.scalars == {"W": 2, "scale": 0.5, "r": 4, "flag": True}
    assert binding.tensors["K"] is K
    assert binding.names()["C"] == 3 and binding.names()["scale"] == 0.5
    assert bind(CASCADE, (Q, K, I, 2, 0.25), {"r": 3}).extents["c"] == 4
    assert bind(CASCADE, (Q, K, I, 2), {"C": 7}).extents["c"] == 7


def test_scalars_may_be_tensors() -> None:
    scale = torch.tensor(0.5, requires_grad=True)
    binding = bind(CASCADE, (Q, K, I), {"W": torch.tensor(2), "scale": scale})
    assert binding.scalars["W"] == 2 and type(binding.scalars["W"]) is int
    assert binding.scalar_tensors["scale"] is scale


def test_extents_of_zero_are_legal() -> None:
    binding = bind(CASCADE, (torch.zeros(0, 4), torch.zeros(0, 4), torch.zeros(0, dtype=torch.int32), 2), {})
    assert binding.extents == {"m": 0, "e": 4, "n": 0, "c": 0}


def test_extents_travel_through_bare_reads_and_selections() -> None:
    cascade = parse(
        "cascade f(X[m,n]; k: int) -> I[m,j], R[m,s] {\n"
        "  Y[a,b] = X[a,b] * 2\n  I[m,j] = topk[b](Y[m,b], count = 2 * k)\n  R[m,s] = argsort[n](X[m,n])\n}"
    ).cascade()
    assert bind(cascade, (torch.zeros(3, 5),), {"k": 1}).extents == {
        "m": 3, "n": 5, "a": 3, "b": 5, "j": 2, "s": 5,
    }  # fmt: skip


def error(*arguments: Any, **keywords: Any) -> str:
    with pytest.raises(ShapeError) as caught:
        bind(CASCADE, arguments, keywords)
    return str(caught.value)


def pinned(message: str, column: int, shown: str, *notes: str) -> str:
    line = TEXT.splitlines()[0]
    carets = " " * (column - 1) + "^" + "~" * (len(shown) - 1)
    return "\n".join(
        [f"<text>:1:{column}: error: {message}", f"  {line}", f"  {carets}", *(f"note: {n}" for n in notes)]
    )


NAME = (9, "f")


def test_extents_that_disagree_name_both_tensors() -> None:
    assert error(Q, torch.zeros(10, 5), I, W=2) == pinned(
        "the extents of rank e disagree: 4 in Q[m,e] of shape (3, 4), 5 in K[n,e] of shape (10, 5)", 19, "K[n,e]"
    )


def test_extents_that_disagree_through_a_read() -> None:
    cascade = parse("cascade f(X[m], Y[n]) -> A[n] { A[n] = Y[n] * X[n] }").cascade()
    with pytest.raises(ShapeError) as caught:
        bind(cascade, (torch.zeros(3), torch.zeros(4)), {})
    assert str(caught.value) == (
        "<text>:1:47: error: rank n reads axis 0 (m) of X, and their extents disagree: 4 in Y[n] of shape (4), 3 in X[m] of shape (3)\n"
        "  cascade f(X[m], Y[n]) -> A[n] { A[n] = Y[n] * X[n] }\n"
        f"  {' ' * 46}^~~~\n"
        "note: where n may run beyond the axis, the index is n + 0: it is empty there"
    )


def test_an_extent_that_a_parameter_and_a_bare_rank_give() -> None:
    cascade = parse("cascade f(X[n], Y[m]; K = N + M) -> A[k] { A[k] = X[k] + default(Y[k - N], 0) }").cascade()
    with pytest.raises(ShapeError) as caught:
        bind(cascade, (torch.zeros(3), torch.zeros(4)), {})
    assert caught.value.message == "the extents of rank k disagree: 3 in X[n] of shape (3), 7 in the parameter K"
    assert caught.value.notes == (
        "X is read with a bare k; where k may run beyond the axis, the index is k + 0: it is empty there",
    )


@pytest.mark.parametrize(
    ("arguments", "keywords", "message", "place", "notes"),
    [
        ((Q, K), {"W": 2}, "f misses the argument I", NAME, ()),
        ((Q,), {}, "f misses the arguments K, I and W", NAME, ()),
        (
            (Q, K, I, 1, 2, 3, 4, True, 9), {},
            "f takes 8 arguments (Q, K, I, W, scale, r, C, flag), found 9", NAME, (),
        ),
        ((Q, K, I), {"w": 2}, "f has no argument 'w'", NAME, ("did you mean W?",)),
        ((Q, K, I), {"Q": Q, "W": 2}, "f got 'Q' twice: by position and by keyword", NAME, ()),
        ((Q, K[0], I), {"W": 2}, "K: expected 2 axes (n,e), found 1: shape (4)", (19, "K[n,e]"), ()),
        ((Q, 2.0, I), {"W": 2}, "K: expected a tensor with the ranks n,e, found float", (19, "K[n,e]"), ()),
        ((Q, K, I.long()), {"W": 2}, "I: expected elements of type i32, found i64", (27, "I: i32[m]"), ()),
        (
            (Q.to(torch.complex64), K, I), {"W": 2},
            "Q: the element type torch.complex64 is not one of the language", (11, "Q[m,e]"), (),
        ),
        ((Q, K, I), {"W": 2.5}, "W: expected an int, found float 2.5", (38, "W: int"), ()),
        ((Q, K, I), {"W": True}, "W: expected an int, found bool True", (38, "W: int"), ()),
        ((Q, K, I), {"W": 2, "flag": 1}, "flag: expected a bool, found int 1", (91, "flag: bool = true"), ()),
        ((Q, K, I), {"W": 2, "scale": "x"}, "scale: expected a number, found str", (46, "scale = 1 / sqrt(E)"), ()),
        (
            (Q, K, I), {"W": 2, "scale": Q},
            "scale: expected a number or a tensor without axes, found shape (3, 4)", (46, "scale = 1 / sqrt(E)"), (),
        ),
        ((Q, K, I), {"W": 2, "C": 2.5}, "C: an extent is an integer from 0, found 2.5", (74, "C = ceil(N / r)"), ()),
        ((Q, K, I), {"W": 2, "C": -1}, "C: an extent is an integer from 0, found -1", (74, "C = ceil(N / r)"), ()),
        (
            (Q, K.to("meta"), I), {"W": 2},
            "Q is on cpu and K is on meta: move them to one device", NAME, (),
        ),
    ],
)  # fmt: skip
def test_refusals(arguments: Any, keywords: Any, message: str, place: tuple[int, str], notes: tuple[str, ...]) -> None:
    assert error(*arguments, **keywords) == pinned(message, *place, *notes)


def test_an_unknown_extent() -> None:
    cascade = parse("cascade f(X[m]) -> A[u] { A[u] = 1 }").cascade()
    with pytest.raises(SpecError) as caught:
        bind(cascade, (torch.zeros(2),), {})
    assert caught.value.message == "the extent of rank u is unknown: no input has this rank"
    assert caught.value.notes == ("give it with the parameters: ; U = ...",)


def test_a_negative_count() -> None:
    cascade = parse("cascade f(X[m]; k: int) -> I[j] { I[j] = topk[m](X[m], count = k) }").cascade()
    with pytest.raises(EinsumError) as caught:
        bind(cascade, (torch.zeros(2),), {"k": -1})
    assert caught.value.message == "the count of topk is -1: expected an integer from 0"


def test_a_warm_call_needs_no_heavy_library() -> None:
    modules = "expression cascade tile types errors span scalar binding torch_types"
    code = (
        f"import sys\nfor name in {modules.split()!r}: __import__('einsum_compiler.ir.' + name)\n"
        "print(sorted({'torch', 'lark', 'sympy', 'islpy', 'networkx', 'difflib'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    found = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_an_extent_that_only_a_called_cascade_reduces() -> None:
    text = "cascade pooled(X[b,t]; I = T // 2, R = 2) -> P[b,i] { P[b,i] = logsumexp[r](X[b,2 * i + r]) }"
    assert bind(parse(text).cascade(), (torch.zeros(3, 11),), {}).extents == {"b": 3, "t": 11, "i": 5, "r": 2}


def test_a_default_is_not_rounded_to_an_int() -> None:
    cascade = parse("cascade f(X[m]; k: int = M / 2) -> Y[m] { Y[m] = X[m] * k }").cascade()
    assert bind(cascade, (torch.zeros(4),), {}).scalars == {"k": 2}
    with pytest.raises(ShapeError) as caught:
        bind(cascade, (torch.zeros(5),), {})
    assert caught.value.message == "k: expected an int, found the default 2.5"
    assert caught.value.notes == ("'/' is real; the integer quotient is written //",)


def test_a_cascade_with_ranks_of_a_caller_is_not_called_with_tensors() -> None:
    cascade = parse("cascade f(X[...,i]) -> Y[...] { Y[...] = X[...,i] }").cascades[0]
    with pytest.raises(SpecError) as caught:
        bind(cascade, (Q,), {})
    assert str(caught.value).splitlines() == [
        "<text>:1:11: error: f can only be called by other cascades: the ranks of X are theirs ('...')",
        "  cascade f(X[...,i]) -> Y[...] { Y[...] = X[...,i] }",
        "            ^~~~~~~~",
    ]
