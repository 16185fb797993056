"""``python -m benchmarks.families``: a page in docs/families/ for every family of operators, from examples/ and from what the compiler says of them.

Figures are kept in benchmarks/results/families.json, so a run that was stopped goes on where it was. ``--analyse`` finds passes, laws, bounds and traffic of what is
missing, ``--prepare`` compiles the kernels, ``--time`` measures what was analysed and has no time, and without these all of it is done; ``--again`` forgets what
the steps asked for made before.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

import einsum_compiler as ec
from einsum_compiler.benchmark import measure
from einsum_compiler.ir.binding import Binding
from einsum_compiler.kernel import Kernel
from tests.zoo import inputs, inputs34, structured_inputs
from tests.zoo.cases import Case

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES, PAGES, RESULTS = (
    ROOT / "examples",
    ROOT / "docs" / "families",
    ROOT / "benchmarks" / "results" / "families.json",
)
CASE = Case("page", 512, 512, B=1, H=8, G=2, E=64, F=64)
SIZES = structured_inputs.Sizes("page", M=512, N=512, B=1, H=8, G=2, E=64, F=64, grid=(24, 20), volume=(4, 12, 10))
CACHE = "L2"  # of one core: the memory that bounds and traffic are stated for, unless a program of the plan holds more
SECONDS = 0.3  # of repeated calls
OTHERS, ATTEMPTS = (
    0.03,
    8,
)  # the part of one core that other processes may take while a time is measured, and how often it is tried


@dataclass(frozen=True)
class Family:
    """Texts of examples/ that have something in common, on one page."""

    name: str
    title: str
    about: str
    files: tuple[str, ...]


FAMILIES = (
    Family(
        "static_masks", "Static masks",
        "A filter hides keys. Tiles that it empties are not visited, tiles that it leaves whole carry no mask code.",
        ("softmax", "causal", "cross", "padding", "prefix_lm", "window", "dilated", "sink_window", "segment", "seg_table", "chunk_causal"),
    ),
    Family(
        "structured_masks", "Structured and listed masks",
        "Masks by blocks, powers of two, lists and trees: closed forms of tile ranges where the filter is quasi-affine, lists of tiles built before the launch elsewhere.",
        ("strided_head", "block_strided", "pow2", "block_list", "radial", "tree"),
    ),
    Family(
        "grids", "Grids and other ranks of tokens",
        "Tokens of two and three dimensions; tiles are boxes where the mask is local in every dimension.",
        ("natten", "swin", "halo", "disc", "axial", "pooled_kv"),
    ),
    Family(
        "scores", "Score functions",
        "What is done to a score before the normaliser changes nothing in the derivation of the one-pass form.",
        ("alibi", "t5_bias", "bias", "temperature", "soft_cap", "music_rel", "cosine"),
    ),
    Family(
        "normalisers", "Normalisers",
        "The number of passes follows from the normaliser: none where weights only add, one where the dependence on its statistics separates, two where it does not.",
        ("sink_logit", "sigmoid", "relu_n", "clipped"),
    ),
    Family("heads", "Heads", "Groups of heads become query rows; heads that are mixed are ranks like others.", ("gqa", "talking_heads", "multi_value")),
    Family(
        "branches", "Unions and branches",
        "Several key sets, several states, states within states: more equations, the same passes.",
        ("union", "gated_sum", "diff", "agent", "landmark", "combiner", "transnext"),
    ),
    Family("ranks", "Softmax over other ranks", "Channels, slots and pairs of keys under the softmax.", ("channel", "xca", "slot", "tensor3")),
    Family(
        "after_the_map", "After the map, and outputs beside it",
        "Weights on the finished map, gates on the result, statistics of rows and columns.",
        ("urpe", "out_gate", "row_stats", "block_max", "map_out", "rev_attn", "col_sum"),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Call:
    """One cascade of a file and the arguments of its call."""

    file: str
    program: str
    kernel: Kernel
    binding: Binding


def calls(file: str) -> list[Call]:
    """A call for every cascade of a file that the zoo has inputs for, each once."""
    found: dict[str, Call] = {}
    for operator in (*inputs.OPERATORS, *structured_inputs.OPERATORS, *inputs34.LEVEL3, *inputs34.LEVEL4):
        if operator.file != file or operator.program in found:
            continue
        torch.manual_seed(0)
        tensors = operator.inputs(SIZES if isinstance(operator, structured_inputs.Operator) else CASE)
        kernel = ec.compile(EXAMPLES / f"{file}.ein", operator.name, backend="cpu")
        found[operator.program] = Call(file, operator.program, kernel, kernel.binding(**tensors, **operator.scalars))
    return list(found.values())


def analysed(call: Call) -> dict[str, Any]:
    """What the compiler derived and plans, as it is kept in the results."""
    from einsum_compiler.compilation import compilation
    from einsum_compiler.cost.considered import predictions
    from einsum_compiler.cost.device import device_for
    from einsum_compiler.cost.prediction import together
    from einsum_compiler.movement import movement
    from einsum_compiler.passes.traffic import footprint_of
    from einsum_compiler.proofs import proofs

    compiled = compilation(call.kernel.derivation, call.binding, "cpu", None)
    device = device_for("cpu")
    held = max(footprint_of(part.tile).total for part in compiled.parts)
    cache = device.level(CACHE)
    cache = replace(
        cache, bytes=max(cache.bytes, held)
    )  # what a smaller memory would move depends on how the tiles themselves are spilled
    (level,) = movement(compiled, replace(device, levels=(cache, device.levels[-1]))).levels
    laws = dict.fromkeys(
        f"{p.step}: {p.equations[0]}" if p.equations else f"refused {p.subject}: {p.reason}" if p.refused else f"{p.step}: {p.meaning}"
        for p in proofs(c for part in compiled.parts for c in part.derived.certificates)
    )  # fmt: skip
    return {
        "sizes": ", ".join(f"{r.upper()}={n}" for r, n in call.binding.extents.items()),
        "scalars": ", ".join(f"{n}={v:g}" for n, v in call.binding.scalars.items()),
        "passes": [[r.rank, r.written.passes, r.compiled] for r in compiled.passes],
        "laws": list(laws),
        "kernels": len(compiled.parts),
        "memory": level.capacity,
        "schedules": level.schedules,
        "bound": level.bound,
        "traffic": level.plan,
        "ratio": level.ratio,
        "predicted": together(predictions([p.planned for p in compiled.parts], compiled.request)).seconds,
    }


def timed(call: Call) -> tuple[list[float], float | None]:
    """The median, least and greatest time of a call in seconds, and what others took meanwhile; of several attempts the first that they left alone, or the last."""
    call.kernel.run(call.binding)  # compiled kernels are loaded
    for _ in range(ATTEMPTS):
        before, since = _of_others(), time.perf_counter()
        times = sorted(measure(lambda: call.kernel.run(call.binding), SECONDS))
        after, seconds = _of_others(), time.perf_counter() - since
        others = None if before is None or after is None else max(0.0, after - before) / seconds
        if others is None or others <= OTHERS:
            break
        time.sleep(1.0)
    return [times[len(times) // 2], times[0], times[-1]], others


def _of_others() -> float | None:
    """Seconds of all cores that other processes, and the host of a virtual machine, have had so far; None where the system does not say."""
    try:
        user, nice, system, _, _, interrupts, soft, stolen = map(
            int, Path("/proc/stat").read_text(encoding="ascii").split()[1:9]
        )
    except (OSError, ValueError):
        return None
    own = os.times()
    return (user + nice + system + interrupts + soft + stolen) / os.sysconf("SC_CLK_TCK") - own.user - own.system


def machine() -> str:
    """Where times were measured."""
    from einsum_compiler import knobs
    from einsum_compiler.backends.cpu.build import compiler_version
    from einsum_compiler.cost.device import device_for

    device, threads = device_for("cpu"), torch.get_num_threads()
    cores = f"{device.title} ({device.processors} cores, {device.target}), {threads} thread{'s' * (threads > 1)}"
    compiler = compiler_version(knobs.compiler()).splitlines()[0]
    known = "measured by calibration" if device.measured else "estimated from its description"
    return f"{cores}; einsum_compiler {ec.__version__}, {compiler}, torch {torch.__version__}, Python {platform.python_version()}; the cost model's figures of the processor were {known}"


# -- pages --------------------------------------------------------------------------------------------------------------------


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
        measured = f"{_time(r['measured'][0])}, least {_time(r['measured'][1])}" if "measured" in r else "not yet"
        moved = (_amount(r[of]) for of in ("memory", "bound", "traffic"))
        cells = (name, passes, r["kernels"], *moved, r["ratio"], _time(r["predicted"]), measured)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return [*lines, ""]


def _amount(shown: str) -> str:
    """Bytes and words as they are; numbers of elements, of tensors whose elements have several sizes, with the word."""
    return f"{shown} elements" if shown[0].isdigit() and not shown.endswith("B") else shown


def _time(seconds: float) -> str:
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


def write(results: dict[str, Any]) -> None:
    """All pages."""
    PAGES.mkdir(parents=True, exist_ok=True)
    for family in FAMILIES:
        (PAGES / f"{family.name}.md").write_text(page(family, results), encoding="utf-8")
    (PAGES / "index.md").write_text(index(results), encoding="utf-8")


def _save(results: dict[str, Any]) -> None:
    RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="pages of operators by family")
    parser.add_argument("--analyse", action="store_true", help="passes, laws, bounds and traffic of what is missing")
    parser.add_argument("--prepare", action="store_true", help="compile all kernels")
    parser.add_argument("--time", action="store_true", help="times of what was analysed")
    parser.add_argument("--again", action="store_true", help="forget what is there of these files")
    parser.add_argument("--only", default="", help="files whose names hold this")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore", ec.EinsumWarning)
    everything = not (options.analyse or options.prepare or options.time)
    results: dict[str, Any] = {"programs": {}}
    if RESULTS.exists():
        results = json.loads(RESULTS.read_text(encoding="utf-8"))
    for key in [k for k in results["programs"] if options.again and options.only in k.split("/")[0]]:
        if options.analyse or everything:
            del results["programs"][key]
        elif options.time:
            for part in ("measured", "others"):
                results["programs"][key].pop(part, None)
    write(results)
    for file in (f for family in FAMILIES for f in family.files if options.only in f):
        for call in calls(file):
            key = f"{file}/{call.program}"
            if (options.analyse or everything) and key not in results["programs"]:
                results["programs"][key] = analysed(call)
                print(key, results["programs"][key]["ratio"], flush=True)
            if options.prepare:
                call.kernel.run(call.binding)
                print(key, "is compiled", flush=True)
            if (options.time or everything) and "measured" not in results["programs"].get(key, {"measured": None}):
                times, others = timed(call)
                results["programs"][key] |= {"measured": times, "others": others}
                results["machine"] = machine()
                print(key, _time(times[0]), "" if others is None else f"others: {others:.1%}", flush=True)
            if not options.prepare:
                _save(results)
                write(results)


if __name__ == "__main__":
    main()
