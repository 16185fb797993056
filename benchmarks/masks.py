"""The masks of attention-gym at B1 H4 S4096 D64: compiled cascades beside compiled FlexAttention, and what their metadata costs at 32k keys.

    python -m benchmarks.masks [--cases NAME;...] [--dtype float32] [--prepare] [--metadata] [--flex-metadata LENGTH] [--facts] [--table] [--out DIR]

Correctness comes first: both are compared with float64 before they are timed, ours within the error budget of the program written out. Times are medians of interleaved runs, ratios medians of the ratios of
neighbouring runs, at least five and 0.3 s of either side. FlexAttention's block mask is built beforehand and not in its time; our lists of tiles are built inside every call that needs them.
Results are merged into OUT/masks.json by mask and type, so that a run can be broken into pieces. ``--prepare`` compiles and compares only: with
EINSUM_CACHE_DIR and TORCHINDUCTOR_CACHE_DIR set, a later run starts warm. ``--metadata`` measures the lists alone. ``--table`` writes
docs/flexattention.md from the cases and the results.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

import einsum_compiler as ec
from benchmarks.flex_table import DOCUMENT, facts, write_document
from benchmarks.machine import machine
from benchmarks.mask_metadata import flex_metadata, metadata
from tests.flex.case import Case, Modifier, modifiers, operands
from tests.flex.cases import CASES, case
from tests.flex.gym_masks import GYM_MASKS

LENGTH, LONG, HEADS, FEATURES = 4096, 32768, 4, 64
RUNS, SECONDS = (
    5,
    0.3,
)  # at least so many runs, and so much time of each side: short calls are repeated until their median is steady
RESULTS = Path(__file__).parent / "results"
PARTS = ("rows", "metadata", "flex_metadata", "facts")


def measure(mask: Case, dtype: torch.dtype, timed: bool) -> dict[str, Any] | None:
    """One row: median seconds, the ratio, and the largest errors against float64; None where compiled FlexAttention refuses the case."""
    sizes = mask.sizes(LENGTH, batch=1, heads=HEADS)
    captures = mask.captures(sizes, dtype)
    q, k, v = operands(sizes, FEATURES, dtype)
    kernel = ec.compile(mask.program(lse=False), backend="cpu")
    score_mod, mask_mod = modifiers(mask, captures)
    # One block mask for all heads where they agree, as a user who knows that would ask for.
    shared = "b,h" not in mask.where and "[h" not in mask.where
    pairs = *((None, None) if shared else (1, HEADS)), sizes.queries, sizes.keys
    block = create_block_mask(mask_mod, *pairs, device="cpu") if mask_mod else None
    # Every row starts anew: FlexAttention falls back to an uncompiled program after eight recompilations.
    torch._dynamo.reset()
    compiled = torch.compile(flex_attention)

    def ours() -> Tensor:
        return kernel(q, k, v, **captures)  # type: ignore[no-any-return]

    def flex() -> Tensor:
        return compiled(q, k, v, score_mod=score_mod, block_mask=block)  # type: ignore[no-any-return]

    try:
        flex()
    except RuntimeError as refused:  # some masks its compiler cannot lower
        print(
            f"{mask}: compiled FlexAttention: {type(refused).__name__}: {str(refused).splitlines()[0][:200]}",
            flush=True,
        )
        return None
    wide = {n: c.double() if isinstance(c, Tensor) and c.is_floating_point() else c for n, c in captures.items()}
    results = {"ours": ours(), "flex": flex(), "plain": _written_out((score_mod, mask_mod), (q, k, v))}
    errors = _errors(modifiers(mask, wide), (q, k, v), results)
    assert errors["ours"] <= 2 * errors["plain"] + 2 * torch.finfo(dtype).eps * errors["largest"], f"{mask}: {errors}"
    row: dict[str, Any] = {"error": errors["ours"], "flex_error": errors["flex"], "visible": errors["visible"]}
    if not timed:
        return row
    times: dict[str, list[float]] = {"ours": [], "flex": []}
    ours(), flex()
    while len(times["ours"]) < RUNS or min(map(sum, times.values())) < SECONDS:
        for name, program in (("ours", ours), ("flex", flex)):
            start = time.perf_counter()
            program()
            times[name].append(time.perf_counter() - start)
    ratio = statistics.median(f / o for f, o in zip(times["flex"], times["ours"], strict=True))
    return {**row, "ours": statistics.median(times["ours"]), "flex": statistics.median(times["flex"]), "ratio": ratio}


Modifiers = tuple[Modifier | None, Modifier | None]
Operands = tuple[Tensor, Tensor, Tensor]


def _scores(mods: Modifiers, q: Tensor, k: Tensor, head: int) -> Tensor:
    """The scores of one head, -inf where hidden."""
    score_mod, mask_mod = mods
    place = torch.tensor(0), torch.tensor(head), torch.arange(q.shape[2])[:, None], torch.arange(k.shape[2])[None]
    scores = q[0, head] @ k[0, head].T / q.shape[-1] ** 0.5
    if score_mod:
        scores = score_mod(scores, *place).to(q.dtype)
    return scores.masked_fill(~mask_mod(*place).expand_as(scores), -torch.inf) if mask_mod else scores


def _written_out(mods: Modifiers, tensors: Operands) -> Tensor:
    """The plain program in the type of its operands, one head at a time."""
    q, k, v = tensors
    heads = [_scores(mods, q, k, head).softmax(-1).nan_to_num(0.0) @ v[0, head] for head in range(q.shape[1])]
    return torch.stack(heads)[None]


def _errors(mods: Modifiers, tensors: Operands, results: dict[str, Tensor]) -> dict[str, float]:
    """Largest errors against float64, one head at a time; the largest value and the share of pairs that see each other."""
    q, k, v = (t.double() for t in tensors)
    found = dict.fromkeys([*results, "largest", "visible"], 0.0)
    for head in range(q.shape[1]):
        scores = _scores(mods, q, k, head)
        gold = scores.softmax(-1).nan_to_num(0.0) @ v[0, head]
        found["largest"] = max(found["largest"], float(gold.abs().max()))
        found["visible"] += float((scores > -torch.inf).double().mean()) / q.shape[1]
        for name, result in results.items():
            found[name] = max(found[name], float((result[0, head].double() - gold).abs().max()))
    return found


def _now() -> str:
    """Date and commit: rows of one table may come from several runs."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, cwd=RESULTS
    ).stdout
    return f"{datetime.date.today()}, commit {commit.strip() or 'unknown'}"


