"""Tuned plans on disk: one file per program, types and machine, read by every call that compiles, written under a lock.

A record serves the sizes it was measured at and those near them: the extents and whole numbers that its kernels hold constant are equal, and so are
extents of 0 and 1 and truth values; the others differ by a factor of ``NEAR`` at most. The nearest record counts.
"""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Any

from einsum_compiler import store
from einsum_compiler.ir.binding import Binding
from einsum_compiler.ir.errors import EinsumWarning, PlanError
from einsum_compiler.ir.plan import Plan
from einsum_compiler.ir.plan_parser import parse_plan
from einsum_compiler.tuning.machine import machine_of
from einsum_compiler.tuning.result import FIELDS, FORMAT, TuningResult, result_of

NEAR = 2**0.5


@dataclass(frozen=True)
class Place:
    """The file that holds the records of a program, with these element types, on this machine."""

    path: Path
    dtypes: Mapping[str, str]
    machine: Mapping[str, Any]


@dataclass(frozen=True)
class Found:
    """A record that serves a call. ``plan`` is None where the default was the fastest. ``exact``: measured at these very sizes."""

    plan: Plan | None
    exact: bool


def place_of(text: str, name: str, dtypes: Mapping[str, str], backend: str, isa: str, compiler: str) -> Place:
    """Where records of calls with these element types are. The version of this installation is part of the name: measured times do not outlive the code."""
    machine = machine_of(backend, isa, compiler)
    key = store.key_of("tuned", text, name, backend, sorted(dtypes.items()), sorted(machine.items()))
    return Place(store.directory() / "tuned" / f"{key}.json", dtypes, machine)


def find(place: Place, binding: Binding) -> Found | None:
    """The record for the sizes of a call, or None."""
    best: dict[str, Any] | None = None
    least = float("inf")
    for record in _read(place.path):
        away = distance(record, binding) if record["finished"] else None
        if away is not None and away < least:
            best, least = record, away
    if best is None:
        return None
    try:
        return Found(parse_plan(best["chosen"]) if best["chosen"] is not None else None, least == 0)
    except PlanError:  # not written by this program
        warnings.warn(f"{place.path} holds a record that is no plan: it is not used", EinsumWarning, stacklevel=2)
        return None


def exact(place: Place, binding: Binding) -> TuningResult | None:
    """What was measured at exactly these sizes before, finished or not."""
    return next((result_of(r) for r in _read(place.path) if distance(r, binding) == 0), None)


def distance(record: Mapping[str, Any], binding: Binding) -> float | None:
    """How far a call's sizes are from a record's: 0 for equal ones, None where the record does not serve them."""
    fixed = set(record["fixed"])
    total = 0.0
    pairs: list[tuple[str, Any, Any]] = [(n, v, binding.extents.get(n)) for n, v in record["extents"].items()]
    pairs += [(n, v, binding.scalars.get(n)) for n, v in record["scalars"].items() if not isinstance(v, float)]
    for name, known, wanted in pairs:
        if known == wanted and type(known) is type(wanted):
            continue
        if (
            wanted is None
            or name in fixed
            or type(known) is not type(wanted)
            or isinstance(known, bool)
            or min(known, wanted) <= 1
        ):
            return None
        step = abs(log(wanted / known))
        if step > log(NEAR) + 1e-9:
            return None
        total += step
    return total


def keep(place: Place, record: Mapping[str, Any]) -> None:
    """Add a record in place of that of the same sizes. Safe with other processes that read or write."""
    from filelock import FileLock

    place.path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(str(place.path.with_suffix(".lock"))):
        same = ("extents", "scalars")
        others = [r for r in _read(place.path) if any(r[k] != record[k] for k in same)]
        handle, partial = tempfile.mkstemp(dir=place.path.parent, suffix=".partial")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump({"format": FORMAT, "records": [*others, record]}, file)
        os.replace(partial, place.path)


def _read(path: Path) -> list[dict[str, Any]]:
    """The records of a file; none of one that is missing or damaged."""
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
        return [r for r in found["records"] if FIELDS <= r.keys()]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return []
