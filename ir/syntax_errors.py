"""Errors of the grammar in the words of the language: what was expected, what was found, what was probably meant."""

from __future__ import annotations

import re
from typing import Any

import lark

from einsum_compiler.ir.errors import SpecError
from einsum_compiler.ir.hints import listed
from einsum_compiler.ir.span import Source, Span

WORDS = ("cascade", "def", "where", "else", "and", "or", "not", "in")
OPERATORS = frozenset(
    {"PLUS", "MINUS", "TIMES", "POWER", "SHIFT", "AMPERSAND", "HAT", "BAR", "COMPARE", "AND", "OR", "NOT", "IN"}
)
STARTS = frozenset({"NUMBER", "NAME", "LPAR", "MINUS", "NOT"})  # of an expression
SYMBOLS = {
    "LPAR": "'('", "RPAR": "')'", "LSQB": "'['", "RSQB": "']'", "LBRACE": "'{'", "RBRACE": "'}'", "COMMA": "','",
    "SEMICOLON": "';'", "COLON": "':'", "EQUAL": "'='", "ELLIPSIS": "'...'", "NAME": "a name", "NUMBER": "a number",
    "CASCADE": "'cascade'", "DEF": "'def'", "WHERE": "'where'", "ELSE": "'else'", "NOT": "'not'", "MINUS": "'-'",
    "$END": "the end of the text", "__ANON_0": "'->'",
}  # fmt: skip
OPENERS = {"(": ")", "[": "]", "{": "}"}
CHARACTERS = {
    "!": "negation is written 'not', and 'different' !=",
    "~": "negation is written 'not'",
    "?": "a choice is written if(condition, a, b)",
    "@": "a contraction is a product whose rank is not on the left",
    "×": "a product is written *",
    "·": "a product is written *",
    "≤": "write <=",
    "≥": "write >=",
    "≠": "write !=",
    ".": "a '.' in a name marks names that the compiler makes",
}


# The text ends in a filter: no '=' of an equation since its 'where'.
IN_FILTER = re.compile(r"\bwhere\b(?:[^{}=]|[<>!=]=)*$")


def explain(error: lark.exceptions.UnexpectedInput, source: Source) -> SpecError:
    """The ``SpecError`` for an error of lark."""
    if isinstance(error, lark.exceptions.UnexpectedToken):
        return _unexpected_token(error, source)
    offset = error.pos_in_stream or 0
    found = source.text[offset]
    notes = (CHARACTERS[found],) if found in CHARACTERS else ()
    return SpecError(f"unexpected character {found!r}", Span(source, offset, offset + 1), notes)


def _unexpected_token(error: lark.exceptions.UnexpectedToken, source: Source) -> SpecError:
    token: Any = error.token
    at_end = token.type == "$END"
    offset = len(source.text) if at_end else token.start_pos
    span = Span(source, offset, offset if at_end else token.end_pos)
    expected = frozenset(error.accepts or error.expected)
    stack: list[Any] = list(error.interactive_parser.parser_state.value_stack) if error.interactive_parser else []
    return (
        _brackets(token, offset, at_end, source)
        or _supposed_equation(token, expected, stack, source)
        or _header(expected, stack, source)
        or _misspelt(token, offset, expected, span, source)
        or _plain(
            token, at_end, expected, span, _habit(token, expected, source.text[:offset]) or _still_open(offset, source)
        )
    )


def _open_brackets(offset: int, source: Source) -> list[int]:
    """The offsets of the brackets that are open before ``offset``."""
    text = _without_comments(source.text)
    found: list[int] = []
    for position in range(offset):
        if text[position] in OPENERS:
            found.append(position)
        elif text[position] in OPENERS.values() and found:
            found.pop()
    return found


def _still_open(offset: int, source: Source) -> tuple[str, ...]:
    """A note on a parenthesis of an earlier line."""
    found = _open_brackets(offset, source)
    if found and source.text[found[-1]] != "{" and "\n" in source.text[found[-1] : offset]:
        return (f"the {source.text[found[-1]]!r} of line {source.position(found[-1])[0]} is still open",)
    return ()


def _brackets(token: Any, offset: int, at_end: bool, source: Source) -> SpecError | None:
    """A bracket that is never closed, or closes nothing."""
    text = source.text
    open_brackets = _open_brackets(offset, source)
    if not open_brackets:
        if token in OPENERS.values():
            return SpecError(f"{str(token)!r} closes nothing", Span(source, offset, offset + 1))
        return None
    last = open_brackets[-1]
    # The words that start a definition end whatever was open; another bracket than the one expected ends the inner one.
    mismatched = token in OPENERS.values() and OPENERS[text[last]] != token
    if at_end or mismatched or token.type in ("CASCADE", "DEF"):
        return SpecError(f"{text[last]!r} is never closed", Span(source, last, last + 1))
    return None


def _without_comments(text: str) -> str:
    """The text with comments blanked, offsets kept."""
    return "\n".join(
        line[: line.index("#")] + " " * (len(line) - line.index("#")) if "#" in line else line
        for line in text.split("\n")
    )


