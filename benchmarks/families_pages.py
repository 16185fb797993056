"""The pages of docs/families/ as text, from what was found and measured."""

from __future__ import annotations

from typing import Any

from benchmarks.families_cases import CACHE, EXAMPLES, FAMILIES, Family


def page(family: Family, results: dict[str, Any]) -> str:
    """The page of a family."""
    lines = [f"# {family.title}", "", family.about, "", "What the columns mean, and where times were measured: [the index](index.md). Made by `python -m benchmarks.families`.", ""]  # fmt: skip
    for file in family.files:
        text = (EXAMPLES / f"{file}.ein").read_text(encoding="utf-8").rstrip("\n")
        lines += [f"## {file}", "", "```", text, "```", ""]
        rows = {key.split("/")[1]: found for key, found in results["programs"].items() if key.split("/")[0] == file}
        if not rows:
            lines += ["No figures yet.", ""]
            continue
        lines += _table(rows)
        for name, found in rows.items():
            lines += [f"- {name}, with {', '.join(filter(None, (found['sizes'], found['scalars'])))}:"]
            lines += [f"  - `{law}`" for law in found["laws"]] or [
                "  - no law was needed: the kernel computes the equations as they are written"
            ]
        lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"


def _table(rows: dict[str, Any]) -> list[str]:
    head = ("cascade", "passes", "kernels", "memory", "bound", "traffic", "ratio", "predicted", "measured")
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name, r in rows.items():
        # Ranks that are passed over once, as written and compiled, say nothing where another one is passed over more often.
        told = [p for p in r["passes"] if p[1:] != [1, 1]] or r["passes"]
        passes = ", ".join(f"{rank} {written} → {compiled}" for rank, written, compiled in told)
        measured = (
            f"{milliseconds(r['measured'][0])}, least {milliseconds(r['measured'][1])}"
            if "measured" in r
            else "not yet"
        )
        moved = (_amount(r[of]) for of in ("memory", "bound", "traffic"))
        cells = (name, passes, r["kernels"], *moved, r["ratio"], milliseconds(r["predicted"]), measured)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return [*lines, ""]


def _amount(shown: str) -> str:
    """Bytes and words as they are; numbers of elements, of tensors whose elements have several sizes, with the word."""
    return f"{shown} elements" if shown[0].isdigit() and not shown.endswith("B") else shown


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.{2 if seconds >= 1e-3 else 3}f} ms"


def index(results: dict[str, Any]) -> str:
    """The first page: the families, and what the columns of the others mean."""
    lines = [
        "# Operators by family", "",
        "Every text of [examples/](../../examples) (the language: [language.md](../language.md)), what the compiler derived from it, what its plan moves, and how long a call takes.", "",
        *(f"- [{f.title}]({f.name}.md): {', '.join(f.files)}" for f in FAMILIES), "",
        "Columns of the tables, one row for every cascade of a text (a text may hold several; the sizes of each stand below the table):", "",
        "- **passes**: how often each reduced rank must be traversed, as the text is written → in the kernels. A rank traversed once both times is left out where another one is not;",
        "  `y2_x2` are two ranks streamed as one, in boxes: the quotients and remainders of it in the laws are the coordinates. **kernels**: launches of one call.",
        f"- **memory**: the fast memory that the next three columns are stated for: the {CACHE} cache of one core, or, where that is more, the tiles that one program of the plan holds at once",
        f"  (such a program works beyond its {CACHE}). 1 kB is 1000 bytes. Where tensors have elements of several sizes (masks, tables of indices) amounts are numbers of elements, and the",
        "  bound is that of a memory that holds as many of the smallest.",
        "- **bound**: the least that schedules move between such a memory and what lies behind it, loads and stores together ([bounds.md](../bounds.md): which schedules, and why).",
        "- **traffic**: what the plan moves behind a cache of that size, by the model of `passes/traffic/cache.py`: programs run one after the other, and the cache keeps what was used last.",
        "  Where what one program reads in all does not fit, every load counts, also of a key that several heads of one tile share. *depends on values*: which tiles are visited",
        "  follows from a tensor that an earlier kernel of the call computes, and is not followed.",
        "- **ratio**: traffic / bound. At 1.00 none of those schedules moves less; 1.60 with 8 heads and 2 heads of keys means that keys are read once for each head and not for each group.",
        "  Where a filter reads tensors the bound takes every key for seen, so a plan that skips what the values hide can move less (a ratio below 1).",
        "- **predicted** and **measured**: one forward call, by the cost model, and as the median and the least of repeated calls with kernels compiled before. Lists of tiles are built within",
        "  the call. A median far from the least was disturbed.", "",
        "Below each table stand the sizes of ranks in the call, its scalars (0 and 1 for false and true), and the laws that the derivation used, each with the identity it proved: a prime marks",
        "the value that a running one moves to. `refused` says why a tensor keeps the passes it has.", "",
        f"Measured on {results.get('machine', 'no machine yet')}. Inputs are those of the tests (tests/zoo), in f32.{_compared(results)}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _compared(results: dict[str, Any]) -> str:
    """How far predictions are from measured times, and how quiet the machine was."""
    found = {key: r for key, r in results["programs"].items() if "measured" in r}
    if not found:
        return ""
    times = sorted((r["measured"][0] / r["predicted"], key) for key, r in found.items())
    (least, fastest), (middle, _), (greatest, slowest) = times[0], times[len(times) // 2], times[-1]
    others = max((r["others"] for r in found.values() if r["others"] is not None), default=None)
    quiet = "" if others is None else f" Other processes took at most {others:.1%} of one core meanwhile."
    return f"{quiet} Measured times are {middle:.2f} times the predicted ones in the median, {least:.2f} ({fastest}) to {greatest:.2f} ({slowest})."
