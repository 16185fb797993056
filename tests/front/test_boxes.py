"""Boxes: plans that have them, the tiles that they visit against masks written out, and lists of long sequences."""

from __future__ import annotations

import itertools
import re
import time
import tracemalloc
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import einsum_compiler as ec
from einsum_compiler.inspection import tile_kernels, works
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.plan import KernelPlan
from einsum_compiler.ir.plan_parser import parse_plan
from einsum_compiler.passes.boxes import Reach, choose_boxes, meeting
from einsum_compiler.passes.fuse import fuse
from einsum_compiler.tile_lists import build_tile_list
from tests.zoo.structured import neighbours, outer

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def grid(*extents: int, width: int = 16) -> list[Tensor]:
    return [torch.zeros(1, 1, *extents, width) for _ in range(3)]


def chosen(kernel: ec.Kernel, tensors: list[Tensor], **scalars: Any) -> KernelPlan:
    return parse_plan(kernel.ir("plan", *tensors, **scalars)).kernels[-1]


def visits(kernel: ec.Kernel, tensors: list[Tensor], **scalars: Any) -> tuple[int, int]:
    """Full and partial tiles, all programs together."""
    (work,) = works(kernel.derivation, kernel.binding(*tensors, **scalars), "cpu", kernel.plan)
    assert work.sweeps is not None
    return work.sweeps[0].full, work.sweeps[0].partial


