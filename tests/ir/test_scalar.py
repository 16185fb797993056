"""Expressions over numbers mean what they mean in Python."""

from __future__ import annotations

import math

import pytest

from einsum_compiler.ir.errors import SpecError
from einsum_compiler.ir.parser import parse_expression
from einsum_compiler.ir.scalar import FUNCTIONS, evaluate_scalar

NAMES = {"a": 7, "b": -3, "x": 0.5, "N": 130, "n": 4, "flag": True}


def value(text: str) -> object:
    return evaluate_scalar(parse_expression(text, parameters=("a", "b", "x", "flag"), ranks=("n",)), NAMES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ceil(N / 16)", 9),
        ("(N + 15) // 16", 9),
        ("b // 2", -2),
        ("b % 5", 2),
        ("a / 2", 3.5),
        ("1 / sqrt(a + 9)", 0.25),
        ("-a ** 2", -49),
        ("(a ^ 2) | 8 & 12 << 1", (7 ^ 2) | (8 & (12 << 1))),
        ("0 <= n < a < N", True),
        ("n == 4 and not flag or b > 0", False),
        ("if(n > a, 1 // 0, 2)", 2),
        ("cast(2.7, i32)", 2),
        ("cast(a, f32)", 7.0),
        ("clamp(b, 0, 5) + max(a, n) - min(a, n)", 3),
        ("floor(-0.5)", -1),
        ("round(2.5)", 2),
        ("sign(b) * abs(b)", -3),
        ("-inf", -math.inf),
        ("1 / 0", math.inf),
        ("log(0)", -math.inf),
        ("exp(1000)", math.inf),
        ("2 ** pi", 2**math.pi),
        ("default(x, 1) + stop_gradient(x)", 1.0),
    ],
)
def test_value(text: str, expected: object) -> None:
    found = value(text)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(("text"), ["log(-1)", "sqrt(-1)", "0 / 0", "sin(inf)"])
def test_not_a_number(text: str) -> None:
    found = value(text)
    assert isinstance(found, float) and math.isnan(found)


@pytest.mark.parametrize(
    "name",
    [n for n in FUNCTIONS if n not in ("max", "min", "clamp", "default", "abs", "sign", "floor", "ceil", "round")],
)
def test_functions_agree_with_torch(name: str) -> None:
    import torch

    ours = {"stop_gradient": lambda t: t, "silu": torch.nn.functional.silu, "gelu": torch.nn.functional.gelu}
    ours["softplus"] = torch.nn.functional.softplus
    theirs = ours[name] if name in ours else getattr(torch, name)
    for x in (0.3, 1.7, 4.0):
        expected = theirs(torch.tensor(x, dtype=torch.float64)).item()
        assert FUNCTIONS[name](x) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a // 0", "cannot compute this: integer division or modulo by zero"),
        ("x << 2", "cannot compute this: unsupported operand type(s) for <<: 'float' and 'int'"),
        ("X[n]", "expected an expression over numbers only: parameters, extents, constants"),
        ("sum[n](n)", "expected an expression over numbers only: parameters, extents, constants"),
        ("M + 1", "'M' has no value here"),
    ],
)
def test_refusals(text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        value(text)
    assert caught.value.message == message


def test_a_tensor_without_axes_is_a_number() -> None:
    import torch

    node = parse_expression("c * 2", parameters=("c",))
    assert evaluate_scalar(node, {"c": torch.tensor(1.5)}) == 3.0
