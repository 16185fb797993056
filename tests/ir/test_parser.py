"""Texts to nodes: what each form of the grammar means, and where the nodes stand."""

from __future__ import annotations

import math
import time

import pytest

from einsum_compiler.ir.cascade import Cascade
from einsum_compiler.ir.errors import SpecError
from einsum_compiler.ir.expression import (
    Binary,
    Call,
    CascadeCall,
    Cast,
    Comparison,
    Conditional,
    Constant,
    Expression,
    Extent,
    Membership,
    Parameter,
    Rank,
    Read,
    Reduction,
    Selection,
    Slice,
    Unary,
    walk,
)
from einsum_compiler.ir.library import library
from einsum_compiler.ir.parser import parse, parse_expression
from einsum_compiler.ir.verify import verify_module
from tests.ir.texts import TEXTS

a, b, c = Parameter("a"), Parameter("b"), Parameter("c")
m, n = Rank("m"), Rank("n")


def expression(text: str) -> Expression:
    return parse_expression(text, parameters="abc", ranks="mn")


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("a + b * c", Binary("+", a, Binary("*", b, c))),
        ("a - b - c", Binary("-", Binary("-", a, b), c)),
        ("a / b * c", Binary("*", Binary("/", a, b), c)),
        ("a ** b ** c", Binary("**", a, Binary("**", b, c))),
        ("-a ** 2", Unary("-", Binary("**", a, Constant(2)))),
        ("-2 ** 2", Unary("-", Binary("**", Constant(2), Constant(2)))),
        ("(-2) ** 2", Binary("**", Constant(-2), Constant(2))),
        ("2 ** -1", Binary("**", Constant(2), Constant(-1))),
        ("-a * b", Binary("*", Unary("-", a), b)),
        ("- 3", Constant(-3)),
        ("-(3)", Unary("-", Constant(3))),
        ("--3", Unary("-", Constant(-3))),
        ("a - -3", Binary("-", a, Constant(-3))),
        ("a | b ^ c & m << n", Binary("|", a, Binary("^", b, Binary("&", c, Binary("<<", m, n))))),
        ("a << b + c", Binary("<<", a, Binary("+", b, c))),
        ("a < b << c", Comparison(("<",), (a, Binary("<<", b, c)))),
        ("0 <= m - n < a", Comparison(("<=", "<"), (Constant(0), Binary("-", m, n), a))),
        ("not a or b and c", Binary("or", Unary("not", a), Binary("and", b, c))),
        ("not a == b", Unary("not", Comparison(("==",), (a, b)))),
        ("m // a in I[n, :]", Membership(Binary("//", m, a), Read("I", (n, Slice())))),
        ("not m in I[:]", Unary("not", Membership(m, Read("I", (Slice(),))))),
        ("m not in I[:]", Membership(m, Read("I", (Slice(),)), True)),
        ("if(a < b, a, b)", Conditional(Comparison(("<",), (a, b)), a, b)),
        ("cast(a, bf16)", Cast(a, "bf16")),
        ("max(a, b)", Call("max", (a, b))),
        ("max[n](X[n])", Reduction("max", ("n",), Read("X", (n,)))),
        ("sum[m,n](a where m < n)", Reduction("sum", ("m", "n"), a, Comparison(("<",), (m, n)))),
        ("argmax[n](X[n])", Reduction("argmax", ("n",), Read("X", (n,)))),
        ("softmax[n](X[n] where n < a)", CascadeCall("softmax", ("n",), (Read("X", (n,)),), Comparison(("<",), (n, a)))),
        ("attend[](X[n])", CascadeCall("attend", (), (Read("X", (n,)),))),
        (
            "topk[n](X[n] where n < a, count = 2 * b)",
            Selection("topk", ("n",), Read("X", (n,)), Comparison(("<",), (n, a)), Binary("*", Constant(2), b)),
        ),
        ("argsort[n](X[n])", Selection("argsort", ("n",), Read("X", (n,)))),
        ("X[]", Read("X")),
        ("K[P[m, n // 4], n % 4]", Read("K", (Read("P", (m, Binary("//", n, Constant(4)))), Binary("%", n, Constant(4))))),
        ("M / N", Binary("/", Extent("m"), Extent("n"))),
        ("pi * inf", Binary("*", Constant(math.pi), Constant(math.inf))),
        ("-inf", Constant(-math.inf)),
        ("true and false", Binary("and", Constant(True), Constant(False))),
        ("1e3 + .5 + 2. + 0x10", Binary("+", Binary("+", Binary("+", Constant(1000.0), Constant(0.5)), Constant(2.0)), Constant(16))),
        ("a  # a comment\n + b", Binary("+", a, b)),
    ],
)  # fmt: skip
def test_expression(text: str, node: Expression) -> None:
    assert expression(text) == node


def test_values_of_one_number_but_other_types_differ() -> None:
    assert Constant(1) != Constant(1.0) != Constant(True) != Constant(1)


