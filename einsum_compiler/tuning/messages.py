"""What the search asks of a worker process, and what comes back. Plans travel as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Done:
    """The answer to a request."""

    value: Any


@dataclass(frozen=True)
class Failed:
    """An error instead of an answer: the name of its class and its message."""

    kind: str
    message: str


@dataclass(frozen=True)
class Compile:
    """Build the kernels of a plan (as text) and read their static figures: ``Static``."""

    plan: str


@dataclass(frozen=True)
class Reckon:
    """Evaluate the reference, for the checks to come: nothing."""


@dataclass(frozen=True)
class Check:
    """Run a plan once on outputs full of NaN and compare with the reference: a line about its errors."""

    plan: str


@dataclass(frozen=True)
class Time:
    """Times of single calls in seconds: for about ``seconds``, fewer where the plan is much slower than ``best``."""

    plan: str
    seconds: float
    best: float


@dataclass(frozen=True)
class Race:
    """Times of single calls of several plans in turns: a list for each."""

    plans: tuple[str, ...]
    seconds: float


Request = Compile | Reckon | Check | Time | Race
