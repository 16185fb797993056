"""The float64 evaluator as a callable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from einsum_compiler.text import read_text


def reference(text_or_path: str | Path, name: str | None = None) -> Any:
    """A callable that evaluates the cascade in float64 with PyTorch; takes what the compiled kernel takes."""
    from einsum_compiler.backends.reference.evaluate import reference as evaluator
    from einsum_compiler.ir.parser import parse

    text, source = read_text(text_or_path)
    return evaluator(parse(text, source), name)
