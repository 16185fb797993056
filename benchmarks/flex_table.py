"""docs/flexattention.md, made from the cases and the results of benchmarks/masks.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import einsum_compiler as ec
from einsum_compiler.inspection import works
from tests.flex.case import Case
from tests.flex.cases import MASKS, SCORES

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "flexattention.md"

HEADER = """# FlexAttention's masks and score functions

Every mask and score function of attention-gym, of PyTorch's own tests of FlexAttention and of FlashAttention-4's, restated as a predicate or an
expression (`tests/flex/`). Each is compared in float64 with FlexAttention as PyTorch runs it uncompiled, log-sum-exp included (1e-12), and its compiled
kernel in float32 within the error budget (`tests/flex/test_agreement.py`; all of them with `-m slow`).

- **Lines**: of our text that are the variant's own, beside the product, the softmax and the sum over values.
- **Passes**: sweeps over the keys, all kernels together, at B1 H4 S4096 D64 (cases with other lengths of their own: those).
- **Tiles**: the share of the tiles of scores that is visited, from closed bounds or from a list built at run time.
- **Compiled FlexAttention**: why it refuses the case (from its tests and its documentation), where it does; uncompiled it runs all of them.
- **Ratio**: FlexAttention's time, compiled, by ours at that shape in float32 on the CPU (`benchmarks/results/masks.md` has machine and versions); a dash
  where it was not measured. Its block mask is built beforehand, our lists inside the call.

What FlexAttention cannot run at all (a trained tensor read twice, different head counts of keys and values, results beside the output, no keys)
runs here: `tests/flex/test_rejected.py`.

Below 1.5 stands a contradiction, for which both write zeros and the cost of a call is half of the time (1.45 to 1.63 over 100 runs each). A filter on computed scores is not timed: where a score lies within a rounding of the bound, either program may keep it or not.
Every other mask that compiled FlexAttention runs was timed, and of the score functions some of each kind.

This page is written by `python -m benchmarks.masks --table`.
"""

COLUMNS = "| name | source | lines | passes | tiles | list at 32k keys | compiled FlexAttention | ratio |\n|---|---|---|---|---|---|---|---|"


def facts(case: Case, length: int = 4096) -> dict[str, Any]:
    """The number of kernels, and the share of tiles that their sweeps visit: none where that depends on computed values."""
    sizes = case.sizes(length, batch=1, heads=4)
    captures = case.captures(sizes, torch.float32)
    queries, keys = (torch.empty(1, 4, n, 64) for n in (sizes.queries, sizes.keys))
    kernel = ec.compile(case.program(lse=False), backend="cpu")
    found = works(kernel.derivation, kernel.binding(queries, keys, keys, **captures), "cpu", None)
    sweeps = [sweep for work in found for sweep in work.sweeps or () if sweep.total]
    visited = sum(sweep.full + sweep.partial for sweep in sweeps)
    return {
        "kernels": len(found),
        "sweeps": len(sweeps),
        "tiles": visited / sum(s.total for s in sweeps)
        if sweeps
        else None
        if None in [w.sweeps for w in found]
        else 0.0,
    }


def write_document(results: dict[str, Any]) -> str:
    """The page."""
    return HEADER + "".join(
        f"\n## {title}\n\n{COLUMNS}\n" + "".join(_row(case, results) for case in cases)
        for title, cases in (("Masks", MASKS), ("Score functions", SCORES))
    )


def _row(case: Case, results: dict[str, Any]) -> str:
    row, lists = results["rows"].get(f"{case.name} | float32"), results["metadata"].get(case.name)
    known = results.get("facts", {}).get(case.name, {})
    tiles = f"{known['tiles']:.1%}" if known.get("tiles") is not None else "–"
    cost = (
        "–"
        if lists is None
        else f"{lists['milliseconds']:.1f} ms, {lists['megabytes']:.1f} MB"
        if lists["lists"]
        else "closed bounds"
    )
    ratio = f"{row['ratio']:.2f}" if row else "–"
    refused = case.rejected or "–"
    return f"| {case.name} | {case.source} | {case.lines} | {known.get('sweeps', '–')} | {tiles} | {cost} | {refused} | {ratio} |\n"
