"""Element types of computed tensors."""

from __future__ import annotations

import pytest

from einsum_compiler.ir.inference import expression_dtype, infer_types
from einsum_compiler.ir.parser import parse, parse_expression
from tests.ir.texts import TEXTS

TYPES = {
    "X": "bf16",
    "Y": "f32",
    "Z": "f64",
    "H": "f16",
    "I": "i32",
    "J": "i64",
    "B": "bool",
    "U": "u8",
    "c": "f64",
    "k": "i64",
}


@pytest.mark.parametrize(
    ("text", "dtype"),
    [
        # What only picks or moves values keeps its type; what computes on narrow floats is f32.
        ("X[m]", "bf16"),
        ("-X[m]", "bf16"),
        ("max(X[m], 0)", "bf16"),
        ("max[m](X[m])", "bf16"),
        ("if(B[m], X[m], 0)", "bf16"),
        ("default(X[m + 1], 0)", "bf16"),
        ("X[m] * X[m]", "f32"),
        ("X[m] + 1", "f32"),
        ("exp(X[m])", "f32"),
        ("sum[m](X[m])", "f32"),
        ("mean[m](H[m])", "f32"),
        ("X[m] + H[m]", "f32"),
        ("X[m] * Z[m]", "f64"),
        ("sum[m](Z[m])", "f64"),
        ("exp(Z[m])", "f64"),
        ("cast(Y[m], bf16)", "bf16"),
        # Numbers never widen a tensor type of their kind.
        ("Y[m] * c", "f32"),
        ("Y[m] * m", "f32"),
        ("I[m] * k + m", "i32"),
        ("I[m] * c", "f32"),
        ("I[m] + J[m]", "i64"),
        ("m + 1", "i64"),
        ("c * 2", "f32"),
        # Integers and booleans.
        ("I[m] / 2", "f32"),
        ("I[m] // 2", "i32"),
        ("sum[m](I[m])", "i64"),
        ("sum[m](B[m])", "i64"),
        ("exp(I[m])", "f32"),
        ("U[m] >> 4 & 15", "u8"),
        ("m < 2 and B[m]", "bool"),
        ("any[m](B[m])", "bool"),
        ("argmax[m](Y[m])", "i64"),
        ("topk[m](Y[m], count = 2)", "i64"),
        ("uniform(k, m)", "f32"),
        ("floor(Y[m])", "f32"),
        ("n in I[:]", "bool"),
    ],
)
def test_expression(text: str, dtype: str) -> None:
    node = parse_expression(text, parameters=("c", "k"))
    assert expression_dtype(node, TYPES.__getitem__) == dtype


def test_attention() -> None:
    cascade = parse(TEXTS["window"]).cascade()
    types = infer_types(cascade, {"Q": "bf16", "K": "bf16", "V": "bf16"})
    assert types == {
        "Q": "bf16", "K": "bf16", "V": "bf16", "W": "i64", "scale": "f64",
        "S": "f32", "MX": "f32", "P": "f32", "D": "f32", "A": "f32", "O": "f32", "L": "f32",
    }  # fmt: skip


def test_pins_calls_and_recurrences() -> None:
    assert infer_types(parse(TEXTS["pinned"]).cascade(), {"X": "f32"}) == {"X": "f32", "T": "f16", "Y": "bf16"}
    module = parse(TEXTS["plain_call"])
    types = infer_types(module.cascade(), {"Q": "f64", "K": "f64", "V": "f64"}, module)
    assert (types["R"], types["M"]) == ("f64", "f64")
    retention = infer_types(parse(TEXTS["retention"]).cascade(), dict.fromkeys("QKV", "f16") | {"LA": "f64"})
    assert retention["S"] == "f64" and retention["O"] == "f64"
    assert infer_types(parse(TEXTS["wkv"]).cascade(), dict.fromkeys("KVwu", "bf16"))["MX"] == "f32"


def test_parameters() -> None:
    cascade = parse(
        "cascade f(X[m]; a: int, b: float, p: bool, d = 3, e = 1.5, g = M) -> A[m] { A[m] = X[m] * a }"
    ).cascade()
    types = infer_types(cascade, {"X": "f32"})
    assert [types[n] for n in "abpdeg"] == ["i64", "f64", "bool", "i64", "f64", "i64"]
    assert infer_types(cascade, {"X": "f32", "d": "f64"})["d"] == "f64"
