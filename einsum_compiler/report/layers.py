"""Places for the nodes of a directed acyclic graph: layers by dependence, few crossings, short straight edges.

The method of Gansner, Koutsofios, North and Vo ("A technique for drawing directed graphs", IEEE Transactions on Software Engineering 19, 1993):
layers and coordinates are the solutions of two linear programs, the order inside layers comes from medians of neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

SWEEPS = 12
STRAIGHT = 8.0  # how much more the middle of a long edge is kept straight than its ends

Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """A placed node: its centre and its size."""

    x: float
    y: float
    width: float
    height: float

    def overlaps(self, other: Box) -> bool:
        return (
            abs(self.x - other.x) * 2 < self.width + other.width
            and abs(self.y - other.y) * 2 < self.height + other.height
        )


@dataclass(frozen=True)
class Layout:
    """Boxes of the nodes, and for every edge the points it passes between them, of which each layer on its way has one."""

    width: float
    height: float
    boxes: dict[str, Box]
    bends: dict[tuple[str, str], tuple[Box, ...]]


def layout(graph: Any, sizes: Mapping[str, tuple[float, float]], gap: float, layer_gap: float) -> Layout:
    """The layout of a ``networkx.DiGraph`` without cycles; ``gap`` between neighbours, ``layer_gap`` between layers."""
    import networkx as nx

    layer = _layers(graph)
    chains: dict[tuple[str, str], list[str]] = {}
    full = nx.DiGraph()
    full.add_nodes_from(graph.nodes)
    width = {n: sizes[n][0] for n in graph.nodes}
    for source, target in graph.edges:
        chain = [source]
        for level in range(layer[source] + 1, layer[target]):
            bend = f"{source}>{target}@{level}"
            layer[bend], width[bend] = level, gap / 3
            chain.append(bend)
        chains[source, target] = chain[1:]
        full.add_edges_from(pairwise([*chain, target]))
    rows = _ordered(full, layer)
    x = _coordinates(full, rows, width, gap, set(graph.nodes))
    left = min((x[n] - width[n] / 2 for n in x), default=0.0)
    heights = [max((sizes[n][1] for n in row if n in sizes), default=0.0) for row in rows]
    tops = [sum(heights[:i]) + i * layer_gap for i in range(len(rows))]
    boxes = {
        n: Box(x[n] - left, tops[i] + heights[i] / 2, width[n], sizes[n][1] if n in sizes else heights[i])
        for i, row in enumerate(rows)
        for n in row
    }
    return Layout(
        max((b.x + b.width / 2 for b in boxes.values()), default=0.0),
        tops[-1] + heights[-1] if rows else 0.0,
        {n: boxes[n] for n in graph.nodes},
        {edge: tuple(boxes[b] for b in bends) for edge, bends in chains.items()},
    )


def _layers(graph: Any) -> dict[str, int]:
    """Layers that make the sum of edge lengths least, each edge at least one long."""
    names = list(graph.nodes)
    place = {n: i for i, n in enumerate(names)}
    cost = [float(graph.in_degree(n) - graph.out_degree(n)) for n in names]
    rows = [({place[u]: 1.0, place[v]: -1.0}, -1.0) for u, v in graph.edges]
    found = _least(cost, rows)
    lowest = min(found, default=0.0)
    return {n: round(found[place[n]] - lowest) for n in names}


def _ordered(graph: Any, layer: Mapping[str, int]) -> list[list[str]]:
    """The nodes of every layer, in the order with the fewest crossings that sweeps of medians find."""
    rows: list[list[str]] = [[] for _ in range(max(layer.values(), default=-1) + 1)]
    for node in graph.nodes:
        rows[layer[node]].append(node)
    best, fewest = [list(r) for r in rows], _crossings(graph, rows)
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for i in range(1, len(rows)) if down else range(len(rows) - 2, -1, -1):
            near = {n: p for p, n in enumerate(rows[i - 1 if down else i + 1])}
            order = {n: p for p, n in enumerate(rows[i])}

            def middle(node: str, near: dict[str, int] = near, order: dict[str, int] = order, down: bool = down) -> Any:
                others = graph.predecessors(node) if down else graph.successors(node)
                places = sorted(near[o] for o in others)
                if not places:
                    return order[node]
                return (places[(len(places) - 1) // 2] + places[len(places) // 2]) / 2

            rows[i].sort(key=middle)
        _swap_neighbours(graph, rows)
        crossings = _crossings(graph, rows)
        if crossings < fewest:
            best, fewest = [list(r) for r in rows], crossings
    return best


def _swap_neighbours(graph: Any, rows: list[list[str]]) -> None:
    for i, row in enumerate(rows):
        for p in range(len(row) - 1):
            near = rows[max(0, i - 1) : i + 2]
            before = _crossings(graph, near)
            row[p], row[p + 1] = row[p + 1], row[p]
            if _crossings(graph, near) >= before:
                row[p], row[p + 1] = row[p + 1], row[p]


def _crossings(graph: Any, rows: list[list[str]]) -> int:
    total = 0
    for above, below in pairwise(rows):
        place = {n: p for p, n in enumerate(below)}
        ends = [sorted(place[t] for t in graph.successors(n) if t in place) for n in above]
        seen: list[int] = []
        for targets in ends:
            total += sum(s > t for t in targets for s in seen)
            seen += targets
    return total


def _coordinates(
    graph: Any, rows: list[list[str]], width: Mapping[str, float], gap: float, real: set[str]
) -> dict[str, float]:
    """Coordinates that make the sum of horizontal distances along edges least, in the given order and without overlaps."""
    names = [n for row in rows for n in row]
    place = {n: i for i, n in enumerate(names)}
    edges = list(graph.edges)
    cost = [0.0] * len(names)
    limits: list[tuple[dict[int, float], float]] = []
    for number, (u, v) in enumerate(edges):
        cost.append(STRAIGHT if u not in real and v not in real else 2.0 if (u in real) != (v in real) else 1.0)
        distance = len(names) + number
        for sign in (1.0, -1.0):
            limits.append(({place[u]: sign, place[v]: -sign, distance: -1.0}, 0.0))
    for row in rows:
        for a, b in pairwise(row):
            limits.append(({place[a]: 1.0, place[b]: -1.0}, -((width[a] + width[b]) / 2 + gap)))
    found = _least(cost, limits)
    return {n: found[place[n]] for n in names}


def _least(cost: list[float], limits: list[tuple[dict[int, float], float]]) -> list[float]:
    """The non-negative x with the least ``cost @ x`` and ``row @ x <= limit`` for every row."""
    from scipy.optimize import linprog
    from scipy.sparse import coo_array

    if not limits:
        return [0.0] * len(cost)
    entries = [(value, i, j) for i, (row, _) in enumerate(limits) for j, value in row.items()]
    values, rows, columns = zip(*entries, strict=True)
    matrix = coo_array((values, (rows, columns)), shape=(len(limits), len(cost))).tocsr()
    solution = linprog(cost, A_ub=matrix, b_ub=[limit for _, limit in limits], bounds=(0, None), method="highs")
    return [float(v) for v in solution.x]
