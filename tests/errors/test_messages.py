"""Every mistake a text can hold has its whole message pinned, in the ``.txt`` files of this folder.

An entry is a title, a text, and what is printed for it::

    === title
    cascade ...
    ---
    <text>:2:10: error: ...
"""

from __future__ import annotations

from pathlib import Path

import pytest

from einsum_compiler.ir.errors import SpecError
from einsum_compiler.ir.parser import parse
from einsum_compiler.ir.verify import verify_module

FOLDER = Path(__file__).parent


def _entries() -> list[pytest.param]:
    found = []
    for path in sorted(FOLDER.glob("*.txt")):
        for block in path.read_text().split("=== ")[1:]:
            title, _, rest = block.partition("\n")
            text, _, message = rest.partition("\n---\n")
            found.append(pytest.param(text, message.strip("\n"), id=f"{path.stem}: {title}"))
    return found


@pytest.mark.parametrize(("text", "message"), _entries())
def test_message(text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        verify_module(parse(text))
    # The line of carets may end in spaces that editors strip.
    assert [line.rstrip() for line in str(caught.value).splitlines()] == [
        line.rstrip() for line in message.splitlines()
    ]


def test_titles_are_different() -> None:
    titles = [entry.id for entry in _entries()]
    assert len(titles) == len(set(titles)) > 150
