"""``def`` functions and their expansion."""

from __future__ import annotations

import pytest

from einsum_compiler.ir.definitions import expand_cascade, expand_definitions
from einsum_compiler.ir.errors import SpecError
from einsum_compiler.ir.parser import parse, parse_expression
from einsum_compiler.ir.printer import print_expression

MODULE = parse(
    "def softcap(x, c) = c * tanh(x / c)\n"
    "def twice(x) = softcap(x, 2) + x\n"
    "def swap(x, y) = y - x\n"
    "def near(m, n, w) = 0 <= m - n < w\n"
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("softcap(S[m], 30)", "30 * tanh(S[m] / 30)"),
        ("twice(a + b)", "2 * tanh((a + b) / 2) + (a + b)"),
        ("swap(y, x)", "x - y"),
        ("swap(swap(x, y), 1)", "1 - (y - x)"),
        ("exp(a)", "exp(a)"),
    ],
)
def test_expansion(text: str, expected: str) -> None:
    node = parse_expression(text, parameters="abxy")
    assert print_expression(expand_definitions(node, MODULE)) == expected


def test_predicates_and_defaults_expand_too() -> None:
    text = "def near(m, n, w) = 0 <= m - n < w\ncascade f(X[m,n]; w = near(1, 0, 2)) -> A[m,n] { A[m,n] = X[m,n] where near(m, n, 3) }"
    module = parse(text)
    cascade = expand_cascade(module.cascade(), module)
    assert "where 0 <= m - n < 3" in str(cascade) and "w = 0 <= 1 - 0 < 2" in str(cascade)


def test_recursion_is_refused() -> None:
    module = parse("def f(x) = g(x)\ndef g(x) = 1 + f(x)")
    with pytest.raises(SpecError, match="def f calls itself: f -> g -> f"):
        expand_definitions(parse_expression("f(1)"), module)
