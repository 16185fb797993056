"""The report on the choice of plans: ratios to the best plan, and the rank correlation of predicted and measured times."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.machine import machine
from einsum_compiler.ir.plan_parser import parse_plan
from einsum_compiler.tuning.result import summary


def spearman(pairs: Sequence[tuple[float, float]]) -> float | None:
    """The rank correlation of pairs, ties at their mean rank; None for fewer than three or where one side does not vary."""
    if len(pairs) < 3:
        return None
    ranks = [_ranks([p[side] for p in pairs]) for side in (0, 1)]
    if any(len(set(r)) == 1 for r in ranks):
        return None
    return statistics.correlation(*ranks)


def _ranks(values: Sequence[float]) -> list[float]:
    order = sorted(values)
    return [order.index(v) + (order.count(v) - 1) / 2 for v in values]


def report(rows: Iterable[dict[str, Any]], missing: Sequence[str]) -> tuple[dict[str, Any], str]:
    """All figures, and a table of them."""
    rows = list(rows)
    judged = [r for r in rows if "ratio" in r]
    pairs = [(p["predicted"], p["measured"]) for r in rows for p in r["plans"] if p["predicted"] and p["measured"]]
    correlations = [r["spearman"] for r in rows if r["spearman"] is not None]
    totals = {
        "median_ratio": statistics.median(r["ratio"] for r in judged) if judged else None,
        "worst_ratio": max((r["ratio"] for r in judged), default=None),
        "spearman_overall": spearman(pairs),
        "spearman_median": statistics.median(correlations) if correlations else None,
        "missing": list(missing),
    }
    lines = [
        "# The plan chosen without timing against the best of exhaustive tuning",
        "",
        "`python benchmarks/plans.py` wrote this. Times are medians of runs in one process, in turns for the plans near the best; ρ is the rank correlation of predicted and measured time over all plans of a case.",
        "",
        "| case | type | plans | default | best | default ms | best ms | ratio | ρ |",
        "|---|---|---:|---|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        timed = row["timed"]
        rho = "" if row["spearman"] is None else f"{row['spearman']:.2f}"
        if "ratio" not in row:
            lines.append(
                f"| {row['case']} | {row['dtype']} | {timed} of {row['known']} | {summary(parse_plan(row['default']))} | | not timed | | | {rho} |"
            )
            continue
        lines.append(
            f"| {row['case']} | {row['dtype']} | {timed} of {row['known']} | {summary(parse_plan(row['default']))} | {summary(parse_plan(row['best']))} | "
            f"{row['default_seconds'] * 1e3:.2f} | {row['best_seconds'] * 1e3:.2f} | {row['ratio']:.2f} | {rho} |"
        )
    if judged:
        lines += [
            "",
            f"Ratio: median {totals['median_ratio']:.2f}, worst {totals['worst_ratio']:.2f}, over {len(judged)} cases.",
        ]
    if totals["spearman_overall"] is not None:
        lines.append(
            f"Rank correlation of predicted and measured time: {totals['spearman_overall']:.2f} over all {len(pairs)} plans, {totals['spearman_median']:.2f} in the median case."
        )
    commits = sorted({r["commit"] for r in judged if r["commit"]})
    if commits:
        lines.append(f"The code that was timed: commit {', '.join(commits)}.")
    lines += [
        "",
        (
            "The plans of a case are all that the exhaustive grid of `cost/grids.py` has: tiles of 12 to 192 rows, 64, 128 and 256 columns, 16 to 512 of a stream, 64 and 256 of a contiguous rank, "
            "as far as they differ after rounding to the extents; corrections or one more sweep; splits; up to three ways to cut the program into kernels, one kernel varied while the others keep their best tiles; orders of contractions. "
            "Where fewer were timed than the grid has, half of those are the ones with the least predicted times, and half lie evenly among the others. "
            "Each that was timed was checked against float64 before, and ran at least twice; those that it refused are in `plans.json` with the reason."
        ),
    ]
    if missing:
        lines.append(f"Not measured: {', '.join(missing)}.")
    return {"machine": machine(), **totals, "cases": rows}, "\n".join([*lines, ""])
