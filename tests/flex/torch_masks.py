"""The masks of PyTorch's own tests of FlexAttention, and those of FlashAttention-4."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator

from tests.flex.case import Case, Sizes

TORCH = "PyTorch, test_flex_attention"
FA4 = "FlashAttention-4, tests/cute"


def segments(sizes: Sizes, generator: Generator) -> dict[str, Any]:
    """``DI``: the document of each token, by batch and head: i32[b,h,n]."""
    rows = sizes.batch * sizes.heads
    numbers = torch.randint(0, 9, (rows, sizes.keys), generator=generator).sort(-1).values
    return {"DI": numbers.reshape(sizes.batch, sizes.heads, sizes.keys).to(torch.int32)}


def nested_sequences(sizes: Sizes, generator: Generator) -> dict[str, Any]:
    """``SO``: where each sequence begins; ``SI``: the sequence of each token."""
    half = sizes.keys // 2
    offsets = torch.tensor([0, half, half + half // 2, sizes.keys], dtype=torch.int32)
    return {"SO": offsets, "SI": torch.arange(3, dtype=torch.int32).repeat_interleave(offsets.diff())}


TORCH_MASKS = (
    Case("no mask", TORCH, mask_mod=lambda: lambda b, h, m, n: (m >= 0) & (n >= 0)),
    Case("inverse causal", TORCH, "m <= n", mask_mod=lambda: lambda b, h, m, n: m <= n),
    Case(
        "causal and window",
        TORCH,
        "n <= m and m - n <= W",
        parameters="W: int",
        make=lambda s, g: {"W": s.keys // 8},
        mask_mod=lambda W: lambda b, h, m, n: (n <= m) & (m - n <= W),
    ),
    Case("contradiction", TORCH, "n <= m and m < n", mask_mod=lambda: lambda b, h, m, n: (n <= m) & (m < n)),
    Case("tautology", TORCH, "n <= m or m < n", mask_mod=lambda: lambda b, h, m, n: (n <= m) | (m < n)),
    Case(
        "causal beyond a window",
        TORCH,
        "m - n > W",
        parameters="W: int",
        make=lambda s, g: {"W": s.keys // 8},
        mask_mod=lambda W: lambda b, h, m, n: (n <= m) & (m - n > W),
    ),
    Case(
        "rows without keys",
        TORCH,
        "m < P and n >= 0",
        parameters="P: int",
        make=lambda s, g: {"P": s.queries // 2},
        mask_mod=lambda P: lambda b, h, m, n: m < P,
    ),
    Case(
        "two ranges of keys",
        TORCH,
        "n < P or n >= 3 * P",
        parameters="P: int",
        make=lambda s, g: {"P": s.keys // 4},
        mask_mod=lambda P: lambda b, h, m, n: (n < P) | (n >= 3 * P),
    ),
    Case(
        "blocks of a length that is no multiple",
        TORCH,
        "SI[m] == SI[n]",
        inputs="SI: i32[n]",
        lengths=lambda length: (length - 1, length - 1),
        make=lambda s, g: {"SI": (torch.arange(s.keys) // max(s.keys // 8, 1)).to(torch.int32)},
        mask_mod=lambda SI: lambda b, h, m, n: SI[m] == SI[n],
    ),
    Case(
        "documents by batch",
        TORCH,
        "DI[b,m] == DI[b,n]",
        inputs="DI: i32[b,n]",
        make=lambda s, g: {"DI": segments(s, g)["DI"][:, 0]},
        mask_mod=lambda DI: lambda b, h, m, n: DI[b, m] == DI[b, n],
    ),
    Case(
        "causal documents as a score",
        TORCH,
        "n <= m and DI[m] == DI[n]",
        inputs="DI: i32[n]",
        make=lambda s, g: {"DI": segments(s, g)["DI"][0, 0]},
        score_mod=lambda DI: lambda s, b, h, m, n: torch.where((n <= m) & (DI[m] == DI[n]), s, -torch.inf),
    ),
    Case(
        "two halves",
        TORCH,
        "SI[m] == SI[n]",
        inputs="SI: bool[n]",
        make=lambda s, g: {"SI": torch.arange(s.keys) >= s.keys // 2},
        score_mod=lambda SI: lambda s, b, h, m, n: torch.where(SI[m] == SI[n], s, -torch.inf),
    ),
    Case(
        "causal or both inside a video",
        TORCH,
        "n <= m or m <= NB[b] and n <= NB[b]",
        inputs="NB: i32[b]",
        make=lambda s, g: {"NB": torch.randint(0, s.keys, (s.batch,), generator=g, dtype=torch.int32)},
        score_mod=lambda NB: lambda s, b, h, m, n: torch.where((n <= m) | ((m <= NB[b]) & (n <= NB[b])), s, -torch.inf),
    ),
    Case(
        "cross on a grid, with a real division",
        TORCH,
        "abs(m / W - n / W) <= 3 or abs(m % W - n % W) <= 3",
        parameters="W: int",
        make=lambda s, g: {"W": s.grid[1]},
        score_mod=lambda W: (
            lambda s, b, h, m, n: torch.where(
                ((m / W - n / W).abs() <= 3) | ((m % W - n % W).abs() <= 3), s, -torch.inf
            )
        ),
    ),
    Case(
        "even keys",
        TORCH,
        "n % 2 == 0",
        score_mod=lambda: lambda s, b, h, m, n: torch.where(n % 2 == 0, s, -torch.inf),
    ),
    Case(
        "causal in nested positions",
        TORCH,
        "n - SO[SI[n]] <= m - SO[SI[m]]",
        inputs="SO: i32[d], SI: i32[n]",
        make=nested_sequences,
        score_mod=lambda SO, SI: lambda s, b, h, m, n: torch.where(n - SO[SI[n]] <= m - SO[SI[m]], s, -torch.inf),
    ),
    Case(
        "scores below a bound, causal",
        TORCH,
        "S0[b,h,m,n] <= SL[b] and n <= m",
        "S0[b,h,m,n]",
        inputs="SL: i32[b]",
        make=lambda s, g: {"SL": torch.arange(s.batch, dtype=torch.int32) + 1},
        score_mod=lambda SL: lambda s, b, h, m, n: torch.where((s <= SL[b]) & (n <= m), s, -torch.inf),
    ),
    Case(
        "padding by batch",
        TORCH,
        "m < NL[b] and n < NL[b]",
        inputs="NL: i32[b]",
        make=lambda s, g: {"NL": torch.randint(1, s.keys, (s.batch,), generator=g, dtype=torch.int32)},
        mask_mod=lambda NL: lambda b, h, m, n: (m < NL[b]) & (n < NL[b]),
    ),
    Case(
        "causal in every second sequence",
        TORCH,
        "n <= m and b % 2 == 0",
        mask_mod=lambda: lambda b, h, m, n: (n <= m) & (b % 2 == 0),
    ),
    Case(
        "hidden queries",
        TORCH,
        "not RM[b,m] and n >= 0",
        inputs="RM: bool[b,m]",
        make=lambda s, g: {"RM": torch.rand((s.batch, s.queries), generator=g) < 0.5},
        mask_mod=lambda RM: lambda b, h, m, n: ~RM[b, m],
    ),
    Case(
        "causal in some heads",
        TORCH,
        "HT[h] and n <= m",
        inputs="HT: bool[h]",
        make=lambda s, g: {"HT": torch.arange(s.heads) % 2 == 1},
        mask_mod=lambda HT: lambda b, h, m, n: HT[h] & (n <= m),
    ),
    Case(
        "a mask tensor",
        TORCH,
        "AM[b,m,n]",
        inputs="AM: bool[b,m,n]",
        make=lambda s, g: {"AM": torch.ones(s.batch, s.queries, s.keys).tril().bool()},
        mask_mod=lambda AM: lambda b, h, m, n: AM[b, m, n],
    ),
)

FA4_MASKS = (
    Case(
        "causal, aligned at the end",
        FA4,
        "n <= m + X",
        parameters="X: int",
        lengths=lambda length: (length // 2, length),
        make=lambda s, g: {"X": s.keys - s.queries},
        mask_mod=lambda X: lambda b, h, m, n: n <= m + X,
    ),
    Case(
        "window on both sides, aligned at the end",
        FA4,
        "-W <= n - m - X <= W",
        parameters="W: int, X: int",
        lengths=lambda length: (length // 2, length),
        make=lambda s, g: {"W": s.keys // 16, "X": s.keys - s.queries},
        mask_mod=lambda W, X: lambda b, h, m, n: (n >= m + X - W) & (n <= m + X + W),
    ),
    Case(
        "diagonal blocks",
        FA4,
        "m // T == n // T",
        parameters="T: int",
        make=lambda s, g: {"T": s.keys // 8},
        mask_mod=lambda T: lambda b, h, m, n: m // T == n // T,
    ),
    Case(
        "causal inside blocks, all blocks",
        FA4,
        "n % T <= m % T",
        parameters="T: int",
        make=lambda s, g: {"T": s.keys // 8},
        mask_mod=lambda T: lambda b, h, m, n: n % T <= m % T,
    ),
    Case(
        "both in a prefix, or causal",
        FA4,
        "n <= m or m < P and n < P",
        parameters="P: int",
        make=lambda s, g: {"P": s.keys // 4},
        mask_mod=lambda P: lambda b, h, m, n: (n <= m) | ((m < P) & (n < P)),
    ),
    Case(
        "every second key of a window",
        FA4,
        "0 <= m - n < W and (m - n) % 2 == 0",
        parameters="W: int",
        make=lambda s, g: {"W": s.keys // 8},
        mask_mod=lambda W: lambda b, h, m, n: (n <= m) & (m - n < W) & ((m - n) % 2 == 0),
    ),
    Case(
        "documents by batch and head",
        FA4,
        "DI[b,h,m] == DI[b,h,n]",
        inputs="DI: i32[b,h,n]",
        make=segments,
        mask_mod=lambda DI: lambda b, h, m, n: DI[b, h, m] == DI[b, h, n],
    ),
    Case(
        "a bound on each key",
        FA4,
        "n >= TH[n] and m >= 0",
        inputs="TH: i32[n]",
        make=lambda s, g: {"TH": torch.randint(0, s.keys, (s.keys,), generator=g, dtype=torch.int32)},
        mask_mod=lambda TH: lambda b, h, m, n: n >= TH[n],
    ),
)
