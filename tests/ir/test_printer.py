"""``parse(print(x)) == x``, and the text is the one a person would write."""

from __future__ import annotations

import pytest
from hypothesis import given

from einsum_compiler.ir.cascade import Cascade
from einsum_compiler.ir.expression import Binary, Constant, Expression, Parameter, Read, Unary
from einsum_compiler.ir.implicit_sums import explicit_sums
from einsum_compiler.ir.library import library
from einsum_compiler.ir.parser import parse, parse_expression
from einsum_compiler.ir.printer import print_cascade, print_expression
from einsum_compiler.ir.verify import verify
from tests import strategies
from tests.ir.texts import TEXTS


def parsed(text: str) -> Expression:
    return parse_expression(
        text, parameters=strategies.PARAMETERS, ranks=strategies.RANKS, cascades=("attend",), generated=True
    )


@given(strategies.expressions())
def test_expressions_round_trip(node: Expression) -> None:
    assert parsed(print_expression(node)) == node


@given(strategies.cascades())
def test_cascades_round_trip(cascade: Cascade) -> None:
    verify(cascade)
    assert parse(print_cascade(cascade)).cascade() == cascade


@given(strategies.cascades())
def test_cascades_with_explicit_sums_round_trip(cascade: Cascade) -> None:
    explicit = explicit_sums(cascade)
    verify(explicit)
    assert parse(print_cascade(explicit)).cascade() == explicit
    assert explicit_sums(explicit) == explicit


@pytest.mark.parametrize("name", TEXTS)
def test_texts_round_trip(name: str) -> None:
    module = parse(TEXTS[name])
    assert parse(str(module)) == module


def test_the_library_round_trips() -> None:
    assert parse(str(library())) == library()


@pytest.mark.parametrize(
    "text",
    [
        "(a + b) * c",
        "a + b * c",
        "a - (b - c)",
        "a - b - c",
        "(-a)**2",
        "-a**2",
        "(-2)**c",
        "2**-c",
        "(a**b)**c",
        "a**b**c",
        "not (a and b)",
        "not a and b",
        "(a < b) == c",
        "a < b <= c",
        "-(3)",
        "--3",
        "-inf",
        "(a or b) and c",
        "a in I[c,:]",
        "max[n](S[n] where n <= m)",
        "topk[n](S[n] where n <= m, count = 16)",
        "if(a == 0, 0, b / a)",
        "attend[](Q[m,e], K[n,e])",
    ],
)
def test_only_needed_parentheses(text: str) -> None:
    assert print_expression(parse_expression(text, parameters="abc", ranks="mne")) == text


def test_tiles_print_bare() -> None:
    node = Binary("-", Read("s"), Unary("-", Constant(1)))
    assert print_expression(node) == "s[] - -(1)"
    assert print_expression(node, tiles=True) == "s - -(1)"


def test_nan_has_no_literal() -> None:
    with pytest.raises(ValueError, match="NaN has no literal"):
        print_expression(Binary("+", Parameter("a"), Constant(float("nan"))))


def test_a_whole_cascade() -> None:
    text = TEXTS["cases"]
    assert str(parse(text)) == (
        "def softcap(x, c) = c * tanh(x / c)\n"
        "\n"
        "cascade heads(Q[h,m,e], K[n,e]; c = 30, w: int) -> S[h,m,n] {\n"
        "  R[h,m,n] = softcap(sum[e](Q[h,m,e] * K[n,e]), c)\n"
        "  S[h,m,n] = R[h,m,n] where h % 2 == 0 and n <= m\n"
        "  S[h,m,n] = R[h,m,n] * 2 where h % 2 == 1 and 0 <= m - n < w\n"
        "  S[h,m,n] = 0 else\n"
        "}\n"
    )
