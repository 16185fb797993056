"""Closed forms of tile ranges: their text, their counts, and their soundness against brute force."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from einsum_compiler.ir.expression import Constant, Expression, Read, transform
from einsum_compiler.ir.printer import print_expression
from einsum_compiler.ir.scalar import evaluate_scalar
from einsum_compiler.passes.analysis.index_sets import (
    NotAffine,
    Split,
    TileRanges,
    count_tiles,
    projection,
    tile_ranges,
)
from tests.masks import classes, predicate, predicates

PARAMETERS = ("W", "c", "flag")
TENSORS = {"S": np.array([3, 9]), "T": np.array([5, 21]), "PL": np.array([20, 0]), "w": np.array([-2, 3])}


def ranges_of(
    text: str, query: int = 96, key: int = 128, dtypes: dict[str, str] | None = None
) -> TileRanges | NotAffine:
    others = (Split("b", "b", 1), Split("h", "h", 1), Split("m", "m.1", query))
    return tile_ranges(predicate(text, PARAMETERS), Split("n", "n.1", key), others, dtypes)


def text_of(found: TileRanges | NotAffine) -> list[str]:
    assert isinstance(found, TileRanges)
    return [
        f"{'partial' if r.partial else 'full'} [{print_expression(r.lower)}, {print_expression(r.upper)})"
        for r in found.ranges
    ]


def visited(found: TileRanges, names: dict[str, int], tensors: dict[str, Any]) -> dict[int, bool]:
    """Whether each visited tile is partial; no tile may be visited twice."""

    def value(node: Expression) -> int:
        def read(n: Expression) -> Expression:
            if not isinstance(n, Read):
                return n
            return Constant(tensors[n.tensor][tuple(evaluate_scalar(i, names) for i in n.indices)].item())

        return int(evaluate_scalar(transform(node, read), names))

    seen: dict[int, bool] = {}
    for r in found.ranges:
        for tile in range(value(r.lower), value(r.upper)):
            assert tile not in seen
            seen[tile] = r.partial
    return seen


def compare(
    node: Expression,
    splits: tuple[Split, ...],
    names: dict[str, Any],
    tensors: dict[str, Any],
    dtypes: dict[str, str] | None = None,
) -> list[int]:
    """Checks soundness; returns how many empty tiles were visited and how many full ones were masked."""
    *others, stream = splits
    found = tile_ranges(node, stream, tuple(others), dtypes)
    wasted = masked = 0
    if isinstance(found, TileRanges):
        for outer, row in classes(node, stream, tuple(others), names, tensors).items():
            here = {**names, **{s.outer: i for s, i in zip(others, outer, strict=True)}}
            seen = visited(found, here, tensors)
            assert all(0 <= tile < len(row) for tile in seen)
            for tile, kind in enumerate(row):
                match kind:
                    case "empty":
                        assert seen.get(tile, True)
                        wasted += tile in seen
                    case "partial":
                        assert seen[tile]
                    case _:
                        masked += seen[tile]
    return [wasted, masked]


def test_every_tile_of_no_predicate_but_the_ragged_one_is_full() -> None:
    others = (Split("m", "m.1", 96),)
    found = tile_ranges(None, Split("n", "n.1", 128), others)
    assert text_of(found) == ["full [0, N // 128)", "partial [N // 128, (N + 127) // 128)"]


def test_closed_forms_read_as_a_person_writes_them() -> None:
    limit = "min((N + 127) // 128, (3 * m.1 + 2) // 4 + 1)"
    assert text_of(ranges_of("n <= m")) == [
        "full [0, min(N // 128, 3 * m.1 // 4))",
        f"partial [min(N // 128, 3 * m.1 // 4), {limit})",
    ]
    assert text_of(ranges_of("n <= m and m - n < 64")) == [f"partial [max(0, (3 * m.1 + 2) // 4 - 1), {limit})"]
    assert text_of(ranges_of("n // 64 == m // 64")) == [f"partial [3 * m.1 // 4, {limit})"]


def test_a_tensor_of_outer_indices_is_a_parameter_and_ranges_from_one_end_join() -> None:
    limit = "min((N + 127) // 128, max((3 * m.1 + 2) // 4 + 1, (PL[b] + 127) // 128))"
    assert text_of(ranges_of("n <= m or n < PL[b]")) == [
        "full [0, min(N // 128, max(3 * m.1 // 4, PL[b] // 128)))",
        f"partial [min(N // 128, max(3 * m.1 // 4, PL[b] // 128)), {limit})",
    ]


def test_a_condition_without_inner_coordinates_guards_the_whole_loop() -> None:
    assert text_of(ranges_of("n <= m or not flag and h < 1", dtypes={"flag": "bool"}))[0] == (
        "full [0, max(min(N // 128, 3 * m.1 // 4), if(not flag and h < 1, N // 128, 0)))"
    )


@pytest.mark.parametrize("c", [0.5, 1.0, 1.5, 4.0, -1.0, float("inf"), -float("inf")])
@pytest.mark.parametrize("text", ["m - n < c", "m - n <= c", "n - m < c + 0.5"])
def test_a_real_bound_is_rounded_to_the_integers_it_admits(text: str, c: float) -> None:
    splits = (Split("m", "m.1", 4), Split("n", "n.1", 4))
    names = {"N": 16, "M": 12, "c": c}
    assert compare(predicate(text, PARAMETERS), splits, names, {}, {"c": "f64-weak"}) == [0, 0]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("S[m] == T[n]", "'T[n]' is data that varies within a tile"),
        ("(m - n) * (m - n) < W", "'(m - n) * (m - n)' is not affine in the ranks"),
        ("m // W == n // W", "'n // W' is not affine in the ranks"),
        ("n % 512 < 16", "'n % 512' skips tiles between the first and the last"),
        ("n in S[h, :]", "'n in S[h,:]' is data that varies within a tile"),
        ("m - n < n / 2", "'n / 2' is not affine in the ranks"),
    ],
)
def test_what_has_no_closed_form_names_its_term(text: str, reason: str) -> None:
    assert ranges_of(text) == NotAffine(reason)


def test_causal_visits_no_empty_tile_at_2048_keys() -> None:
    found = ranges_of("n <= m")
    assert isinstance(found, TileRanges)
    for tile in range(22):
        last = min(96 * tile + 95, 2111)
        full, partial = count_tiles(found, {"m.1": tile, "N": 2048, "M": 2048})
        assert full == 96 * tile // 128 if 96 * tile % 128 != 127 else True
        assert full + partial == min(last // 128 + 1, 16)


MASKS = {
    "causal": "n <= m",
    "causal aligned to the end": "n <= m + N - M",
    "window": "n <= m and m - n < W",
    "two-sided window": "abs(m - n) <= W",
    "sink and window": "n <= m and (n < S[h] or m - n < T[h])",
    "prefix": "n <= m or n < PL[b]",
    "chunks": "n // 16 <= m // 16",
    "blocks": "n // 8 == m // 8",
    "dilated": "(m - n) % 3 == 0 and 0 <= m - n < 12",
    "neighbourhood": "clamp(m - 3, 0, N - 7) <= n < clamp(m - 3, 0, N - 7) + 7",
    "shifted windows": "(m + 3) // 8 == (n + 3) // 8",
    "dilated neighbourhood": "m % 2 == n % 2 and clamp(m // 2 - 2, 0, 8) <= n // 2 < clamp(m // 2 - 2, 0, 8) + 5",
}


@pytest.mark.parametrize("name", MASKS)
def test_the_masks_of_attention_visit_the_tiles_that_hold_points(name: str) -> None:
    node = predicate(MASKS[name], PARAMETERS)
    for query, key in ((4, 4), (8, 4), (6, 8)):
        splits = (Split("b", "b", 1), Split("h", "h", 1), Split("m", "m.1", query), Split("n", "n.1", key))
        names = {"B": 1, "H": 2, "M": 24, "N": 27, "W": 9}
        assert isinstance(tile_ranges(node, splits[-1], splits[:-1]), TileRanges)
        wasted, _ = compare(node, splits, names, TENSORS)
        if "dilated" not in name and "end" not in name and query != 6:
            assert wasted == 0


SIZES = st.fixed_dictionaries(
    {
        "B": st.just(1),
        "H": st.just(2),
        "M": st.sampled_from([5, 9]),
        "N": st.sampled_from([0, 1, 7, 13]),
        "W": st.integers(-5, 8),
    }
)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(predicates(data=False), SIZES, st.sampled_from([1, 3, 4]), st.sampled_from([1, 4, 5]))
def test_any_predicate_has_every_point_in_one_visited_tile(
    node: Expression, names: dict[str, int], query: int, key: int
) -> None:
    compare(node, (Split("h", "h", 1), Split("m", "m.1", query), Split("n", "n.1", key)), names, TENSORS)


def test_projection_keeps_what_names_only_the_given_ranks() -> None:
    def projected(text: str, *onto: str) -> str | None:
        found = projection(predicate(text, PARAMETERS), onto)
        return None if found is None else print_expression(found)

    assert projected("n <= m and n < S[b]", "b", "n") == "n < S[b]"
    assert projected("n <= m or n < S[b]", "b", "n") is None
    assert projected("0 <= n < W and n <= m", "n") == "0 <= n and n < W"
    assert projected("not (n >= W or n > m)", "n") == "n < W"
    assert projected("n < W and m < n or n < 4 and m > 2", "n") == "n < W or n < 4"
    assert projection(None, ("n",)) is None


@pytest.mark.parametrize(
    "text",
    [
        "n <= m and m < n",
        "m - n > 5 and m - n < W and n == m + 1",
        "n % 3 == 1 and n % 3 == 2",
        "n < 4 and n > 9 or n < m and n > m",
    ],
)
def test_what_holds_nowhere_has_no_tiles(text: str) -> None:
    assert text_of(ranges_of(text)) == []


def test_part_of_a_union_that_holds_nowhere_is_left_out() -> None:
    assert text_of(ranges_of("n <= m or (n < m - 3 and n > m + 3)")) == text_of(ranges_of("n <= m"))