def brute(
    allow: Tensor, queries: tuple[int, ...], keys: tuple[int, ...], starts: tuple[int, ...] = ()
) -> tuple[int, int]:
    """Boxes of a mask [*q,*k] that are true at every query inside the extents and every key of a whole box, and others with a true point."""
    sizes = (*queries, *keys)
    inside = torch.ones_like(allow)
    for axis, start in enumerate(starts):
        # Keys before 0 are false points; queries there count as the first one does.
        before = [0, 0] * (allow.ndim - axis - 1) + [-start, 0]
        allow, inside = (torch.nn.functional.pad(t, before) for t in (allow, inside))
        if axis < len(queries):
            for t in (allow, inside):
                t.narrow(axis, 0, -start).copy_(t.narrow(axis, -start, 1).expand_as(t.narrow(axis, 0, -start)))
    padding = [(-n) % s for n, s in zip(allow.shape, sizes, strict=True)]
    ends = list(itertools.chain.from_iterable((0, p) for p in reversed(padding)))
    inside = torch.nn.functional.pad(inside, ends)
    beyond = torch.ones(allow.shape[: len(queries)], dtype=torch.bool)
    beyond = torch.nn.functional.pad(beyond, ends[2 * len(keys) :]).reshape(
        *(n + p for n, p in zip(allow.shape, padding[: len(queries)], strict=False)), *[1] * len(keys)
    )
    true = torch.nn.functional.pad(allow, ends)
    split = [part for n, s in zip(true.shape, sizes, strict=True) for part in (n // s, s)]
    points = list(range(1, 2 * len(sizes), 2))
    some = true.reshape(split).amax(points)
    whole = (true | ~beyond & (inside.amax(tuple(range(len(queries))), keepdim=True))).reshape(split).amin(points)
    full = whole & some
    return int(full.sum()), int((some & ~full).sum())


def boxes_of(plan: KernelPlan, ranks: str) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """The sizes of both boxes, and the starts of the queries' and the keys' first tiles."""
    starts = (*(plan.start(r) for r in ranks), *(t.start for t in plan.box))
    return tuple(plan.tile(r) for r in ranks), tuple(t.size for t in plan.box), starts


@pytest.mark.parametrize(
    ("extents", "w", "d", "t"),
    [((64, 64), 7, 1, 1), ((56, 40), 13, 1, 1), ((45, 64), 9, 1, 3), ((33, 47), 21, 1, 1), ((64, 48), 5, 3, 1)],
)
def test_a_neighbourhood_on_a_grid_visits_the_boxes_it_touches(
    extents: tuple[int, int], w: int, d: int, t: int
) -> None:
    kernel = ec.compile(EXAMPLES / "natten.ein")
    tensors, scalars = grid(*extents), {"wy": w, "wx": w, "dy": d, "dx": d, "ty": t, "tx": t}
    plan = chosen(kernel, tensors, **scalars)
    assert [b.rank for b in plan.box] == ["y2", "x2"]
    assert plan.rows == ("y", "x") or d > 1
    allow = outer(*(neighbours(n, w, d, t, False) for n in extents))
    queries, keys, starts = boxes_of(plan, "yx")
    assert visits(kernel, tensors, **scalars) == brute(allow, queries, keys, starts)
    if d == 1:
        # Boxes of q queries and k keys meet where q + w - 1 + k - 1 coordinates overlap; at borders windows move inward and see no more.
        most = prod((q + w + t + k - 2) / k * -(-n // q) for n, q, k in zip(extents, queries, keys, strict=True))
        assert sum(visits(kernel, tensors, **scalars)) <= most


def test_a_neighbourhood_in_a_volume_visits_the_boxes_it_touches() -> None:
    given = "(z:2, y:4, x:6)  stream z2_y2_x2:(z2:2, y2:4, x2:8)"
    text = f"plan natten_3d {{ kernel O, L {{ program b, h, {given}  resident e, f }} }}"
    kernel = ec.compile(EXAMPLES / "natten.ein", "natten_3d", plan=text)
    extents, scalars = (6, 20, 24), {"wz": 3, "wy": 5, "wx": 7, "causal_z": True}
    tensors = grid(*extents)
    plan = chosen(kernel, tensors, **scalars)
    assert plan.rows == ("z", "y", "x")
    allow = outer(neighbours(6, 3, 1, 1, True), neighbours(20, 5, 1, 1, False), neighbours(24, 7, 1, 1, False))
    queries, keys, starts = boxes_of(plan, "zyx")
    full, partial = visits(kernel, tensors, **scalars)
    assert (full, partial) == brute(allow, queries, keys, starts)
    dense = prod(-(-n // q) * -(-n // k) for n, q, k in zip(extents, queries, keys, strict=True))
    assert full + partial < dense / 4
    # Whatever the plan of the cost model, what it visits is what the mask touches.
    chosen_one = ec.compile(EXAMPLES / "natten.ein", "natten_3d")
    assert visits(chosen_one, tensors, **scalars) == brute(
        allow, *boxes_of(chosen(chosen_one, tensors, **scalars), "zyx")
    )


def test_a_disc_visits_the_boxes_it_touches() -> None:
    """Work near that of the disc only with boxes: its area, and a rim of one box."""
    text = "plan disc_grid { kernel O, L { program b, h, (y:8, x:8)  stream y2_x2:(y2:8, x2:8)  resident e, f } }"
    kernel = ec.compile(EXAMPLES / "disc.ein", "disc_grid", plan=text)
    n, radius = 96, 20
    places = torch.arange(n)
    squares = (places[:, None] - places[None]) ** 2
    allow = (squares[:, None, :, None] + squares[None, :, None, :]) < radius**2
    tensors = grid(n, n)
    found = visits(kernel, tensors, radius=radius)
    assert found == brute(allow, (8, 8), (8, 8))
    assert sum(found) * 64 * 64 < torch.pi * (radius + 16) ** 2 * n * n
    assert found[0] > 0


GIVEN = "plan natten {{ kernel O, L {{ program b, h, {rows}  stream y2_x2:{box}  resident e, f }} }}"


def test_boxes_that_are_cut_are_long_along_the_axis_that_is_cut() -> None:
    """Points that are computed: whole boxes along the other axes, along the first one what a vector of lanes takes."""
    derivation = ec.compile(EXAMPLES / "natten.ein", backend="cpu").derivation
    extents = dict.fromkeys(("y", "x", "y2", "x2"), 64)
    (part,) = fuse(derivation.normalized, {**extents, "y2_x2": 4096, "e": 64, "f": 64, "b": 1, "h": 8})
    window = (torch.arange(64) - torch.arange(64)[:, None] + 5) % 64 < 10
    reach = {r: Reach(0, window.numpy()) for r in ("y2", "x2")}
    shapes = [
        choose_boxes(part.cascade, part.stream, ("y", "x"), extents, 64, 32, False, reach, lanes) for lanes in (0, 8)
    ]
    assert [dict(s.columns) for s in shapes if s] == [{"y2": 4, "x2": 8}, {"y2": 8, "x2": 4}]


@pytest.mark.parametrize(
    ("seen", "query", "key", "met", "start", "rows"),
    [
        # Eight queries see three keys to either side: two tiles of eight that start where their keys do, three elsewhere.
        (lambda q, k: (k - q).abs() <= 3, 8, 8, 16, -3, 0),
        (lambda q, k: (k - q).abs() <= 3, 8, 2, 14, -1, 0),
        # Tiles of 16 meet two of every second tile's, wherever they start.
        (lambda q, k: (k - q).abs() <= 3, 8, 16, 24, -3, 0),
        # Blocks of 8 with their halo.
        (lambda q, k: (k >= q // 8 * 8 - 4) & (k < q // 8 * 8 + 12), 8, 16, 24, -4, 0),
        # Every fourth key: a row sees as many tiles of one as it sees keys.
        (lambda q, k: ((k - q) % 4 == 0) & ((k - q).abs() <= 12), 1, 1, 7, 0, 0),
        (lambda q, k: k <= q, 8, 8, 36, 0, 0),
        # Cells of seven, shifted by three: one tile each.
        (lambda q, k: (q - 3) // 7 == (k - 3) // 7, 7, 7, 7, -4, -4),
        (lambda q, k: (q - 3) // 7 == (k - 3) // 7, 14, 7, 14, -4, -11),
    ],
)
def test_keys_that_tiles_meet(
    seen: Callable[[Tensor, Tensor], Tensor], query: int, key: int, met: float, start: int, rows: int
) -> None:
    """Far from borders, whose tiles see fewer."""
    places = torch.arange(64)
    table = seen(places[:, None], places)
    middle = slice(0, 64) if met == 36 else slice(16, 48)
    found = meeting(Reach(middle.start, table[middle].numpy()), query, key)
    assert (found.keys, found.start, found.rows) == (met, start, rows)


@pytest.mark.parametrize(
    ("rows", "box"),
    [
        ("(y:8, x:12)", "(y2:4, x2:8)"),
        ("y, x:16", "(y2:16, x2:3)"),
        ("(x:5, y:3)", "(y2:1, x2:32)"),
        ("(y:8, x:12)", "(y2:4@-2, x2:8@-1)"),
        ("(y:4, x:8)", "(y2:16@-15, x2:2)"),
        ("y, x:16", "(y2:1, x2:32@-31)"),
        ("(y:8@-4, x:12@-7)", "(y2:4, x2:8)"),
        ("(y:4@-3, x:8)", "(y2:16@-15, x2:2)"),
        ("y, x:16@-15", "(y2:1, x2:32@-31)"),
        ("(x:5@-2, y:3@-1)", "(y2:3@-1, x2:5@-2)"),
    ],
)
def test_boxes_of_a_given_plan(rows: str, box: str) -> None:
    text = GIVEN.format(rows=rows, box=box)
    assert str(parse_plan(text).kernels[0]) in text and parse_plan(str(parse_plan(text))) == parse_plan(text)
    kernel = ec.compile(EXAMPLES / "natten.ein", plan=text)
    tensors = [torch.randn(1, 2, 13, 19, 8) for _ in range(3)]
    kernel.validate(*tensors, wy=5, wx=3)
    assert str(chosen(kernel, tensors, wy=5, wx=3)) == str(parse_plan(text).kernels[0])
    sizes = parse_plan(text).kernels[0]
    allow = outer(neighbours(13, 5, 1, 1, False), neighbours(19, 3, 1, 1, False))
    assert visits(kernel, [t[:, :1] for t in tensors], wy=5, wx=3) == brute(allow, *boxes_of(sizes, "yx"))


@pytest.mark.parametrize("start", ["3", "-8", "+0", "", "0", "x"])
def test_tiles_of_a_box_start_before_0_and_reach_it(start: str) -> None:
    message = rf"'y2:8@{re.escape(start)}': the first tile of 8 starts at 0, or between -7 and -1"
    with pytest.raises(PlanError, match=message):
        parse_plan(GIVEN.format(rows="y, x", box=f"(y2:8@{start}, x2:8)"))
    message = "'n:8@-1': a tile is a positive number of coordinates"
    with pytest.raises(PlanError, match=message):
        parse_plan("plan c { kernel O { program b, m:8@-1  stream n:8@-1 } }")


def test_a_box_of_other_ranks_is_refused() -> None:
    kernel = ec.compile(EXAMPLES / "natten.ein", plan=GIVEN.format(rows="y, x", box="(y2:8, z2:8)"))
    with pytest.raises(PlanError, match=r"the plan streams boxes of y2, z2; 'y2_x2' is merged from y2, x2"):
        kernel(*grid(9, 11))


def test_dense_attention_on_a_grid_keeps_its_rows() -> None:
    """Without a filter between queries and keys no box visits less, and rows are longest in memory."""
    text = (EXAMPLES / "natten.ein").read_text().split("    where neighbours(y, y2, Y2, wy")
    tail = text[1].split("\n", 1)[1]
    kernel = ec.compile(text[0] + "\n" + tail)
    assert chosen(kernel, grid(20, 20)).box == ()


def test_lists_of_a_long_grid_are_fast_and_small() -> None:
    """32k keys: 182 x 182 places."""
    kernel = ec.compile(EXAMPLES / "natten.ein")
    tensors = [torch.empty(1, 1, 182, 182, 16, device="meta") for _ in range(3)]
    binding = kernel.binding(*tensors, wy=13, wx=13)
    (program,) = tile_kernels(kernel.derivation, binding, "cpu", None)
    (plan,) = parse_plan(kernel.ir("plan", *tensors, wy=13, wx=13)).kernels
    extents = {**binding.extents, "y2_x2": prod(-(-(182 - b.start) // b.size) * b.size for b in plan.box)}
    (schedule,) = program.schedules
    best = 1.0
    for _ in range(3):
        start = time.thread_time()
        build_tile_list(schedule, {}, binding.scalars, extents)
        best = min(best, time.thread_time() - start)
    tracemalloc.start()
    build_tile_list(schedule, {}, binding.scalars, extents)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # About 0.03 s on an idle machine (benchmarks/mask_metadata.py measures that); tests share theirs.
    assert best < 0.1 and peak < 50e6


@pytest.mark.parametrize("sides", [(0, 4), (4, 0), (0, 0)])
def test_a_grid_without_points_has_a_plan(sides: tuple[int, int]) -> None:
    kernel = ec.compile(EXAMPLES / "natten.ein", backend="cpu")
    found = kernel(*grid(*sides), wy=3, wx=3)
    assert [tuple(t.shape) for t in found] == [(1, 1, *sides, 16), (1, 1, *sides)]
