"""The dependence graph between the tensors of a cascade, as a NetworkX digraph: an edge from what is read to what reads it."""

from __future__ import annotations

from typing import Any

import networkx as nx

from einsum_compiler.ir.cascade import Cascade
from einsum_compiler.ir.expression import Reduction
from einsum_compiler.passes.scope import reads_in

Graph = Any  # networkx has no types


def dependence_graph(cascade: Cascade) -> Graph:
    """Nodes are tensors with ``kind`` (input, map, reduction, other) and ``ranks``; edges carry ``reduced``, the ranks lost on the way."""
    graph = nx.DiGraph()
    for tensor in cascade.inputs:
        graph.add_node(tensor.name, kind="input", ranks=tensor.ranks)
    for equation in cascade.equations:
        reduction = equation.value if isinstance(equation.value, Reduction) else None
        for target in equation.targets:
            kind = "reduction" if reduction is not None else "map" if len(equation.targets) == 1 else "other"
            graph.add_node(target.tensor, kind=kind, ranks=target.ranks)
            for read in reads_in(equation):
                graph.add_edge(read.tensor, target.tensor, reduced=() if reduction is None else reduction.ranks)
    return graph


def recurrences(cascade: Cascade) -> tuple[frozenset[str], ...]:
    """The groups of tensors that depend on each other or on themselves, each a recurrence."""
    graph = dependence_graph(cascade)
    found = (frozenset(c) for c in nx.strongly_connected_components(graph))
    return tuple(sorted((c for c in found if len(c) > 1 or graph.has_edge(*(2 * tuple(c)))), key=sorted))


def consumers(cascade: Cascade, tensor: str) -> frozenset[str]:
    """Everything that depends on a tensor, directly or not."""
    return frozenset(nx.descendants(dependence_graph(cascade), tensor))


def to_dot(cascade: Cascade) -> str:
    """The graph in the DOT language; reductions are boxes and name the ranks they lose on their edges."""
    graph = dependence_graph(cascade)
    lines = [f"digraph {cascade.name} {{"]
    for name, data in graph.nodes(data=True):
        shape = {"input": "plaintext", "reduction": "box"}.get(data["kind"], "ellipse")
        lines.append(f'  "{name}" [shape={shape}, label="{name}[{",".join(data["ranks"])}]"];')
    for source, target, data in graph.edges(data=True):
        label = f' [label="{",".join(data["reduced"])}"]' if data["reduced"] else ""
        lines.append(f'  "{source}" -> "{target}"{label};')
    return "\n".join([*lines, "}"])
