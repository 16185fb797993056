"""Lines of generated code with their indentation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

INDENT = "    "


class Writer:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self._depth = 0

    def line(self, text: str = "") -> None:
        self.lines.append(INDENT * self._depth + text if text else "")

    def extend(self, lines: Iterable[str]) -> None:
        for text in lines:
            self.line(text)

    @contextmanager
    def block(self, head: str = "", tail: str = "}") -> Iterator[None]:
        """``head {`` ... ``}``, what is written inside indented."""
        self.line(f"{head} {{" if head else "{")
        self._depth += 1
        yield
        self._depth -= 1
        self.line(tail)
