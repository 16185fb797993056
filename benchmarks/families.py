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
from benchmarks.families_cases import CACHE, EXAMPLES, FAMILIES, PAGES, RESULTS
from benchmarks.families_pages import index, milliseconds, page
from einsum_compiler.benchmark import measure
from einsum_compiler.ir.binding import Binding
from einsum_compiler.kernel import Kernel
from tests.zoo import inputs, inputs34, structured_inputs
from tests.zoo.cases import Case

CASE = Case("page", 512, 512, B=1, H=8, G=2, E=64, F=64)
SIZES = structured_inputs.Sizes("page", M=512, N=512, B=1, H=8, G=2, E=64, F=64, grid=(24, 20), volume=(4, 12, 10))
SECONDS = 0.3  # of repeated calls
OTHERS, ATTEMPTS = (
    0.03,
    8,
)  # the part of one core that other processes may take while a time is measured, and how often it is tried


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
                print(key, milliseconds(times[0]), "" if others is None else f"others: {others:.1%}", flush=True)
            if not options.prepare:
                _save(results)
                write(results)


if __name__ == "__main__":
    main()
