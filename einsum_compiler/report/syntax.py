"""Tokens of cascades, plans and tile programs for pygments, and code as lines of HTML."""

from __future__ import annotations

from html import escape

from pygments.lexer import RegexLexer, words
from pygments.lexers import CppLexer, PythonLexer
from pygments.token import STANDARD_TYPES, Comment, Keyword, Name, Number, Operator, Punctuation, Text, _TokenType

from einsum_compiler.ir.operators import DERIVED_REDUCTIONS, FUNCTIONS, REDUCTIONS, SELECTIONS
from einsum_compiler.ir.types import DTYPES

Token = tuple[_TokenType, str]
CASCADE_WORDS = ("cascade", "where", "else", "def", "in", "and", "or", "not")
PLAN_WORDS = (
    "plan",
    "kernel",
    "program",
    "stream",
    "resident",
    "warps",
    "stages",
    "persistent",
    "copies",
    "split",
    "over",
    "into",
)
TILE_WORDS = (
    "loop", "full", "partial", "carry", "next", "load", "store", "add", "dot", "map", "reduce", "select", "fill",
    "accumulate", "schedule", "of", "by", "extents", "list", "at", "tiles",
)  # fmt: skip


class EinLexer(RegexLexer):  # type: ignore[misc]
    """The language of cascades (``ir/grammar.lark``)."""

    name = "Einsum cascade"
    keywords = CASCADE_WORDS
    tokens = {  # noqa: RUF012  the form that pygments asks for
        "root": [
            (r"\s+", Text),
            (r"#[^\n]*", Comment.Single),
            (r"0[xX][0-9a-fA-F]+|(\d+\.\d*|\.\d+|\d+)([eE][+-]?\d+)?", Number),
            (words(CASCADE_WORDS, prefix=r"(?<![\w.])", suffix=r"(?![\w.])"), Keyword),
            (words((*DTYPES, "int", "float"), prefix=r"(?<=: )", suffix=r"(?![\w.])"), Keyword.Type),
            (words(("inf", "pi", "true", "false"), prefix=r"(?<![\w.])", suffix=r"(?![\w.])"), Keyword.Constant),
            (
                words(
                    (*FUNCTIONS, *REDUCTIONS, *DERIVED_REDUCTIONS, *SELECTIONS, "if", "cast"),
                    prefix=r"(?<![\w.])",
                    suffix=r"(?=[(\[])",
                ),
                Name.Builtin,
            ),
            (r"[A-Za-z_]\w*(\.[a-z0-9_]+)*(?=\[)", Name.Variable),
            (r"[a-z_]\w*(\.[a-z0-9_]+)*", Name.Attribute),
            (r"[A-Z]\w*(\.[a-z0-9_]+)*", Name),
            (r"->|//|\*\*|<<|>>|<=|>=|==|!=|[-+*/%<>=|^&]", Operator),
            (r".", Punctuation),
        ]
    }


class TileLexer(EinLexer):
    """Plans and tile programs: cascades with more keywords."""

    name = "Tile program"
    tokens = {  # noqa: RUF012
        "root": [
            (words((*PLAN_WORDS, *TILE_WORDS), prefix=r"(?<![\w.])", suffix=r"(?![\w.(\[])"), Keyword),
            *EinLexer.tokens["root"],
        ]
    }


def tokens_of(text: str, language: str) -> list[list[Token]]:
    """The tokens of every line. ``language``: cascade, tile, cpp or python."""
    lexer = {"cascade": EinLexer, "tile": TileLexer, "cpp": CppLexer, "python": PythonLexer}[language](
        stripnl=False, ensurenl=False
    )
    lines: list[list[Token]] = [[]]
    for kind, value in lexer.get_tokens(text):
        for number, piece in enumerate(value.split("\n")):
            if number:
                lines.append([])
            if piece:
                lines[-1].append((kind, piece))
    return lines


def html_of(tokens: list[Token], changed: frozenset[int] = frozenset()) -> str:
    """One line of code; the tokens at the places ``changed`` stand out."""
    parts = []
    for place, (kind, value) in enumerate(tokens):
        style = " ".join(filter(None, (_short(kind), "changed" if place in changed and value.strip() else "")))
        parts.append(f'<span class="{style}">{escape(value)}</span>' if style else escape(value))
    return "".join(parts)


def _short(kind: _TokenType) -> str:
    """The class of a token, one or two letters, as pygments' style sheets call it."""
    while kind not in STANDARD_TYPES and kind.parent is not None:
        kind = kind.parent
    return str(STANDARD_TYPES.get(kind, "")).removeprefix("w")


def code_lines(text: str, language: str) -> list[str]:
    """Every line of a text as HTML."""
    return [html_of(line) for line in tokens_of(text.rstrip("\n"), language)]
