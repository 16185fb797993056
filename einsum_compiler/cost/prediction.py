"""Predicted seconds, resource by resource."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

SHOWN = 0.005  # of the whole time: less is left out of tables


@dataclass(frozen=True)
class Prediction:
    """Seconds of one call, and what each resource would take of them.

    On a CPU the units of a core take turns, so ``resources`` add up to ``seconds``. On a GPU they run side by side: each entry is the time that resource
    alone would need, and ``seconds`` lies between the largest and their sum. ``growth``: of rounding errors, see ``cost.rounding``.
    """

    seconds: float
    resources: Mapping[str, float]
    growth: float = 0.0

    @property
    def limiting(self) -> str:
        """The resource that takes most of the time."""
        return max(self.resources, key=lambda r: self.resources[r], default="launch")

    def __str__(self) -> str:
        parts = [
            f"{name} {spent * 1e3:.3f}"
            for name, spent in sorted(self.resources.items(), key=lambda item: -item[1])
            if spent >= SHOWN * self.seconds
        ]
        return f"{self.seconds * 1e3:.3f} ms ({', '.join(parts)})"


def together(predictions: Iterable[Prediction]) -> Prediction:
    """Kernels one after the other."""
    seconds, growth, resources = 0.0, 0.0, dict[str, float]()
    for p in predictions:
        growth = max(growth, p.growth)
        seconds += p.seconds
        for name, spent in p.resources.items():
            resources[name] = resources.get(name, 0.0) + spent
    return Prediction(seconds, resources, growth)
