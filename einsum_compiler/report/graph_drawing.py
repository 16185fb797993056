"""The picture of a cascade's graph: nodes in layers, coloured by pass."""

from __future__ import annotations

import textwrap
from itertools import pairwise

from einsum_compiler.report.graph import CascadeGraph, Edge, Node
from einsum_compiler.report.layers import Box, Layout, Point, layout
from einsum_compiler.report.svg import Element, add, drawing, markup, text_width

TITLE, BODY, LABEL = 12.5, 11.0, 10.5  # font sizes
LINE = 15.0
PADDING = 9.0
MARGIN = 14.0
GAP, LAYER_GAP = 26.0, 46.0
LONGEST_LINE = 27
LINES_PER_EXPRESSION = 2
MOST_LINES = 5
MOST_COLOURS = 5
# Where along its last stretch the label of an edge may stand, best first.
LABEL_PLACES = (0.5, 0.38, 0.62, 0.28, 0.72, 0.2, 0.8)


def graph_picture(graph: CascadeGraph, label: str) -> str:
    """The graph as SVG."""
    import networkx as nx

    nodes = {n.name: n for n in graph.nodes}
    sizes = {name: _size(n) for name, n in nodes.items()}
    dependence = nx.DiGraph()
    dependence.add_nodes_from(nodes)
    dependence.add_edges_from((e.source, e.target) for e in graph.edges if not e.before)
    found = layout(dependence, sizes, GAP, LAYER_GAP)
    svg = drawing(found.width + 2 * MARGIN, found.height + 2 * MARGIN, label, "graph")
    inside = add(svg, "g", transform=f"translate({MARGIN} {MARGIN})")
    lines, labels, boxes = add(inside, "g"), add(inside, "g"), add(inside, "g")
    taken = list(found.boxes.values())
    curves = _curves(graph, found)
    for edge in graph.edges:
        points = curves.get((edge.source, edge.target))
        if points:
            _edge(lines, edge, points, nodes[edge.target])
    for edge in graph.edges:
        points = curves.get((edge.source, edge.target))
        if points:
            _label(labels, edge, points, taken)
    for name, node in nodes.items():
        _node(boxes, node, found.boxes[name], [e.source for e in graph.edges if e.before and e.target == name])
    return markup(svg)


def pass_class(level: int) -> str:
    """The class of the style sheet for a pass."""
    return f"pass-{min(level, MOST_COLOURS)}" if level else "pass-none"


# -- nodes --------------------------------------------------------------------------------------------------------------------


def _title(node: Node) -> str:
    return f"{node.name}[{','.join(node.ranks)}]"


def _badge(node: Node) -> str:
    marks = [f"kernel {', '.join(map(str, node.kernels))}"] if node.kernels else []
    return "  ".join([*marks, *(["↻"] if node.carried else [])])


def _lines(node: Node) -> list[str]:
    shown: list[str] = []
    for line in node.lines:
        pieces = textwrap.wrap(line, LONGEST_LINE, subsequent_indent="  ", break_on_hyphens=False)
        if len(pieces) > LINES_PER_EXPRESSION:
            last = pieces[LINES_PER_EXPRESSION - 1]
            pieces = [*pieces[: LINES_PER_EXPRESSION - 1], last[: LONGEST_LINE - 2].rstrip() + " …"]
        shown += pieces
    return shown if len(shown) <= MOST_LINES else [*shown[: MOST_LINES - 1], "…"]


def _size(node: Node) -> tuple[float, float]:
    badge = _badge(node)
    title = text_width(_title(node), TITLE) + (text_width(badge, LABEL) + 14 if badge else 0)
    lines = _lines(node)
    width = max([title, *(text_width(line, BODY) for line in lines)]) + 2 * PADDING
    return width, 2 * PADDING + TITLE + LINE * len(lines)


