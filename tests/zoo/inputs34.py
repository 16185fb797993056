"""The operators of levels 3 and 4 with their operands."""

from __future__ import annotations

from math import isqrt

import torch
from torch import Tensor

from tests.zoo.cases import Case, Operator, Tensors, rows


def _square(case: Case) -> Tensors:
    """Q, K and V of one length."""
    N = max(case.M, case.N) if case.M and case.N else 0
    return {
        "Q": rows(case, case.H, N, case.E) * case.spread,
        "K": rows(case, case.G, N, case.E) * case.spread,
        "V": rows(case, case.G, N, case.F),
    }


def _with_offsets(case: Case, *widths: int) -> Tensor:
    """A table of one row, or one number, for every offset between two positions."""
    N = max(case.M, case.N) if case.M and case.N else 0
    return torch.randn(case.H, max(2 * N - 1, 0), *widths)


def _cosine(case: Case) -> Tensors:
    tensors = {
        "Q": rows(case, case.H, case.M, case.E) * case.spread,
        "K": rows(case, case.G, case.N, case.E) * case.spread,
        "V": rows(case, case.G, case.N, case.F),
        "TAU": 1 + 9 * torch.rand(case.H),
    }
    tensors["Q"][:, :, 1::7] = 0  # zero vectors score 0
    tensors["K"][:, :, ::5] = 0
    return tensors


def _transnext(case: Case) -> Tensors:
    Y = isqrt(case.M)
    X = Y + 2 if case.M else 3
    C, H = min(case.N, 40), case.H
    one = {name: torch.randn(case.B, H, Y, X, case.E if name != "V" else case.F) for name in ("Q", "K", "V")}
    return {
        **one,
        "KP": rows(case, H, C, case.E),
        "VP": rows(case, H, C, case.F),
        "QE": torch.randn(H, case.E),
        "TAU": torch.randn(H) + case.logits / 2,
        "LT": torch.randn(H, case.E, 9),
        "LB": torch.randn(H, 9),
        "BL": torch.randn(H, 9),
        "BP": torch.randn(H, Y, X, C),
    }


def _heads_mixed(case: Case) -> Tensors:
    # As many mixed heads as other ones would hide a confusion of the two.
    mixed = case.H + 1
    return {"W1": torch.randn(case.H, mixed), "W2": torch.randn(mixed, case.H)}


def _reversed(case: Case) -> Tensors:
    return {
        "Q": rows(case, case.H, case.M, case.E) * case.spread,
        "K": rows(case, case.G, case.N, case.E) * case.spread,
        "VQ": rows(case, case.H, case.M, case.F),
    }


def _columns(case: Case) -> Tensors:
    return {name: t for name, t in _reversed(case).items() if name != "VQ"}


def _two_maps(case: Case) -> Tensors:
    Q = {name: rows(case, case.H, case.M, case.E) * case.spread for name in ("Q1", "Q2")}
    K = {name: rows(case, case.G, case.N, case.E) * case.spread for name in ("K1", "K2")}
    return {**Q, **K, "V": rows(case, case.G, case.N, case.F), "LAM": torch.rand(case.H)}


def _agents(case: Case) -> Tensors:
    A = 11
    return {
        "AG": rows(case, case.H, A, case.E) * case.spread,
        "B1": torch.randn(case.H, A, case.N),
        "B2": torch.randn(case.H, case.M, A),
    }


def _two_sets(case: Case) -> Tensors:
    J = case.N // 2 + 3 if case.name != "no_keys" else 0
    return {
        "Q": rows(case, case.H, case.M, case.E) * case.spread,
        "K1": rows(case, case.G, case.N, case.E) * case.spread,
        "V1": rows(case, case.G, case.N, case.F),
        "K2": rows(case, case.G, J, case.E) * case.spread,
        "V2": rows(case, case.G, J, case.F),
    }


def _union(case: Case) -> Tensors:
    tensors = _two_sets(case)
    J = tensors["K2"].shape[2]
    allowed = torch.rand(case.B, J) < 0.6
    allowed[0] = False
    return {**tensors, "AL": allowed, "B2": torch.randn(case.H, J)}


def _gated(case: Case) -> Tensors:
    return {**_two_sets(case), **{name: torch.randn(case.B, case.H, case.M) for name in ("G1", "G2")}}


def _two_values(case: Case) -> Tensors:
    QK = _columns(case)
    return {**QK, **{name: rows(case, case.G, case.N, case.F) for name in ("V1", "V2")}}


