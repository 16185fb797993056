"""Lists of tiles found at run time: the true classes on the masks of attention, soundness on all others."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import einsum_compiler as ec
from einsum_compiler import box_reads
from einsum_compiler.backends.cpu import tables
from einsum_compiler.ir.build import ceil_divide
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.expression import Expression, Extent
from einsum_compiler.ir.tile import ProgramRank, Schedule
from einsum_compiler.kept_lists import kept_between_calls
from einsum_compiler.passes.analysis.tile_box import Split
from einsum_compiler.tile_lists import build_tile_list, count_tiles
from tests.masks import classes, predicate, predicates

PARAMETERS = ("W", "r", "flag")
RANDOM = np.random.default_rng(0)
DOCUMENT = np.sort(RANDOM.integers(-1, 5, 64))
TENSORS = {
    "SQ": DOCUMENT,
    "SK": DOCUMENT,
    "S": np.array([3, 9]),
    "T": np.array([5, 21]),
    "PL": np.array([20]),
    "w": np.array([-2, 3]),
    "AL": RANDOM.random((5, 5)) < 0.4,
    "AN": np.tril(RANDOM.random((64, 40)) < 0.3),
    "BL": np.array([[[0, 2, -1], [0, 1, 3], [2, -1, -1], [3, 4, 7]]] * 2),
}


def schedule(node: Expression, splits: tuple[Split, ...]) -> Schedule:
    indices = [ProgramRank(s.outer, ceil_divide(Extent(s.rank), s.size)) for s in splits]
    return Schedule("s", node, tuple((s.rank, s.outer, s.size) for s in splits), tuple(indices[:-1]), indices[-1])


def build(node: Expression, splits: tuple[Split, ...], names: dict[str, Any], tensors: dict[str, Any]) -> Any:
    extents, scalars = sizes(names)
    return build_tile_list(schedule(node, splits), tensors, scalars, extents)


def sizes(names: dict[str, Any]) -> tuple[dict[str, int], dict[str, Any]]:
    extents = {k.lower(): v for k, v in names.items() if k in "BHMN"}
    return extents, {k: v for k, v in names.items() if k not in "BHMN"}


def build_again(node: Expression, splits: tuple[Split, ...], names: dict[str, Any], tensors: dict[str, Any]) -> Any:
    """The list after that of a call with other tensors, from which is kept what no tensor decides."""
    plan, (extents, scalars) = schedule(node, splits), sizes(names)
    kept = kept_between_calls(plan, scalars, extents)
    build_tile_list(plan, {name: np.flip(t) for name, t in tensors.items()}, scalars, extents, kept)
    return build_tile_list(plan, tensors, scalars, extents, kept)


def compare(node: Expression, splits: tuple[Split, ...], names: dict[str, Any], tensors: dict[str, Any]) -> list[int]:
    """Checks soundness; returns how many empty tiles are listed and how many full ones are listed as partial."""
    offsets, tiles = build(node, splits, names, tensors)
    assert all(map(torch.equal, build_again(node, splits, names, tensors), (offsets, tiles)))
    assert offsets.dtype == tiles.dtype == torch.int32
    ends, listed = offsets.tolist(), tiles.tolist()
    true = classes(node, splits[-1], splits[:-1], names, tensors)
    assert len(ends) == 2 * len(true) + 1 and ends[-1] == len(listed)
    wasted = masked = 0
    for program, row in enumerate(true.values()):
        full = listed[ends[2 * program] : ends[2 * program + 1]]
        partial = listed[ends[2 * program + 1] : ends[2 * program + 2]]
        assert full == sorted(set(full)) and partial == sorted(set(partial)) and not set(full) & set(partial)
        assert all(row[tile] == "full" for tile in full)
        assert {tile for tile, kind in enumerate(row) if kind != "empty"} <= {*full, *partial}
        wasted += sum(row[tile] == "empty" for tile in partial)
        masked += sum(row[tile] == "full" for tile in partial)
    return [wasted, masked]


MASKS = {
    "causal": "n <= m",
    "window": "n <= m and m - n < W",
    "sink and window": "n <= m and (n < S[h] or m - n < T[h])",
    "documents": "SQ[m] == SK[n]",
    "causal documents": "SQ[m] == SK[n] and n <= m",
    "segment table": "AL[SQ[m], SK[n]]",
    "power-of-two offsets": "n <= m and (m // 4 - n // 4) & (m // 4 - n // 4 - 1) == 0",
    "strided blocks": "n <= m and (m // 4 - n // 4 < 1 or (m // 4 - n // 4 + 1) % 4 == 0)",
    "columns of blocks": "n <= m and (m // 16 == n // 16 or n % 16 >= 12)",
    "radial": "n // 16 == 0 or abs(m % 16 - n % 16) + 1 <= 16 / exp2(floor(log(max(abs(m // 16 - n // 16), 1)) / log(2)))",
    "dilated": "(m - n) % 3 == 0 and 0 <= m - n < 12",
    "disc on a grid": "(m // 8 - n // 8)**2 + (m % 8 - n % 8)**2 < r*r",
    "neighbourhood": "clamp(m - 3, 0, N - 7) <= n < clamp(m - 3, 0, N - 7) + 7",
    "prefix": "n <= m or n < PL[b]",
    "listed blocks": "n // 8 in BL[h, m // 16, :]",
    "blocks not listed": "n // 8 not in BL[h, m // 16, :]",
    "tree on a prefix": "n < 24 or AN[m, n - 24]",
}


@pytest.mark.parametrize("name", MASKS)
def test_classes_are_the_true_ones_on_the_masks_of_attention(name: str) -> None:
    node = predicate(MASKS[name], PARAMETERS)
    splits = (Split("b", "b", 1), Split("h", "h", 1), Split("m", "m.1", 8), Split("n", "n.1", 4))
    assert compare(node, splits, {"B": 1, "H": 2, "M": 64, "N": 64, "W": 13, "r": 3}, TENSORS) == [0, 0]


def test_two_conditions_on_one_tensor_are_not_combined_but_stay_sound() -> None:
    """A tile that meets each condition at another point is listed as partial."""
    node = predicate("SQ[m] == SK[n] and SQ[m] >= 0", PARAMETERS)
    splits = (Split("m", "m.1", 8), Split("n", "n.1", 4))
    wasted, masked = compare(node, splits, {"M": 64, "N": 64}, TENSORS)
    assert 0 < wasted <= 4 and masked == 0


@pytest.mark.parametrize("negated", ["", "not "])
def test_a_coordinate_outside_a_collection_has_no_members(negated: str) -> None:
    """As the evaluator has it: ``not in`` holds there."""
    text = f"""cascade c(X[m,n], BL: i32[i,k]) -> D[m] {{
      S[m,n] = X[m,n] where n // 4 {negated}in BL[m // 4,:]
      D[m] = sum[n](S[m,n])
    }}"""
    X, BL = torch.ones(12, 16), torch.tensor([[0, 2, -1], [1, -1, -1]], dtype=torch.int32)
    found = ec.compile(text, backend="cpu")(X, BL)
    assert found.tolist() == ec.reference(text)(X, BL).tolist()
    assert found[8:].tolist() == [16.0 if negated else 0.0] * 4


SIZES = st.fixed_dictionaries(
    {"H": st.just(2), "M": st.sampled_from([5, 9]), "N": st.sampled_from([0, 1, 7, 13]), "W": st.integers(-5, 8)}
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(predicates(data=True), SIZES, st.sampled_from([1, 3, 4]), st.sampled_from([1, 4, 5]))
def test_any_predicate_is_classified_soundly(node: Expression, names: dict[str, int], query: int, key: int) -> None:
    tensors = {**TENSORS, "SQ": DOCUMENT[20 : 20 + names["M"]], "SK": RANDOM.integers(-1, 5, names["N"])}
    compare(node, (Split("h", "h", 1), Split("m", "m.1", query), Split("n", "n.1", key)), names, tensors)


def test_sorted_documents_of_32k_tokens_take_milliseconds() -> None:
    node = predicate("SQ[m] == SK[n] and n <= m", PARAMETERS)
    splits = (Split("b", "b", 1), Split("h", "h", 1), Split("m", "m.1", 128), Split("n", "n.1", 128))
    document = torch.from_numpy(np.sort(RANDOM.integers(0, 60, 32768)).astype(np.int32))
    best, counts = 1.0, (0, 0)
    for _ in range(3):
        start = time.perf_counter()
        offsets, _ = build(node, splits, {"B": 1, "H": 1, "M": 32768, "N": 32768}, {"SQ": document, "SK": document})
        best = min(best, time.perf_counter() - start)
        counts = count_tiles(offsets)
    assert best < 0.05
    starts = np.searchsorted(document.numpy(), np.arange(60))
    # A causal document of l tokens touches at most (l / 128 + 2) squared over 2 tiles.
    lengths = np.diff([*starts, 32768])
    assert 256 <= sum(counts) <= np.sum((lengths // 128 + 2) * (lengths // 128 + 3) // 2)


@pytest.mark.parametrize("names", [{"M": 0, "N": 8}, {"M": 8, "N": 0}, {"M": 0, "N": 0}])
def test_an_extent_of_zero_gives_empty_lists(names: dict[str, int]) -> None:
    node = predicate("n <= m", PARAMETERS)
    offsets, tiles = build(node, (Split("m", "m.1", 4), Split("n", "n.1", 4)), names, {})
    assert tiles.tolist() == [] and offsets.tolist() == [0] * (2 * -(-names["M"] // 4) + 1)


def test_not_a_number_is_neither_certain_nor_skipped() -> None:
    node = predicate("m - n < w[h]", PARAMETERS)
    splits = (Split("h", "h", 1), Split("m", "m.1", 4), Split("n", "n.1", 4))
    weights = torch.tensor([float("nan"), 100.0], dtype=torch.bfloat16)
    offsets, _ = build(node, splits, {"H": 2, "M": 4, "N": 4}, {"w": weights})
    assert offsets.tolist() == [0, 0, 1, 2, 2]


def test_a_rank_that_no_index_splits_is_one_box() -> None:
    node = predicate("n <= m", PARAMETERS)
    plan = Schedule("s", node, (("n", "n.1", 4),), (), ProgramRank("n.1", ceil_divide(Extent("n"), 4)))
    offsets, tiles = build_tile_list(plan, {}, {}, {"m": 6, "n": 12})
    assert offsets.tolist() == [0, 0, 2] and tiles.tolist() == [0, 1]
    with pytest.raises(PlanError, match=r"^error: rank 'm' of a schedule has neither an index nor an extent$"):
        build_tile_list(plan, {}, {}, {"n": 12})


@pytest.mark.parametrize("name", MASKS)
def test_boxes_looked_at_in_pieces(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A schedule of many boxes is classified a few tiles of its longest index at a time, with the same result."""
    node = predicate(MASKS[name], PARAMETERS)
    splits = (Split("h", "h", 1), Split("m", "m1", 4), Split("n", "n1", 8))
    names = {"H": 2, "M": 62, "N": 64, "B": 1, "W": 9, "r": 3, "flag": 1, "b": 0}
    whole = [t.tolist() for t in build(node, splits, names, TENSORS)]
    monkeypatch.setattr("einsum_compiler.tile_lists.BOXES_AT_ONCE", 40)
    assert [t.tolist() for t in build(node, splits, names, TENSORS)] == whole


