"""Text to cascades: ``parse(text)`` gives a module whose nodes carry spans; ``ir.verify`` checks it afterwards."""

from __future__ import annotations

import functools
import importlib.resources
import os
import platform
from collections.abc import Collection
from pathlib import Path
from typing import Any

import lark

from einsum_compiler.ir.builder import Builder
from einsum_compiler.ir.cascade import Module
from einsum_compiler.ir.errors import SpecError
from einsum_compiler.ir.expression import Expression
from einsum_compiler.ir.resolve import resolve_expression, resolve_module
from einsum_compiler.ir.span import Source, Span
from einsum_compiler.ir.syntax_errors import explain


def parse(text: str, name: str = "<text>", generated: bool = False) -> Module:
    """The definitions and cascades of a text; ``name`` is what errors call it.

    ``generated`` accepts names with a ``.``, which the compiler makes (``S.n``, ``n.1``). Raises ``SpecError``, with the
    place, if the text does not follow the grammar. Whether the program makes sense is for ``ir.verify``.
    """
    source = Source(text, name)
    tree = _tree(source, "start", generated)
    try:
        module: Module = Builder(source).build(tree)
        if not module.cascades and not module.definitions:
            raise SpecError("the text is empty: expected a cascade", Span(source, 0, 0))
        return resolve_module(module)
    except RecursionError:
        # Some 200 operators in one expression.
        note = "split it into several equations"
        raise SpecError("an expression nests too deeply", Span(source, 0, 0), (note,)) from None


def parse_expression(
    text: str,
    *,
    parameters: Collection[str] = (),
    ranks: Collection[str] = (),
    cascades: Collection[str] = (),
    tiles: Collection[str] = (),
    name: str = "<text>",
    generated: bool = False,
) -> Expression:
    """One expression. Upper-case names of ``ranks`` are extents, ``tiles`` read as tiles (``ir.resolve``)."""
    source = Source(text, name)
    expression: Expression = Builder(source).build(_tree(source, "expression", generated))
    return resolve_expression(expression, parameters, ranks, cascades, tiles)


def _tree(source: Source, start: str, generated: bool) -> Any:
    parser = _parser()
    try:
        if not generated:
            _refuse_generated(source, parser)
        return parser.parse(source.text, start=start)
    except lark.exceptions.UnexpectedInput as error:
        raise explain(error, source) from None


def _refuse_generated(source: Source, parser: lark.Lark) -> None:
    """A ``.`` inside a name is the compiler's mark."""
    if "." not in source.text:
        return
    for token in parser.lex(source.text):
        if token.type == "NAME" and "." in token:
            span = Span(source, token.start_pos or 0, token.end_pos or 0)
            notes = (f"write {token.replace('.', '_')}",)
            raise SpecError(
                f"the name {str(token)!r} holds a '.', which marks names that the compiler makes", span, notes
            )


@functools.cache
def _parser() -> lark.Lark:
    """The parser, built once in a process; its tables are kept beside the byte code where that may be written."""
    grammar = importlib.resources.files("einsum_compiler.ir").joinpath("grammar.lark").read_text(encoding="utf-8")
    folder = Path(__file__).parent / "__pycache__"
    # Building the tables takes 90 ms, reading them 10. Lark itself checks that they belong to this grammar and version.
    usable = folder.is_dir() and os.access(folder, os.W_OK)
    cache = str(folder / f"grammar.{platform.python_version()}.lark") if usable else False
    return lark.Lark(
        grammar,
        start=["start", "expression"],
        parser="lalr",
        lexer="basic",
        propagate_positions=True,
        maybe_placeholders=True,
        cache=cache,
    )