def _summaries(case: Case) -> Tensors:
    tensors = _square(case)
    C = -(-tensors["Q"].shape[2] // 16)
    return {**tensors, **{name: rows(case, case.H, C, case.E) * case.spread for name in ("KR", "QR")}}


def _channels(case: Case) -> Tensors:
    # The scores grow with the number of tokens, so the size that a case asks for is that of a score.
    spread = (case.logits / max(case.N, 1) ** 0.5) ** 0.5
    return {
        "Q": rows(case, case.N, 3, case.E) * spread,
        "K": rows(case, case.N, 3, case.F) * spread,
        "V": rows(case, case.N, 3, case.F),
    }


def _cosine_channels(case: Case) -> Tensors:
    tensors = _channels(case)
    tensors["K"][..., 1] = 0  # zero columns score 0
    tensors["Q"][..., 2] = 0
    return {**tensors, "TAU": 1 + 9 * torch.rand(3)}


def _triples(case: Case) -> Tensors:
    J, K = min(case.N, 40), min(case.M, 33)
    factor = case.spread
    return {
        "Q": rows(case, case.H, case.M, case.E) * factor,
        "K1": rows(case, case.H, J, case.E) * factor,
        "K2": rows(case, case.H, K, case.E),
        "V1": rows(case, case.H, J, case.F),
        "V2": rows(case, case.H, K, case.F),
    }


def _slots(case: Case, back: bool = False) -> Tensors:
    C = min(case.M, 40)
    values = {"X": torch.randn(case.B, C, case.F)} if back else {"V": torch.randn(case.B, case.N, case.F)}
    return {
        "SL": torch.randn(case.B, C, case.E) * case.spread,
        "K": torch.randn(case.B, case.N, case.E) * case.spread,
        **values,
    }


CAUSAL = ({"causal": True},)
LEVEL3 = (
    Operator("music_rel", whole=lambda c: {**_square(c), "ER": _with_offsets(c, c.E)}, options=CAUSAL),
    Operator("cosine", whole=_cosine, options=CAUSAL),
    Operator("sigmoid", "sigmoid_attention", options=({"causal": True}, {"bias": -1.5})),
    Operator(
        "relu_n",
        options=({"causal": True, "visible": True}, {"p": 1, "visible": True}, {"p": 1, "causal": True}),
        hidden=(),
    ),
    Operator("clipped", scalars={"low": -0.1}, options=({"causal": True}, {"low": 0.0, "high": 1.0}), hidden=()),
    Operator("urpe", whole=lambda c: {**_square(c), "CT": _with_offsets(c)}, options=CAUSAL),
    Operator("transnext", whole=_transnext, scalars={"W": 3}),
    Operator("talking_heads", operands=_heads_mixed, heads_of_keys=lambda c: c.H, options=CAUSAL),
    Operator("row_stats", scalars={"causal": True}, options=({"causal": False},)),
    Operator("block_max", options=({"causal": True}, {"block": 33})),
    Operator("map_out", "map_out", options=CAUSAL),
    Operator("map_out", "region_mass", operands=lambda c: {"RG": torch.rand(c.N, 5)}, options=CAUSAL),
    Operator("rev_attn", whole=_reversed, scalars={"causal": True}, options=({"causal": False},), hidden=("VQ", "Q")),
    Operator("col_sum", whole=_columns, scalars={"first": 3}, options=({"causal": True},), hidden=()),
)
LEVEL4 = (
    Operator("diff", "diff", whole=_two_maps, options=CAUSAL, hidden=("V",)),
    Operator("diff", "diff_norm", whole=lambda c: {**_two_maps(c), "FIRST": torch.rand(c.H)}, hidden=("V",)),
    Operator("agent", operands=_agents),
    Operator("union", whole=_union, options=CAUSAL, hidden=("K2", "V2")),
    Operator("gated_sum", whole=_gated, options=CAUSAL, hidden=()),
    Operator("multi_value", whole=_two_values, scalars={"causal": True}, hidden=("V1", "V2")),
    Operator("landmark", whole=_square, options=({"block": 9},)),
    Operator("combiner", whole=_summaries, hidden=("KR",)),
    Operator("channel", whole=_channels, hidden=()),
    Operator("xca", whole=_cosine_channels, hidden=()),
    Operator("tensor3", whole=_triples, hidden=()),
    Operator("slot", "slot", whole=_slots, hidden=()),
    Operator("slot", "slot_dispatch", whole=lambda c: _slots(c, back=True), hidden=()),
)
