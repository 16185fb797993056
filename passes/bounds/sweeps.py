"""Traffic of named schedules that keep rows and stream a rank past them: what the passes over that rank cost.

Not bounds but what these schedules move, from the pass levels (theory.md 2.4). A tile of rows stays with its accumulators and finished statistics; each tensor that
carries the streamed rank goes by. Where the mathematics forces several passes, a schedule keeps a whole fibre per row (*buffered*), or computes it again in
each pass from what it is made of (*recomputed*), or stores it (*unfused*). The streamed element itself is not charged to the fast memory.
A result that is streamed while the rows that are summed into it stay, is loaded and stored by every tile of rows but the first, which only stores it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import Any

import sympy

from einsum_compiler.ir.cascade import Cascade
from einsum_compiler.passes.analysis.levels import PassLevels, pass_levels
from einsum_compiler.passes.bounds.analysis import Analysis
from einsum_compiler.passes.bounds.fused import Anchor
from einsum_compiler.passes.bounds.hbl import Array, leading
from einsum_compiler.passes.bounds.spaces import Space
from einsum_compiler.passes.bounds.symbols import CAPACITY, Symbolic


@dataclass(frozen=True, slots=True)
class Schedule:
    """Elements that a schedule moves; ``value`` is None where one row does not fit."""

    name: str
    value: float | None
    formula: Symbolic
    rows: int | None
    text: str


@dataclass(frozen=True)
class _Rows:
    """One row: elements that stay, as a number and a formula, and the rows that share what is streamed."""

    own: float
    formula: Symbolic
    tiles: int  # groups of rows that share nothing streamed
    tiles_formula: Symbolic
    packed: int  # rows of one group
    packed_formula: Symbolic


class Sweeps:
    """The named schedules of one cascade along one streamed rank, around its largest intermediate."""

    def __init__(self, analysis: Analysis, rank: str) -> None:
        """Raises ``ValueError`` where no intermediate carries the rank, or nothing is streamed past rows."""
        self._analysis, self._rank = analysis, rank
        spaces = analysis.spaces
        carrying = [a for a in analysis.whole.anchors if rank in {d.name.split(".")[0] for d in a.digits}]
        if not carrying:
            raise ValueError(f"no intermediate that is never stored carries {rank}")
        self.anchor: Anchor = max(carrying, key=lambda a: (a.points, len(a.digits)))
        self._streamed = spaces.digits.names((rank,))
        self.levels: PassLevels = pass_levels(spaces.cascade, rank)
        self._length = spaces.extents[rank]
        self._length_formula = sympy.Mul(*(d.formula for d in self.anchor.digits if d.name in self._streamed))
        arrays = (*self.anchor.made_of, *self.anchor.used_with)
        self._past = [a for a in arrays if a.digits & self._streamed]
        self._kept = [a for a in arrays if not a.digits & self._streamed]
        if not self._past or not self._kept:
            raise ValueError(f"nothing is streamed along {rank} past rows that stay")
        self._rows = self._row()
        stay = frozenset(d.name for d in self.anchor.digits) - self._streamed
        self._summed = [a for a in self._past if a.result and not stay <= a.digits]
        box = prod(d.length for d in self.anchor.digits)
        self._share = self.anchor.points / box
        self._share_formula = self.anchor.formula / sympy.Mul(*(d.formula for d in self.anchor.digits))

    # -- rows

    def _row(self) -> _Rows:
        digits = [d for d in self.anchor.digits if d.name not in self._streamed]
        shared = frozenset[str]().union(*(a.digits for a in self._past)) - self._streamed
        state = self._state([d.name for d in digits])
        own = sum(a.weight for a in self._kept) + state
        return _Rows(
            own,
            sympy.Add(*(a.formula for a in self._kept)) + state,
            prod(d.length for d in digits if d.name in shared),
            sympy.Mul(*(d.formula for d in digits if d.name in shared)),
            prod(d.length for d in digits if d.name not in shared),
            sympy.Mul(*(d.formula for d in digits if d.name not in shared)),
        )

    def _state(self, digits: Sequence[str]) -> int:
        """The statistics that wait per row: reductions over the streamed rank that later equations read."""
        spaces = self._analysis.spaces
        used = {a.tensor for s in spaces.spaces for a in s.reads}
        return sum(
            1
            for s in spaces.spaces
            if self._rank in s.reduced
            and s.tensor in used
            and s.tensor not in spaces.outputs
            and s.write.projection.digits == frozenset(digits)
        )

    # -- what goes by in a pass

    def streamed_per_pass(self) -> tuple[tuple[str, ...], ...]:
        """For each pass, the external tensors that it reads along the rank when nothing of an earlier pass is kept."""
        spaces = self._analysis.spaces
        found = []
        for level in range(1, self.levels.passes + 1):
            ends = [
                s
                for s in spaces.spaces
                if self._rank in s.ranks
                and self.levels.levels.get(s.tensor) == level
                and (self._rank in s.reduced or s.tensor in spaces.outputs)
            ]
            found.append(tuple(self._behind(ends)))
        return tuple(found)

    def _behind(self, ends: Sequence[Space]) -> dict[str, None]:
        spaces, found, seen = self._analysis.spaces, dict[str, None](), set[str]()
        pending = list(ends)
        while pending:
            space = pending.pop()
            for access in space.reads:
                if not access.projection.digits & self._streamed or access.tensor in seen:
                    continue
                seen.add(access.tensor)
                if access.tensor in spaces.inputs:
                    found[access.tensor] = None
                elif access.tensor in spaces.by_tensor:
                    pending.append(spaces.by_tensor[access.tensor])
        return found

    def _width(self, tensors: Sequence[str]) -> tuple[float, Symbolic]:
        chosen: list[Array] = [a for a in self._past if set(a.names) & set(tensors)]
        chosen += [a for a in chosen if a in self._summed]
        return sum(a.weight for a in chosen), sympy.Add(*(a.formula for a in chosen))

    # -- schedules

    def once(self, capacity: float, name: str = "one pass") -> Schedule:
        """Everything streamed goes by once per tile of rows: the online form, or a cascade of one pass."""
        every = [n for a in self._past for n in a.names]
        return self._schedule(
            name, capacity, *self._width(every), 0, "each streamed tensor goes by once per tile of rows"
        )

    def buffered(self, capacity: float) -> Schedule:
        """A whole fibre of the intermediate is kept for each row, so that later passes read it there."""
        every = [n for a in self._past for n in a.names]
        text = f"a fibre of {self._rank} is kept for each row between the {self.levels.passes} passes"
        return self._schedule("several passes, fibre buffered", capacity, *self._width(every), 1, text)

    def recomputed(self, capacity: float) -> Schedule:
        """Each pass computes the intermediate again."""
        widths = [self._width(tensors) for tensors in self.streamed_per_pass()]
        text = f"each of {self.levels.passes} passes reads " + "; ".join(
            ", ".join(t) or "nothing" for t in self.streamed_per_pass()
        )
        return self._schedule(
            "several passes, recomputed",
            capacity,
            sum(w for w, _ in widths),
            sympy.Add(*(f for _, f in widths)),
            0,
            text,
        )

    def _schedule(
        self, name: str, capacity: float, width: float, formula: Symbolic, buffers: int, text: str
    ) -> Schedule:
        rows = self._rows
        per_row = rows.own + buffers * self._length
        symbolic_row = rows.formula + buffers * self._length_formula
        fitting = int(capacity // per_row)
        kept = sum(a.weight for a in self._kept) * rows.tiles * rows.packed
        kept_formula = sympy.Add(*(a.formula for a in self._kept)) * rows.tiles_formula * rows.packed_formula
        visits_formula = self._visits(
            sympy.ceiling(rows.packed_formula / sympy.floor(CAPACITY / symbolic_row)), self._share_formula
        )
        # What the first tile of rows need not load.
        kept -= sum(a.weight for a in self._summed) * rows.tiles * self._length
        kept_formula -= sympy.Add(*(a.formula for a in self._summed)) * rows.tiles_formula * self._length_formula
        whole = rows.tiles_formula * visits_formula * self._length_formula * formula + kept_formula
        if fitting < 1:
            return Schedule(name, None, whole, None, f"{text}; one row of {per_row:,.0f} elements does not fit")
        visits = self._visits(ceil(rows.packed / fitting), self._share)
        return Schedule(name, rows.tiles * visits * self._length * width + kept, whole, fitting, text)

    def _visits(self, tiles: Any, share: Any) -> Any:
        """How often the streamed rank goes by as a whole: a filter that leaves a share of it lets each tile of rows see that share, and all of them once more.

        Exact for triangles; for bands, whose tiles overlap by their rows, too.
        """
        return tiles * share + 1 - share

    def unfused(self, capacity: float) -> Schedule:
        """The intermediate is stored, read once by each pass between the first and the last, and by the contraction that uses it up."""
        spaces, anchor = self._analysis.spaces, self.anchor
        parts: list[Symbolic] = []
        for space in spaces.spaces:
            group = {d.name for d in anchor.digits}
            extra = frozenset(d.name for r in space.ranks for d in spaces.digits.of(r)) - group
            if (
                space.reduced
                and extra
                and any(t in (space.tensor, *(a.tensor for a in space.reads)) for t in anchor.tensors)
            ):
                digits = tuple(d for r in space.ranks for d in spaces.digits.of(r))
                one = sympy.Integer(1)
                operands = {
                    a.tensor: Array(a.projection.digits & {d.name for d in digits}, 1.0, one) for a in space.reads
                }
                operands[space.tensor] = Array(space.write.projection.digits, 1.0, one, True)
                points = spaces.points_formula(space)
                found = leading(points, digits, tuple(operands.values()))
                if found is not None:
                    parts.append(found[0])
                written = spaces.points_formula(space, space.write_ranks)
                parts.append(written)
        parts.append(max(0, self.levels.passes - 2) * anchor.formula)
        formula = sympy.Add(*parts)
        return Schedule(
            "unfused",
            spaces.value(formula, capacity),
            formula,
            None,
            f"{', '.join(anchor.tensors[:1])} is stored and read again",
        )


def sweeps(analysis: Analysis, capacity: float, rank: str) -> tuple[Schedule, ...]:
    """The schedules of a cascade as it is written."""
    own = Sweeps(analysis, rank)
    if own.levels.passes <= 1:
        return own.once(capacity), own.unfused(capacity)
    return (
        own.once(capacity, "one pass, where the online form exists"),
        own.buffered(capacity),
        own.recomputed(capacity),
        own.unfused(capacity),
    )


def deferred(cascade: Cascade) -> Cascade:
    """The cascade with every factor that may leave its reduction outside it."""
    from einsum_compiler.passes.defer import defer

    return defer(cascade).cascade