def test_spans_cover_the_text_of_every_node() -> None:
    text = "cascade f(X[m,e]; c) -> A[m] {\n  A[m] = (X[m,e] + c) * 2 where m < 3\n}"
    cascade = parse(text).cascade()
    spans = {type(node).__name__: node.span.text for node in walk(cascade.equations[0].value) if node.span}
    assert spans["Binary"] == "(X[m,e] + c)"
    assert spans["Read"] == "X[m,e]"
    where = cascade.equations[0].where
    assert where is not None and where.span is not None and where.span.text == "m < 3"
    assert cascade.equations[0].span is not None and cascade.equations[0].span.text.startswith("A[m] = (X")
    assert cascade.inputs[0].span is not None and cascade.inputs[0].span.text == "X[m,e]"
    assert all(node.span is not None for e in cascade.equations for node in walk(e.value))


def test_a_name_is_an_extent_also_when_declared() -> None:
    cascade = parse("cascade f(X[m]; r: int, C = ceil(M / r), W = 2) -> A[c] { A[c] = X[c * r] * C * W }").cascade()
    value = cascade.equations[0].value
    assert [type(n).__name__ for n in walk(value) if isinstance(n, Extent | Parameter)] == [
        "Parameter",
        "Extent",
        "Parameter",
    ]
    assert Extent("c") in set(walk(value)) and Parameter("W") in set(walk(value))
    assert cascade.parameters[1].default == Call("ceil", (Binary("/", Extent("m"), Parameter("r")),))


def test_newlines_mean_nothing() -> None:
    one = parse("cascade f(X[m]) -> A[m] { B[m] = X[m] A[m] = B[m] * 2 where m < 2 }")
    other = parse("cascade f(\nX[m]) ->\nA[m]\n{ B[m]\n=\nX[m]\nA[m] = B[m]\n* 2 where\nm < 2\n}")
    assert one == other


def test_equation_forms() -> None:
    cascade = parse(
        "cascade f(X: f16[m], I: i32[m]; p: bool = true, q) -> A: bf16[m] {\n"
        "  T: f16[m] = X[m] where p\n  T[m] = 0 else\n  A[m] = T[m] else where m < 2\n}"
    ).cascade()
    assert [e.otherwise for e in cascade.equations] == [False, True, True]
    assert cascade.equations[2].where is not None
    assert cascade.equations[0].target.dtype == "f16"
    assert (cascade.inputs[0].dtype, cascade.outputs[0].dtype) == ("f16", "bf16")
    assert [(p.name, p.dtype, p.default) for p in cascade.parameters] == [
        ("p", "bool", Constant(True)),
        ("q", None, None),
    ]


def test_a_plain_call_of_a_cascade_of_the_text_is_a_cascade_call() -> None:
    module = parse(TEXTS["plain_call"])
    call = module.cascade("two").equations[0].value
    assert isinstance(call, CascadeCall) and (call.cascade, call.ranks) == ("attend", ())
    assert [t.tensor for t in module.cascade().equations[0].targets] == ["R", "M"]


def test_generated_names_need_leave() -> None:
    module = parse("cascade f(X[n]; N.0 = 128, N.1 = 2) -> A[n.1] { A[n.1] = X[N.0 * n.1] * N.1 }", generated=True)
    cascade = module.cascade()
    assert cascade.equations[0].target.ranks == ("n.1",)
    assert Extent("n.0") in set(walk(cascade.equations[0].value))
    assert parse(str(module), generated=True) == module


def test_tiles_of_a_tile_program_read_without_indices() -> None:
    node = parse_expression("exp(s - MX.next)", tiles=("s", "MX.next"), generated=True)
    assert node == Call("exp", (Binary("-", Read("s"), Read("MX.next")),))


@pytest.mark.parametrize("name", TEXTS)
def test_every_construct_is_accepted(name: str) -> None:
    verify_module(parse(TEXTS[name], name))


def test_the_library_is_a_text_of_the_language() -> None:
    verify_module(library())
    assert [c.name for c in library().cascades] == ["softmax", "softmax1", "logsumexp", "layernorm", "rmsnorm"]
    assert all(isinstance(c, Cascade) and c.ranks for c in library().cascades)


def test_parsing_is_fast() -> None:
    parse(TEXTS["window"])  # the parser is built once
    best = min(_seconds(lambda: parse(TEXTS["window"])) for _ in range(5))
    assert best < 0.1  # 10 ms on an idle machine


def _seconds(run: object) -> float:
    assert callable(run)
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def test_an_expression_too_deep_is_an_error() -> None:
    text = "cascade f(X[m]) -> A[m] { A[m] = " + " + ".join(["X[m]"] * 3000) + " }"
    with pytest.raises(SpecError, match="an expression nests too deeply"):
        parse(text)
    short = "cascade f(X[m]) -> A[m] { A[m] = " + " + ".join(["X[m]"] * 100) + " }"
    verify_module(parse(short))
