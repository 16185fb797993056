"""Level 2 of operators.md once more, as plain PyTorch: masks written out, everything dense.

Each program computes in the element type of its tensors and returns ``(O, LSE)``. It takes the arguments of the text of the same name in
examples/ and is written from the formulas alone: it imports nothing of the compiler.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tests.zoo.programs import Result, key_positions, per_query_head, query_positions, scores, softmax_block


def strided_head(
    Q: Tensor, K: Tensor, V: Tensor, OFF: Tensor, block: int = 64, local: int = 2, stride: int = 4
) -> Result:
    m, n = query_positions(Q, K), key_positions(K)
    i, j = m // block, n // block
    own = (j + OFF[:, None, None]) % stride == 0
    return softmax_block(scores(Q, K), V, (n <= m) & ((i - j < local) | own))


def block_strided(Q: Tensor, K: Tensor, V: Tensor, block: int = 128, columns: int = 8) -> Result:
    m, n = query_positions(Q, K), key_positions(K)
    return softmax_block(scores(Q, K), V, (n <= m) & ((m // block == n // block) | (n % block >= block - columns)))


def strided_columns(Q: Tensor, K: Tensor, V: Tensor, block: int = 128) -> Result:
    distance = query_positions(Q, K) - key_positions(K)
    return softmax_block(scores(Q, K), V, (distance >= 0) & ((distance < block) | (distance % block == 0)))


def pow2(Q: Tensor, K: Tensor, V: Tensor, block: int = 64, local: int = 2) -> Result:
    m, n = query_positions(Q, K), key_positions(K)
    d = m // block - n // block
    powers = torch.tensor([2**i for i in range(40)], device=Q.device)
    return softmax_block(scores(Q, K), V, (n <= m) & ((d < local) | torch.isin(d, powers)))


def block_list(
    Q: Tensor, K: Tensor, V: Tensor, BL: Tensor, rows: int = 64, columns: int = 64, causal: bool = False
) -> Result:
    m, n = query_positions(Q, K), key_positions(K)
    M = Q.shape[2]
    listed = BL[..., torch.arange(M, device=Q.device) // rows, :]
    allow = (listed[..., None, :] == (n[0] // columns)[:, None]).any(-1)
    return softmax_block(scores(Q, K), V, allow & (n <= m) if causal else allow)


def shared_block_list(
    Q: Tensor, K: Tensor, V: Tensor, BL: Tensor, rows: int = 64, columns: int = 64, causal: bool = False
) -> Result:
    return block_list(Q, K, V, BL[None, None], rows, columns, causal)


def radial(Q: Tensor, K: Tensor, V: Tensor, tokens: int = 256) -> Result:
    m, n = torch.arange(Q.shape[2])[:, None], torch.arange(K.shape[2])[None]
    D, p = (m // tokens - n // tokens).abs(), (m % tokens - n % tokens).abs()
    R = torch.ones_like(D)
    for i in range(1, 40):
        R = torch.where(D >= 2**i, 2**i, R)
    near = (p + 1) * R <= tokens
    same = (p == 0) & (D % torch.ceil(R / tokens).long() == 0)
    return softmax_block(scores(Q, K), V, (n // tokens == 0) | near | same)


def disc(Q: Tensor, K: Tensor, V: Tensor, text: int, width: int, radius: int = 8) -> Result:
    m, n = torch.arange(Q.shape[2])[:, None], torch.arange(K.shape[2])[None]
    (y, x), (y2, x2) = (((p - text) // width, (p - text) % width) for p in (m, n))
    return softmax_block(scores(Q, K), V, (m < text) | (n < text) | ((y - y2) ** 2 + (x - x2) ** 2 < radius**2))


def tree(Q: Tensor, K: Tensor, V: Tensor, AN: Tensor) -> Result:
    prefix = torch.ones(Q.shape[2], K.shape[2] - Q.shape[2], dtype=torch.bool)
    return softmax_block(scores(Q, K), V, torch.cat([prefix, AN], dim=1))


# Grids -------------------------------------------------------------------------------------------------------------------


def on_grid(Q: Tensor, K: Tensor, V: Tensor, allow: Tensor, more: Tensor | None = None) -> Result:
    """Attention of Q[b,h,*q,e] over K[b,g,*k,e] where ``allow`` [*q,*k] holds; ``more`` [b,h,*q,*k] is added to the scores."""
    queries, keys = Q.shape[2:-1], K.shape[2:-1]
    flat = [T.flatten(2, -2) for T in (Q, K, V)]
    S = scores(flat[0], flat[1])
    if more is not None:
        S = S + more.reshape(S.shape)
    O, L = softmax_block(S, flat[2], allow.reshape(math.prod(queries), math.prod(keys)))
    return O.unflatten(2, queries), L.unflatten(2, queries)


def neighbours(extent: int, w: int, d: int, t: int, causal: bool) -> Tensor:
    """allow [q,k] along one axis, query by query."""
    allow = torch.zeros(extent, extent, dtype=torch.bool)
    for q in range(extent):
        r, u = q % d, q // d
        members = math.ceil((extent - r) / d)
        if causal:
            lead = min(u // t * t + t - 1, members - 1)
            chosen = range(max(lead - w + 1, 0), min(lead, u) + 1)
        else:
            lead = min(u // t * t + t // 2, members - 1)
            start = min(max(lead - w // 2, 0), members - w)
            chosen = range(start, start + w)
        allow[q, [k * d + r for k in chosen]] = True
    return allow


def outer(*axes: Tensor) -> Tensor:
    """allow [q1,q2,...,k1,k2,...] of conditions [q,k] along every axis."""
    n = len(axes)
    result = torch.ones((), dtype=torch.bool)
    for i, axis in enumerate(axes):
        shape = [1] * (2 * n)
        shape[i], shape[n + i] = axis.shape
        result = result & axis.reshape(shape)
    return result


def natten_1d(Q: Tensor, K: Tensor, V: Tensor, w: int = 7, d: int = 1, t: int = 1, causal: bool = False) -> Result:
    return on_grid(Q, K, V, neighbours(Q.shape[2], w, d, t, causal))


def natten(
    Q: Tensor, K: Tensor, V: Tensor,
    wy: int = 7, wx: int = 7, dy: int = 1, dx: int = 1, ty: int = 1, tx: int = 1,
    causal_y: bool = False, causal_x: bool = False,
) -> Result:  # fmt: skip
    Y, X = Q.shape[2:4]
    return on_grid(Q, K, V, outer(neighbours(Y, wy, dy, ty, causal_y), neighbours(X, wx, dx, tx, causal_x)))


def natten_3d(
    Q: Tensor, K: Tensor, V: Tensor,
    wz: int = 3, wy: int = 5, wx: int = 5, dz: int = 1, dy: int = 1, dx: int = 1,
    tz: int = 1, ty: int = 1, tx: int = 1,
    causal_z: bool = False, causal_y: bool = False, causal_x: bool = False,
) -> Result:  # fmt: skip
    Z, Y, X = Q.shape[2:5]
    axes = neighbours(Z, wz, dz, tz, causal_z), neighbours(Y, wy, dy, ty, causal_y), neighbours(X, wx, dx, tx, causal_x)
    return on_grid(Q, K, V, outer(*axes))


def offsets(extent: int) -> tuple[Tensor, Tensor]:
    """Query and key coordinates of an axis, as a column and a row."""
    return torch.arange(extent)[:, None], torch.arange(extent)[None]


def disc_grid(Q: Tensor, K: Tensor, V: Tensor, radius: int = 8) -> Result:
    (y, y2), (x, x2) = (offsets(extent) for extent in Q.shape[2:4])
    squares = ((y - y2) ** 2)[:, None, :, None] + ((x - x2) ** 2)[None, :, None, :]
    return on_grid(Q, K, V, squares < radius**2)


def swin(Q: Tensor, K: Tensor, V: Tensor, TB: Tensor, window: int = 7, shift: int = 0) -> Result:
    same, distance = [], []
    for extent in Q.shape[2:4]:
        q, k = offsets(extent)
        same.append((q - shift) // window == (k - shift) // window)
        distance.append((q - k + window - 1).clamp(0, 2 * window - 2))
    bias = TB[:, distance[0][:, None, :, None], distance[1][None, :, None, :]]
    return on_grid(Q, K, V, outer(*same), bias.expand(Q.shape[0], *bias.shape))


def halo(Q: Tensor, K: Tensor, V: Tensor, RY: Tensor, RX: Tensor, block: int = 8, halo: int = 3) -> Result:
    near, offset = [], []
    for extent in Q.shape[2:4]:
        q, k = offsets(extent)
        near.append((q // block * block - halo <= k) & (k < q // block * block + block + halo))
        offset.append((k - q + block + halo - 1).clamp(0, 2 * (block + halo) - 2))
    scale = Q.shape[-1] ** -0.5
    rows = torch.einsum("bhyxe,hyze->bhyxz", Q, RY[:, offset[0]]) * scale
    columns = torch.einsum("bhyxe,hxze->bhyxz", Q, RX[:, offset[1]]) * scale
    return on_grid(Q, K, V, outer(*near), rows[..., :, None] + columns[..., None, :])


def axial(Q: Tensor, K: Tensor, V: Tensor, causal: bool = False) -> Result:
    """Along the last axis of the grid, the others as batch; keys repeated for the heads that share them."""
    H = Q.shape[1]
    q, k = offsets(Q.shape[-2])
    batch = [per_query_head(T, H) if T is not Q else T for T in (Q, K, V)]
    S = batch[0] @ batch[1].mT * Q.shape[-1] ** -0.5
    S = S.masked_fill(k > q, -math.inf) if causal else S
    return S.softmax(-1) @ batch[2], S.logsumexp(-1)


def axial_columns(Q: Tensor, K: Tensor, V: Tensor, causal: bool = False) -> Result:
    O, L = axial(*(T.transpose(2, 3) for T in (Q, K, V)), causal)
    return O.transpose(2, 3), L.transpose(2, 3)


def temporal(Q: Tensor, K: Tensor, V: Tensor, causal: bool = False) -> Result:
    O, L = axial(*(T.movedim(2, -2) for T in (Q, K, V)), causal)
    return O.movedim(-2, 2), L.movedim(-1, 2)


def pooled_kv(Q: Tensor, K: Tensor, V: Tensor, r: int = 2) -> Result:
    pooled = [torch.stack([cell.mean(2) for cell in T.split(r, 2)], 2) for T in (K, V)]
    S = scores(Q, pooled[0])
    return softmax_block(S, pooled[1], torch.ones(S.shape[2:], dtype=torch.bool))


def pooled_grid(Q: Tensor, K: Tensor, V: Tensor, WP: Tensor) -> Result:
    I, J = WP.shape

    def pool(T: Tensor) -> Tensor:
        cells = []
        for rows in T.split(I, 2):
            for cell in rows.split(J, 3):
                W = WP[: cell.shape[2], : cell.shape[3], None]
                cells.append((W / W.sum() * cell).sum((2, 3)))
        return torch.stack(cells, 2)

    S = scores(Q, pool(K))
    return softmax_block(S, pool(V), torch.ones(S.shape[2:], dtype=torch.bool))
