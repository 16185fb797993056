"""Level 4 of operators.md as plain PyTorch: several states, nested states, other ranks under the softmax.

As in ``programs``: the arguments of the text of the same name, computed in the element type of the tensors, from the formulas alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tests.zoo.programs import per_query_head, scores, softmax_block, up_to_query
from tests.zoo.programs3 import map_of, probabilities, weighted


def diff(Q1: Tensor, Q2: Tensor, K1: Tensor, K2: Tensor, V: Tensor, LAM: Tensor, causal: bool = False) -> Tensor:
    (P1, _), (P2, _) = map_of(Q1, K1, causal), map_of(Q2, K2, causal)
    return weighted(P1, V) - LAM[:, None, None] * weighted(P2, V)


def diff_norm(
    Q1: Tensor, Q2: Tensor, K1: Tensor, K2: Tensor, V: Tensor, LAM: Tensor, FIRST: Tensor, causal: bool = False
) -> Tensor:
    O = diff(Q1, Q2, K1, K2, V, LAM, causal)
    return O / torch.sqrt((O**2).mean(-1, keepdim=True) + 1e-5) * (1 - FIRST)[:, None, None]


def agent(Q: Tensor, K: Tensor, V: Tensor, AG: Tensor, B1: Tensor, B2: Tensor) -> Tensor:
    VA, _ = softmax_block(scores(AG, K) + B1, V, up_to_query(AG, K, False))
    O, _ = softmax_block(scores(Q, AG) + B2, VA, up_to_query(Q, AG, False))
    return O


def union(
    Q: Tensor, K1: Tensor, V1: Tensor, K2: Tensor, V2: Tensor, AL: Tensor, B2: Tensor, causal: bool = False
) -> tuple[Tensor, Tensor]:
    S = torch.cat([scores(Q, K1), scores(Q, K2) + B2[:, None]], -1)
    first = up_to_query(Q, K1, causal).expand(Q.shape[0], -1, -1)
    allow = torch.cat([first, AL[:, None].expand(-1, Q.shape[2], -1)], -1)
    V2 = V2.masked_fill(~AL[:, None, :, None], 0)
    P, L = probabilities(S, allow[:, None])
    return weighted(P, torch.cat([V1, V2], 2)), L


def gated_sum(
    Q: Tensor, K1: Tensor, V1: Tensor, K2: Tensor, V2: Tensor, G1: Tensor, G2: Tensor, causal: bool = False
) -> Tensor:
    O1, _ = softmax_block(scores(Q, K1), V1, up_to_query(Q, K1, causal))
    O2, _ = softmax_block(scores(Q, K2), V2, up_to_query(Q, K2, False))
    return G1[..., None] * O1 + G2[..., None] * O2


def multi_value(Q: Tensor, K: Tensor, V1: Tensor, V2: Tensor, causal: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    P, _ = map_of(Q, K, causal)
    return weighted(P, V1), weighted(P, V2), weighted(P, (V1 + V2) / 2)


def landmark(Q: Tensor, K: Tensor, V: Tensor, block: int = 16) -> Tensor:
    """By tokens: each gets the product of its block's weight in the row and its own weight in the block."""
    N = K.shape[2]
    m, n = torch.arange(N)[:, None], torch.arange(N)[None]
    S, plain = scores(Q, K), n % block < block - 1
    own = plain & (n // block == m // block) & (n <= m)
    past = ~plain & (n // block < m // block)
    outer, _ = probabilities(S, own | past)
    weight = torch.where(own, outer, 0)
    for c in range(N // block):
        inner, _ = probabilities(S, plain & (n // block == c))
        weight = weight + torch.where(n // block == c, inner, 0) * outer[..., c * block + block - 1, None] * (
            m // block > c
        )
    # Values of landmarks are never used.
    return weighted(weight, V.masked_fill(~plain[0][:, None], 0))


def combiner(Q: Tensor, K: Tensor, V: Tensor, KR: Tensor, QR: Tensor, block: int = 16) -> Tensor:
    N, C = K.shape[2], KR.shape[2]
    m, n, c = torch.arange(N)[:, None], torch.arange(N)[None], torch.arange(C)
    VB, _ = softmax_block(scores(QR, K), V, n // block == c[:, None])
    past = c[None] < m // block
    seen = past.any(0)[:, None]
    own = (n // block == m // block) & (n <= m)
    S = torch.cat([scores(Q, K), scores(Q, KR.masked_fill(~seen, 0))], -1)
    P, _ = probabilities(S, torch.cat([own, past], -1))
    values = torch.cat([per_query_head(V, Q.shape[1]), VB.masked_fill(~seen, 0)], 2)
    return P @ values


def channel(Q: Tensor, K: Tensor, V: Tensor) -> Tensor:
    A = torch.softmax(torch.einsum("bnur,bnus->burs", Q, K) * Q.shape[-1] ** -0.5, -1)
    return torch.einsum("burs,bnus->bnur", A, V)


def xca(Q: Tensor, K: Tensor, V: Tensor, TAU: Tensor, eps: float = 1e-6) -> Tensor:
    Q, K = (X / torch.linalg.vector_norm(X, dim=1, keepdim=True).clamp(min=eps) for X in (Q, K))
    A = torch.softmax(TAU[:, None, None] * torch.einsum("bnur,bnus->burs", Q, K), -1)
    return torch.einsum("burs,bnus->bnur", A, V)


def tensor3(Q: Tensor, K1: Tensor, K2: Tensor, V1: Tensor, V2: Tensor) -> tuple[Tensor, Tensor]:
    S = torch.einsum("bhme,bhje,bhke->bhmjk", Q, K1, K2) * Q.shape[-1] ** -0.5
    P, L = probabilities(S, torch.ones_like(S, dtype=torch.bool), axes=2)
    return torch.einsum("bhmjk,bhjf,bhkf->bhmf", P, V1, V2), L


def slot(SL: Tensor, K: Tensor, V: Tensor, eps: float = 1e-8) -> Tensor:
    A = torch.softmax(K @ SL.mT * SL.shape[-1] ** -0.5, -1) + eps
    return torch.einsum("bnc,bnf->bcf", A / A.sum(1, keepdim=True), V)


def slot_dispatch(SL: Tensor, K: Tensor, X: Tensor) -> Tensor:
    return torch.softmax(K @ SL.mT * SL.shape[-1] ** -0.5, -1) @ X