def _runs(results: dict[str, Any]) -> list[str]:
    """Which rows are from which run, for those that say so."""
    found: dict[str, list[str]] = {}
    for part, what in (("rows", ""), ("metadata", " (list)")):
        for key, row in results[part].items():
            if "measured" in row:
                found.setdefault(row["measured"], []).append(key.split(" | ")[0] + what)
    return [f"\nMeasured on {when}: {'; '.join(names)}." for when, names in found.items()]


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.1f}" if seconds >= 1e-3 else f"{seconds * 1e3:.3f}"


def load(folder: Path) -> dict[str, Any]:
    path = folder / "masks.json"
    return {part: {} for part in PARTS} | (json.loads(path.read_text()) if path.exists() else {})


def save(folder: Path, results: dict[str, Any]) -> None:
    results["machine"] = machine()
    results["shape"] = f"B1 H{HEADS} S{LENGTH} D{FEATURES}; metadata at {LONG} keys"
    (folder / "masks.json").write_text(json.dumps(results, indent=1) + "\n")
    lines = [
        "| mask | type | ours, ms | FlexAttention, ms | ratio | error | its error |",
        "|---|---|---|---|---|---|---|",
    ]
    for key, r in results["rows"].items():
        name, dtype = key.split(" | ")
        lines.append(
            f"| {name} | {dtype} | {_milliseconds(r['ours'])} | {_milliseconds(r['flex'])} | {r['ratio']:.2f} | {r['error']:.1e} | {r['flex_error']:.1e} |"
        )
    lines += ["", f"Metadata at {LONG} keys:", "", "| mask | list, ms | list, peak MB |", "|---|---|---|"]
    for name, r in results["metadata"].items():
        lines.append(
            f"| {name} | {r['milliseconds']:.1f} | {r['megabytes']:.1f} |"
            if r["lists"]
            else f"| {name} | closed form | |"
        )
    for key, r in results["flex_metadata"].items():
        lines.append(
            f"\nFlexAttention's `create_block_mask`, {key}: {r['seconds']:.2f} s, {r['megabytes']:.0f} MB at its peak."
        )
    lines += _runs(results)
    lines += ["", f"{results['shape']}. {results['machine']}"]
    (folder / "masks.md").write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="", help="names of masks, separated by ';'")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--prepare", action="store_true", help="compile and compare, do not time")
    parser.add_argument("--metadata", action="store_true", help="the cost of the lists of tiles alone")
    parser.add_argument(
        "--flex-metadata", type=int, default=0, metavar="LENGTH", help="the cost of create_block_mask at so many keys"
    )
    parser.add_argument(
        "--facts", action="store_true", help="passes and tiles of every case, for the table; nothing is run"
    )
    parser.add_argument("--table", action="store_true", help="write docs/flexattention.md")
    parser.add_argument("--out", default=str(RESULTS))
    options = parser.parse_args()
    folder = Path(options.out)
    results = load(folder)
    chosen = [case(n) for n in options.cases.split(";")] if options.cases else list(GYM_MASKS)
    if options.table:
        DOCUMENT.write_text(write_document(results))
        return
    if options.facts and not options.cases:
        chosen = [c for c in CASES if c.name not in results["facts"]]
    for mask in chosen:
        if options.facts:
            results["facts"][mask.name] = found = facts(mask)
        elif options.metadata:
            found = metadata(mask, LONG, HEADS, FEATURES)
            results["metadata"][mask.name] = {**found, "measured": _now()}
        elif options.flex_metadata:
            found = flex_metadata(mask.name, options.flex_metadata)
            results["flex_metadata"][f"{mask.name}, {options.flex_metadata} keys"] = found
        else:
            row = measure(mask, getattr(torch, options.dtype), not options.prepare)
            if row is None:
                continue
            found = row
            if not options.prepare:
                results["rows"][f"{mask.name} | {options.dtype}"] = {**found, "measured": _now()}
        print(f"{mask.name:36s}", {k: round(v, 7) if isinstance(v, float) else v for k, v in found.items()}, flush=True)
        if not options.prepare:
            save(folder, results)


if __name__ == "__main__":
    main()
