"""The operators of level 1 with their operands: plain ones and hard ones."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.zoo.cases import Case, Operator, Tensors


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
