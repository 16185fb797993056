"""A progress bar on standard error with the best time so far and the time left; nothing where that is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass
class Shown:
    """The bar, or nothing. ``to(done, what)``: candidates that are done, and what happens now."""

    bar: Any = None
    task: Any = None

    def to(self, done: int, what: str) -> None:
        if self.bar is not None:
            self.bar.update(self.task, completed=done, what=what)


@contextmanager
def progress(title: str, total: int, budget: float) -> Iterator[Shown]:
    """A bar for so many candidates and seconds."""
    if not sys.stderr.isatty():
        yield Shown()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
    from rich.text import Text

    end = time.monotonic() + budget

    class Left(ProgressColumn):
        """Until all candidates are done at the pace so far, but at most the budget."""

        def render(self, task: Task) -> Text:
            left = max(0.0, end - time.monotonic())
            pace = task.time_remaining
            return Text(f"{min(left, left if pace is None else pace):.0f} s left", style="progress.remaining")

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Left(), TextColumn("{task.fields[what]}"),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield Shown(bar, bar.add_task(title, total=total, what=""))
