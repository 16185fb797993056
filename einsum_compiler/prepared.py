"""Calls like an earlier one: what makes two calls alike, and what is kept of the first so that the next does no matching."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class PreparedCall:
    """A call that was matched before: which arguments are tensors, and the outputs as a function of them."""

    tensors: tuple[tuple[int, str], ...]  # position among the arguments, name
    run: Callable[[Mapping[str, Any]], dict[str, Any]]


def signature_of(arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """All that matching and launching a call depend on; None where that is more than shapes, strides, types and numbers (a parameter given as a tensor)."""
    parts: list[Any] = []
    try:
        for a in (*arguments, *keywords.values()) if keywords else arguments:
            kind = type(a)
            if kind is int or kind is float or kind is bool:
                parts.append((kind, a))
                continue
            shape = a.shape
            if not shape:
                return None
            parts += (shape, a.stride(), a.dtype, a.device)
    except (AttributeError, RuntimeError):  # no tensor, or one without strides: matching says what is wrong with it
        return None
    return (*parts, *keywords) if keywords else tuple(parts)
