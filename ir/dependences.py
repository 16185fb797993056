"""Which tensors need which: the graph between tensors, and its cycles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from einsum_compiler.ir.cascade import Cascade, Equation
from einsum_compiler.ir.expression import Read
from einsum_compiler.ir.extents import expressions


def reads(equation: Equation) -> tuple[Read, ...]:
    """The reads of the right side and of the filter."""
    return tuple(n for n in expressions(equation) if isinstance(n, Read))


def dependences(cascade: Cascade) -> dict[str, tuple[str, ...]]:
    """For every computed tensor the computed tensors that its equations read, in the order read."""
    computed = {t.tensor for e in cascade.equations for t in e.targets}
    found: dict[str, dict[str, None]] = {}
    for equation in cascade.equations:
        needed = dict.fromkeys(r.tensor for r in reads(equation) if r.tensor in computed)
        for target in equation.targets:
            found.setdefault(target.tensor, {}).update(needed)
    return {name: tuple(needed) for name, needed in found.items()}


def components(graph: Mapping[str, Iterable[str]]) -> list[tuple[str, ...]]:
    """The strongly connected components, each after those it needs; names inside in the order of the graph."""
    order = {name: i for i, name in enumerate(graph)}
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[tuple[str, ...]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in graph[name]:
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            cut = stack.index(name)
            found.append(tuple(sorted(stack[cut:], key=order.__getitem__)))
            del stack[cut:]

    for name in graph:
        if name not in index:
            visit(name)
    return found


def cycle(graph: Mapping[str, Iterable[str]], members: Iterable[str]) -> list[str]:
    """A cycle inside a component: names in the order read, the first again at the end; empty if there is none."""
    inside = set(members)
    for start in members:
        paths = [[start]]
        seen = {start}
        while paths:
            path = paths.pop(0)
            for other in graph[path[-1]]:
                if other == start:
                    return [*path, start]
                if other in inside and other not in seen:
                    seen.add(other)
                    paths.append([*path, other])
    return []
