"""The graphs of a report: the program as written, coloured by the passes it forces, and every kernel as compiled."""

from __future__ import annotations

from dataclasses import dataclass

from einsum_compiler.compilation import Compilation, CompiledPart, RankPasses
from einsum_compiler.ir.hints import listed
from einsum_compiler.ir.implicit_sums import explicit_sums
from einsum_compiler.passes.analysis.levels import pass_levels
from einsum_compiler.report.graph import CascadeGraph, cascade_graph
from einsum_compiler.report.graph_drawing import graph_picture, pass_class


@dataclass(frozen=True)
class GraphView:
    """A picture, what it is of, and the classes and names of the passes it is coloured by."""

    title: str
    svg: str
    legend: tuple[tuple[str, str], ...]
    carried: bool
    later: bool


def written_graph(compiled: Compilation) -> GraphView:
    """The program with its library cascades opened, coloured by the rank that is traversed most often."""
    inlined = explicit_sums(dict(compiled.derivation.stages)["inline"])
    kernels: dict[str, tuple[int, ...]] = {}
    if len(compiled.parts) > 1:
        for number, part in enumerate(compiled.parts, 1):
            for name in {t.tensor for e in part.derived.part.cascade.equations for t in e.targets}:
                kernels[name] = (*kernels.get(name, ()), number)
    rank = most_traversed(compiled)
    return _view("As written", cascade_graph(inlined, (rank.written,) if rank else (), kernels))


def compiled_graphs(compiled: Compilation) -> list[GraphView]:
    """The final cascade of every kernel, coloured by the passes over the ranks it streams."""
    views = []
    for number, part in enumerate(compiled.parts, 1):
        title = f"Kernel {number} of {len(compiled.parts)}, which writes {', '.join(part.planned.plan.outputs)}"
        views.append(_view(title, kernel_graph(part)))
    return views


def kernel_graph(part: CompiledPart) -> CascadeGraph:
    """The final cascade of a kernel with the passes over every rank that it streams."""
    cascade = part.derived.final
    return cascade_graph(cascade, [pass_levels(cascade, f"{s.rank}.1") for s in part.planned.plan.streams])


def most_traversed(compiled: Compilation) -> RankPasses | None:
    """The reduced rank with the most passes as written; the first of several."""
    return max(compiled.passes, key=lambda p: p.written.passes, default=None)


def _view(title: str, graph: CascadeGraph) -> GraphView:
    named = {n.colour: f"pass {n.level} over {n.rank.removesuffix('.1')}" for n in graph.nodes if n.level}
    legend = [(pass_class(colour), named[colour]) for colour in sorted(named)]
    shown = listed([r.removesuffix(".1") for r in graph.ranks], "or")
    if any(not n.level and n.role != "input" for n in graph.nodes) or not named:
        legend.append((pass_class(0), f"no traversal of {shown}" if shown else "no rank is streamed"))
    carried = any(n.carried for n in graph.nodes)
    later = any(n.level and not n.traverses for n in graph.nodes)
    return GraphView(title, graph_picture(graph, title), tuple(legend), carried, later)
