"""What passes proved or refused, in words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from einsum_compiler.passes.certificate import Certificate

# What each form of a certificate means. Forms that are not listed (nothing moved, nothing to correct) are not worth a word.
MEANINGS = {
    "deferred": "a factor that does not change along {ranks} is applied once, to the finished {tensor}",
    "split": "{tensor} is summed term by term",
    "running": "{tensor} is kept up to date while {ranks} streams by: when the running value it depends on moves, one factor corrects it",
    "finite rank": "{tensor} is kept up to date while {ranks} streams by, with a few sums beside it that one small matrix corrects",
    "whole": "one tile holds all of {ranks}: {tensor} waits there for what it depends on, and reads nothing again",
    "reordered": "the products in {tensor} are multiplied in another order than written, the cheapest at these sizes",
    "apart": "{tensor} computes what it sums over {ranks} for itself, so that these stream as one rank",
    "refused": "{tensor} waits until what it depends on is finished, which costs a pass over {ranks}",
}
LEGEND = "X' is the value that a running X moves to."


@dataclass(frozen=True)
class Proof:
    """One decision: which pass, about what, what it means, the equations proved, their side conditions, and why it was refused."""

    step: str
    subject: str
    meaning: str
    equations: tuple[str, ...]
    conditions: tuple[str, ...]
    reason: str

    @property
    def refused(self) -> bool:
        return bool(self.reason)

    @property
    def moves(self) -> bool:
        """Whether its equations speak of values that move."""
        return any("'" in line for line in self.equations)


def proofs(certificates: Iterable[Certificate]) -> list[Proof]:
    """The decisions worth a word, in the order they were made."""
    found = []
    for c in certificates:
        if c.form in MEANINGS:
            ranks = ", ".join(c.ranks)
            meaning = MEANINGS[c.form].format(tensor=c.tensor, ranks=ranks)
            lines = tuple(c.identity.splitlines())
            found.append(Proof(c.step, f"{c.tensor} over {ranks}", meaning, lines, c.conditions, c.reason))
    return found
