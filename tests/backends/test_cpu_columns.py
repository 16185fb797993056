"""What the rows of a tile share is computed before them: places in boxes, windows, residues, distances in tables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import einsum_compiler as ec
from einsum_compiler.backends.cpu.affine import Known
from einsum_compiler.backends.cpu.columns import columns_of, is_column
from einsum_compiler.ir.build import add
from einsum_compiler.ir.expression import Expression, Rank, Read
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
    found = columns_of(parse_expression(text), {"n"}, {"y"}, KNOWN)
    assert found is not None
    points = [(y, n) for y in range(5) for n in range(20)]
    for part, expected in zip(found, (column, rest), strict=True):
        assert [value(part, *p) for p in points] == [value(parse_expression(expected), *p) for p in points]
    assert all(value(add(*found), *p) == value(parse_expression(text), *p) for p in points)


def value(node: Expression, y: int, n: int) -> int:
    return int(evaluate_scalar(node, {"y": y, "n": n}))


def test_what_changes_along_both_does_not() -> None:
    assert columns_of(parse_expression("(y + n) // 7"), {"n"}, {"y"}, KNOWN) is None
    assert is_column(parse_expression("n // 7 + 1"), "n", KNOWN, ())
    assert not is_column(parse_expression("n + 1"), "n", KNOWN, ())


def test_tiles_of_the_lanes_are_columns_where_they_are_computed_with() -> None:
    known = Known({"I": ("n",), "J": ("y", "n"), "X": ("n",)}, frozenset({"I", "J"}))
    read = {name: Read(name, ()) for name in known.tiles}
    assert is_column(add(Rank("n"), read["I"]), "n", known, ())
    assert not is_column(read["I"], "n", known, ())
    assert not is_column(add(Rank("n"), read["I"]), "n", known, {"I"})  # in a register of the sweep
    assert not is_column(add(Rank("n"), read["J"]), "n", known, ())
    assert not is_column(add(Rank("n"), read["X"]), "n", known, ())


def test_rows_of_boxes_divide_nothing_and_copy_tables_by_distances() -> None:
    kernel = ec.compile(EXAMPLES / "swin.ein", backend="cpu")
    tensors = {n: torch.randn(1, 2, 21, 14, 16) for n in "QKV"} | {"TB": torch.randn(2, 13, 13)}
    kernel.validate(**tensors, window=7, shift=3)
    source = kernel.source("cpu", **tensors, window=7, shift=3)
    assert "gather_row" in source and "find_runs" in source
    # Bodies of vectors inside of a loop over rows.
    rows = re.findall(r"fold_row\((?:.*\n)*?\s*return", source)
    assert rows and not any("divide" in body or "modulo" in body or ">>" in body for body in rows)
    # A window is two bounds in 32 bits on each axis, though its shift has 64.
    assert not any("int64_t" in body for body in rows)


def test_rows_of_the_next_tile_are_asked_for_where_they_lie_anywhere() -> None:
    tensors = {n: torch.randn(1, 2, 16, 16, 16) for n in "QKV"} | {"TB": torch.randn(2, 15, 15)}
    source = ec.compile(EXAMPLES / "swin.ein", backend="cpu").source("cpu", **tensors, window=8, shift=0)
    asked = re.findall(r"ask_for_row<64, ([01])>\((\w) \+ b", source)
    # In both products of both bodies: keys and values of the next tile, the queries of the next program, the rows that this one writes.
    assert sorted(asked) == sorted([("0", "K"), ("0", "V"), ("0", "Q"), ("1", "O")] * 4)
    # Each product asks for half of them.
    shares = [re.sub(r"_\d+", "", s) for s in re.findall(r"asking_for<float>\(\d+, \d+, ([^,]+), ", source)]
    assert shares == ["rows * 1 / 2", "rows - before"] * 2
    lines = {n: torch.randn(1, 2, 64, 16) for n in "QKV"}
    assert "ask_for_row" not in ec.compile(EXAMPLES / "softmax.ein", backend="cpu").source("cpu", **lines)


@pytest.mark.parametrize("shift", [0, 3, -5, 2**31 + 3, -(2**45) + 1])
def test_windows_shifted_beyond_32_bits(shift: int) -> None:
    kernel = ec.compile(EXAMPLES / "swin.ein", backend="cpu")
    tensors = {n: torch.randn(1, 2, 12, 10, 8) for n in "QKV"} | {"TB": torch.randn(2, 13, 13)}
    kernel.validate(**tensors, window=7, shift=shift)


@pytest.mark.parametrize("condition", ["<=", "<", ">=", ">", "=="])
def test_orders_of_quotients_divide_no_lane(condition: str) -> None:
    """``(n + s) // 5`` against a row, both ways round, with several bounds on one key."""
    text = f"""cascade quotients(Q[m,e], K[n,e], V[n,f]; s: int) -> O[m,f] {{
      S[m,n] = Q[m,e] * K[n,e] where (n + s) // 5 {condition} m // 3 and m // 4 <= (n - s) // 6 + 3 and n % 7 < m + 2
      O[m,f] = softmax[n](S[m,n]) * V[n,f]
    }}"""
    tensors = {"Q": torch.randn(37, 8), "K": torch.randn(70, 8), "V": torch.randn(70, 8)}
    for s in (-4, 0, 9):
        ec.compile(text, backend="cpu").validate(**tensors, s=s)


def test_a_map_for_one_store_has_no_tile_of_its_own() -> None:
    text = "cascade divided(A[m,n], D[m]) -> O[m,n] { O[m,n] = if(D[m] == 0, 0, A[m,n] / D[m]) }"
    kernel = ec.compile(text, backend="cpu")
    tensors = {"A": torch.randn(20, 40), "D": torch.arange(20.0)}
    kernel.validate(**tensors)
    assert "tile::store<float>" not in kernel.source("cpu", **tensors)
