"""The learnable biases of PyTorch's tests of FlexAttention: the captures that ``learnable`` names get gradients there.

Compiled FlexAttention trains them on a GPU only, and refuses a tensor that it would have to scatter into twice; uncompiled it is the oracle of the
values, and autograd through its own operations that of the gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tests.flex.case import Case
from tests.flex.scores import S, integers, normal

LEARN = "PyTorch, learnable biases"
WINDOW = 8


def twice(BI: Tensor) -> object:
    return lambda s, b, h, m, n: s + BI[m] + BI[n]


LEARNABLE = (
    Case(
        "relative, 1-D",
        LEARN,
        score=f"{S} + BI[abs(m - n)]",
        inputs="BI[i]",
        make=lambda s, g: {"BI": normal(g, 2 * s.keys)},
        score_mod=lambda BI: lambda s, b, h, m, n: s + BI[(m - n).abs()],
        learnable=("BI",),
    ),
    Case(
        "absolute, 2-D",
        LEARN,
        score=f"{S} + BI[m,n]",
        inputs="BI[m,n]",
        make=lambda s, g: {"BI": normal(g, s.queries, s.keys)},
        score_mod=lambda BI: lambda s, b, h, m, n: s + BI[m, n],
        learnable=("BI",),
    ),
    Case(
        "of each head, 3-D",
        LEARN,
        score=f"{S} + BI[h,m,n]",
        inputs="BI[h,m,n]",
        make=lambda s, g: {"BI": normal(g, s.heads, s.queries, s.keys)},
        score_mod=lambda BI: lambda s, b, h, m, n: s + BI[h, m, n],
        learnable=("BI",),
    ),
    Case(
        "of batch and head, 4-D",
        LEARN,
        score=f"{S} + BI[b,h,m,n]",
        inputs="BI[b,h,m,n]",
        make=lambda s, g: {"BI": normal(g, s.batch, s.heads, s.queries, s.keys)},
        score_mod=lambda BI: lambda s, b, h, m, n: s + BI[b, h, m, n],
        learnable=("BI",),
    ),
    Case(
        "multiplied",
        LEARN,
        score=f"{S} * BI[m]",
        inputs="BI[m]",
        make=lambda s, g: {"BI": normal(g, s.queries)},
        score_mod=lambda BI: lambda s, b, h, m, n: s * BI[m],
        learnable=("BI",),
    ),
    Case(
        "clamped window",
        LEARN,
        score=f"{S} + BI[clamp(m - n, -{WINDOW}, {WINDOW}) + {WINDOW}]",
        inputs="BI[i]",
        make=lambda s, g: {"BI": normal(g, 2 * WINDOW + 1)},
        score_mod=lambda BI: lambda s, b, h, m, n: s + BI[(m - n).clamp(-WINDOW, WINDOW) + WINDOW],
        learnable=("BI",),
    ),
    Case(
        "of the key",
        LEARN,
        score=f"{S} + BI[n]",
        inputs="BI[n]",
        make=lambda s, g: {"BI": normal(g, s.keys)},
        score_mod=lambda BI: lambda s, b, h, m, n: s + BI[n],
        learnable=("BI",),
    ),
    Case(
        "4-D, one index a tensor",
        LEARN,
        score=f"{S} + BI[b,h,w,m]",
        inputs="BI[b,h,i,m]",
        parameters="w: int",
        make=lambda s, g: {"BI": normal(g, s.batch, s.heads, 4, s.queries), "w": 0},
        score_mod=lambda BI, w: lambda s, b, h, m, n: s + BI[b, h, torch.tensor(w), m],
        learnable=("BI",),
    ),
    Case(
        "through a table of indices",
        LEARN,
        score=f"{S} + BI[OF[m]]",
        inputs="BI[i], OF: i32[m]",
        make=lambda s, g: {"BI": normal(g, s.queries), "OF": integers(g, 0, s.queries, s.queries)},
        score_mod=lambda BI, OF: lambda s, b, h, m, n: s + BI[OF[m]],
        learnable=("BI",),
    ),
    Case(
        "symmetric: read twice",
        LEARN,
        score=f"{S} + BI[m] + BI[n]",
        inputs="BI[n]",
        make=lambda s, g: {"BI": normal(g, s.keys)},
        score_mod=twice,  # type: ignore[arg-type]
        learnable=("BI",),
        rejected="several reads of one tensor that requires a gradient",
    ),
    Case(
        "flipped",
        LEARN,
        score=f"{S} + BI[n,m]",
        inputs="BI[n,m]",
        make=lambda s, g: {"BI": normal(g, s.keys, s.queries)},
        score_mod=lambda BI: lambda s, b, h, m, n: s + BI[n, m],
        learnable=("BI",),
    ),
    Case(
        "flipped, of each head",
        LEARN,
        score=f"{S} + BI[h,n,m]",
        inputs="BI[h,n,m]",
        make=lambda s, g: {"BI": normal(g, s.heads, s.keys, s.queries)},
        score_mod=lambda BI: lambda s, b, h, m, n: s + BI[h, n, m],
        learnable=("BI",),
    ),
    Case(
        "gate of each head",
        LEARN,
        score=f"{S} * sigmoid(GA[h])",
        inputs="GA[h]",
        make=lambda s, g: {"GA": normal(g, s.heads)},
        score_mod=lambda GA: lambda s, b, h, m, n: s * torch.sigmoid(GA[h]),
        learnable=("GA",),
    ),
    Case(
        "added for each head",
        LEARN,
        score=f"{S} + BI[h]",
        inputs="BI[h]",
        make=lambda s, g: {"BI": normal(g, s.heads)},
        score_mod=lambda BI: lambda s, b, h, m, n: s + BI[h],
        learnable=("BI",),
    ),
    Case(
        "two tensors",
        LEARN,
        score=f"{S} + BQ[m] + BK[n]",
        inputs="BQ[m], BK[n]",
        make=lambda s, g: {"BQ": normal(g, s.queries), "BK": normal(g, s.keys)},
        score_mod=lambda BQ, BK: lambda s, b, h, m, n: s + BQ[m] + BK[n],
        learnable=("BQ", "BK"),
    ),
    Case(
        "a number",
        LEARN,
        score=f"{S} * c",
        parameters="c",
        make=lambda s, g: {"c": torch.tensor(1.5, dtype=torch.float64)},
        score_mod=lambda c: lambda s, b, h, m, n: s * c,
        learnable=("c",),
    ),
)
