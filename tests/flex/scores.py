"""The score functions of PyTorch's tests of FlexAttention, of attention-gym and of FlashAttention-4."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from tests.flex.case import Case, Sizes
from tests.flex.gym_masks import GYM, causal
from tests.flex.torch_masks import FA4, TORCH

S = "S0[b,h,m,n]"
EDGES = 3  # positions of a path that an edge bias reads


def normal(generator: Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def integers(generator: Generator, low: int, high: int, *shape: int) -> Tensor:
    return torch.randint(low, high, shape, generator=generator, dtype=torch.int32)


def all_dimensions(s: Sizes, g: Generator) -> dict[str, Any]:
    return {"HS": normal(g, s.heads), "BS": normal(g, s.batch), "TS": normal(g, s.queries)}


def packed(s: Sizes, g: Generator) -> dict[str, Any]:
    """``CU``: where each sequence begins in a packed buffer of tokens, ``TB``: a bias of each of its tokens."""
    return {"CU": torch.arange(s.batch, dtype=torch.int32) * s.keys, "TB": normal(g, s.batch * s.keys)}


def sandwich(s: Sizes, g: Generator) -> dict[str, Any]:
    """``RB``: the inner product of sinusoidal embeddings of width 128 at each distance."""
    distances = torch.arange(2 * s.keys - 1, dtype=torch.float64) - (s.keys - 1)
    frequencies = 10000.0 ** -(torch.arange(64, dtype=torch.float64) / 64)
    return {"RB": (distances[:, None] * frequencies).cos().sum(-1)}


def paths(s: Sizes, g: Generator) -> dict[str, Any]:
    """``PT``: types of the edges on the path of each pair, ``PN``: how many there are, ``EB``: a bias by head, position and type."""
    types = integers(g, 0, 5, s.batch, s.queries, s.keys, EDGES)
    lengths = integers(g, 0, EDGES + 1, s.batch, s.queries, s.keys)
    return {"EB": normal(g, s.heads, EDGES, 5), "PT": types, "PN": lengths}


def edge_bias(EB: Tensor, PT: Tensor, PN: Tensor) -> Any:
    def score_mod(s: Tensor, b: Tensor, h: Tensor, m: Tensor, n: Tensor) -> Tensor:
        length = PN[b, m, n]
        terms = [torch.where(length > j, EB[h, j, PT[b, m, n, j]], 0.0) for j in range(EDGES)]
        return s + sum(terms) / length.clamp(min=1)

    return score_mod


def distance_decay(PO: Tensor, LS: Tensor) -> Any:
    def score_mod(s: Tensor, b: Tensor, h: Tensor, m: Tensor, n: Tensor) -> Tensor:
        return s * torch.exp(-(PO[m] - PO[n]).square().sum(-1).sqrt() / LS[h])

    return score_mod


TORCH_SCORES = (
    Case("identity", TORCH, score=S, score_mod=lambda: lambda s, b, h, m, n: s),
    Case("times two", TORCH, score=f"2 * {S}", score_mod=lambda: lambda s, b, h, m, n: s * 2),
    Case("squared", TORCH, score=f"{S} ** 2", score_mod=lambda: lambda s, b, h, m, n: s * s),
    Case(
        "causal as a score",
        TORCH,
        "n <= m",
        S,
        score_mod=lambda: lambda s, b, h, m, n: torch.where(n <= m, s, -torch.inf),
    ),
    Case(
        "inverse causal as a score",
        TORCH,
        "m <= n",
        S,
        score_mod=lambda: lambda s, b, h, m, n: torch.where(m <= n, s, -torch.inf),
    ),
    Case("relative bias", TORCH, score=f"{S} + (m - n)", score_mod=lambda: lambda s, b, h, m, n: s + (m - n)),
    Case(
        "relative bias, causal",
        TORCH,
        "n <= m",
        f"{S} + (m - n)",
        score_mod=lambda: lambda s, b, h, m, n: torch.where(n <= m, s + (m - n), -torch.inf),
    ),
    Case(
        "composition: relative, then inverse causal",
        TORCH,
        "m <= n",
        f"{S} + (m - n)",
        score_mod=lambda: lambda s, b, h, m, n: torch.where(m <= n, s + (m - n), -torch.inf),
    ),
    Case(
        "ALiBi of eight heads",
        TORCH,
        score=f"{S} + (n - m) * exp2(-(h + 1) * 8 / 8)",
        score_mod=lambda: lambda s, b, h, m, n: s + (n - m) * torch.exp2(-((h + 1) * 8.0 / 8)),
    ),
    Case(
        "factor of each head",
        TORCH,
        score=f"{S} * HO[h]",
        inputs="HO[h]",
        make=lambda s, g: {"HO": torch.rand(s.heads, generator=g, dtype=torch.float64)},
        score_mod=lambda HO: lambda s, b, h, m, n: s * HO[h],
    ),
    Case(
        "sine of the cosine, and a tangent",
        TORCH,
        score=f"sin(cos({S})) + sin(b) / cos(b)",
        score_mod=lambda: lambda s, b, h, m, n: s.cos().sin() + b.to(s.dtype).tan(),
    ),
    Case(
        "sine times cosine, and a tangent",
        TORCH,
        score=f"cos({S}) * sin({S}) + sin(b) / cos(b)",
        score_mod=lambda: lambda s, b, h, m, n: s.cos() * s.sin() + b.to(s.dtype).tan(),
    ),
    Case(
        "bias of batch and query",
        TORCH,
        score=f"{S} + BI[b,m]",
        inputs="BI[b,m]",
        make=lambda s, g: {"BI": normal(g, s.batch, s.queries)},
        score_mod=lambda BI: lambda s, b, h, m, n: s + BI[b][m],
    ),
    Case(
        "bias through a constant index",
        TORCH,
        score=f"{S} + BI[0,b,h,m]",
        inputs="BI[i,b,h,m]",
        make=lambda s, g: {"BI": normal(g, 4, s.batch, s.heads, s.queries)},
        score_mod=lambda BI: lambda s, b, h, m, n: s + BI[0][b, h][m],
    ),
    Case(
        "bias of batch, head and query",
        TORCH,
        score=f"{S} + BI[b,h,2,m]",
        inputs="BI[b,h,i,m]",
        make=lambda s, g: {"BI": normal(g, s.batch, s.heads, 4, s.queries)},
        score_mod=lambda BI: lambda s, b, h, m, n: s + BI[b][h][torch.tensor(2), m],
    ),
    Case(
        "biases of all dimensions",
        TORCH,
        score=f"{S} + TS[m] + BS[b] + HS[h]",
        inputs="HS[h], BS[b], TS[m]",
        make=all_dimensions,
        score_mod=lambda HS, BS, TS: lambda s, b, h, m, n: s + TS[m] + BS[b] + HS[h],
    ),
    Case(
        "bias of the pair",
        TORCH,
        score=f"{S} + BI[m,n]",
        inputs="BI[m,n]",
        make=lambda s, g: {"BI": normal(g, s.queries, s.keys)},
        score_mod=lambda BI: lambda s, b, h, m, n: s + BI[m, n],
    ),
    Case(
        "bias of batch and pair",
        TORCH,
        score=f"{S} + BI[b,m,n]",
        inputs="BI[b,m,n]",
        make=lambda s, g: {"BI": normal(g, s.batch, s.queries, s.keys)},
        score_mod=lambda BI: lambda s, b, h, m, n: s + BI[b, m, n],
    ),
    Case(
        "bias of batch, head and pair",
        TORCH,
        score=f"{S} + BI[b,h,m,n]",
        inputs="BI[b,h,m,n]",
        make=lambda s, g: {"BI": normal(g, s.batch, s.heads, s.queries, s.keys)},
        score_mod=lambda BI: lambda s, b, h, m, n: s + BI[b, h, m, n],
    ),
    Case(
        "decomposed relative positions",
        TORCH,
        score=f"{S} + RH[b,h,m,n // W]",
        inputs="RH[b,h,m,i]",
        parameters="W: int",
        make=lambda s, g: {"RH": normal(g, s.batch, s.heads, s.queries, s.grid[0]), "W": s.grid[1]},
        score_mod=lambda RH, W: lambda s, b, h, m, n: s + RH[b, h, m, n // W],
    ),
    Case(
        "table of distances",
        TORCH,
        score=f"{S} + RB[m - n + N]",
        inputs="RB[i]",
        make=lambda s, g: {"RB": normal(g, 2 * s.keys)},
        score_mod=lambda RB: lambda s, b, h, m, n: s + RB[m - n + len(RB) // 2],
    ),
    Case(
        "quotient of positions",
        TORCH,
        score=f"{S} - m // (1 + n)",
        score_mod=lambda: lambda s, b, h, m, n: s - m // (1 + n),
    ),
    Case(
        "silu of the score",
        TORCH,
        score=f"silu({S})",
        score_mod=lambda: lambda s, b, h, m, n: torch.nn.functional.silu(s),
    ),
    Case(
        "a captured number, added",
        TORCH,
        score=f"{S} + c",
        parameters="c: int",
        make=lambda s, g: {"c": 3},
        score_mod=lambda c: lambda s, b, h, m, n: s + torch.tensor(c),
    ),
    Case(
        "a captured number, multiplied",
        TORCH,
        score=f"{S} * c",
        parameters="c: int",
        make=lambda s, g: {"c": 3},
        score_mod=lambda c: lambda s, b, h, m, n: s * torch.tensor(c),
    ),
    Case(
        "the size of the batch",
        TORCH,
        score=f"{S} + B",
        make=lambda s, g: {},
        score_mod=lambda: lambda s, b, h, m, n: s + 2,
    ),
    Case(
        "a mask tensor as a bias",
        TORCH,
        "AM[b,m,n]",
        f"{S} + if(AM[b,m,n], 1, 0)",
        inputs="AM: bool[b,m,n]",
        make=lambda s, g: {"AM": torch.ones(s.batch, s.queries, s.keys).tril().bool()},
        mask_mod=lambda AM: lambda b, h, m, n: AM[b, m, n],
        score_mod=lambda AM: lambda s, b, h, m, n: s + AM[b, m, n],
    ),
    Case(
        "two biases and a causal mask, odd length",
        TORCH,
        "n <= m",
        f"{S} + OQ[m] + OK[n]",
        inputs="OQ[m], OK[n]",
        lengths=lambda length: (length - 3, length - 3),
        make=lambda s, g: {"OQ": normal(g, s.queries), "OK": normal(g, s.keys)},
        mask_mod=lambda OQ, OK: causal,
        score_mod=lambda OQ, OK: lambda s, b, h, m, n: s + OQ[m] + OK[n],
    ),
    Case(
        "decay with the distance of places",
        TORCH,
        score=f"{S} * exp(-sqrt(sum[j]((PO[m,j] - PO[n,j]) ** 2)) / LS[h])",
        inputs="PO[n,j], LS[h]",
        make=lambda s, g: {
            "PO": normal(g, s.keys, 3),
            "LS": torch.rand(s.heads, generator=g, dtype=torch.float64) + 0.1,
        },
        score_mod=distance_decay,
        rejected="a reduction over more than a few elements of a captured tensor has no lowering",
    ),
    Case(
        "sum of a captured row",
        TORCH,
        score=f"{S} + sum[i](BI[b,i])",
        inputs="BI[b,i]",
        make=lambda s, g: {"BI": normal(g, s.batch, 8)},
        score_mod=lambda BI: lambda s, b, h, m, n: s + BI[b].sum(-1),
        rejected="a reduction of a captured tensor has no lowering",
    ),
)

GYM_SCORES = (
    Case(
        "ALiBi",
        GYM,
        "n <= m",
        f"{S} + (n - m) * exp2(-8 * (h + 1) / H)",
        mask_mod=lambda: causal,
        score_mod=lambda: lambda s, b, h, m, n: s + (n - m) * torch.exp2(-8.0 * (h + 1) / 2),
    ),
    Case(
        "soft cap",
        GYM,
        "n <= m",
        f"c * tanh({S} / c)",
        parameters="c = 20.0",
        make=lambda s, g: {"c": 20.0},
        mask_mod=lambda c: causal,
        score_mod=lambda c: lambda s, b, h, m, n: c * torch.tanh(s / c),
    ),
    Case(
        "sandwich",
        GYM,
        "n <= m",
        f"{S} + RB[m - n + N - 1] * H / (8 * (h + 1))",
        inputs="RB[i]",
        make=sandwich,
        mask_mod=lambda RB: causal,
        score_mod=lambda RB: lambda s, b, h, m, n: s + RB[m - n + len(RB) // 2] * 2 / (8 * (h + 1)),
    ),
    Case(
        "Graphormer, spatial",
        GYM,
        score=f"{S} + SB[h,PD[b,m,n]]",
        inputs="SB[h,i], PD: i32[b,m,n]",
        make=lambda s, g: {"SB": normal(g, s.heads, 6), "PD": integers(g, 0, 6, s.batch, s.queries, s.keys)},
        score_mod=lambda SB, PD: lambda s, b, h, m, n: s + SB[h, PD[b, m, n]],
    ),
    Case(
        "Graphormer, edges",
        GYM,
        score=f"{S} + sum[j](EB[h,j,PT[b,m,n,j]] where j < PN[b,m,n]) / max(PN[b,m,n], 1)",
        inputs="EB[h,j,i], PT: i32[b,m,n,j], PN: i32[b,m,n]",
        make=paths,
        score_mod=edge_bias,
    ),
    Case(
        "activation under a logarithm",
        GYM,
        score=f"log(gelu({S}) + 1)",
        score_mod=lambda: lambda s, b, h, m, n: torch.log(torch.nn.functional.gelu(s) + 1),
    ),
    Case(
        "rotary part of latent attention",
        GYM,
        score="P0[b,h,m,n] + S0[b,h,m,n]",
        before="P0[b,h,m,n] = QR[b,h,m,r] * KR[b,n,r]",
        inputs="QR[b,h,m,r], KR[b,n,r]",
        make=lambda s, g: {"QR": normal(g, s.batch, s.heads, s.queries, 8), "KR": normal(g, s.batch, s.keys, 8)},
        score_mod=lambda QR, KR: lambda s, b, h, m, n: s + (QR[b, h, m] * KR[b, n]).sum(-1),
        rejected="a product along the captured axis has no lowering on the CPU",
    ),
)

FA4_SCORES = (
    Case("distance", FA4, score=f"{S} + abs(m - n)", score_mod=lambda: lambda s, b, h, m, n: s + (m - n).abs()),
    Case(
        "twice the distance",
        FA4,
        score=f"{S} + 2 * abs(m - n)",
        score_mod=lambda: lambda s, b, h, m, n: s + 2 * (m - n).abs(),
    ),
    Case(
        "ALiBi, both directions",
        FA4,
        score=f"{S} - 2 ** (-8 * (h + 1) / 8) * abs(m - n)",
        score_mod=lambda: lambda s, b, h, m, n: s - 2.0 ** (-8 * (h + 1) / 8) * (m - n).abs(),
    ),
    Case(
        "window as a score",
        FA4,
        "abs(m - n) <= W",
        S,
        parameters="W: int",
        make=lambda s, g: {"W": s.keys // 16},
        score_mod=lambda W: lambda s, b, h, m, n: torch.where((m - n).abs() <= W, s, -torch.inf),
    ),
    Case(
        "diagonal blocks as a score",
        FA4,
        "m // 64 == n // 64",
        S,
        score_mod=lambda: lambda s, b, h, m, n: torch.where(m // 64 == n // 64, s, -torch.inf),
    ),
    Case(
        "bias of the batch",
        FA4,
        score=f"{S} + BB[b]",
        inputs="BB[b]",
        make=lambda s, g: {"BB": normal(g, s.batch)},
        score_mod=lambda BB: lambda s, b, h, m, n: s + BB[b],
    ),
    Case(
        "biases of head and query",
        FA4,
        score=f"{S} + HB[h] + QB[m]",
        inputs="HB[h], QB[m]",
        make=lambda s, g: {"HB": normal(g, s.heads), "QB": normal(g, s.queries)},
        score_mod=lambda HB, QB: lambda s, b, h, m, n: s + HB[h] + QB[m],
    ),
    Case(
        "bias of the packed key",
        FA4,
        score=f"{S} + TB[CU[b] + n]",
        inputs="CU: i32[b], TB[t]",
        make=packed,
        score_mod=lambda CU, TB: lambda s, b, h, m, n: s + TB[CU[b] + n],
    ),
    Case(
        "bias of the packed query, clamped to the sequence",
        FA4,
        score=f"{S} + TB[CU[b] + min(m, CE[b] - CU[b] - 1)]",
        inputs="CU: i32[b], CE: i32[b], TB[t]",
        make=lambda s, g: {**packed(s, g), "CE": torch.arange(1, s.batch + 1, dtype=torch.int32) * s.keys - 7},
        score_mod=lambda CU, CE, TB: lambda s, b, h, m, n: s + TB[CU[b] + torch.minimum(m, CE[b] - CU[b] - 1)],
    ),
    Case(
        "distance and bias of the packed key",
        FA4,
        score=f"{S} + 0.1 * abs(m - n) + TB[CU[b] + n]",
        inputs="CU: i32[b], TB[t]",
        make=packed,
        score_mod=lambda CU, TB: lambda s, b, h, m, n: s + 0.1 * (m - n).abs().to(s.dtype) + TB[CU[b] + n],
    ),
    Case(
        "biases of the packed query and key",
        FA4,
        score=f"{S} + QB[CU[b] + m] + TB[CU[b] + n]",
        inputs="CU: i32[b], TB[t], QB[t]",
        make=lambda s, g: {**packed(s, g), "QB": normal(g, s.batch * s.queries)},
        score_mod=lambda CU, TB, QB: lambda s, b, h, m, n: s + QB[CU[b] + m] + TB[CU[b] + n],
    ),
    Case(
        "squared distance, and a bias scaled by head and batch",
        FA4,
        score=f"{S} + 0.0001 * (m - n) ** 2 + TB[CU[b] + m] * 0.001 * (b + 1) * (h + 1)",
        inputs="CU: i32[b], TB[t]",
        make=packed,
        score_mod=lambda CU, TB: (
            lambda s, b, h, m, n: s + 0.0001 * (m - n).to(s.dtype) ** 2 + TB[CU[b] + m] * 0.001 * (b + 1) * (h + 1)
        ),
    ),
    Case(
        "bias where causal and near",
        FA4,
        "n <= m and abs(CU[b] + m - (CU[b] + n)) <= 64",
        f"{S} + TB[CU[b] + n]",
        inputs="CU: i32[b], TB[t]",
        make=packed,
        score_mod=lambda CU, TB: (
            lambda s, b, h, m, n: torch.where((n <= m) & ((m - n).abs() <= 64), s + TB[CU[b] + n], -torch.inf)
        ),
    ),
    Case(
        "five tensors",
        FA4,
        score=f"{S} * HS[h] + BB[b] + QB[CU[b] + m] + TB[CU[b] + n] + 0.1 * RS[clamp(m - n + 32, 0, 64)]",
        inputs="CU: i32[b], TB[t], QB[t], BB[b], HS[h], RS[i]",
        make=lambda s, g: {
            **packed(s, g),
            "QB": normal(g, s.batch * s.queries),
            "BB": normal(g, s.batch),
            "HS": normal(g, s.heads),
            "RS": normal(g, 65),
        },
        score_mod=lambda CU, TB, QB, BB, HS, RS: (
            lambda s, b, h, m, n: (
                s * HS[h] + BB[b] + QB[CU[b] + m] + TB[CU[b] + n] + 0.1 * RS[(m - n + 32).clamp(0, 64)]
            )
        ),
    ),
    Case(
        "exclusive or of the positions",
        FA4,
        score=f"{S} + 0.001 * ((m ^ n) & 0xFF) + 0.1 * TB[CU[b] + n]",
        inputs="CU: i32[b], TB[t]",
        make=packed,
        score_mod=lambda CU, TB: lambda s, b, h, m, n: s + 0.001 * ((m ^ n) & 0xFF).to(s.dtype) + 0.1 * TB[CU[b] + n],
    ),
    Case(
        "the packed position itself",
        FA4,
        score=f"{S} + 0.001 * (CU[b] + n)",
        inputs="CU: i32[b], TB[t]",
        make=packed,
        score_mod=lambda CU, TB: lambda s, b, h, m, n: s + 0.001 * (CU[b] + n).to(s.dtype),
    ),
)
