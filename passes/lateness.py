"""Which tensors wait for a reduction over a rank to finish, and which run along that rank."""

from __future__ import annotations

from collections.abc import Iterable

from einsum_compiler.ir.cascade import Cascade, Equation
from einsum_compiler.ir.expression import Expression, Read, Reduction, Selection, walk
from einsum_compiler.passes.scope import ranks_of_tensors, reads_in


def reduced_ranks(equation: Equation) -> set[str]:
    """The ranks that some reduction or selection of the equation reduces."""
    roots = (equation.value, *(() if equation.where is None else (equation.where,)))
    return {r for root in roots for n in walk(root) if isinstance(n, (Reduction, Selection)) for r in n.ranks}


class Lateness:
    """For a set of ranks: what is *late*, that is, depends on a finished reduction over one of them.

    A tensor *runs along* a rank if it has that rank. A late tensor that runs along none of the ranks is a *context*: one value
    that every point of the fibre sees.
    """

    def __init__(self, cascade: Cascade, ranks: Iterable[str]) -> None:
        self.ranks = frozenset(ranks)
        self._axes = ranks_of_tensors(cascade)
        self._late: set[str] = set()
        changed = True
        while changed:  # recurrences depend on themselves
            changed = False
            for equation in cascade.equations:
                names = {t.tensor for t in equation.targets}
                if names <= self._late:
                    continue
                if reduced_ranks(equation) & self.ranks or any(r.tensor in self._late for r in reads_in(equation)):
                    self._late |= names
                    changed = True

    def is_late(self, node: Expression | str) -> bool:
        """Whether a tensor, or any tensor an expression reads, is late."""
        if isinstance(node, str):
            return node in self._late
        return any(isinstance(n, Read) and n.tensor in self._late for n in walk(node))

    def runs(self, tensor: str) -> bool:
        """Whether the tensor has one of the ranks."""
        return bool(set(self._axes.get(tensor, ())) & self.ranks)

    def is_context(self, tensor: str) -> bool:
        """Whether the tensor is late and has none of the ranks."""
        return tensor in self._late and not self.runs(tensor)
