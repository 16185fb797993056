"""Value ranges: what they prove, and that random values stay inside."""

from __future__ import annotations

import math

import pytest
import torch

from einsum_compiler.ir.parser import parse
from einsum_compiler.passes.analysis.range_arithmetic import ANYTHING, COUNT, NUMBER, ValueRange, constant_range
from einsum_compiler.passes.analysis.value_ranges import expression_range, ranges
from tests.passes import zoo
from tests.passes.support import inputs_of, run

REAL = ValueRange(infinite=False, nan=False)


def _expression(text: str):
    return parse(f"cascade c(X[n], Y[n]; c) -> Z[n] {{ Z[n] = {text} }}").cascade().equations[0].value


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("exp(X[n])", 0, math.inf),
        ("exp(-abs(X[n]))", 0, 1),
        ("sigmoid(X[n])", 0, 1),
        ("X[n] * X[n] + 1", 1, math.inf),
        ("tanh(X[n]) - 2", -3, -1),
        ("relu(X[n]) / (X[n] ** 2 + 2)", 0, math.inf),
        ("max(X[n], 3)", 3, math.inf),
        ("clamp(X[n], -1, 4)", -1, 4),
        ("if(X[n] > 0, 1, -1)", -1, 1),
        ("rsqrt(X[n] * X[n] + 4)", 0, 0.5),
        ("min(exp(X[n]), 2) * -3", -6, 0),
        ("n % 5", 0, 5),
        ("floor(sigmoid(X[n]) * 10)", 0, 10),
        ("X[n] / 0", -math.inf, math.inf),
    ],
)
def test_bounds(text: str, low: float, high: float) -> None:
    found = expression_range(_expression(text), {"X": REAL, "Y": REAL})
    assert (found.low, found.high) == (low, high)


@pytest.mark.parametrize(
    ("text", "never"),
    [
        ("exp(X[n])", False),  # underflows
        ("X[n] * X[n] + 1", True),
        ("if(X[n] == 0, 1, X[n])", True),
        ("X[n] * X[n]", False),
        ("max(X[n], 0.5)", True),
    ],
)
def test_never_zero(text: str, never: bool) -> None:
    assert expression_range(_expression(text), {"X": REAL}).never_zero == never


@pytest.mark.parametrize(
    ("text", "nan"),
    [
        ("X[n] - Y[n]", False),
        ("X[n] / Y[n]", True),
        ("X[n] / (Y[n] ** 2 + 1)", False),
        ("log(X[n])", True),
        ("log(X[n] ** 2)", False),
    ],
)
def test_where_nan_can_arise(text: str, nan: bool) -> None:
    assert expression_range(_expression(text), {"X": REAL, "Y": REAL}).nan == nan


def test_a_value_less_its_maximum_is_not_positive() -> None:
    found = ranges(parse(zoo.ATTENTION).cascade())
    assert found["P"].high == 1 and found["P"].low == 0
    assert found["D"].nonnegative


@pytest.mark.parametrize("name", ["ATTENTION", "CAUSAL", "SINK", "ROW_STATS", "UNION", "LIBRARY"])
def test_the_same_holds_of_the_running_form(name: str) -> None:
    """So a clamp of the exponential can be dropped in the stream too."""
    found = ranges(run(getattr(zoo, name)).cascade)
    weights = [r for tensor, r in found.items() if tensor.split(".")[0] in ("P", "P1", "P2") or ".p." in tensor]
    assert weights and all((r.low, r.high) == (0, 1) for r in weights)


@pytest.mark.parametrize(
    "name", ["ATTENTION", "ROW_STATS", "LAYERNORM_GEMM", "DIFFERENTIAL", "SIGMOID", "CLIPPED", "VARIANCE"]
)
def test_values_stay_inside(name: str) -> None:
    result = run(getattr(zoo, name))
    tensors = inputs_of(result.cascade)
    from einsum_compiler.backends.reference.evaluate import evaluate

    every = evaluate(result.cascade, tensors, every=True)
    for tensor, found in ranges(result.cascade).items():
        if tensor in every:
            values = torch.nan_to_num(every[tensor].output().double(), nan=found.low if found.low > -math.inf else 0.0)
            present = values[values != 0]  # an empty point shows as 0
            assert (present >= found.low).all() and (present <= found.high).all(), tensor


def test_recurrences_keep_the_bounds_of_their_step() -> None:
    text = "cascade c(A[t]) -> Z[t] { H[0] = 1 H[t+1] = H[t] * exp(A[t]) + 1 Z[t] = H[t] }"
    found = ranges(parse(text).cascade())
    assert found["H"].low == 1 and found["H"].high == math.inf


def test_integer_inputs_and_constants() -> None:
    found = ranges(parse("cascade c(S: i32[n]) -> Z[n] { Z[n] = S[n] * 2 }").cascade())
    assert found["Z"].integer and found["Z"].finite
    assert constant_range(math.nan) == ANYTHING and COUNT.low == 0 and NUMBER.finite
