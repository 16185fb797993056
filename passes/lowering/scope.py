"""The statements of one stretch of a kernel (outside loops, or a loop body) while they are written."""

from __future__ import annotations

from dataclasses import dataclass, field

from einsum_compiler.ir.tile import Statement
from einsum_compiler.passes.lowering.translate import EVERYWHERE, Domain


@dataclass
class Scope:
    """Statements in order, and the loads that can be read again.

    ``predicate`` is the filter that the ranges of the loop stand for: it holds at every point of a full tile, and a tile where it
    holds nowhere is not visited. ``reduced`` collects the domains of the reductions met, from which it is found.
    """

    loop: str | None = None
    predicate: Domain = EVERYWHERE
    outer: Scope | None = None
    statements: list[Statement] = field(default_factory=list)
    loads: dict[object, str] = field(default_factory=dict)
    current: dict[str, str] = field(default_factory=dict)  # a name that stands for another tile
    filled: dict[str, list[str]] = field(
        default_factory=dict
    )  # copies of a tile with another value where some filter fails
    reduced: list[Domain] = field(default_factory=list)

    def find_load(self, key: object) -> str | None:
        if key in self.loads:
            return self.loads[key]
        return self.outer.find_load(key) if self.outer else None

    def named(self, name: str) -> str:
        """The tile that a name stands for."""
        for scope in self._outermost_first():
            while name in scope.current:
                name = scope.current[name]
        return name

    def copies(self, name: str) -> list[str]:
        """The filled copies of a tile in reach, copies of copies included, latest last."""
        found = [name]
        for scope in self._outermost_first():
            for known in found:
                found += [copy for copy in scope.filled.get(known, ()) if copy not in found]
        return found[1:]

    def _outermost_first(self) -> list[Scope]:
        return [*(self.outer._outermost_first() if self.outer else ()), self]


def replace_scope(scope: Scope) -> Scope:
    """A scope to write into and throw away: what it holds so far can be read."""
    return Scope(
        scope.loop,
        scope.predicate,
        scope.outer,
        list(scope.statements),
        dict(scope.loads),
        dict(scope.current),
        {name: list(copies) for name, copies in scope.filled.items()},
    )
