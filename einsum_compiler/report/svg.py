"""Elements of inline SVG; colours and fonts come from the style sheet of the page, by class."""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree import ElementTree as Tree

Element = Tree.Element
# The width of a character of the page's monospaced fonts, over their size; the widest of those that systems have.
ADVANCE = 0.605
LEAST_SCALE = 0.75  # beyond that a picture scrolls in its box


def drawing(width: float, height: float, label: str, kind: str) -> Element:
    """An empty picture that shrinks with the page, as long as its text can be read, and never grows; ``label`` says what it shows."""
    size = {"viewBox": f"0 0 {_number(width)} {_number(height)}", "width": _number(width), "height": _number(height)}
    size["style"] = f"max-width: max(100%, {_number(width * LEAST_SCALE)}px)"
    return Tree.Element("svg", {"class": kind, "role": "img", "aria-label": label, **size})


def add(parent: Element, tag: str, text: str = "", /, **attributes: str | float | None) -> Element:
    """A child element; ``_`` in names of attributes stands for ``-``, ``kind`` for ``class``; attributes that are None are left out."""
    given = {
        "class" if k == "kind" else k.rstrip("_").replace("_", "-"): v if isinstance(v, str) else _number(v)
        for k, v in attributes.items()
        if v is not None
    }
    child = Tree.SubElement(parent, tag, given)
    child.text = text or None
    return child


def path(points: Iterable[tuple[float, float]]) -> str:
    """The data of a path of straight lines."""
    return " ".join(f"{'L' if i else 'M'}{_number(x)} {_number(y)}" for i, (x, y) in enumerate(points))


def text_width(text: str, size: float) -> float:
    """The width of monospaced text of a size, in the same unit."""
    return len(text) * size * ADVANCE


def markup(element: Element) -> str:
    return Tree.tostring(element, encoding="unicode")


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if not float(value).is_integer() else str(int(value))
