"""What can go wrong, one class per mistake. Every error survives pickling (worker processes)."""

from __future__ import annotations

from typing import Any

from einsum_compiler.ir.span import Span


class EinsumError(Exception):
    """The base of every error a user can meet: a message, the place it points at, and notes below it."""

    def __init__(self, message: str, span: Span | None = None, notes: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.span = span
        self.notes = tuple(notes)

    def __str__(self) -> str:
        head = f"{self.span.location()}: " if self.span else ""
        lines = [f"{head}error: {self.message}"]
        if self.span:
            lines.append(self.span.render())
            for call in self.span.calls():
                lines += [f"{call.location()}: note: called here", call.render()]
        lines.extend(f"note: {note}" for note in self.notes)
        return "\n".join(lines)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, self.span, self.notes)


class SpecError(EinsumError):
    """The text is not a legal program."""


class ShapeError(EinsumError):
    """Arguments of a call that do not fit the program: number, dtype, device or extents."""


class PlanError(EinsumError):
    """A legal program with a plan that cannot run."""


class BackendError(EinsumError):
    """A backend that cannot run this here."""


class AccuracyError(EinsumError):
    """A kernel whose result is further from float64 than its error budget."""


class VerifyError(EinsumError):
    """A pass or printer left an invalid program: a defect of the compiler, not of the user's text."""


class ToolchainError(EinsumError):
    """A compiler that failed on generated code; carries the source, printed with line numbers."""

    def __init__(self, message: str, span: Span | None = None, notes: tuple[str, ...] = (), code: str = "") -> None:
        super().__init__(message, span, notes)
        self.code = code

    def __str__(self) -> str:
        numbered = "\n".join(f"{i:5d} | {line}" for i, line in enumerate(self.code.splitlines(), 1))
        return super().__str__() + (f"\ngenerated source:\n{numbered}" if numbered else "")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, self.span, self.notes, self.code)


class InternalError(EinsumError):
    """A crash inside the compiler, for any text; its notes name the file that reproduces it."""


class EinsumWarning(UserWarning):
    """A legal program that probably does not say what was meant."""
