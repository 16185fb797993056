"""Tuned plans as files: taken over as they are where they were measured by this code on such a machine, and timed again elsewhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from einsum_compiler.tuning import records
from einsum_compiler.tuning.lookup import place_of
from einsum_compiler.tuning.result import FIELDS, FORMAT, TuningResult, conclusion, result_of
from einsum_compiler.tuning.tune import digest_of, versions_now

if TYPE_CHECKING:
    from einsum_compiler.kernel import Kernel


class UnusableFile(Exception):
    """A file without plans for this program; the message says what it is instead."""


def read_results(path: Path, kernel: Kernel) -> list[TuningResult]:
    """The finished results of a file that belong to a kernel's program. Raises ``UnusableFile`` where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] != FORMAT:
            raise UnusableFile(f"{path} has the format {found['format']}; this version reads {FORMAT}")
        results = [result_of(r) for r in found["records"] if r.keys() >= FIELDS]
    except OSError as error:
        raise UnusableFile(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UnusableFile(f"{path} is no file of tuned plans") from None
    ours = [
        r for r in results if r.digest == digest_of(kernel.text) and r.program == kernel.cascade.name and r.finished
    ]
    if not ours:
        others = ", ".join(sorted({r.program for r in results})) or "nothing"
        raise UnusableFile(f"{path} holds plans for {others}, none for this text of {kernel.cascade.name}")
    return ours


def take_over(kernel: Kernel, results: Sequence[TuningResult]) -> tuple[list[str], list[str], dict[str, Any]]:
    """Keep what was measured by this code on such a machine. Gives lines about what was done, the plans that must be timed again, and the sizes for that."""
    lines: list[str] = []
    plans: dict[str, None] = {}
    sizes: dict[str, Any] = {}
    for result in results:
        place = place_of(kernel, result.dtypes, result.backend)
        different = _differences(result, place)
        if not different:
            records.keep(place, asdict(result))
            kernel.forget()
            lines.append(f"taken over: {conclusion(result)}")
            continue
        lines.append(f"timed again, since {different}: {conclusion(result)}")
        plans.update(dict.fromkeys(t.plan for t in (*result.trials[:1], *result.trials[1:3]) if t.measured is not None))
        if result.chosen is not None:
            plans[result.chosen] = None
        sizes = sizes or {**result.extents, **result.scalars}
    declared = {r for t in kernel.cascade.inputs for r in t.ranks} | {p.name for p in kernel.cascade.parameters}
    return lines, list(plans), {n: v for n, v in sizes.items() if n in declared}


def _differences(result: TuningResult, place: records.Place) -> str:
    here = {**place.machine, **versions_now()}
    there = {**result.machine, **result.versions}
    names = [n for n in here | there if here.get(n) != there.get(n)]
    told = [f"{n} is {here.get(n)} here and was {there.get(n)}" for n in names if n != "code"]
    return "; ".join(told) or ("the code of the compiler has changed" if names else "")