def _supposed_equation(token: Any, expected: frozenset[str], stack: list[Any], source: Source) -> SpecError | None:
    """A name where an operator was missing reads as the start of an equation, and the error comes late."""
    kinds = [getattr(entry, "type", None) for entry in stack]
    if "LBRACE" not in kinds:
        return None
    whole = expected == {"COMMA", "EQUAL"} and kinds[-1] == "RSQB"  # after the indices of a left side
    named = expected == {"COLON", "LSQB"} and kinds[-1] == "NAME"
    if not whole and not named:
        return None
    first = len(kinds) - 1
    if whole:
        first -= kinds[::-1].index("LSQB") + 1
        first -= 2 if kinds[first - 1] == "COLON" else 0
    start, end = stack[first].start_pos, stack[-1].end_pos
    span = Span(source, start, end)
    if token == "=" and named:
        return SpecError(
            f"the left side of an equation names its ranks, found {span.text!r} alone",
            span,
            (f"write {span.text}[...] = ..., or {span.text}[] for a single number",),
        )
    found = "the end of the text" if token.type == "$END" else repr(str(token))
    wants = f"expected '=' after {span.text!r}" if whole else f"expected '[' or ':' after {span.text!r}"
    before = _without_comments(source.text)[:start].rstrip()[-1:]
    # Only after an equation, whose right side could have gone on.
    notes = () if before in "{," else ("it reads as the start of an equation: is an operator missing before it?",)
    if named and span.text == "if":
        notes = ("a choice is written if(condition, a, b), points are removed by 'where'",)
    elif whole and source.text[token.start_pos :][1:2] == "=":
        notes = (f"an equation defines all of its left side; a sum stands on the right: {span.text} = ...",)
    return SpecError(f"{wants}, found {found}", span, notes)


def _header(expected: frozenset[str], stack: list[Any], source: Source) -> SpecError | None:
    """A scalar among the tensors of a header."""
    top = stack[-1] if stack else None
    if getattr(top, "type", None) != "NAME" or expected != {"COLON", "LSQB"}:
        return None
    assert top is not None
    outputs = any(str(entry) == "->" for entry in stack)
    note = f"a single number is the tensor {top}[]" if outputs else f"scalar parameters stand after ';': (...; {top})"
    return SpecError(f"a tensor names its ranks: {top}[...]", Span(source, top.start_pos, top.end_pos), (note,))


def _misspelt(token: Any, offset: int, expected: frozenset[str], span: Span, source: Source) -> SpecError | None:
    """Habits of other languages."""
    if token.type == "EQUAL" and "EQUAL" not in expected:
        return SpecError("unexpected '='", span, ("equality is written ==",))
    doubled = source.text[:offset].rstrip()[-1:]
    if token in ("&", "|") and doubled == token:
        notes = (f"write {'and' if token == '&' else 'or'!r}",)
        return SpecError(f"unexpected {str(token) * 2!r}", Span(source, offset - 1, offset + 1), notes)
    if token == "where" and "RPAR" not in expected and "NUMBER" in expected and doubled == ",":
        return SpecError("unexpected 'where'", span, ("a call has one filter: join the two with 'and'",))
    if token == ")" and doubled == ";":
        return SpecError("expected a parameter after ';', found ')'", span, ("without parameters there is no ';'",))
    if token in WORDS and "NAME" in expected and "NUMBER" not in expected:
        return SpecError(f"{str(token)!r} is a word of the language and cannot be a name", span)
    return None


def _habit(token: Any, expected: frozenset[str], before: str) -> tuple[str, ...]:
    """A note on what stands where a text has something else, or nothing."""
    if token == ";" and "RBRACE" in expected:
        return ("nothing stands between equations",)
    if token == "//" and "RBRACE" in expected:
        return ("a comment starts with #",)
    if token == ":" and {"COMMA", "RSQB"} <= expected:
        return ("an index is one place: a part of a rank is what a filter leaves of it (where 2 <= n and n < 4)",)
    if token == "," and "RBRACE" in expected and IN_FILTER.search(before):
        return ("conditions are joined with 'and'",)
    if token == "where" and "NUMBER" in expected:
        return ("a choice is written if(condition, a, b)",)
    if token == "where" and "RPAR" in expected:
        return ("a filter stands at the end of an equation, or of what a reduction is over: sum[n](X[n] where n < 4)",)
    return ()


def _plain(token: Any, at_end: bool, expected: frozenset[str], span: Span, notes: tuple[str, ...]) -> SpecError:
    found = "the end of the text" if at_end else repr(str(token))
    wanted: list[str] = []
    rest = set(expected)
    if rest >= OPERATORS - {"COMPARE", "NOT", "IN"}:
        wanted.append("an operator")
        rest -= OPERATORS
        rest -= {"LSQB", "LPAR"} if len(rest) > 3 else set()
    if rest >= STARTS - {"NOT"}:
        wanted.append("an expression")
        rest -= STARTS
    wanted.extend(sorted(SYMBOLS[name] for name in rest if name in SYMBOLS))
    if not wanted:
        return SpecError(f"unexpected {found}", span, notes)
    return SpecError(f"expected {listed(wanted, 'or')}, found {found}", span, notes)
