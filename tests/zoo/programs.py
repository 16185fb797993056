"""Level 1 of operators.md once more, as plain PyTorch: the independent side of every comparison.

Each program computes in the element type of its tensors and returns ``(O, LSE)``. It takes the arguments of the text
of the same name in examples/ and is written from the formulas alone: it imports nothing of the compiler.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

Result = tuple[Tensor, Tensor]


def per_query_head(X: Tensor, H: int) -> Tensor:
    """Keys or values [b,g,...] repeated for the query heads [b,h,...] that share them."""
    return X.repeat_interleave(H // X.shape[1], dim=1)


def scores(Q: Tensor, K: Tensor, scale: float | None = None) -> Tensor:
    """S0[b,h,m,n] = scale * Q . K; scale is E^-1/2 unless given."""
    scale = Q.shape[-1] ** -0.5 if scale is None else scale
    return Q @ per_query_head(K, Q.shape[1]).mT * scale


def query_positions(Q: Tensor, K: Tensor) -> Tensor:
    """m' = m + (N - M) as a column."""
    M, N = Q.shape[2], K.shape[2]
    return torch.arange(M, device=Q.device)[:, None] + (N - M)


def key_positions(K: Tensor) -> Tensor:
    """n as a row."""
    return torch.arange(K.shape[2], device=K.device)[None, :]


def up_to_query(Q: Tensor, K: Tensor, causal: bool = True) -> Tensor:
    """n <= m', or everything."""
    visible = key_positions(K) <= query_positions(Q, K)
    return visible if causal else torch.ones_like(visible)


def softmax_block(S: Tensor, V: Tensor, allow: Tensor, sink: Tensor | None = None) -> Result:
    """SM(S, V | allow) and its log-sum-exp; ``sink`` [h] is one more score, without a value.

    Rows without a visible key give 0 and -inf. What stands behind a key that no query sees does not matter.
    """
    allow = allow.expand_as(S)
    S = S.masked_fill(~allow, -math.inf)
    MX = S.amax(-1) if S.shape[-1] else S.new_full(S.shape[:-1], -math.inf)
    if sink is not None:
        MX = torch.maximum(MX, sink[:, None])
    base = MX.masked_fill(MX == -math.inf, 0)
    W = torch.exp(S - base[..., None]).masked_fill(~allow, 0)
    L = W.sum(-1)
    if sink is not None:
        L = L + torch.exp(sink[:, None] - base)
    P = W / torch.where(L == 0, 1, L)[..., None]
    V = per_query_head(V, S.shape[1]).masked_fill(~allow.any(-2)[..., None], 0)
    # The logarithm of 0 is written out: its derivative would spread NaN.
    LSE = torch.where(L == 0, -math.inf, base + torch.log(torch.where(L == 0, 1, L)))
    return P @ V, LSE


def softmax(Q: Tensor, K: Tensor, V: Tensor) -> Result:
    return softmax_block(scores(Q, K), V, up_to_query(Q, K, False))


def causal(Q: Tensor, K: Tensor, V: Tensor) -> Result:
    return softmax_block(scores(Q, K), V, up_to_query(Q, K))


def gqa(Q: Tensor, K: Tensor, V: Tensor, causal: bool = False) -> Result:
    return softmax_block(scores(Q, K), V, up_to_query(Q, K, causal))


def cross(Q: Tensor, K: Tensor, V: Tensor, NK: Tensor) -> Result:
    return softmax_block(scores(Q, K), V, key_positions(K) < NK[:, None, None, None])


def padding(Q: Tensor, K: Tensor, V: Tensor, KEEP: Tensor) -> Result:
    return softmax_block(scores(Q, K), V, KEEP[:, None, None, :])


def prefix_lm(Q: Tensor, K: Tensor, V: Tensor, PL: Tensor) -> Result:
    return softmax_block(scores(Q, K), V, up_to_query(Q, K) | (key_positions(K) < PL[:, None, None, None]))


def window(Q: Tensor, K: Tensor, V: Tensor, left: int, right: int = 0) -> Result:
    m, n = query_positions(Q, K), key_positions(K)
    return softmax_block(scores(Q, K), V, (m - left <= n) & (n <= m + right))


def dilated(Q: Tensor, K: Tensor, V: Tensor, left: int, right: int = 0, d: int = 2) -> Result:
    distance = query_positions(Q, K) - key_positions(K)
    return softmax_block(scores(Q, K), V, (distance % d == 0) & (-right * d <= distance) & (distance <= left * d))


def sink_window(Q: Tensor, K: Tensor, V: Tensor, SINK: Tensor, WIDTH: Tensor) -> Result:
    m, n = query_positions(Q, K), key_positions(K)
    recent = (n < SINK[:, None, None]) | (m - n < WIDTH[:, None, None])
    return softmax_block(scores(Q, K), V, up_to_query(Q, K) & recent)


def segment(Q: Tensor, K: Tensor, V: Tensor, SQ: Tensor, SK: Tensor, causal: bool = False) -> Result:
    same = (SQ[:, None, :, None] == SK[:, None, None, :]) & (SQ[:, None, :, None] >= 0)
    return softmax_block(scores(Q, K), V, same & up_to_query(Q, K, causal))


