"""Pass analysis: how often a cascade must traverse a rank, and which read-read pair forces each further pass.

Source: FuseMax, section III; the computable form of theory.md 2.2 with the correction of laws.md ("Pass levels"). An equation *carries* a rank
if its iteration space does. Its level is the largest of the levels of operands that carry the rank and of ``done + 1`` of finished
reductions it reads; only equations with an operand that carries the rank start a pass, and a broadcast hands its level on. Reading the
running position of a recurrence is no finished reduction; reading its last one is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from einsum_compiler.ir.cascade import Cascade, Equation
from einsum_compiler.ir.expression import Read
from einsum_compiler.passes.normalize import Normalize, normalize
from einsum_compiler.passes.scope import free_ranks, reads_in


@dataclass(frozen=True, slots=True)
class PassPair:
    """A fibre of ``tensor`` that ``again`` reads once more after ``finished``, which reads all of it, is known."""

    tensor: str
    finished: str
    again: str
    level: int

    def __str__(self) -> str:
        return f"pass {self.level}: {self.again} reads {self.tensor} again after {self.finished} has read all of it"


@dataclass(frozen=True, slots=True)
class PassLevels:
    """The passes over one rank: their number, the level of each equation's tensor, and the pairs that force the passes."""

    rank: str
    passes: int
    levels: dict[str, int]
    pairs: tuple[PassPair, ...]


def pass_levels(cascade: Cascade, rank: str) -> PassLevels:
    """The pass analysis of a cascade without calls (after ``inline``) along one rank."""
    return _Analysis(normalize(cascade, Normalize(distribute=False)), rank).result()


def passes(cascade: Cascade, rank: str) -> int:
    """How many times the rank must be traversed; 0 if nothing carries it."""
    return pass_levels(cascade, rank).passes


class _Analysis:
    def __init__(self, cascade: Cascade, rank: str) -> None:
        self._cascade = cascade
        self._rank = rank
        self._computed = {t.tensor for e in cascade.equations for t in e.targets}
        self._runs = {t.tensor for e in cascade.equations for t in e.targets if rank in t.ranks}
        self._level: dict[str, int] = {}  # of tensors with the rank
        self._done: dict[str, int] = {}  # of tensors without it: the pass after which they are known
        self._passes = 0
        self._settle()

    def _settle(self) -> None:
        """Levels only grow, and a recurrence does not raise its own, so this ends."""
        changed = True
        while changed:
            changed = False
            for equation in self._cascade.equations:
                for target in equation.targets:
                    known, found = (self._level if target.tensor in self._runs else self._done), self._found(equation)
                    if known.get(target.tensor, 0) < found:
                        known[target.tensor] = found
                        changed = True

    def _carries(self, read: Read) -> bool:
        return self._rank in free_ranks(read)

    def _starts(self, equation: Equation) -> bool:
        """Whether the equation has an operand that carries the rank."""
        return any(self._carries(read) for read in reads_in(equation))

    def _found(self, equation: Equation) -> int:
        running = equation.target.tensor in self._runs
        if not self._starts(equation):
            # No operand is traversed. What has the rank on the left only is a broadcast: its readers come after.
            done = max((self._finished_after(r) for r in reads_in(equation)), default=0)
            return done + 1 if running and self._rank in equation.target.ranks else done
        found = max(1, *(self._demand(r) for r in reads_in(equation)))
        self._passes = max(self._passes, found)
        return found

    def _demand(self, read: Read) -> int:
        """The earliest pass in which the operand can be read by an equation that traverses the rank."""
        if self._carries(read) and read.tensor in self._runs:
            return self._level.get(read.tensor, 0)
        done = self._finished_after(read)
        return done + 1 if done else 0

    def _finished_after(self, read: Read) -> int:
        """The pass after which an operand that is not traversed is known; the last position of a recurrence is a finished value."""
        if read.tensor in self._runs:
            return self._level.get(read.tensor, 0)
        return self._done.get(read.tensor, 0)

    # -- why

    def result(self) -> PassLevels:
        pairs = [pair for level in range(2, self._passes + 1) if (pair := self._pair(level)) is not None]
        return PassLevels(self._rank, self._passes, {**self._done, **self._level}, tuple(pairs))

    def _pair(self, level: int) -> PassPair | None:
        """A pair that forces a level, with the tensor closest to the second reader."""
        for equation in self._cascade.equations:
            if not self._starts(equation) or self._found(equation) != level:
                continue
            for read in reads_in(equation):
                if self._demand(read) == level and not (self._carries(read) and read.tensor in self._runs):
                    finished = self._source(read.tensor)
                    shared = self._shared(equation, finished)
                    if shared is not None:
                        return PassPair(shared, finished, equation.target.tensor, level)
        return None

    def _source(self, tensor: str) -> str:
        """The reduction behind a tensor that waits for one: through maps without the rank, back to what traverses it."""
        while tensor not in self._runs:
            equations = self._cascade.equations_of(tensor)
            if any(self._starts(e) for e in equations):
                return tensor
            late = [
                r.tensor for e in equations for r in reads_in(e) if self._finished_after(r) == self._done.get(tensor, 0)
            ]
            if not late or late[0] == tensor:
                return tensor
            tensor = late[0]
        return tensor

    def _shared(self, again: Equation, finished: str) -> str | None:
        before = list(self._traversed(self._cascade.equations_of(finished)))
        return next((t for t in self._traversed((again,)) if t in before), None)

    def _traversed(self, equations: Iterable[Equation]) -> list[str]:
        """The tensors whose fibres the equations read, directly first, then through the maps behind."""
        found: dict[str, None] = {}
        frontier = list(equations)
        while frontier:
            reads = [r.tensor for e in frontier for r in reads_in(e) if self._carries(r)]
            frontier = [e for t in dict.fromkeys(reads) if t not in found for e in self._cascade.equations_of(t)]
            found.update(dict.fromkeys(reads))
        return list(found)
