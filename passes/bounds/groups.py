"""Groups of neighbouring equations: what is external to them, and the problems that say something about its traffic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from einsum_compiler.passes.bounds.anchors import Anchors
from einsum_compiler.passes.bounds.compulsory import Elements
from einsum_compiler.passes.bounds.einsum import Einsum, einsums
from einsum_compiler.passes.bounds.fused import Anchor
from einsum_compiler.passes.bounds.provenance import Provenance
from einsum_compiler.passes.bounds.result import Touched
from einsum_compiler.passes.bounds.spaces import Space, Spaces


@dataclass(frozen=True)
class Group:
    """Equations computed together: ``[start, stop)`` of the cascade's."""

    spaces: tuple[Space, ...]
    parts: tuple[Touched, ...]  # external elements: read, and written for others
    einsums: tuple[Einsum, ...]
    anchors: tuple[Anchor, ...]
    unknown: tuple[str, ...]  # why equations have no bound of their own


class Grouping:
    """Makes the groups of one cascade."""

    def __init__(self, spaces: Spaces, elements: Elements) -> None:
        self._spaces, self._elements = spaces, elements
        self._all = spaces.spaces
        self._groups: dict[tuple[int, int], Group] = {}
        self._moved: dict[tuple[int, int], float] = {}
        self._met: dict[Any, Any] = {}  # problems of different groups are often the same one
        self._readers: dict[str, set[int]] = {}
        for position, space in enumerate(self._all):
            for access in space.reads:
                self._readers.setdefault(access.tensor, set()).add(position)

    def __len__(self) -> int:
        return len(self._all)

    def moved(self, start: int, stop: int) -> float:
        """The compulsory elements of a group."""
        if (start, stop) not in self._moved:
            self._moved[start, stop] = float(sum(p.count for p in self._parts(start, stop)))
        return self._moved[start, stop]

    def _parts(self, start: int, stop: int) -> list[Touched]:
        members = self._all[start:stop]
        written = {s.tensor for s in members}
        read = dict.fromkeys(a.tensor for s in members for a in s.reads if a.tensor not in written)
        exposed = self._exposed(start, stop)
        return [
            *(self._elements.read(t, members) for t in read),
            *(self._elements.written(s.tensor) for s in members if s.tensor in exposed),
        ]

    def _exposed(self, start: int, stop: int) -> set[str]:
        """The tensors that a group makes for others."""
        written = [s.tensor for s in self._all[start:stop]]
        return {
            t
            for t in written
            if t in self._spaces.outputs or any(not start <= r < stop for r in self._readers.get(t, ()))
        }

    def group(self, start: int, stop: int) -> Group:
        """The group of the equations from ``start`` to before ``stop``."""
        if (start, stop) not in self._groups:
            self._groups[start, stop] = self._made(start, stop)
        return self._groups[start, stop]

    def _made(self, start: int, stop: int) -> Group:
        members = self._all[start:stop]
        provenance = Provenance(self._spaces, members, self._exposed(start, stop))
        problems, unknown = einsums(provenance)
        return Group(
            members,
            tuple(self._parts(start, stop)),
            tuple(self._met.setdefault(_key(e), e) for e in problems),
            tuple(self._met.setdefault(_key(a), a) for a in Anchors(provenance).found()),
            unknown,
        )


def _key(problem: Einsum | Anchor) -> tuple[Any, ...]:
    """What makes two problems the same."""
    arrays = (
        problem.arrays
        if isinstance(problem, Einsum)
        else (problem.made_of, problem.used_with, problem.tensors, problem.width)
    )
    return type(problem), problem.digits, problem.points, arrays
