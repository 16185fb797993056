"""Tiles visited by the structured masks of level 2, against the tiles that a mask written out touches and the figures of the papers."""

from __future__ import annotations

from math import log2, prod
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import einsum_compiler as ec
from einsum_compiler.inspection import works
from einsum_compiler.ir.plan_parser import parse_plan
from tests.zoo import structured

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
HEADS = 4


def inputs(*tokens: int, **more: Tensor) -> dict[str, Tensor]:
    return {**{n: torch.zeros(1, HEADS, *tokens, 8) for n in "QKV"}, **more}


def mask_of(program: str, tensors: dict[str, Tensor], scalars: dict[str, Any]) -> Tensor:
    """Which keys every query of every head sees, [h,m,n], as the independent program has it."""
    seen: list[Tensor] = []

    def capture(S: Tensor, V: Tensor, allow: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(allow.expand(S.shape)[0])
        return S @ V, S[..., 0]

    kept = structured.softmax_block
    structured.softmax_block = capture  # type: ignore[assignment]
    try:
        getattr(structured, program)(**tensors, **scalars)
    finally:
        structured.softmax_block = kept
    return seen[0]


def visited(kernel: ec.Kernel, tensors: dict[str, Tensor], scalars: dict[str, Any]) -> tuple[int, int, int]:
    """Visited tiles of one call, all heads together; rows and columns of a tile."""
    binding = kernel.binding(**tensors, **scalars)
    plan = parse_plan(kernel.ir("plan", **tensors, **scalars)).kernels[-1]
    work = works(kernel.derivation, binding, "cpu", kernel.plan)[-1]
    assert work.sweeps is not None and plan.stream is not None
    return work.sweeps[0].full + work.sweeps[0].partial, prod(t.size for t in plan.program), plan.stream.size


def touched(mask: Tensor, rows: int, columns: int) -> int:
    padded = torch.nn.functional.pad(mask, (0, -mask.shape[2] % columns, 0, -mask.shape[1] % rows))
    return int(padded.unflatten(1, (-1, rows)).unflatten(3, (-1, columns)).amax((2, 4)).sum())


def lists(N: int, rows: int, columns: int, count: int) -> Tensor:
    chosen = [torch.randperm(-(-N // columns))[:count].sort().values for _ in range(HEADS * -(-N // rows))]
    return torch.stack(chosen).reshape(1, HEADS, -1, count).int()


N = 1500
CASES = [
    ("strided_head", "strided_head", {"block": 64, "local": 2, "stride": 4}, {"OFF": torch.arange(HEADS).int()}),
    ("strided_head", "strided_head", {"block": 48, "local": 1, "stride": 5}, {"OFF": torch.arange(HEADS).int()}),
    ("block_strided", "block_strided", {"block": 128, "columns": 8}, {}),
    ("block_strided", "strided_columns", {"block": 128}, {}),
    ("pow2", "pow2", {"block": 64, "local": 2}, {}),
    ("block_list", "block_list", {"rows": 64, "columns": 64}, {"BL": lists(N, 64, 64, 3)}),
    ("radial", "radial", {"tokens": 250}, {}),
    ("disc", "disc", {"text": 60, "width": 40, "radius": 6}, {}),
    ("natten", "natten_1d", {"w": 65, "d": 1, "t": 1}, {}),
]


# What three values cannot tell: a tile of a flattened grid is an interval of places, not a box.
SLACK = {"disc": 1.05}


@pytest.mark.parametrize(("file", "name", "scalars", "more"), CASES, ids=[f"{c[1]}-{c[2]}" for c in CASES])
def test_the_tiles_that_the_mask_touches(
    file: str, name: str, scalars: dict[str, Any], more: dict[str, Tensor]
) -> None:
    tensors = inputs(N, **more)
    found, rows, columns = visited(ec.compile(EXAMPLES / f"{file}.ein", name, backend="cpu"), tensors, scalars)
    needed = touched(mask_of(name, tensors, scalars), rows, columns)
    assert needed <= found <= needed * SLACK.get(name, 1)
    assert columns > 1 and needed <= HEADS * -(-N // rows) * -(-N // columns)


def planned(file: str, name: str, tiles: str, tensors: dict[str, Tensor], scalars: dict[str, Any]) -> int:
    """Visited tiles of one head under a plan."""
    text = f"plan {name} {{ kernel O, L {{ program b, h, {tiles}  resident e, f }} }}"
    kernel = ec.compile(EXAMPLES / f"{file}.ein", name, backend="cpu", plan=text)
    found, _, _ = visited(kernel, tensors, scalars)
    assert found % HEADS == 0
    return found // HEADS


BLOCKS = "m:64  stream n:64"


def test_powers_of_two_are_logarithmically_many_blocks() -> None:
    blocks = 4096 // 64
    distances = {0, 1} | {2**i for i in range(6)}
    expected = sum(d <= i for i in range(blocks) for d in distances)
    assert planned("pow2", "pow2", BLOCKS, inputs(4096), {"block": 64, "local": 2}) == expected
    assert expected <= blocks * (2 + blocks.bit_length())


def test_heads_share_the_past_among_them() -> None:
    """With offsets of all residues the heads together see everything, each the share 1 / stride and its own neighbourhood."""
    offsets = torch.arange(HEADS).int()
    scalars = {"block": 64, "local": 2, "stride": HEADS}
    mask = mask_of("strided_head", inputs(512, OFF=offsets), scalars)
    assert bool((mask.any(0) == torch.ones(512, 512).tril().bool()).all())
    plan = "plan strided_head { kernel O, L { program b, h, m:64  stream n:64  resident e, f } }"
    kernel = ec.compile(EXAMPLES / "strided_head.ein", backend="cpu", plan=plan)
    found, _, _ = visited(kernel, inputs(4096, OFF=offsets), scalars)
    assert found <= 64 * 65 // 2 + (HEADS - 1) * 64 * 2


@pytest.mark.parametrize("frames", [8, 32])
def test_windows_that_shrink_with_the_distance_are_n_log_n_tiles(frames: int) -> None:
    """Between frames at distance D a band of 512 / 2^floor(log2 D) places is seen, and all of the first frame."""
    p = torch.arange(512)
    apart = (p[:, None] - p[None]).abs()
    tiles = {D: touched((apart + 1 <= 512 >> max(D, 1).bit_length() - 1)[None], 64, 64) for D in range(frames)}
    whole = tiles[0]
    expected = frames * whole + sum(tiles[abs(a - b)] for a in range(frames) for b in range(1, frames))
    assert planned("radial", "radial", BLOCKS, inputs(frames * 512), {"tokens": 512}) == expected
    assert expected <= 3.4 * frames * log2(frames) * whole


@pytest.mark.parametrize(("shift", "tile", "along"), [(0, "7", 8), (3, "7", 8 + 7 + 7), (3, "7@-4", 9)])
def test_a_window_is_one_box_and_a_shifted_one_meets_its_neighbours(shift: int, tile: str, along: int) -> None:
    tensors = inputs(56, 56, TB=torch.zeros(HEADS, 13, 13))
    tiles = f"(y:{tile}, x:{tile})  stream y2_x2:(y2:{tile}, x2:{tile})"
    found = planned("swin", "swin", tiles, tensors, {"window": 7, "shift": shift})
    # Along an axis a box of a shifted lattice lies in two windows, which reach into the boxes on both sides; boxes that start with the windows are windows.
    assert found == along**2


@pytest.mark.parametrize(("window", "shift"), [(7, 0), (7, 3), (8, 4), (6, 1)])
def test_the_chosen_boxes_of_windows_are_windows(window: int, shift: int) -> None:
    side = 2 * window - 1
    tensors, scalars = inputs(48, 48, TB=torch.zeros(HEADS, side, side)), {"window": window, "shift": shift}
    kernel = ec.compile(EXAMPLES / "swin.ein", backend="cpu")
    plan = parse_plan(kernel.ir("plan", **tensors, **scalars)).kernels[-1]
    assert plan.stream is not None
    pairs = visited(kernel, tensors, scalars)[0] * prod(t.size for t in plan.program) * plan.stream.size
    windows = len({(y - shift) // window for y in range(48)}) ** 2
    assert pairs <= HEADS * windows * window**4


def test_blocks_with_a_halo_meet_the_blocks_around_them() -> None:
    tensors = inputs(64, 64, RY=torch.zeros(HEADS, 21, 8), RX=torch.zeros(HEADS, 21, 8))
    kernel = ec.compile(EXAMPLES / "halo.ein", backend="cpu")
    scalars = {"block": 8, "halo": 3}
    plan = parse_plan(kernel.ir("plan", **tensors, **scalars)).kernels[-1]

    def along(rows: int, first: int, columns: int, start: int) -> int:
        """Boxes that meet along one axis."""
        q, k = torch.arange(64)[:, None], torch.arange(64)[None]
        near = (q // 8 * 8 - 3 <= k) & (k < q // 8 * 8 + 11)
        near = torch.nn.functional.pad(near, (-start, (start - 64) % columns, -first, (first - 64) % rows))
        return int(near.unflatten(0, (-1, rows)).unflatten(2, (-1, columns)).amax((1, 3)).sum())

    expected = prod(along(plan.tile(q), plan.start(q), b.size, b.start) for q, b in zip("yx", plan.box, strict=True))
    assert visited(kernel, tensors, scalars)[0] == HEADS * expected
