"""Plots on logarithmic axes as SVG: curves named at their ends, points with leaders to labels that do not overlap."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from einsum_compiler.report.layers import Box, Point
from einsum_compiler.report.svg import add, drawing, markup, path

WIDTH, HEIGHT = 860.0, 430.0
LEFT, RIGHT, TOP, BOTTOM = 92.0, 18.0, 22.0, 50.0
TEXT = 13.0
CHARACTER = 0.56  # mean width of proportional text, over its size
# Where the label of a point may stand, from its point, best first: right and above, left and above, below, further away.
PLACES = [(d, s * h) for h in (14.0, 30.0, 48.0, 68.0) for s in (-1.0, 1.0) for d in (10.0, -10.0)]


@dataclass(frozen=True)
class Axis:
    """A logarithmic axis: what it shows, how a value is printed, and its ends."""

    label: str
    show: Callable[[float], str]
    least: float
    greatest: float


@dataclass(frozen=True)
class Curve:
    """Points joined by lines, in order; ``kind`` is a class of the style sheet. ``shaded``: what lies below is filled."""

    points: tuple[Point, ...]
    kind: str
    label: str = ""
    shaded: bool = False


@dataclass(frozen=True)
class Mark:
    """A point with a label. ``hollow``: drawn as a ring."""

    x: float
    y: float
    label: str
    kind: str
    hollow: bool = False


@dataclass(frozen=True)
class Guide:
    """A vertical line at ``x``, named at the top."""

    x: float
    label: str


def spanning(values: Sequence[float], margin: float = 1.6) -> tuple[float, float]:
    """The ends of an axis that shows all positive values with a factor ``margin`` on either side."""
    known = [v for v in values if v > 0 and math.isfinite(v)]
    return (min(known) / margin, max(known) * margin) if known else (1.0, 10.0)


def plot(
    label: str,
    x: Axis,
    y: Axis,
    curves: Sequence[Curve],
    marks: Sequence[Mark],
    guides: Sequence[Guide] = (),
) -> str:
    """The plot as SVG."""
    return _Plot(label, x, y).draw(curves, marks, guides)


class _Plot:
    def __init__(self, label: str, x: Axis, y: Axis) -> None:
        self.x, self.y = x, y
        self.svg = drawing(WIDTH, HEIGHT, label, "plot")
        self.taken: list[Box] = []
        self.lines: list[Box] = []

    def draw(self, curves: Sequence[Curve], marks: Sequence[Mark], guides: Sequence[Guide]) -> str:
        self._axes()
        self._guides(guides)
        area = add(add(self.svg, "defs"), "clipPath", id=f"area-{'-'.join(self.svg.attrib['aria-label'].split())}")
        add(area, "rect", x=LEFT, y=TOP, width=WIDTH - LEFT - RIGHT, height=HEIGHT - TOP - BOTTOM)
        clipped = add(self.svg, "g", clip_path=f"url(#{area.get('id')})")
        for curve in curves:
            points = list(map(self._place, curve.points))
            if curve.shaded:
                closed = [*points, (points[-1][0], HEIGHT), (points[0][0], HEIGHT)]
                add(clipped, "path", kind=f"below {curve.kind}", d=path(closed) + "Z")
            add(clipped, "path", kind=f"curve {curve.kind}", d=path(points))
            self.lines += _along(points)
        places = [self._place((m.x, m.y)) for m in marks]
        self.taken += [Box(px, py, 14, 14) for px, py in places]
        for curve in curves:
            self._name(curve)
        for mark, place in zip(marks, places, strict=True):
            self._mark(mark, place)
        return markup(self.svg)

    def _place(self, point: Point) -> Point:
        def along(value: float, axis: Axis) -> float:
            return (math.log(value) - math.log(axis.least)) / (math.log(axis.greatest) - math.log(axis.least))

        px = LEFT + along(point[0], self.x) * (WIDTH - LEFT - RIGHT)
        return px, HEIGHT - BOTTOM - along(point[1], self.y) * (HEIGHT - TOP - BOTTOM)

    def _axes(self) -> None:
        bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
        grid = add(self.svg, "g")
        for value in ticks(self.x):
            px, _ = self._place((value, self.y.least))
            add(grid, "path", kind="grid", d=path([(px, TOP), (px, bottom)]))
            shown = self.x.show(value)
            within = min(px, WIDTH - len(shown) * TEXT * CHARACTER / 2)  # a tick at the end of the axis
            add(grid, "text", shown, kind="tick", x=within, y=bottom + 18, text_anchor="middle")
        for value in ticks(self.y):
            _, py = self._place((self.x.least, value))
            add(grid, "path", kind="grid", d=path([(LEFT, py), (right, py)]))
            add(grid, "text", self.y.show(value), kind="tick", x=LEFT - 8, y=py + 4, text_anchor="end")
        add(grid, "path", kind="axis", d=path([(LEFT, TOP), (LEFT, bottom), (right, bottom)]))
        add(grid, "text", self.x.label, kind="axis-label", x=(LEFT + right) / 2, y=HEIGHT - 10, text_anchor="middle")
        turned = add(grid, "g", transform=f"translate(14 {(TOP + bottom) / 2}) rotate(-90)")
        add(turned, "text", self.y.label, kind="axis-label", x=0, y=0, text_anchor="middle")

    def _guides(self, guides: Sequence[Guide]) -> None:
        for guide in guides:
            if self.x.least < guide.x < self.x.greatest:
                px, _ = self._place((guide.x, self.y.least))
                add(self.svg, "path", kind="guide", d=path([(px, TOP), (px, HEIGHT - BOTTOM)]))
                width = len(guide.label) * TEXT * CHARACTER
                box = self._free([Box(px + 5 + width / 2, TOP + 9 + 15 * row, width, TEXT) for row in range(4)])
                add(self.svg, "text", guide.label, kind="guide-label", x=box.x - width / 2, y=box.y + 4)

    def _name(self, curve: Curve) -> None:
        """A curve is named along itself, at the first place where nothing else stands."""
        if not curve.label:
            return
        width = len(curve.label) * TEXT * CHARACTER
        places = [self._place(p) for p in _between(curve.points)]
        inside = [
            Box(px + side * (width / 2 + 8), py + shift, width, TEXT + 2)
            for px, py in reversed(places)
            for side, shift in ((0, -11), (0, 14), (-1, -11), (1, -11), (-1, 12), (1, 12))
        ]
        box = self._free([b for b in inside if self._inside(b)] or inside)
        add(self.svg, "text", curve.label, kind=f"name {curve.kind}", x=box.x, y=box.y + 4, text_anchor="middle")

    def _mark(self, mark: Mark, place: Point) -> None:
        width = len(mark.label) * TEXT * CHARACTER
        px, py = place
        group = add(self.svg, "g", kind=f"mark {mark.kind}{' hollow' if mark.hollow else ''}")
        boxes = [Box(px + dx + (width / 2 if dx > 0 else -width / 2), py + dy, width, TEXT + 2) for dx, dy in PLACES]
        box = self._free([b for b in boxes if self._inside(b)] or boxes)
        near = box.x - width / 2 if box.x > px else box.x + width / 2
        add(group, "path", kind="leader", d=path([(px, py), (near, box.y)]))
        add(group, "circle", cx=px, cy=py, r=5.5)
        add(group, "text", mark.label, x=box.x, y=box.y + 4, text_anchor="middle")

    def _inside(self, box: Box) -> bool:
        return (
            box.x - box.width / 2 > LEFT
            and box.x + box.width / 2 < WIDTH - RIGHT
            and box.y - box.height / 2 > TOP
            and box.y + box.height / 2 < HEIGHT - BOTTOM
        )

    def _free(self, boxes: list[Box]) -> Box:
        """The first of the boxes that cover least, texts before curves; it is taken from now on."""

        def covered(box: Box) -> tuple[int, int]:
            return sum(box.overlaps(t) for t in self.taken), sum(box.overlaps(t) for t in self.lines)

        best = min(boxes, key=covered)
        self.taken.append(best)
        return best


def ticks(axis: Axis) -> list[float]:
    """Powers of ten inside the axis, at most about nine of them; where there are fewer than three, finer steps."""
    first, last = math.ceil(math.log10(axis.least)), math.floor(math.log10(axis.greatest))
    if last - first < 2:  # few powers inside: finer steps
        exponents = range(first - 1, last + 2)
        for digits in ((1, 2, 5), range(1, 10)):
            found = [d * 10.0**e for e in exponents for d in digits if axis.least <= d * 10.0**e <= axis.greatest]
            if len(found) > 2:
                break
        return found
    step = max(1, math.ceil((last - first + 1) / 9))
    return [10.0**e for e in range(first, last + 1, step)]


def _along(points: Sequence[Point], step: float = 8.0) -> list[Box]:
    """Small boxes on a line, for labels to stay away from."""
    boxes = []
    for (x0, y0), (x1, y1) in pairwise(points):
        count = max(1, math.ceil(math.hypot(x1 - x0, y1 - y0) / step))
        boxes += [Box(x0 + (x1 - x0) * i / count, y0 + (y1 - y0) * i / count, 4, 4) for i in range(count + 1)]
    return boxes


def _between(points: Sequence[Point], steps: int = 9) -> list[Point]:
    """Places along a curve, evenly in the logarithm of x."""
    if len(points) > steps:
        return [points[round(i * (len(points) - 1) / (steps - 1))] for i in range(steps)]
    found = []
    for (x0, y0), (x1, y1) in pairwise(points):
        for i in range(1, steps):
            t = i / steps
            found.append((x0 ** (1 - t) * x1**t, y0 ** (1 - t) * y1**t))
    return found
