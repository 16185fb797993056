"""Level 3 of operators.md as plain PyTorch: changed scores, normalisers, and what is done with the probabilities.

As in ``programs``: the arguments of the text of the same name, computed in the element type of the tensors, from the formulas alone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

from tests.zoo.programs import per_query_head, scores, softmax_block, up_to_query


def probabilities(S: Tensor, allow: Tensor, axes: int = 1) -> tuple[Tensor, Tensor]:
    """P and its log-sum-exp over the last ``axes`` axes; 0 and -inf where nothing is visible."""
    dims = tuple(range(-axes, 0))
    S = S.masked_fill(~allow, -math.inf)
    if not all(S.shape[d] for d in dims):
        return S, S.new_full(S.shape[:-axes], -math.inf)
    MX = S.amax(dims, keepdim=True)
    base = MX.masked_fill(MX == -math.inf, 0)
    W = torch.exp(S - base)
    L = W.sum(dims, keepdim=True)
    P = W / torch.where(L == 0, 1, L)
    return P, (base + torch.log(L)).reshape(S.shape[:-axes])


def map_of(Q: Tensor, K: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    """P[b,h,m,n] of plain attention and its log-sum-exp."""
    return probabilities(scores(Q, K), up_to_query(Q, K, causal))


def weighted(A: Tensor, V: Tensor) -> Tensor:
    """A V for value heads shared by query heads."""
    return A @ per_query_head(V, A.shape[1])


def by_offset(table: Tensor, length: int) -> Tensor:
    """table[..., n - m + N - 1, ...] as [.., m, n, ..]: the axis of offsets is the second one."""
    at = torch.arange(length)
    return table[:, at[None, :] - at[:, None] + length - 1]


def music_rel(Q: Tensor, K: Tensor, V: Tensor, ER: Tensor, causal: bool = False) -> tuple[Tensor, Tensor]:
    relative = torch.einsum("bhme,hmne->bhmn", Q, by_offset(ER, K.shape[2]))
    return softmax_block(scores(Q, K) + relative * Q.shape[-1] ** -0.5, V, up_to_query(Q, K, causal))


def cosine(
    Q: Tensor, K: Tensor, V: Tensor, TAU: Tensor, causal: bool = False, eps: float = 1e-6
) -> tuple[Tensor, Tensor]:
    Q, K = (X / X.norm(dim=-1, keepdim=True).clamp(min=eps) for X in (Q, K))
    return softmax_block(TAU[:, None, None] * scores(Q, K, scale=1.0), V, up_to_query(Q, K, causal))


def sigmoid_attention(Q: Tensor, K: Tensor, V: Tensor, causal: bool = False, bias: float | None = None) -> Tensor:
    bias = (-math.log(K.shape[2]) if K.shape[2] else 0.0) if bias is None else bias
    return weighted(torch.sigmoid(scores(Q, K) + bias) * up_to_query(Q, K, causal), V)


def relu_n(Q: Tensor, K: Tensor, V: Tensor, p: int = 2, visible: bool = False, causal: bool = False) -> Tensor:
    allow = up_to_query(Q, K, causal)
    count = allow.sum(-1, keepdim=True).clamp(min=1) if visible else K.shape[2]
    return weighted(scores(Q, K).clamp(min=0) ** p / count * allow, V)


def clipped(
    Q: Tensor, K: Tensor, V: Tensor, low: float = -0.03, high: float = 1.03, causal: bool = False
) -> tuple[Tensor, Tensor]:
    P, L = map_of(Q, K, causal)
    return weighted(((high - low) * P + low).clamp(0, 1), V), L


def urpe(Q: Tensor, K: Tensor, V: Tensor, CT: Tensor, causal: bool = False) -> tuple[Tensor, Tensor]:
    P, L = map_of(Q, K, causal)
    return weighted(P * by_offset(CT, K.shape[2]), V), L


def transnext(
    Q: Tensor, K: Tensor, V: Tensor, KP: Tensor, VP: Tensor, QE: Tensor, TAU: Tensor, LT: Tensor, LB: Tensor, BL: Tensor,
    BP: Tensor, W: int = 3
) -> Tensor:  # fmt: skip
    Y, X = Q.shape[2:4]
    QH, KH, KPH = (T / T.norm(dim=-1, keepdim=True) for T in (Q, K, KP))
    y = torch.arange(Y)[:, None, None] + torch.arange(W * W) // W - W // 2
    x = torch.arange(X)[None, :, None] + torch.arange(W * W) % W - W // 2
    inside = (y >= 0) & (y < Y) & (x >= 0) & (x < X)  # [y,x,o]
    at = (y.clamp(0, max(Y - 1, 0)), x.clamp(0, max(X - 1, 0)))
    count = (inside.sum(-1) + KP.shape[2]).to(Q.dtype)
    length = softplus(TAU)[:, None, None, None] * torch.log(count)[..., None]
    asking = QH + QE[:, None, None]
    local = torch.einsum("bhyxe,bhyxoe->bhyxo", asking, KH[:, :, *at]) * length + BL[:, None, None]
    pooled = torch.einsum("bhyxe,bhce->bhyxc", asking, KPH) * length + BP
    both = torch.cat([inside, torch.ones(Y, X, KP.shape[2], dtype=torch.bool)], -1)
    P, _ = probabilities(torch.cat([local, pooled], -1), both)
    P_local, P_pooled = P[..., : W * W], P[..., W * W :]
    added = torch.einsum("bhyxe,heo->bhyxo", QH, LT) + LB[:, None, None]
    A = (P_local + added) * inside
    return torch.einsum("bhyxo,bhyxof->bhyxf", A, V[:, :, *at]) + torch.einsum("bhyxc,bhcf->bhyxf", P_pooled, VP)


def talking_heads(Q: Tensor, K: Tensor, V: Tensor, W1: Tensor, W2: Tensor, causal: bool = False) -> Tensor:
    SX = torch.einsum("hk,bhmn->bkmn", W1, scores(Q, K))
    P, _ = probabilities(SX, up_to_query(Q, K, causal))
    return torch.einsum("kj,bkmn->bjmn", W2, P) @ V


def row_stats(Q: Tensor, K: Tensor, V: Tensor, causal: bool = False) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    S, allow = scores(Q, K), up_to_query(Q, K, causal)
    P, L = probabilities(S, allow)
    MX = S.masked_fill(~allow, -math.inf).amax(-1) if K.shape[2] else L
    entropy = -torch.special.xlogy(P, P).sum(-1)
    return weighted(P, V), MX, L, entropy


def block_max(Q: Tensor, K: Tensor, V: Tensor, block: int = 16, causal: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    P, _ = map_of(Q, K, causal)
    blocks = -(-P.shape[-1] // block)
    padded = torch.nn.functional.pad(P, (0, blocks * block - P.shape[-1])).unflatten(-1, (blocks, block))
    return weighted(P, V), padded.amax(-1), padded.sum(-1)


def map_out(Q: Tensor, K: Tensor, V: Tensor, causal: bool = False) -> tuple[Tensor, Tensor]:
    P, _ = map_of(Q, K, causal)
    return weighted(P, V), P


def region_mass(Q: Tensor, K: Tensor, V: Tensor, RG: Tensor, causal: bool = False) -> tuple[Tensor, Tensor]:
    P, _ = map_of(Q, K, causal)
    return weighted(P, V), P @ RG


def rev_attn(Q: Tensor, K: Tensor, VQ: Tensor, causal: bool = False) -> Tensor:
    P, _ = map_of(Q, K, causal)
    seeing = up_to_query(Q, K, causal).any(-1)[:, None]
    return P.mT @ VQ.masked_fill(~seeing, 0)


def col_sum(Q: Tensor, K: Tensor, first: int = 0, causal: bool = False) -> Tensor:
    P, _ = map_of(Q, K, causal)
    return P[:, :, first:].sum(2)
