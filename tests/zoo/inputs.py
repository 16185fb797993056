"""Inputs for the operators of level 1: sizes, plain inputs, and the hard ones."""

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

    ``operands`` makes them from the case; ``options`` are further calls worth a test (each a set of scalars).
    """

    file: str
    name: str | None = None
    operands: Callable[[Case], Tensors] = field(default=lambda case: {})
    scalars: Mapping[str, Any] = field(default_factory=dict)
    options: tuple[Mapping[str, Any], ...] = ()
    heads_of_keys: Callable[[Case], int] = field(default=lambda case: case.G)
    note: str = ""

    def __str__(self) -> str:
        return f"{self.program}{self.note}"

    @property
    def program(self) -> str:
        return self.name or self.file

    def inputs(self, case: Case) -> Tensors:
        """Q, K, V and the other operands, floats in the type of the case."""
        spread = case.logits**0.5 if case.logits else 0.0
        G = self.heads_of_keys(case)
        tensors = {
            "Q": _tensor(case, case.H, case.M, case.E) * spread,
            "K": _tensor(case, G, case.N, case.E) * spread,
            "V": _tensor(case, G, case.N, case.F),
            **self.operands(case),
        }
        tensors = {name: t.to(case.dtype) if t.is_floating_point() else t for name, t in tensors.items()}
        return tensors


def _tensor(case: Case, heads: int, length: int, width: int) -> Tensor:
    if case.strided:
        return torch.randn(case.B, length, heads, width).transpose(1, 2)
    return torch.randn(case.B, heads, length, width)


def poisoned(tensors: Tensors, unseen: Tensor) -> Tensors:
    """Keys and values with NaN where ``unseen`` [b,g,n] says that no query of the group looks."""
    changed = {name: tensors[name].masked_fill(unseen[..., None], torch.nan) for name in ("K", "V")}
    return {**tensors, **changed}


def _ids(case: Case, length: int, count: int = 5) -> Tensor:
    """Sorted segment ids with padding (-1) at the end, other lengths in every sequence."""
    ids = torch.randint(0, count, (case.B, length), dtype=torch.int32).sort(-1).values
    kept = torch.arange(length) < torch.tensor([length - (b + 1) * length // 5 for b in range(case.B)])[:, None]
    return torch.where(kept, ids, -1)


def _segments(case: Case) -> Tensors:
    return {"SQ": _ids(case, case.M), "SK": _ids(case, case.N)}


def _permissions(case: Case) -> Tensors:
    # Class 4 may look at nothing, so some rows are empty; nobody may look at class 3.
    table = torch.rand(5, 5) < 0.5
    table[4, :] = False
    table[:, 3] = False
    return {**_segments(case), "AL": table}


def _lengths(case: Case, name: str) -> Tensors:
    return {name: torch.tensor([(2 * case.N // 3) * (b % 2) for b in range(1, case.B + 1)], dtype=torch.int32)}


def _keep(case: Case) -> Tensors:
    keep = torch.rand(case.B, case.N) < 0.7
    keep[:1] = torch.arange(case.N) < 2 * case.N // 3
    return {"KEEP": keep}


def _weights(case: Case) -> Tensors:
    weights = torch.rand(case.B, case.N) + 0.1
    return {"WN": weights.masked_fill(torch.rand(case.B, case.N) < 0.2, 0.0)}


def _sinks(case: Case) -> Tensors:
    heads = torch.arange(case.H, dtype=torch.int32)
    return {"SINK": heads % 3 * 2, "WIDTH": 3 + 20 * heads}


def _chunk_ids(case: Case) -> Tensors:
    return {"CH": torch.randint(0, 6, (case.N,), dtype=torch.int32).sort().values}


def _uniform(low: float, high: float, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(*shape)


CAUSAL = ({"causal": True},)
OPERATORS = (
    Operator("softmax", heads_of_keys=lambda c: c.H),
    Operator("causal"),
    Operator("gqa", options=({"causal": True},)),
    Operator("gqa", options=({"causal": True},), heads_of_keys=lambda c: 1, note="-one_key_head"),
    Operator("cross", operands=lambda c: _lengths(c, "NK")),
    Operator("padding", operands=_keep),
    Operator("prefix_lm", operands=lambda c: _lengths(c, "PL")),
    Operator(
        "window", scalars={"left": 40}, options=({"left": 7, "right": 5}, {"left": 0}, {"left": 10**6, "right": 10**6})
    ),
    Operator(
        "dilated",
        scalars={"left": 9, "right": 0, "d": 3},
        options=({"left": 4, "right": 4, "d": 2}, {"left": 7, "right": 2, "d": 1}),
    ),
    Operator("sink_window", operands=_sinks),
    Operator("segment", operands=_segments, options=CAUSAL),
    Operator("seg_table", operands=_permissions),
    Operator("chunk_causal", scalars={"chunk": 16}, options=({"chunk": 33},)),
    Operator("chunk_causal", "chunk_ids", operands=_chunk_ids),
    Operator("alibi", operands=lambda c: {"AS": _uniform(0, 0.5, c.H)}, options=CAUSAL),
    Operator("alibi", "alibi_fixed", options=CAUSAL),
    Operator("t5_bias", operands=lambda c: {"TB": torch.randn(c.H, 32)}, options=CAUSAL),
    Operator("bias", operands=lambda c: {"BI": torch.randn(c.B, c.H, c.M, c.N)}, options=CAUSAL),
    Operator("bias", "key_bias", operands=lambda c: {"BI": torch.randn(c.H, c.N)}, options=CAUSAL),
    Operator("bias", "weighted_keys", operands=_weights, options=CAUSAL),
    Operator(
        "temperature",
        operands=lambda c: {
            "TQ": _uniform(0.5, 2, c.B, c.H, c.M),
            "TV": _uniform(0.5, 2, c.B, c.G, c.N),
        },
        options=CAUSAL,
    ),
    Operator("soft_cap", scalars={"c": 3.0}, options=({"c": 30.0, "causal": True},)),
    Operator("out_gate", operands=lambda c: {"GT": torch.randn(c.B, c.H, c.M, c.F)}, options=CAUSAL),
    Operator("out_gate", "out_scale", operands=lambda c: {"GS": torch.randn(c.B, c.H)}, options=CAUSAL),
    Operator("sink_logit", operands=lambda c: {"SG": torch.randn(c.H)}, options=CAUSAL),
)
