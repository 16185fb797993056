"""Names of element types in the language and in PyTorch. PyTorch is imported by the first call."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_NAMES = {
    "f64": "float64", "f32": "float32", "f16": "float16", "bf16": "bfloat16", "f8e4m3": "float8_e4m3fn",
    "f8e5m2": "float8_e5m2", "i64": "int64", "i32": "int32", "i16": "int16", "i8": "int8", "u8": "uint8", "bool": "bool",
}  # fmt: skip


@functools.cache
def _tables() -> tuple[dict[str, torch.dtype], dict[torch.dtype, str]]:
    import torch

    forward = {ours: getattr(torch, theirs) for ours, theirs in _NAMES.items()}
    return forward, {theirs: ours for ours, theirs in forward.items()}


def torch_dtype(name: str) -> torch.dtype:
    """The ``torch.dtype`` of ``"f32"``; ``KeyError`` if there is no such type."""
    return _tables()[0][name]


def dtype_name(dtype: Any) -> str | None:
    """The name of a ``torch.dtype``; ``None`` if the language has no such type (complex numbers, 16-bit unsigned)."""
    return _tables()[1].get(dtype)
