"""The bar of a search, on a terminal and without one."""

from __future__ import annotations

import io
import sys

import pytest

from einsum_compiler.tuning.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_shows_what_is_done_and_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    for name, value in (("TERM", "xterm"), ("COLUMNS", "120")):
        monkeypatch.setenv(name, value)
    with progress("tuning rows", 8, 30.0) as shown:
        shown.to(3, "timing; best 1.25 ms")
        shown.bar.refresh()
        text = screen.getvalue()
    assert "tuning rows" in text and "3/8" in text and "timing; best 1.25 ms" in text
    assert "30 s left" in text or "29 s left" in text


def test_nothing_is_shown_where_standard_error_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    with progress("tuning rows", 8, 30.0) as shown:
        shown.to(3, "timing")
    assert screen.getvalue() == ""
