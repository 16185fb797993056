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
    current: dict[str, str] = field(default_factory=dict)
    reduced: list[Domain] = field(default_factory=list)

    def find_load(self, key: object) -> str | None:
        if key in self.loads:
            return self.loads[key]
        return self.outer.find_load(key) if self.outer else None

    def latest(self, name: str) -> str:
        """The filled version of a tile, if there is one in reach."""
        seen = name
        scopes: list[Scope] = []
        scope: Scope | None = self
        while scope:
            scopes.append(scope)
            scope = scope.outer
        for s in reversed(scopes):
            while seen in s.current:
                seen = s.current[seen]
        return seen
