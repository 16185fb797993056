"""A bound before it has a class: its value at one capacity, and its formula only where somebody asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import sympy

from einsum_compiler.passes.bounds.symbols import Symbolic


@dataclass(frozen=True, slots=True)
class Found:
    """A bound before it has a class: its value, and how to write the formula that it is the value of."""

    value: float
    write: Callable[[], Symbolic]

    @property
    def formula(self) -> Symbolic:
        return self.write()


def remembering(method: Callable[[Any, float], Found | None]) -> Callable[[Any, float], Found | None]:
    """A method of a problem that keeps its last result: groups share problems, and one capacity is looked at at a time."""

    @wraps(method)
    def remembered(self: Any, capacity: float) -> Found | None:
        kept = self.__dict__.get(method.__qualname__)
        if kept is None or kept[0] != capacity:
            kept = self.__dict__[method.__qualname__] = (capacity, method(self, capacity))
        found: Found | None = kept[1]
        return found

    return remembered


def sum_of(*parts: Found) -> Found:
    """The sum of bounds on different traffic."""
    return Found(sum(p.value for p in parts), lambda: sympy.Add(*(p.formula for p in parts)))
