"""Counts of points against isl's own enumeration, and the formulas of triangles, bands and their like."""

from __future__ import annotations

import islpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from einsum_compiler.ir.expression import Expression
from einsum_compiler.ir.parser import parse
from einsum_compiler.passes.bounds.integer_points import count, image, point_set
from einsum_compiler.passes.bounds.point_formulas import count_formula
from einsum_compiler.passes.bounds.symbols import at

FILTERS = (
    "n <= m",
    "n <= m and m - n < W",
    "n <= m + N - M or not C",
    "m - W <= n <= m + U",
    "n < W",
    "m + n < N",
    "n >= m + U and n < W",
    "m + n >= W and m - n < U and n <= m + 3",
    "n <= 2 * m",
    "n // 4 <= m // 4",
    "abs(m - n) <= W",
    "(m - n) % 3 == 0 and n <= m",
    "n < U or m - n < W and n <= m",
    "not (n < m)",
)


def condition(text: str) -> Expression:
    program = f"cascade c(A[m], B[n]; W: int, U: int, C: bool) -> Z[m,n] {{ Z[m,n] = A[m] * B[n] where {text} }}"
    where = parse(program, "test").cascades[0].equations[0].where
    assert where is not None
    return where


sizes = st.integers(1, 12)


@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize("text", FILTERS)
@given(m=sizes, n=sizes, w=sizes, u=sizes, c=st.booleans())
def test_counts_and_formulas(text: str, m: int, n: int, w: int, u: int, c: bool) -> None:
    names = {"M": m, "N": n, "W": w, "U": u, "C": c}
    extents = {"m": m, "n": n}
    points, opaque = point_set(("m", "n"), extents, (condition(text),), names)
    assert not opaque
    expected = points.count_val().to_python()
    assert count(points) == expected
    formula = count_formula(("m", "n"), extents, (condition(text),), names)
    if formula is not None:
        assert at(formula, names) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("n <= m", "M*(M + 1)/2"),
        ("n <= m and m - n < W", "W*(2*M - W + 1)/2"),
        ("n <= m + N - M", "N*(N + 1)/2"),
        ("n < W", "M*W"),
    ],
)
def test_formulas_of_common_shapes(text: str, expected: str) -> None:
    names = {"M": 4096, "N": 4096, "W": 256, "U": 1, "C": True}
    assert str(count_formula(("m", "n"), {"m": 4096, "n": 4096}, (condition(text),), names)) == expected


def test_large_sets_are_counted_without_enumerating_their_points() -> None:
    points = islpy.Set("{ [b, m, n] : 0 <= b < 64 and 0 <= m < 131072 and 0 <= n <= m }")
    assert count(points) == 64 * 131072 * 131073 // 2


def test_images_count_elements_once() -> None:
    points, _ = point_set(("m", "r"), {"m": 100, "r": 7}, (), {})
    assert count(image(points, ("m", "r"), ["i0 + i1"])) == 106
    assert count(image(points, ("m", "r"), ["floor(i0/4)"])) == 25
    assert count(image(points, ("m", "r"), ["2*i0"])) == 100


def test_sets_too_large_to_enumerate_are_not_counted() -> None:
    points = islpy.Set("{ [i, j, k] : 0 <= i, j, k < 8192 and i + j + k <= 9000 and i - j <= k }")
    assert count(points) is None
