"""What a bound is, a number that is never shown without the schedules it covers, and what a report says of a cascade."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

Formula = Any  # a SymPy expression; SymPy has no types


@dataclass(frozen=True, slots=True)
class Bound:
    """A lower bound on the elements moved between a fast memory of ``S`` elements and the memory behind it, loads and stores together.

    ``value``: at the sizes and the capacity asked for; None where the filter depends on the values of tensors. ``formula``: a SymPy
    expression over extents (``M`` of the rank ``m``), integer parameters and ``S``. ``schedules``: the class of schedules it holds for.
    ``assumptions``: what else was assumed. ``source``: where the law comes from.
    """

    name: str
    value: float | None
    formula: Formula
    schedules: str
    assumptions: tuple[str, ...]
    source: str

    def latex(self) -> str:
        """The formula for TeX."""
        import sympy

        return str(sympy.latex(self.formula))

    def named(self, name: str) -> Bound:
        return replace(self, name=name)

    def __str__(self) -> str:
        value = "unknown" if self.value is None else f"{self.value:,.0f}"
        return f"{self.name}: {value} = {self.formula}, for {self.schedules} [{self.source}]"


@dataclass(frozen=True, slots=True)
class Touched:
    """The distinct elements of one external tensor that any evaluation must move: ``role`` is ``read`` or ``written``."""

    tensor: str
    role: str
    count: int
    size: int
    formula: Formula
    assumptions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Crossover:
    """At this capacity the best class changes."""

    capacity: float
    below: str
    above: str

    def __str__(self) -> str:
        return f"S = {self.capacity:,.0f}: below it {self.below}, above it {self.above}"


@dataclass(frozen=True)
class BoundReport:
    """Everything known about one cascade at one capacity.

    ``best``: the largest bound that holds for every class at once. ``classes``: one bound for each class, ``optimal`` names the smallest.
    ``no_spill``: for a larger class of the schedules that compute each point once. ``touched``: the compulsory elements by tensor. ``notes``: what has no bound, and why.
    """

    capacity: float
    best: Bound
    compulsory: Bound
    classes: tuple[Bound, ...]
    optimal: str
    no_spill: Bound
    touched: tuple[Touched, ...]
    notes: tuple[str, ...]

    @property
    def value(self) -> float:
        """Elements moved at least."""
        assert self.best.value is not None
        return self.best.value

    @property
    def formula(self) -> Formula:
        """The formula of the best bound."""
        return self.best.formula

    @property
    def schedules(self) -> str:
        """The class of schedules the best bound covers."""
        return self.best.schedules

    @property
    def source(self) -> str:
        """Where the law of the best bound comes from."""
        return self.best.source
