"""Places in the user's text, and the caret lines that errors print under them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Source:
    """A text with the name it is reported under (a path, or ``<text>``)."""

    text: str = field(repr=False)
    name: str = "<text>"

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column, both from 1, of a character offset."""
        offset = min(offset, len(self.text))
        line = self.text.count("\n", 0, offset) + 1
        return line, offset - (self.text.rfind("\n", 0, offset) + 1) + 1

    def line(self, number: int) -> str:
        """The text of line ``number``, counted from 1."""
        lines = self.text.splitlines()
        return lines[number - 1] if 0 < number <= len(lines) else ""


@dataclass(frozen=True, slots=True)
class Span:
    """The characters ``start:end`` of a source."""

    source: Source
    start: int
    end: int

    def through(self, other: Span | None) -> Span:
        """The smallest span that holds both."""
        if other is None or other.source is not self.source:
            return self
        return Span(self.source, min(self.start, other.start), max(self.end, other.end))

    @property
    def text(self) -> str:
        return self.source.text[self.start : self.end]

    def location(self) -> str:
        """``name:line:column``."""
        line, column = self.source.position(self.start)
        return f"{self.source.name}:{line}:{column}"

    def render(self) -> str:
        """The line of text with carets under the span."""
        line, column = self.source.position(self.start)
        text = self.source.line(line)
        # A tab before the carets stays a tab, so that both lines align in every terminal.
        lead = "".join("\t" if c == "\t" else " " for c in text[: column - 1])
        width = max(1, min(self.end - self.start, len(text) - column + 1))
        return f"  {text}\n  {lead}^{'~' * (width - 1)}"