def seg_table(Q: Tensor, K: Tensor, V: Tensor, SQ: Tensor, SK: Tensor, AL: Tensor) -> Result:
    known = (SQ[:, :, None] >= 0) & (SK[:, None, :] >= 0)
    allow = known & AL[SQ.long().clamp(0)[:, :, None], SK.long().clamp(0)[:, None, :]]
    return softmax_block(scores(Q, K), V, allow[:, None])


def chunk_causal(Q: Tensor, K: Tensor, V: Tensor, chunk: int) -> Result:
    return softmax_block(scores(Q, K), V, key_positions(K) // chunk <= query_positions(Q, K) // chunk)


def chunk_ids(Q: Tensor, K: Tensor, V: Tensor, CH: Tensor) -> Result:
    m = query_positions(Q, K)
    if not CH.numel():
        return softmax_block(scores(Q, K), V, m >= key_positions(K))
    return softmax_block(scores(Q, K), V, (m >= 0) & (CH[None, :] <= CH[m.clamp(0)]))


def alibi(Q: Tensor, K: Tensor, V: Tensor, AS: Tensor, causal: bool = False) -> Result:
    distance = (query_positions(Q, K) - key_positions(K)).abs()
    return softmax_block(scores(Q, K) - AS[:, None, None] * distance, V, up_to_query(Q, K, causal))


def alibi_fixed(Q: Tensor, K: Tensor, V: Tensor, causal: bool = False) -> Result:
    H = Q.shape[1]
    slopes = torch.tensor([2.0 ** (-8.0 * (h + 1) / H) for h in range(H)], dtype=Q.dtype, device=Q.device)
    return alibi(Q, K, V, slopes, causal)


def t5_bucket(d: int, buckets: int, far: int, two_sided: bool) -> int:
    """The bucket of offset d = n - m', in exact arithmetic where the logarithms are whole."""
    if two_sided:
        buckets //= 2
    base = buckets if two_sided and d > 0 else 0
    p = abs(d) if two_sided else max(-d, 0)
    half = buckets // 2
    if p < half:
        return base + p
    steps, width = 0, buckets - half
    # floor(log(p / half) / log(far / half) * width) is the largest s with (p / half)^width >= (far / half)^s.
    while steps < width and p**width * half ** (steps + 1) >= far ** (steps + 1) * half**width:
        steps += 1
    return base + min(buckets - 1, half + steps)


def t5_bias(Q: Tensor, K: Tensor, V: Tensor, TB: Tensor, causal: bool = False, far: int = 128) -> Result:
    M, N = Q.shape[2], K.shape[2]
    table = [[t5_bucket(n - m - N + M, TB.shape[1], far, not causal) for n in range(N)] for m in range(M)]
    bias = TB[:, torch.tensor(table, dtype=torch.long, device=TB.device).reshape(M, N)]
    return softmax_block(scores(Q, K, scale=1.0) + bias, V, up_to_query(Q, K, causal))


def bias(Q: Tensor, K: Tensor, V: Tensor, BI: Tensor, causal: bool = False) -> Result:
    return softmax_block(scores(Q, K) + BI, V, up_to_query(Q, K, causal))


def key_bias(Q: Tensor, K: Tensor, V: Tensor, BI: Tensor, causal: bool = False) -> Result:
    return softmax_block(scores(Q, K) + BI[:, None, :], V, up_to_query(Q, K, causal))


def weighted_keys(Q: Tensor, K: Tensor, V: Tensor, WN: Tensor, causal: bool = False) -> Result:
    present = (WN > 0)[:, None, None, :]
    logs = torch.log(torch.where(WN > 0, WN, 1))[:, None, None, :]
    return softmax_block(scores(Q, K) + logs, V, present & up_to_query(Q, K, causal))


def temperature(Q: Tensor, K: Tensor, V: Tensor, TQ: Tensor, TV: Tensor, causal: bool = False) -> Result:
    return softmax_block(TQ[..., None] * scores(Q, K), TV[..., None] * V, up_to_query(Q, K, causal))


def soft_cap(Q: Tensor, K: Tensor, V: Tensor, c: float = 50.0, causal: bool = False) -> Result:
    return softmax_block(c * torch.tanh(scores(Q, K) / c), V, up_to_query(Q, K, causal))


def out_gate(Q: Tensor, K: Tensor, V: Tensor, GT: Tensor, causal: bool = False) -> Result:
    O, LSE = softmax_block(scores(Q, K), V, up_to_query(Q, K, causal))
    return torch.sigmoid(GT) * O, LSE


def out_scale(Q: Tensor, K: Tensor, V: Tensor, GS: Tensor, causal: bool = False) -> Result:
    O, LSE = softmax_block(scores(Q, K), V, up_to_query(Q, K, causal))
    return GS[:, :, None, None] * O, LSE


def sink_logit(Q: Tensor, K: Tensor, V: Tensor, SG: Tensor, causal: bool = False) -> Result:
    return softmax_block(scores(Q, K), V, up_to_query(Q, K, causal), sink=SG)