def _node(parent: Element, node: Node, box: Box, before: list[str]) -> None:
    kind = " ".join(("node", node.role, pass_class(node.colour), "traverses" if node.traverses else "after"))
    group = add(parent, "g", kind=kind)
    tip = [*(node.equations or (f"input {_title(node)}",))]
    if node.level:
        shown = node.rank.removesuffix(".1")
        tip.append(f"computed {'during' if node.traverses else 'after'} pass {node.level} over {shown}")
    if before:
        tip.append(f"also reads {', '.join(before)} from the step before")
    add(group, "title", "\n".join(tip))
    left, top = box.x - box.width / 2, box.y - box.height / 2
    rounding = box.height / 2 if node.role == "input" else 5
    add(group, "rect", x=left, y=top, width=box.width, height=box.height, rx=rounding)
    if node.role == "output":
        add(group, "rect", kind="double", x=left + 3, y=top + 3, width=box.width - 6, height=box.height - 6, rx=3)
    baseline = top + PADDING + TITLE * 0.82
    title = add(group, "text", kind="title", x=left + PADDING, y=baseline)
    if node.role == "input":
        title.set("x", f"{box.x:.1f}")
        title.set("text-anchor", "middle")
    add(title, "tspan", node.name, kind="name")
    add(title, "tspan", f"[{','.join(node.ranks)}]", kind="ranks")
    badge = _badge(node)
    if badge:
        add(group, "text", badge, kind="badge", x=left + box.width - PADDING, y=baseline, text_anchor="end")
    for number, line in enumerate(_lines(node), 1):
        add(group, "text", line, kind="body", x=left + PADDING, y=baseline + LINE * number)


# -- edges --------------------------------------------------------------------------------------------------------------------


def _curves(graph: CascadeGraph, found: Layout) -> dict[tuple[str, str], list[Point]]:
    """For every edge the points between which it swings; ends are spread over the sides of their nodes."""
    ends: dict[tuple[str, bool], list[tuple[float, tuple[str, str]]]] = {}
    for edge, bends in found.bends.items():
        source, target = found.boxes[edge[0]], found.boxes[edge[1]]
        ends.setdefault((edge[0], False), []).append(((bends[0] if bends else target).x, edge))
        ends.setdefault((edge[1], True), []).append(((bends[-1] if bends else source).x, edge))
    ports: dict[tuple[tuple[str, str], bool], float] = {}
    for (name, entering), edges in ends.items():
        box = found.boxes[name]
        step = min(26.0, box.width * 0.8 / len(edges))
        for number, (_, edge) in enumerate(sorted(edges)):
            ports[edge, entering] = box.x + (number - (len(edges) - 1) / 2) * step
    curves: dict[tuple[str, str], list[Point]] = {}
    for edge, bends in found.bends.items():
        source, target = found.boxes[edge[0]], found.boxes[edge[1]]
        points = [(ports[edge, False], source.y + source.height / 2)]
        for bend in bends:
            points += [(bend.x, bend.y - bend.height / 2), (bend.x, bend.y + bend.height / 2)]
        curves[edge] = [*points, (ports[edge, True], target.y - target.height / 2 - 1)]
    return curves


def _edge(parent: Element, edge: Edge, points: list[Point], target: Node) -> None:
    data = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for (x0, y0), (x1, y1) in pairwise(points):
        middle = (y0 + y1) / 2
        data += f" C{x0:.1f} {middle:.1f} {x1:.1f} {middle:.1f} {x1:.1f} {y1:.1f}"
    kind = "edge reduces" if edge.reduced else "edge"
    add(parent, "path", d=data, kind=f"{kind} {pass_class(target.colour)}", marker_end="url(#arrow)")


def _label(parent: Element, edge: Edge, points: list[Point], taken: list[Box]) -> None:
    """The ranks read, those reduced in another weight, where they cover nothing."""
    if not edge.ranks:
        return
    shown = ",".join(edge.ranks)
    width, height = text_width(shown, LABEL) + 4, LABEL + 2
    stretches = ((points[-2], points[-1]), (points[0], points[1]))
    on_curve = [_on_curve(start, end, t) for start, end in stretches for t in LABEL_PLACES]
    beside = width / 2 + 5
    candidates = [*on_curve, *((x + side * beside, y) for x, y in on_curve for side in (1, -1))]
    boxes = [Box(x, y, width, height) for x, y in candidates]
    free = next((b for b in boxes if not any(b.overlaps(t) for t in taken)), boxes[0])
    taken.append(free)
    add(parent, "rect", kind="behind", x=free.x - width / 2, y=free.y - height / 2, width=width, height=height)
    text = add(parent, "text", kind="label", x=free.x, y=free.y + LABEL * 0.33, text_anchor="middle")
    for number, rank in enumerate(edge.ranks):
        add(text, "tspan", f"{',' if number else ''}", kind="plain")
        add(text, "tspan", rank, kind="reduced" if rank in edge.reduced else "plain")


def _on_curve(start: Point, end: Point, t: float) -> Point:
    """The point of the swing between two points."""
    (x0, y0), (x1, y1) = start, end
    middle = (y0 + y1) / 2
    a, b, c, d = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3
    return a * x0 + b * x0 + c * x1 + d * x1, a * y0 + b * middle + c * middle + d * y1
