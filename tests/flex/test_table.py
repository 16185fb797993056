"""docs/flexattention.md lists exactly the cases that are tested."""

from __future__ import annotations

from pathlib import Path

from tests.flex.cases import CASES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "flexattention.md"


def test_the_page_lists_the_cases() -> None:
    rows = [line.split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    listed = [(r[0].removeprefix("| "), r[1], r[2]) for r in rows if r[0] != "| name"]
    assert listed == [(c.name, c.source, str(c.lines)) for c in CASES]
