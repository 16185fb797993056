"""Which sweep over the streamed rank computes each equation.

Law (theory 2.2): an equation inside the loop belongs to sweep ``1 + k`` if it needs something finished by sweep k, and never before the
sweep of what it reads inside the loop. Equations outside stand before the first loop or after the sweep that finishes what they read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from einsum_compiler.ir.build import add, reads_of
from einsum_compiler.ir.cascade import Cascade, Equation
from einsum_compiler.ir.expression import Constant, Expression, Extent, Rank, Read


def loop_index(equation: Equation, loop: str) -> Expression | None:
    """The index of the target on the loop's rank: ``n.1``, ``n.1 + 1``, or None."""
    for index in equation.target.indices:
        if index in (Rank(loop), add(Rank(loop), Constant(1))):
            return index
    return None


@dataclass(frozen=True)
class Sweeps:
    """For every tensor: the sweep that computes it (``level``, inside the loop) or after which it stands (``stage``)."""

    level: dict[str, int]
    stage: dict[str, int]
    states: frozenset[str]

    stores: int = 0  # the last sweep that stores an output

    @property
    def count(self) -> int:
        return max([self.stores, *(self.level[s] for s in self.states)])


def assign_sweeps(cascade: Cascade, loop: str | None) -> Sweeps:
    """The sweeps of a cascade whose states run along ``loop``; everything is stage 0 without a loop."""
    if loop is None:
        return Sweeps({}, {e.target.tensor: 0 for e in cascade.equations}, frozenset())
    states = frozenset(
        e.target.tensor for e in cascade.equations if loop_index(e, loop) == add(Rank(loop), Constant(1))
    )
    steps = [e for e in cascade.equations if not any(isinstance(i, Constant) for i in e.target.indices)]
    inside_loop = frozenset(e.target.tensor for e in steps if loop_index(e, loop) is not None)
    level: dict[str, int] = {}
    stage: dict[str, int] = {}
    changed = True
    while changed:  # states refer to each other, so levels are a least fixed point; they only rise
        changed = False
        for equation in steps:
            name = equation.target.tensor
            reads = reads_of(equation.value, equation.where)
            if loop_index(equation, loop) is None:
                new = max((_finished(r, loop, states, level, stage) for r in reads), default=0)
                changed |= stage.get(name) != new
                stage[name] = new
            else:
                inside = [level.get(r.tensor, 1) for r in reads if _is_inside(r, loop, inside_loop)]
                outside = [
                    _finished(r, loop, states, level, stage) + 1 for r in reads if not _is_inside(r, loop, inside_loop)
                ]
                new = max([1, *inside, *outside])
                changed |= level.get(name) != new
                level[name] = new
    stores = max((level[n] for n in (f"{t.name}.tile" for t in cascade.outputs) if n in level), default=0)
    return Sweeps(level, stage, states, stores)


def _is_inside(read: Read, loop: str, inside_loop: frozenset[str]) -> bool:
    return read.tensor in inside_loop and not finished_read(read, loop)


def finished_read(read: Read, loop: str) -> bool:
    """Whether a read of a state takes its last value, ``R[..., N.1]``."""
    return bool(read.indices) and read.indices[-1] == Extent(loop)


def _finished(read: Read, loop: str, states: Iterable[str], level: dict[str, int], stage: dict[str, int]) -> int:
    if read.tensor in states:
        return level.get(read.tensor, 1)
    return stage.get(read.tensor, 0)
