"""Structured masks on the CPU beside PyTorch's SDPA with the mask written out: time against the share of the work that tiles leave.

    python benchmarks/grids.py [--rows NAME,...] [--runs N] [--out DIR]

Every row is compared with float64 before it is timed. ``work`` is all pairs of queries and keys over the pairs in visited tiles; a kernel that
costs per pair what SDPA does would be as many times as fast. Times are medians of interleaved runs. Prints a table; with all rows and several
runs it writes ``grids.json`` and ``grids.md``. One run (``--runs 1``) compiles the kernels, so that a measurement afterwards does nothing else.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from math import prod
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor

import einsum_compiler as ec
from benchmarks.machine import machine
from einsum_compiler.inspection import works
from einsum_compiler.ir.plan_parser import parse_plan
from tests.zoo import structured

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
HEADS, WIDTH = 8, 64


@dataclass(frozen=True)
class Row:
    """An operator of examples/ at one size: the extents of queries and keys, further operands and scalars."""

    name: str
    file: str
    program: str
    tokens: tuple[int, ...]
    scalars: dict[str, Any]
    operands: Callable[[], dict[str, Tensor]] = field(default=dict)


def block_lists() -> dict[str, Tensor]:
    """8 of 64 key blocks for every block of queries."""
    lists = torch.stack([torch.randperm(64)[:8].sort().values for _ in range(HEADS * 64)])
    return {"BL": lists.reshape(1, HEADS, 64, 8).int()}


ROWS = (
    Row("natten 7 x 7", "natten", "natten", (64, 64), {"wy": 7, "wx": 7}),
    Row("natten 13 x 13", "natten", "natten", (64, 64), {"wy": 13, "wx": 13}),
    Row("natten 7 x 7, dilation 4", "natten", "natten", (64, 64), {"wy": 7, "wx": 7, "dy": 4, "dx": 4}),
    Row("natten 3 x 7 x 7", "natten", "natten_3d", (8, 24, 24), {"wz": 3, "wy": 7, "wx": 7}),
    Row("swin 8", "swin", "swin", (64, 64), {"window": 8, "shift": 0}, lambda: {"TB": torch.randn(HEADS, 15, 15)}),
    Row("swin 7, shifted", "swin", "swin", (56, 56), {"window": 7, "shift": 3}, lambda: {"TB": torch.randn(HEADS, 13, 13)}),
    Row("halo 8 + 3", "halo", "halo", (64, 64), {"block": 8, "halo": 3},
        lambda: {"RY": torch.randn(HEADS, 21, WIDTH), "RX": torch.randn(HEADS, 21, WIDTH)}),
    Row("disc 12 on a grid", "disc", "disc_grid", (64, 64), {"radius": 12}),
    Row("disc 8 and text", "disc", "disc", (64 * 64 + 128,), {"text": 128, "width": 64, "radius": 8}),
    Row("radial 1024", "radial", "radial", (6144,), {"tokens": 1024}),
    Row("pow2 64", "pow2", "pow2", (4096,), {"block": 64, "local": 2}),
    Row("strided heads", "strided_head", "strided_head", (4096,), {"block": 64, "local": 2, "stride": 8},
        lambda: {"OFF": torch.arange(HEADS, dtype=torch.int32)}),
    Row("block lists, 8 of 64", "block_list", "block_list", (4096,), {"rows": 64, "columns": 64}, block_lists),
)  # fmt: skip


@dataclass
class Result:
    """Median seconds, visited share of the pairs, and the ratios: of the times, and of the work that would explain it."""

    row: str
    plan: str
    ours: float
    sdpa: float
    ratio: float
    work: float
    error: float
    sdpa_error: float

    @property
    def within(self) -> float:
        """How many times slower than the visited work allows; the goal is 1.5."""
        return self.work / self.ratio


def inputs(row: Row) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {n: torch.randn(1, HEADS, *row.tokens, WIDTH) for n in "QKV"} | row.operands()


def dense_mask(row: Row, tensors: dict[str, Tensor]) -> Tensor:
    """What SDPA adds to the scores, or the truth values it takes: recovered from the program on the scores themselves."""
    captured: list[Tensor] = []

    def capture(S: Tensor, V: Tensor, allow: Tensor, sink: Tensor | None = None) -> tuple[Tensor, Tensor]:
        captured.extend((S, allow.expand_as(S)))
        return V, S[..., 0]

    kept = structured.softmax_block
    structured.softmax_block = capture  # type: ignore[assignment]
    try:
        getattr(structured, row.program)(**{**tensors, "Q": tensors["Q"] * 0}, **row.scalars)
        bias, allow = captured
        if row.program == "halo":
            captured.clear()
            getattr(structured, row.program)(**{**tensors, "K": tensors["K"] * 0}, **row.scalars)
            bias = captured[0]
    finally:
        structured.softmax_block = kept
    if bool((bias == 0).all()):
        return allow if (allow != allow[:, :1]).any() else allow[:, :1]
    return bias.masked_fill(~allow, -torch.inf)


def flat(tensor: Tensor) -> Tensor:
    return tensor.flatten(2, -2)


def measure(row: Row, runs: int) -> Result:
    tensors = inputs(row)
    kernel = ec.compile(EXAMPLES / f"{row.file}.ein", row.program, backend="cpu")
    mask = dense_mask(row, tensors)
    qkv = [flat(tensors[n]) for n in "QKV"]

    def ours() -> Tensor:
        return kernel(**tensors, **row.scalars)[0]  # type: ignore[no-any-return]

    def sdpa() -> Tensor:
        return torch.nn.functional.scaled_dot_product_attention(*qkv, attn_mask=mask)

    wide = mask.double() if mask.is_floating_point() else mask
    gold = torch.nn.functional.scaled_dot_product_attention(*(t[:, :1].double() for t in qkv), attn_mask=wide[:, :1])
    found, near = flat(ours())[:, :1], sdpa()[:, :1]
    visible = (wide[:, :1] > -torch.inf if mask.is_floating_point() else wide[:, :1]).any(-1)[..., None]
    errors = [float(torch.where(visible, t.double() - gold, 0).abs().max()) for t in (found, near)]
    band = 2 * torch.finfo(torch.float32).eps * float(torch.where(visible, gold, 0).abs().max())
    assert errors[0] <= 2 * errors[1] + band, f"{row.name}: error {errors[0]} against SDPA's {errors[1]}"
    times: list[list[float]] = [[], []]
    for _ in range(runs + 1):
        for program, taken in zip((ours, sdpa), times, strict=True):
            start = time.perf_counter()
            program()
            taken.append(time.perf_counter() - start)
    ours_time, sdpa_time = (statistics.median(t[1:]) for t in times)
    binding = kernel.binding(**tensors, **row.scalars)
    sweep = works(kernel.derivation, binding, "cpu", None)[-1].sweeps
    plan = parse_plan(kernel.ir("plan", **tensors, **row.scalars)).kernels[-1]
    assert sweep is not None and plan.stream is not None
    tile = prod(t.size for t in plan.program) * plan.stream.size
    pairs = (sweep[-1].full + sweep[-1].partial) * tile
    ratio = statistics.median(b / a for a, b in zip(*times, strict=True))
    return Result(
        row.name, str(plan), ours_time, sdpa_time, ratio, prod(row.tokens) ** 2 * HEADS / pairs, errors[0], errors[1]
    )


def as_markdown(results: list[Result]) -> str:
    """The table of a run."""
    found = machine()
    lines = [
        "# Structured masks against SDPA with the mask written out",
        "",
        f"`python benchmarks/grids.py` wrote this. {', '.join(f'{k}: {v}' for k, v in found.items())}.",
        "B1 H8 D64 f32; medians of interleaved runs. `work` is all pairs over the pairs in visited tiles, `off by` the work over the ratio of the times (goal: 1.5).",
        "",
        "| mask | ms | SDPA ms | ratio | work | off by | plan |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    lines += [
        f"| {r.row} | {r.ours * 1e3:.2f} | {r.sdpa * 1e3:.1f} | {r.ratio:.2f} | {r.work:.2f} | {r.within:.2f} | `{r.plan}` |"
        for r in results
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="", help="names of rows, separated by semicolons")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", default=str(Path(__file__).parent / "results"))
    options = parser.parse_args()
    results = []
    for row in ROWS:
        if options.rows and row.name not in options.rows.split(";"):
            continue
        results.append(result := measure(row, options.runs))
        print(
            f"{result.row:26s} ours {result.ours * 1e3:8.2f} ms, SDPA {result.sdpa * 1e3:8.2f} ms: {result.ratio:6.2f} x, work {result.work:6.2f} x,"
            f" off by {result.within:.2f}   {result.plan}",
            flush=True,
        )
    if options.runs > 1 and not options.rows:
        record = {"machine": machine(), "rows": [{**asdict(r), "within": r.within} for r in results]}
        Path(options.out).mkdir(parents=True, exist_ok=True)
        (Path(options.out) / "grids.json").write_text(json.dumps(record, indent=1) + "\n")
        (Path(options.out) / "grids.md").write_text(as_markdown(results))


if __name__ == "__main__":
    main()
