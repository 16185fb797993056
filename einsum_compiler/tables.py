"""Tables as text: the same in a terminal, a narrow terminal, a pipe, and where only ASCII can be printed."""

from __future__ import annotations

import shutil
import sys
from io import StringIO

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table

WIDEST, NARROWEST = 100, 50


def width() -> int:
    """The columns of the terminal, within reason; the widest where the output is no terminal."""
    if not sys.stdout.isatty():
        return WIDEST
    return max(NARROWEST, min(WIDEST, shutil.get_terminal_size().columns))


def table(title: str, *headings: str, lines: bool = False) -> Table:
    """An empty table; ``>`` before a heading aligns its column to the right, ``lines`` draws one between rows."""
    encoding = (getattr(sys.stdout, "encoding", None) or "utf-8").lower()
    style = box.HEAVY_HEAD if encoding.startswith("utf") else box.ASCII
    made = Table(title=title, title_justify="left", show_lines=lines, box=style)
    for heading in headings:
        made.add_column(
            heading.removeprefix(">"), justify="right" if heading.startswith(">") else "left", overflow="fold"
        )
    return made


def fields(*rows: tuple[str, str]) -> Table:
    """Labels and what they label, which may fill several lines."""
    made = Table.grid(padding=(0, 2))
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    for label, text in rows:
        made.add_row(f"  {label}", text)
    return made


def text_of(*parts: RenderableType) -> str:
    """What is printed for the parts, without colours and without spaces at the ends of lines."""
    console = Console(file=StringIO(), width=width(), color_system=None, markup=False, highlight=False)
    console.print(Group(*parts))
    assert isinstance(console.file, StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())
