"""``python -m benchmarks.families``: a page in docs/families/ for every family of operators, from examples/ and from what the compiler says of them.

Figures are kept in benchmarks/results/families.json, so a run that was stopped goes on where it was. ``--analyse`` finds passes, laws, bounds and traffic of what is
missing, ``--prepare`` compiles the kernels, ``--time`` measures, and without these all of it is done; ``--again`` forgets what is there.
"""

from __future__ import annotations

import argparse
import json
import platform
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
CACHE = "L2"  # the level whose capacity bounds and traffic are stated for
SECONDS = 0.3  # of repeated calls


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
    from einsum_compiler.proofs import proofs

    compiled = compilation(call.kernel._derivation, call.binding, "cpu", None)
    device = device_for("cpu")
    cache = next(level for level in device.levels if level.name == CACHE)
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
        "capacity": level.capacity,
        "bound": level.bound,
        "traffic": level.plan,
        "ratio": level.ratio,
        "predicted": together(predictions([p.planned for p in compiled.parts], compiled.request)).seconds,
    }


def timed(call: Call) -> list[float]:
    """The median, least and greatest time of a call, in seconds."""
    call.kernel.run(call.binding)  # compiled kernels are loaded
    times = sorted(measure(lambda: call.kernel.run(call.binding), SECONDS))
    return [times[len(times) // 2], times[0], times[-1]]


def machine() -> str:
    """Where times were measured."""
    from einsum_compiler.cost.device import device_for

    threads = torch.get_num_threads()
    return f"{device_for('cpu').title}, {threads} thread{'s' * (threads > 1)}, torch {torch.__version__}, Python {platform.python_version()}"


# -- pages --------------------------------------------------------------------------------------------------------------------


def page(family: Family, results: dict[str, Any]) -> str:
    """The page of a family."""
    lines = [f"# {family.title}", "", family.about, "", "What the columns mean: [the index](index.md). Made by `python -m benchmarks.families`.", ""]  # fmt: skip
    for file in family.files:
        text = (EXAMPLES / f"{file}.ein").read_text(encoding="utf-8").rstrip("\n")
        lines += [f"## {file}", "", "```", text, "```", ""]
        rows = {key.split("/")[1]: found for key, found in results["programs"].items() if key.split("/")[0] == file}
        if not rows:
            lines += ["No figures yet.", ""]
            continue
        lines += _table(rows)
        for name, found in rows.items():
            lines += [f"- {name}: {', '.join(filter(None, (found['sizes'], found['scalars'])))}"]
            lines += [f"  - `{law}`" for law in found["laws"]]
        lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"


def _table(rows: dict[str, Any]) -> list[str]:
    head = ("cascade", "passes", "kernels", "bound", "traffic", "ratio", "predicted", "measured")
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name, r in rows.items():
        # Ranks that are passed over once, as written and compiled, say nothing where another one is passed over more often.
        told = [p for p in r["passes"] if p[1:] != [1, 1]] or r["passes"]
        passes = ", ".join(f"{rank} {written} → {compiled}" for rank, written, compiled in told)
        measured = _time(r["measured"][0]) if "measured" in r else "not yet"
        cells = (name, passes, r["kernels"], r["bound"], r["traffic"], r["ratio"], _time(r["predicted"]), measured)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return [*lines, ""]


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms"


def index(results: dict[str, Any]) -> str:
    """The first page: the families, and what the columns of the others mean."""
    capacity = next((r["capacity"] for r in results["programs"].values()), "")
    lines = [
        "# Operators by family", "",
        "Every text of [examples/](../../examples), what the compiler derived from it, what its plan moves, and how long a call takes.", "",
        *(f"- [{f.title}]({f.name}.md): {', '.join(f.files)}" for f in FAMILIES), "",
        "Columns of the tables:", "",
        "- **passes**: over each reduced rank, as the text is written → in the kernels. **kernels**: launches of one call.",
        f"- **bound**: the least that any schedule moves with a fast memory of {capacity} ({CACHE}), at the sizes below the table; **traffic**: what the plan moves behind a cache of that size; **ratio** of the two.",
        "  A plan whose programs hold more than that memory has no such figure; neither has one whose tiles depend on values in a way that is not followed.",
        "  Where a filter reads tensors the bound takes every key for seen, so a plan that skips what the values hide can move less (a ratio below 1).",
        "- **predicted** and **measured**: one call, by the cost model and as the median of repeated calls.",
        "- Below each table: the sizes of the call, and the laws that the derivation used, each with the identity it proved; ' marks the value that a running one moves to.", "",
        f"Measured on {results.get('machine', 'no machine yet')}. Inputs are those of the tests (tests/zoo), in f32.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


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
    parser.add_argument("--again", action="store_true", help="forget what is there")
    parser.add_argument("--only", default="", help="files whose names hold this")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore", ec.EinsumWarning)
    results: dict[str, Any] = {"programs": {}}
    if RESULTS.exists() and not options.again:
        results = json.loads(RESULTS.read_text(encoding="utf-8"))
    everything = not (options.analyse or options.prepare or options.time)
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
            if (options.time or everything) and key in results["programs"]:
                results["programs"][key]["measured"] = timed(call)
                results["machine"] = machine()
                print(key, _time(results["programs"][key]["measured"][0]), flush=True)
            if not options.prepare:
                _save(results)
                write(results)


if __name__ == "__main__":
    main()
