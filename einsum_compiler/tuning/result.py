"""What a search found, for people and for the disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from einsum_compiler.ir.hints import counted
from einsum_compiler.ir.plan import KernelPlan, Plan
from einsum_compiler.ir.plan_parser import parse_plan

FORMAT = 1  # of files

# What became of a candidate.
MEASURED, PRUNED, FAILED, SLOW, OPEN = "measured", "pruned", "failed", "slow", "not reached"


@dataclass(frozen=True)
class Trial:
    """A candidate: its plan as text, times of a call in seconds, and what became of it.

    ``measured``: the median. ``outcome``: ``measured``, ``slow`` (a multiple of the best, so timed twice only), ``pruned`` (by its static figures), ``failed``
    (``reason`` says how) or ``not reached``.
    """

    plan: str
    predicted: float | None = None
    measured: float | None = None
    outcome: str = OPEN
    reason: str = ""
    figures: str = ""


@dataclass(frozen=True)
class TuningResult:
    """The outcome of tuning one program for one size.

    ``program``, ``digest``: name and hash of the text. ``fixed``: the ranks and parameters that its kernels hold constant. ``trials``: the default first, then by
    measured time. ``chosen``: the plan that later calls use, None where that is the default. ``ratio``: time of the default over that of the best candidate,
    median of runs in turns, whose medians are ``default_seconds`` and ``chosen_seconds``; None where nothing was compared. ``reason``: why the default stays.
    ``finished``: the candidates were compared with the default in the end, so that later calls use the outcome.
    """

    program: str
    digest: str
    backend: str
    extents: dict[str, int]
    dtypes: dict[str, str]
    scalars: dict[str, Any]
    fixed: tuple[str, ...]
    machine: dict[str, Any]
    versions: dict[str, str]
    trials: tuple[Trial, ...]
    chosen: str | None = None
    ratio: float | None = None
    default_seconds: float | None = None
    chosen_seconds: float | None = None
    reason: str = ""
    seconds: float = 0.0
    finished: bool = False
    interrupted: bool = False

    @property
    def plan(self) -> Plan:
        """The plan that later calls of these and nearby sizes use."""
        return parse_plan(self.chosen if self.chosen is not None else self.trials[0].plan)

    @property
    def default(self) -> Trial:
        """The plan that is chosen without timing."""
        return self.trials[0]

    def save(self, path: str | Path) -> None:
        """Write a file that ``einsumc tune --import`` reads, here or on another machine."""
        import json

        Path(path).write_text(
            json.dumps({"format": FORMAT, "records": [asdict(self)]}, indent=1) + "\n", encoding="utf-8"
        )

    def __str__(self) -> str:
        return report(self)


FIELDS = frozenset(f.name for f in fields(TuningResult))


def result_of(record: Mapping[str, Any]) -> TuningResult:
    """The result that ``asdict`` made a record of, before or after it was text."""
    known = {n: record[n] for n in FIELDS}
    return TuningResult(
        **{**known, "fixed": tuple(known["fixed"]), "trials": tuple(Trial(**t) for t in known["trials"])}
    )


def report(result: TuningResult, most: int = 20) -> str:
    """The result as a table: the best ``most`` candidates and a summary of the others."""
    from einsum_compiler import tables

    sizes = ", ".join(f"{r.upper()}={n}" for r, n in sorted(result.extents.items()))
    made = tables.table(
        f"{result.program} on {result.backend}, {sizes}",
        "plan",
        ">predicted",
        ">measured",
        ">against default",
        "verdict",
    )
    timed = [t for t in result.trials[1:] if t.measured is not None]
    others = [t for t in result.trials[1:] if t.measured is None and t.outcome != OPEN]
    shown = [result.default, *timed][:most]
    shown += others[: max(0, most - len(shown))]
    base = result.default.measured
    for trial in shown:
        against = f"{base / trial.measured:.2f} x" if base and trial.measured and trial is not result.default else ""
        name = "default: " if trial is result.default else ""
        made.add_row(
            name + summary(parse_plan(trial.plan)),
            milliseconds(trial.predicted),
            milliseconds(trial.measured),
            against,
            _verdict(result, trial),
        )
    lines = [tables.text_of(made)]
    counts = [
        f"{sum(t.outcome == kind for t in result.trials)} {kind}"
        for kind in (MEASURED, SLOW, PRUNED, FAILED, OPEN)
        if any(t.outcome == kind for t in result.trials)
    ]
    lines.append(
        f"{counted(len(result.trials), 'candidate')} in {result.seconds:.0f} s: {', '.join(counts)}"
        + (" (interrupted)" if result.interrupted else "")
    )
    lines.append(conclusion(result))
    return "\n".join(lines)


def conclusion(result: TuningResult) -> str:
    """One line: what later calls use, and why."""
    if result.chosen is None:
        return f"the default plan is kept: {result.reason}"
    if result.ratio is None:
        return f"chosen: {summary(parse_plan(result.chosen))} ({result.reason})"
    return (
        f"chosen: {summary(parse_plan(result.chosen))}, {milliseconds(result.chosen_seconds)} against {milliseconds(result.default_seconds)} of the default: "
        f"{result.ratio:.2f} x in turns"
    )


def _verdict(result: TuningResult, trial: Trial) -> str:
    if result.chosen is not None and trial.plan == result.chosen:
        return "chosen"
    if trial is result.default and result.chosen is None:
        return "kept"
    if trial.outcome == SLOW:
        return "too slow to time further"
    return trial.reason if trial.outcome in (PRUNED, FAILED) else ""


def milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1e3:.3f} ms"


def summary(plan: Plan) -> str:
    """What distinguishes a plan from others of its program: tiles, chunks of splits, warps; kernels are separated by a bar."""
    parts = [f"{s.rank.rank} into {s.chunks}" if s.chunks else f"{s.rank} apart" for s in plan.splits]
    return "; ".join([*parts, " | ".join(map(_kernel_summary, plan.kernels))])


def _kernel_summary(kernel: KernelPlan) -> str:
    tiles = [str(r) for r in kernel.program if r.size > 1]
    if kernel.streams:
        tiles.append(f"over {', then '.join(map(str, kernel.streams))}")
    launch = kernel.launch
    if launch.persistent:
        tiles.append(f"persistent {launch.persistent}")
    tiles += ["descriptors"] if launch.descriptors else []
    if launch.warps:
        tiles.append(f"{launch.warps} warps")
    if launch.stages != 2:
        tiles.append(f"{launch.stages} stages")
    return " ".join(tiles) or "no tiles"
