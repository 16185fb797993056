"""The order of statements in a body: element-wise ones wait until something needs them, so that one sweep makes what several would."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from einsum_compiler.ir.tile import Map, Select, Statement
from einsum_compiler.ir.tile_ranges import reads_in


def latest(body: Sequence[Statement]) -> tuple[Statement, ...]:
    """The statements with every map and select just before the first other statement that needs it, those with fewer axes first.

    Tiles are assigned once, so a statement may stand anywhere between what it reads and what reads it; a map has all axes of what it reads, so one with fewer
    axes reads none with more. A map that waits for a product which does not read it runs in one sweep with the maps that read both: its tile stays in registers.
    """
    waiting: list[Map | Select] = []
    found: list[Statement] = []
    for statement in body:
        if isinstance(statement, Map | Select):
            waiting.append(statement)
            continue
        needed = _needed(waiting, reads_in(statement))
        waiting = [s for s in waiting if s.target not in needed]
        found += [*sorted(needed.values(), key=lambda s: len(s.type.axes)), statement]
    return (*found, *sorted(waiting, key=lambda s: len(s.type.axes)))


def _needed(waiting: Sequence[Map | Select], names: Collection[str]) -> dict[str, Map | Select]:
    """The waiting statements that make the names, and what they read, in order."""
    wanted, found = set(names), list[Map | Select]()
    for statement in reversed(waiting):
        if statement.target in wanted:
            wanted |= reads_in(statement)
            found.append(statement)
    return {s.target: s for s in reversed(found)}
