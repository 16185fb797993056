"""Damaged texts: parsing and verifying either accepts them or raises ``SpecError`` with a place; nothing else."""

from __future__ import annotations

import random
import re
import warnings

import pytest

from einsum_compiler.ir.errors import SpecError
from einsum_compiler.ir.lint import lint
from einsum_compiler.ir.parser import parse
from einsum_compiler.ir.verify import verify_module
from tests.ir.texts import TEXTS

TOKEN = re.compile(r"[A-Za-z_]\w*|\d+|//|\*\*|->|[<>=!]=|\S")
EXTRA = [
    "m",
    "N",
    "X",
    "[",
    "]",
    "(",
    ")",
    "{",
    "}",
    ",",
    ";",
    ":",
    "=",
    "+",
    "where",
    "else",
    "in",
    "not",
    "0",
    "2.5",
    "...",
    "max",
    "topk",
    "/",
]


def damaged(text: str, generator: random.Random) -> str:
    """One or two tokens dropped, doubled, swapped or replaced."""
    tokens = TOKEN.findall(text)
    for _ in range(generator.choice((1, 1, 2))):
        at = generator.randrange(len(tokens) - 1)
        match generator.randrange(5):
            case 0:
                del tokens[at]
            case 1:
                tokens.insert(at, generator.choice(EXTRA))
            case 2:
                tokens[at] = generator.choice(EXTRA)
            case 3:
                tokens[at], tokens[at + 1] = tokens[at + 1], tokens[at]
            case 4:
                tokens[at] = generator.choice(tokens)
    return " ".join(tokens)


@pytest.mark.parametrize("name", TEXTS)
def test_damage_is_reported(name: str) -> None:
    generator = random.Random(name)
    for _ in range(40):
        text = damaged(TEXTS[name], generator)
        try:
            module = parse(text)
            verify_module(module)
            assert parse(str(module)) == module, text
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for cascade in module.cascades:
                    lint(cascade, module)
        except SpecError as error:
            assert error.span is not None, text
            assert error.message and "Traceback" not in str(error)
        except Exception as error:
            raise AssertionError(f"{type(error).__name__}: {error}\nin: {text}") from error
