"""Errors of the grammar in the words of the language: what was expected, what was found, what was probably meant."""

from __future__ import annotations

import lark

from einsum_compiler.ir.errors import SpecError
from einsum_compiler.ir.span import Source, Span


def explain(error: lark.exceptions.UnexpectedInput, source: Source) -> SpecError:
    """The ``SpecError`` for an error of lark."""
    offset = error.pos_in_stream or 0
    if isinstance(error, lark.exceptions.UnexpectedToken):
        token = error.token
        if token.type == "$END":
            span = Span(source, len(source.text), len(source.text))
            return SpecError("unexpected end of the text", span)
        return SpecError(f"unexpected {str(token)!r}", Span(source, token.start_pos or 0, token.end_pos or 0))
    return SpecError(f"unexpected character {source.text[offset]!r}", Span(source, offset, offset + 1))
