"""The choice of plans against exhaustive tuning: how much slower than the best plan of the grid is the one chosen without timing?

    python benchmarks/plans.py --compile [--cases NAME,...] [--folder DIR]     compile and check every candidate (resumable)
    python benchmarks/plans.py --measure [--seconds 200] [--folder DIR]        time what was compiled (resumable, in short runs)
    python benchmarks/plans.py --report  [--folder DIR]                        write results/plans.json and plans.md

Each case is timed in one process: every candidate a few times, those near the best in turns, then the default and the best few once more, for the ratio. Candidates that are
three times as slow as the best are timed twice only. Measured times stay in the folder while the cost model changes: the default and all predictions are those of the current code.
Where the code of kernels changed, begin with an empty folder: machine code that is still the same is found in the kernel cache.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

import einsum_compiler as ec
from benchmarks.plans_cases import CASES, Case
from benchmarks.plans_report import report, spearman
from einsum_compiler.ir.binding import Binding
from einsum_compiler.ir.plan_parser import parse_plan
from einsum_compiler.kernel import Kernel
from einsum_compiler.tuning.candidates import Candidate, candidates
from einsum_compiler.tuning.messages import Check, Compile, Failed, Race, Reckon, Time
from einsum_compiler.tuning.process import Pool, folder
from einsum_compiler.tuning.result import summary
from einsum_compiler.tuning.task import task_of
from einsum_compiler.tuning.worker import HOPELESS

FINALISTS = 4
ROUNDS = 5
NEAR = 1.5  # times as slow as the best: beyond it no race


@dataclass
class State:
    """What is known of one case: plans that compile and are right, plans that are not (with the reason), and times in seconds by plan.

    ``default``: the plan that is chosen without timing, as the code said that looked at the case last. ``times``: medians of runs, in turns
    for those near the best, of slow plans of two. ``final``: the default and the best once more. ``commit``: the code that was timed last.
    """

    path: Path
    default: str = ""
    right: list[str] = field(default_factory=list)
    wrong: dict[str, str] = field(default_factory=dict)
    times: dict[str, float] = field(default_factory=dict)
    final: dict[str, float] = field(default_factory=dict)
    commit: str = ""

    @classmethod
    def of(cls, folder: Path, case: Case) -> State:
        path = folder / f"{''.join(c if c.isalnum() else '-' for c in case.name)}.json"
        return cls(path, **(json.loads(path.read_text()) if path.exists() else {}))

    def save(self) -> None:
        names = ("default", "right", "wrong", "times", "final", "commit")
        found = {name: getattr(self, name) for name in names}
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(found, indent=1))
        partial.replace(self.path)


def call_of(case: Case) -> tuple[Kernel, Binding]:
    """The kernel of a case and its arguments; floating inputs without storage."""
    kernel = ec.compile(case.text, case.cascade, backend="cpu")
    return kernel, binding_of(kernel, case)


def binding_of(kernel: Kernel, case: Case) -> Binding:
    from einsum_compiler.ir.binding import bind
    from einsum_compiler.ir.torch_types import torch_dtype

    arguments: dict[str, Any] = {
        n: v for n, v in case.sizes.items() if any(p.name == n for p in kernel.cascade.parameters)
    }
    for declared in kernel.cascade.inputs:
        shape = [case.sizes[r] for r in declared.ranks]
        if declared.name in case.whole:
            arguments[declared.name] = _filled(shape, *case.whole[declared.name]).to(
                torch_dtype(declared.dtype or "i64")
            )
        else:
            arguments[declared.name] = torch.empty(shape, dtype=torch_dtype(declared.dtype or case.dtype))
    return bind(kernel.cascade, (), arguments)


def _filled(shape: Sequence[int], kind: str, number: int) -> torch.Tensor:
    if kind == "value":
        return torch.full(tuple(shape), number)
    return (torch.arange(shape[-1]) * number // shape[-1]).expand(tuple(shape)).contiguous()


def candidates_of(kernel: Kernel, binding: Binding, most: int | None) -> list[Candidate]:
    """The exhaustive grid with predictions; the default first. Of a grid of more than ``most``, half are those with the least predicted times and half lie evenly among the others."""
    default, *others = candidates(kernel.derivation, binding, "cpu", exhaustive=True)
    if most is None or len(others) <= most:
        return [default, *others]
    best, rest = others[: most // 2], others[most // 2 :]
    even = most - len(best)
    return [default, *best, *(rest[i * len(rest) // even] for i in range(even))]


# -- phases -------------------------------------------------------------------------------------------------------------------


def compile_case(case: Case, state: State, most: int | None, workers: int) -> None:
    """Build and check the candidates that are not known yet. The machine may be busy: nothing is timed."""
    kernel, binding = call_of(case)
    plans = [str(c.plan) for c in candidates_of(kernel, binding, most)]
    todo = [p for p in plans if p not in state.right and p not in state.wrong]
    state.default = plans[0]
    state.save()
    print(f"{case.name}: {len(plans)} plans, {len(todo)} to compile", flush=True)
    if not todo:
        return
    with folder() as files, Pool(task_of(kernel, binding, "cpu", files), workers) as pool:
        pool.first.ask(Reckon(), 600)
        for start in range(0, len(todo), 8):
            batch = todo[start : start + 8]
            for plan, answer in pool.each({p: Compile(p) for p in batch}, 120):
                if isinstance(answer, Failed):
                    state.wrong[plan] = f"{answer.kind}: {answer.message}"
                elif answer.value.refusal:
                    state.wrong[plan] = answer.value.refusal
            for plan in batch:
                if plan in state.wrong:
                    continue
                answer = pool.first.ask(Check(plan), 60)
                if isinstance(answer, Failed):
                    state.wrong[plan] = f"{answer.kind}: {answer.message}"
                    print(f"  {summary(parse_plan(plan))}: {state.wrong[plan]}", flush=True)
                else:
                    state.right.append(plan)
            state.save()


def measure_case(case: Case, state: State, until: float) -> bool:
    """Time what was compiled; False if the time is over before the case is done."""
    kernel, binding = call_of(case)
    default = state.default
    todo = [p for p in state.right if p not in state.times]
    again = default in state.right and default not in state.final
    if not todo and not again:
        return True
    with folder() as files, Pool(task_of(kernel, binding, "cpu", files), 1) as pool:
        first = pool.first
        if todo:
            # Also what was timed before, for one process to compare all; but for what is known to be slow.
            best = min(state.times.values(), default=float("inf"))
            found: dict[str, float] = {}
            for plan in list(state.right):
                if state.times.get(plan, 0.0) > HOPELESS * best:
                    continue
                if time.monotonic() > until:
                    return False
                answer = first.ask(Time(plan, 0.0, min(found.values(), default=float("inf"))), 60)
                if isinstance(answer, Failed):
                    state.right.remove(plan)
                    state.wrong[plan] = f"{answer.kind}: {answer.message}"
                    continue
                found[plan] = statistics.median(answer.value)
            best = min(found.values())
            near = [p for p in found if found[p] <= NEAR * best]
            seconds = ROUNDS * sum(found[p] for p in near)
            if time.monotonic() + seconds > until:
                return False
            state.times |= {p: t for p, t in found.items() if p not in near}
            state.times |= race(first, near, seconds)
        if default not in state.times:
            state.save()
            print(f"{case.name}: the default was refused: {state.wrong.get(default, 'not compiled')}")
            return True
        ranked = sorted((p for p in state.times if p != default), key=state.times.__getitem__)
        finalists = [default, *ranked[:FINALISTS]]
        state.final = race(first, finalists, min(8.0, max(1.0, 30 * sum(state.times[p] for p in finalists))))
    state.commit = commit()
    state.save()
    best_plan = min(state.final, key=state.final.__getitem__)
    print(
        f"{case.name}: {len(state.times)} plans; {state.final[default] * 1e3:.2f} ms, best {state.final[best_plan] * 1e3:.2f} ms: "
        f"{state.final[default] / state.final[best_plan]:.2f}",
        flush=True,
    )
    return True


def commit() -> str:
    """The state of the code, from git; empty outside of a checkout."""
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def race(process: Any, plans: Sequence[str], seconds: float) -> dict[str, float]:
    """Medians of runs in turns."""
    answer = process.ask(Race(tuple(plans), seconds), 20 * seconds + 60)
    if isinstance(answer, Failed):
        raise SystemExit(f"a race failed: {answer.kind}: {answer.message}")
    return {p: statistics.median(times) for p, times in zip(plans, answer.value, strict=True)}


# -- the report ---------------------------------------------------------------------------------------------------------------


def report_case(case: Case, state: State) -> dict[str, Any] | None:
    """The row of a case, with the default and the predictions of the current code; None for one that is not measured."""
    kernel, binding = call_of(case)
    grid = candidates(kernel.derivation, binding, "cpu", exhaustive=True)
    default = str(grid[0].plan)
    if not state.times:
        return None
    row: dict[str, Any] = {
        "case": case.name, "sizes": dict(case.sizes), "dtype": case.dtype, "commit": state.commit, "default": default,
        "plans": [
            {"plan": str(c.plan), "predicted": c.predicted, "measured": state.times.get(str(c.plan)), "failed": state.wrong.get(str(c.plan))}
            for c in grid
        ],
    }  # fmt: skip
    pairs = [(p["predicted"], p["measured"]) for p in row["plans"] if p["predicted"] and p["measured"]]
    row["timed"] = len(state.times)
    row["known"] = len({p["plan"] for p in row["plans"]} | {*state.right, *state.wrong})
    row["spearman"] = spearman(pairs)
    if default in state.final:
        best = min(state.final, key=state.final.__getitem__)
        row |= {
            "best": best, "default_seconds": state.final[default], "best_seconds": state.final[best], "ratio": state.final[default] / state.final[best],
        }  # fmt: skip
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compile", action="store_true", help="compile and check")
    parser.add_argument("--measure", action="store_true", help="time")
    parser.add_argument("--report", action="store_true", help="write the results")
    parser.add_argument(
        "--cases",
        default="",
        help="names of cases, comma-separated where no comma is part of one; any part of a name will do",
    )
    parser.add_argument("--seconds", type=float, default=200.0, help="after which no new case is timed")
    parser.add_argument(
        "--most",
        type=int,
        help="plans of a case, if not all; of larger grids the best predicted and an even choice of the others",
    )
    parser.add_argument("--workers", type=int, default=2, help="processes that compile side by side")
    parser.add_argument("--fresh", action="store_true", help="forget what was measured (not what was compiled)")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "einsum-plans")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + options.seconds
    wanted = [c for c in CASES if not options.cases or any(part in c.name for part in options.cases.split(","))]
    states = {case.name: State.of(options.folder, case) for case in wanted}
    if options.fresh:
        for state in states.values():
            state.times, state.final = {}, {}
            state.save()
    if options.compile:
        for case in wanted:
            compile_case(case, states[case.name], options.most, options.workers)
    if options.measure:
        for case in wanted:
            if time.monotonic() > until or not measure_case(case, states[case.name], until):
                print(f"time is over before {case.name}; run this again", flush=True)
                break
    if options.report:
        rows = {case.name: report_case(case, states[case.name]) for case in wanted}
        record, text = report([r for r in rows.values() if r], [n for n, r in rows.items() if not r])
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "plans.json").write_text(json.dumps(record, indent=1) + "\n")
        (options.out / "plans.md").write_text(text)
        print(text)


if __name__ == "__main__":
    main()
