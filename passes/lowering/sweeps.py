"""Which sweep over a streamed rank computes each equation.

Law (theory 2.2): an equation inside the loop belongs to sweep ``1 + k`` if it needs something finished by sweep k, and never before the
sweep of what it reads inside the loop. A state whose value of each trip is read runs in the sweep of its reader: an earlier one would have finished it. Equations outside stand before the first loop or after the sweep that finishes what they read. Several
streamed ranks count together: sweep k has a loop for each of them that needs one, and none of these loops waits for another.
A loop of one trip finishes inside of that trip, so all equations of its one sweep stand there, those between two sweeps too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from einsum_compiler.ir.build import add, reads_of
from einsum_compiler.ir.cascade import Cascade, Equation
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.expression import Constant, Extent, Rank, Read


def loop_of(equation: Equation, loops: Iterable[str]) -> str | None:
    """The loop whose rank the target carries, as ``n.1`` or ``n.1 + 1``; None outside loops."""
    indices = equation.target.indices
    return next((r for r in loops if Rank(r) in indices or add(Rank(r), Constant(1)) in indices), None)


@dataclass(frozen=True)
class Sweeps:
    """For every tensor: the sweep that computes it (``level``, inside the loop) or after which it stands (``stage``)."""

    level: dict[str, int]
    stage: dict[str, int]
    states: frozenset[str]
    loop: dict[str, str]  # of what is computed inside one
    stores: int = 0  # the last sweep that stores an output

    @property
    def count(self) -> int:
        return max([self.stores, *(self.level[s] for s in self.states)])


def assign_sweeps(cascade: Cascade, loops: tuple[str, ...], whole: bool = False) -> Sweeps:
    """The sweeps of a cascade whose states run along ``loops``; everything is stage 0 without a loop. ``whole``: the loop has one trip."""
    if not loops:
        return Sweeps({}, {e.target.tensor: 0 for e in cascade.equations}, frozenset(), {})
    following = {add(Rank(loop), Constant(1)) for loop in loops}
    states = frozenset(e.target.tensor for e in cascade.equations if following & set(e.target.indices))
    steps = [e for e in cascade.equations if not any(isinstance(i, Constant) for i in e.target.indices)]
    places = {e.target.tensor: loop_of(e, loops) for e in steps}
    loop_by_name = {name: loop for name, loop in places.items() if loop is not None}
    level: dict[str, int] = {}
    stage: dict[str, int] = {}
    beside = dict.fromkeys(states, 1)  # the sweep of what reads a state trip by trip
    changed = True
    while changed:  # states refer to each other, so levels are a least fixed point; they only rise
        changed = False
        for equation in steps:
            name = equation.target.tensor
            reads = reads_of(equation.value, equation.where)
            if name not in loop_by_name:
                new = max((_finished(r, states, level, stage) for r in reads), default=0)
                changed |= stage.get(name) != new
                stage[name] = new
            else:
                inside = [level.get(r.tensor, 1) for r in reads if _is_inside(r, loops, loop_by_name)]
                outside = [
                    _finished(r, states, level, stage) + 1 for r in reads if not _is_inside(r, loops, loop_by_name)
                ]
                new = 1 if whole else max([beside.get(name, 1), *inside, *outside])
                if new > len(steps):
                    raise PlanError(
                        f"{name} needs a state trip by trip after the sweep that finishes it", equation.span
                    )
                changed |= level.get(name) != new
                level[name] = new
                for read in reads:
                    if read.tensor in states and _is_inside(read, loops, loop_by_name) and beside[read.tensor] < new:
                        beside[read.tensor], changed = new, True
    stores = max((level[n] for n in (f"{t.name}.tile" for t in cascade.outputs) if n in level), default=0)
    return Sweeps(level, stage, states, loop_by_name, stores)


def _is_inside(read: Read, loops: tuple[str, ...], inside: Mapping[str, str]) -> bool:
    return read.tensor in inside and not finished_read(read, loops)


def finished_read(read: Read, loops: tuple[str, ...]) -> bool:
    """Whether a read of a state takes its last value, ``R[..., N.1]``."""
    return bool(read.indices) and read.indices[-1] in [Extent(loop) for loop in loops]


def _finished(read: Read, states: Iterable[str], level: dict[str, int], stage: dict[str, int]) -> int:
    if read.tensor in states:
        return level.get(read.tensor, 1)
    return stage.get(read.tensor, 0)
