"""The cascades that every text may call by name; they are a text of the language, ``library.ein``."""

from __future__ import annotations

import functools
import importlib.resources

from einsum_compiler.ir.cascade import Module


@functools.cache
def library() -> Module:
    """The cascades ``softmax softmax1 logsumexp layernorm rmsnorm``."""
    from einsum_compiler.ir.parser import parse

    text = importlib.resources.files("einsum_compiler.ir").joinpath("library.ein").read_text(encoding="utf-8")
    return parse(text, "library.ein")
