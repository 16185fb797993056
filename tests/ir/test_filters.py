"""Where the conjuncts of a filter act."""

from __future__ import annotations

import pytest

from einsum_compiler.ir.filters import distribute_filter
from einsum_compiler.ir.implicit_sums import explicit_equation
from einsum_compiler.ir.parser import parse
from einsum_compiler.ir.printer import print_equation

CASES = [
    ("A[m] = X[m,n] where n <= m", "A[m] = sum[n](X[m,n] where n <= m)"),
    ("A[m] = X[m,n] where m < 2", "A[m] = sum[n](X[m,n]) where m < 2"),
    ("A[m] = X[m,n] where n <= m and m < 2", "A[m] = sum[n](X[m,n] where n <= m) where m < 2"),
    (
        "A[m] = sum[n](X[m,n]) / max[n](X[m,n]) where n <= m",
        "A[m] = sum[n](X[m,n] where n <= m) / max[n](X[m,n] where n <= m)",
    ),
    (
        "A[m] = sum[n](X[m,n]) + Y[m] where n <= m and Y[m] > 0",
        "A[m] = sum[n](X[m,n] where n <= m) + Y[m] where Y[m] > 0",
    ),
    ("A[m] = max[n](sum[k](X[m,n] * X[m,k])) where k <= n", "A[m] = max[n](sum[k](X[m,n] * X[m,k] where k <= n))"),
    ("A[m] = max[n](sum[k](X[m,n] * X[m,k])) where n < 2", "A[m] = max[n](sum[k](X[m,n] * X[m,k]) where n < 2)"),
    ("A[m] = sum[n](X[m,n] where n < 3) where n > 1", "A[m] = sum[n](X[m,n] where n < 3 and n > 1)"),
    ("B[m,n] = softmax[n](X[m,n]) where n <= m", "B[m,n] = softmax[n](X[m,n] where n <= m)"),
    ("I[m,j] = topk[n](X[m,n], count = 2) where n <= m", "I[m,j] = topk[n](X[m,n] where n <= m, count = 2)"),
    # A rank that is both reduced and on the left: the condition acts inside.
    ("B[m,n] = X[m,n] / sum[n](X[m,n]) where n <= m", "B[m,n] = X[m,n] / sum[n](X[m,n] where n <= m)"),
    # A filter whose operand reads by membership.
    ("A[m] = X[m,n] where n in I[m,:] and m > 0", "A[m] = sum[n](X[m,n] where n in I[m,:]) where m > 0"),
]


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_place(text: str, expected: str) -> None:
    equation = parse(f"cascade f(X[m,n], Y[m]) -> A[m] {{ {text} }}").cascade().equations[0]
    assert print_equation(distribute_filter(explicit_equation(equation))) == expected
