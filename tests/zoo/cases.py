"""Sizes and treatments of inputs, and what an operator of the zoo is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Case:
    """Sizes and a treatment of the inputs.

    ``logits``: the size that scores reach. ``poison``: NaN in the keys that no query sees. ``strided``: tensors as a model
    has them, with the heads inside ([b, m, h, e] transposed).
    """

    name: str
    M: int
    N: int
    B: int = 2
    H: int = 4
    G: int = 2
    E: int = 32
    F: int = 24
    dtype: torch.dtype = torch.float32
    logits: float = 1.0
    poison: bool = False
    strided: bool = False

    @property
    def spread(self) -> float:
        """The factor of queries and of keys that gives scores of the size ``logits``."""
        return self.logits**0.5 if self.logits else 0.0

    def __str__(self) -> str:
        return self.name


CASES = (
    Case("one", 1, 1),
    Case("17", 17, 17),
    Case("130", 130, 130),
    Case("257", 257, 257, B=1),
    Case("decode", 1, 257, B=1, H=8),
    Case("more_keys", 37, 130),
    Case("more_queries", 257, 130, B=1),
    Case("no_keys", 5, 0),
    Case("no_queries", 0, 5),
    Case("large_scores", 65, 70, logits=1e4),
    Case("equal_scores", 33, 65, logits=0.0),
    Case("nan_behind_the_mask", 63, 130, poison=True),
    Case("heads_inside", 37, 64, strided=True),
)
ODD_WIDTHS = (Case("widths_20_60", 33, 37, E=20, F=60), Case("widths_60_20", 33, 37, E=60, F=20))
# With every set of scalars.
OPTIONS = (Case("more_keys_odd_widths", 37, 130, E=20, F=60, strided=True), Case("square", 70, 70))
NARROW = (
    Case("bf16", 65, 130, dtype=torch.bfloat16),
    Case("bf16_large_scores", 33, 70, dtype=torch.bfloat16, logits=30.0),
)
SMALL = (Case("17", 17, 17, B=1), Case("ragged", 19, 37, B=1, H=2, G=1))


@dataclass(frozen=True)
class Operator:
    """One cascade of examples/: where it is, the scalars of a call, and its operands besides Q, K and V.

    ``operands`` makes them from the case, ``whole`` all tensors where the operator takes others; ``options`` are further calls worth a test
    (each a set of scalars); ``hidden`` names the tensors whose rows may hold anything where no result depends on them.
    """

    file: str
    name: str | None = None
    operands: Callable[[Case], Tensors] = field(default=lambda case: {})
    scalars: Mapping[str, Any] = field(default_factory=dict)
    options: tuple[Mapping[str, Any], ...] = ()
    heads_of_keys: Callable[[Case], int] = field(default=lambda case: case.G)
    note: str = ""
    whole: Callable[[Case], Tensors] | None = None
    hidden: tuple[str, ...] = ("K", "V")

    def __str__(self) -> str:
        return f"{self.program}{self.note}"

    @property
    def program(self) -> str:
        return self.name or self.file

    def inputs(self, case: Case) -> Tensors:
        """Every tensor of a call, floats in the type of the case."""
        tensors = self.whole(case) if self.whole else {**self._attention(case), **self.operands(case)}
        return {name: t.to(case.dtype) if t.is_floating_point() else t for name, t in tensors.items()}

    def _attention(self, case: Case) -> Tensors:
        """Q, K and V."""
        G = self.heads_of_keys(case)
        return {
            "Q": rows(case, case.H, case.M, case.E) * case.spread,
            "K": rows(case, G, case.N, case.E) * case.spread,
            "V": rows(case, G, case.N, case.F),
        }


def rows(case: Case, heads: int, length: int, width: int) -> Tensor:
    """A tensor [b,h,m,e] as the case lays it out."""
    if case.strided:
        return torch.randn(case.B, length, heads, width).transpose(1, 2)
    return torch.randn(case.B, heads, length, width)
