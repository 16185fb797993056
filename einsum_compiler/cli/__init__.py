"""``einsumc``: check, look at, run and time programs from the command line.

Exit codes: 0, 1 for a wrong program (or a kernel outside its error budget), 2 for wrong arguments, 130 after an interruption.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from einsum_compiler.cli.arguments import parser
from einsum_compiler.cli.programs import UsageError
from einsum_compiler.ir.errors import EinsumError, EinsumWarning


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    options = parser().parse_args(arguments)
    try:
        with _warnings_as_lines():
            options.command(options)
        sys.stdout.flush()
        return 0
    except EinsumError as error:
        print(error, file=sys.stderr)
        return 1
    except UsageError as error:
        print(f"einsumc {options.verb}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader of a pipe left: not our error
        return 0


@contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Warnings about the text on standard error, with their carets and without Python's line."""

    def show(message: Warning | str, category: type[Warning], *place: Any) -> None:
        print(message, file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("always", EinsumWarning)
        warnings.showwarning = show  # type: ignore[assignment]
        yield
