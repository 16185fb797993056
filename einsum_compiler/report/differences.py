"""What a pass changed: the lines of a cascade, each kept, removed or added, with the changed words of a line marked."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import SequenceMatcher

from einsum_compiler.report.syntax import Token, html_of, tokens_of


@dataclass(frozen=True)
class Line:
    """``kind``: ``kept``, ``removed`` or ``added``; ``html``: the line, highlighted."""

    kind: str
    html: str


def marked_lines(before: str, after: str) -> list[Line]:
    """The lines of ``after`` and, above those that replace them, the lines that are gone."""
    old, new = before.splitlines(), after.splitlines()
    found: list[Line] = []
    for operation, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if operation == "equal":
            found += [Line("kept", html_of(_tokens(line))) for line in new[c:d]]
        else:
            found += _replaced(old[a:b], new[c:d])
    return found


def count_changes(lines: list[Line]) -> tuple[int, int]:
    """Lines removed and lines added."""
    return sum(line.kind == "removed" for line in lines), sum(line.kind == "added" for line in lines)


def _replaced(old: list[str], new: list[str]) -> list[Line]:
    """Two versions of one equation stand together; everything else keeps its order."""
    found: list[Line] = []
    waiting = list(old)
    for line in new:
        partner = next((i for i, gone in enumerate(waiting) if _left(gone) == _left(line)), None)
        if partner is None:
            found.append(Line("added", html_of(_tokens(line))))
            continue
        found += [Line("removed", html_of(_tokens(gone))) for gone in waiting[:partner]]
        found += _pair(waiting[partner], line)
        waiting = waiting[partner + 1 :]
    return [*found, *(Line("removed", html_of(_tokens(gone))) for gone in waiting)]


def _left(line: str) -> str:
    """The name that a line defines: what two versions of an equation share."""
    return line.strip().partition("[")[0].partition("(")[0]


def _pair(old: str, new: str) -> list[Line]:
    before, after = _tokens(old), _tokens(new)
    gone, come = set[int](), set[int]()
    matcher = SequenceMatcher(None, [v for _, v in before], [v for _, v in after], autojunk=False)
    for operation, a, b, c, d in matcher.get_opcodes():
        if operation != "equal":
            gone |= set(range(a, b))
            come |= set(range(c, d))
    return [Line("removed", html_of(before, frozenset(gone))), Line("added", html_of(after, frozenset(come)))]


def _tokens(line: str) -> list[Token]:
    return tokens_of(line, "cascade")[0]
