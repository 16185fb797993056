"""Places in the user's text, and the caret lines that errors print under them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace


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
    """The characters ``start:end`` of a source; ``called``: the call that put them where they count, of a definition or a cascade."""

    source: Source
    start: int
    end: int
    called: Span | None = None

    def through(self, other: Span | None) -> Span:
        """The smallest span that holds both."""
        if other is None or other.source is not self.source:
            return self
        return replace(self, start=min(self.start, other.start), end=max(self.end, other.end))

    def called_at(self, call: Span | None) -> Span:
        """The span as part of what a call stands for, below the calls inside of it."""
        return replace(self, called=call if self.called is None else self.called.called_at(call))

    def calls(self) -> tuple[Span, ...]:
        """The calls that lead here, innermost first."""
        return () if self.called is None else (self.called, *self.called.calls())

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