@pytest.mark.parametrize("pieces", [1 << 17, 40])
def test_an_expression_of_one_rank_is_judged_by_its_values(pieces: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bits jump as a coordinate rises: no rule for intervals tells that they are the same all over a tile."""
    monkeypatch.setattr("einsum_compiler.tile_lists.BOXES_AT_ONCE", pieces)
    node = predicate("((m >> 2) & 5) == ((n >> 2) & 5)", PARAMETERS)
    offsets, _ = build(node, (Split("m", "m.1", 4), Split("n", "n.1", 4)), {"M": 64, "N": 64}, {})
    assert count_tiles(offsets) == (sum(i & 5 == j & 5 for i in range(16) for j in range(16)), 0)


@pytest.mark.parametrize("size", [3, 96, 300])
@pytest.mark.parametrize(("shared", "compiler"), [(0, "g++"), (0, "no-compiler"), (1 << 24, "g++")])
def test_tables_are_reduced_by_tiles_on_all_threads(
    size: int, shared: int, compiler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EINSUM_CXX", compiler)
    monkeypatch.setattr(box_reads, "SHARED", shared)
    monkeypatch.setattr(box_reads, "PIECE", 16)
    truths = RANDOM.random((2, 611, 37)) < 0.5
    truths[:, 96:192], truths[:, 300:600, 5:] = True, False
    for table in (truths, RANDOM.integers(-9, 9, (2, 611, 37)), RANDOM.random((2, 611, 37))):
        for axes in ((0,), (1,), (2,), (1, 2), (0, 2), (0, 1, 2)):
            least, greatest = box_reads.tile_extremes(table, table, dict.fromkeys(axes, size))
            expected = [table, table]
            for axis in axes:
                starts = np.arange(0, table.shape[axis], size)
                expected = [
                    f.reduceat(t, starts, axis=axis) for f, t in zip((np.minimum, np.maximum), expected, strict=True)
                ]
            np.testing.assert_array_equal(least, expected[0])
            np.testing.assert_array_equal(greatest, expected[1])
            assert least.dtype == greatest.dtype == table.dtype


@pytest.mark.parametrize("dtype", tables.TYPES)
def test_long_tables_are_read_by_compiled_code(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of vectors, of parts of a vector and of single entries; ends of rows and of axes; early decisions; a NaN stays."""
    monkeypatch.setattr(box_reads, "SHARED", 0)
    for shape, axis, sizes in (
        ((300, 1000), 0, (128, 128)),
        ((3, 77, 5, 131), 1, (16, 24)),
        ((2, 65, 97), 1, (64, 1)),
        ((129, 256), 0, (128, 3)),
        ((40, 64, 96), 0, (1, 48)),
    ):
        values = RANDOM.standard_normal(shape) * 100
        table = values < 300 if dtype == "bool" else values.astype(dtype)
        assert tables.serves(table) and not tables.serves(table[..., 1:])
        if table.dtype.kind == "f":
            table.reshape(-1)[RANDOM.integers(table.size)] = np.nan
        found = box_reads.tile_extremes(table, table, {axis: sizes[0], table.ndim - 1: sizes[1]})
        for least_or_greatest, combine in zip(found, (np.minimum, np.maximum), strict=True):
            expected = table
            for along, size in ((axis, sizes[0]), (table.ndim - 1, sizes[1])):
                expected = combine.reduceat(expected, np.arange(0, table.shape[along], size), axis=along)
            np.testing.assert_array_equal(least_or_greatest, expected)


def test_a_list_asks_for_the_tensors_that_its_predicate_reads_only() -> None:
    """A call has others, longer ones, on a device, and what is copied to the host costs more than the list."""

    class Remote:
        def detach(self) -> Any:
            raise AssertionError("copied to the host")

    node = predicate("SK[n] == 1", PARAMETERS)
    offsets, _ = build_tile_list(
        schedule(node, (Split("m", "m", 1), Split("n", "n.1", 8))), {**TENSORS, "K": Remote()}, {}, {"m": 4, "n": 64}
    )
    assert sum(count_tiles(offsets)) > 0
