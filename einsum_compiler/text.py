"""The program a user gives: a text, or the path of a file that holds one."""

from __future__ import annotations

from pathlib import Path

from einsum_compiler.ir.errors import SpecError


def read_text(text_or_path: str | Path) -> tuple[str, str]:
    """The text of a program and the name it is reported under.

    A ``Path``, and a string that ends in ``.ein`` or holds no line break and no brace, is a file.
    """
    given = str(text_or_path)
    if isinstance(text_or_path, Path) or given.endswith(".ein") or not ("{" in given or "\n" in given):
        path = Path(given).expanduser()
        try:
            return path.read_text(encoding="utf-8"), given
        except OSError as error:
            notes = ("a text of a program has the form: cascade NAME(...) -> ... { ... }",) if "=" in given else ()
            raise SpecError(f"cannot read '{given}': {error.strerror or error}", None, notes) from error
    return given, "<text>"
