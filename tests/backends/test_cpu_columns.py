"""What the rows of a tile share is computed before them: places in boxes, windows, residues, distances in tables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import einsum_compiler as ec
from einsum_compiler.backends.cpu.affine import Known
from einsum_compiler.backends.cpu.columns import is_column, separate
from einsum_compiler.ir.build import add
from einsum_compiler.ir.expression import Expression
from einsum_compiler.ir.parser import parse_expression
from einsum_compiler.ir.scalar import evaluate_scalar

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
KNOWN = Known({}, frozenset())


@pytest.mark.parametrize(
    ("text", "column", "rest"),
    [
        ("y - n // 7 + 6", "-(n // 7)", "y + 6"),
        ("n % 7 - (y - 3)", "n % 7", "-y + 3"),
        ("y + 1", "0", "y + 1"),
    ],
)
def test_sums_come_apart(text: str, column: str, rest: str) -> None:
    found = separate(parse_expression(text), {"n"}, {"y"}, KNOWN)
    assert found is not None
    points = [(y, n) for y in range(5) for n in range(20)]
    for part, expected in zip(found, (column, rest), strict=True):
        assert [value(part, *p) for p in points] == [value(parse_expression(expected), *p) for p in points]
    assert all(value(add(*found), *p) == value(parse_expression(text), *p) for p in points)


def value(node: Expression, y: int, n: int) -> int:
    return int(evaluate_scalar(node, {"y": y, "n": n}))


def test_what_changes_along_both_does_not() -> None:
    assert separate(parse_expression("(y + n) // 7"), {"n"}, {"y"}, KNOWN) is None
    assert is_column(parse_expression("n // 7 + 1"), "n")
    assert not is_column(parse_expression("n + 1"), "n")


def test_rows_of_boxes_divide_nothing_and_copy_tables_by_distances() -> None:
    kernel = ec.compile(EXAMPLES / "swin.ein", backend="cpu")
    tensors = {n: torch.randn(1, 2, 21, 14, 16) for n in "QKV"} | {"TB": torch.randn(2, 13, 13)}
    kernel.validate(**tensors, window=7, shift=3)
    source = kernel.source("cpu", **tensors, window=7, shift=3)
    assert "gather_row" in source
    # Bodies of vectors inside of a loop over rows.
    rows = re.findall(r"fold_row\((?:.*\n)*?\s*return", source)
    assert rows and not any("divide" in body or "modulo" in body or ">>" in body for body in rows)
