"""What a user of PyTorch would call on a GPU in place of a compiled cascade: SDPA by its backends, and FlexAttention where a mask or a score function says the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from einsum_compiler.ir.binding import Binding

Program = Callable[..., Tensor]  # of the tensors of a call, in the order Q, K, V

SDPA = {"attention": False, "causal": True, "grouped": False}
MASKS: Mapping[str, Callable[[Binding], Any]] = {
    "causal": lambda b: lambda _b, _h, m, n: n <= m,
    "window": lambda b: lambda _b, _h, m, n: (n <= m) & (m - n <= b.scalars["left"]),
    "prefix_lm": lambda b: lambda i, _h, m, n: (n <= m) | (n < b.tensors["PL"][i]),
    "segment": lambda b: lambda i, _h, m, n: (b.tensors["SQ"][i, m] == b.tensors["SK"][i, n]) & (n <= m),
    "chunk_causal": lambda b: lambda _b, _h, m, n: n // b.scalars["chunk"] <= m // b.scalars["chunk"],
    "alibi": lambda b: lambda _b, _h, m, n: n <= m,
    "soft_cap": lambda b: lambda _b, _h, m, n: n <= m,
}
SCORES: Mapping[str, Callable[[Binding], Any]] = {
    "alibi": lambda b: lambda s, _b, h, m, n: s - b.tensors["AS"][h] * (m - n),
    "soft_cap": lambda b: lambda s, _b, _h, _m, _n: b.scalars["c"] * torch.tanh(s / b.scalars["c"]),
    "bias": lambda b: lambda s, i, h, m, n: s + b.tensors["BI"][i, h, m, n],
    "key_bias": lambda b: lambda s, _b, h, _m, n: s + b.tensors["BI"][h, n],
}


def peers(name: str, binding: Binding) -> dict[str, Program]:
    """Programs by name that compute what the cascade ``name`` does with the arguments of a call."""
    found: dict[str, Program] = {}
    grouped = "K" in binding.tensors and binding.extents.get("g", binding.extents.get("h")) != binding.extents.get("h")
    if name in SDPA:
        for backend in ("CUDNN_ATTENTION", "FLASH_ATTENTION"):
            found[f"SDPA {backend.partition('_')[0].lower()}"] = _sdpa(backend, SDPA[name], grouped)
    if name in (*SDPA, *MASKS, *SCORES):
        found["FlexAttention"] = _flex(name, binding, grouped)
    return found


def _sdpa(backend: str, causal: bool, grouped: bool) -> Program:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with sdpa_kernel(getattr(SDPBackend, backend)):
            return functional.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=grouped)

    return run


def _flex(name: str, binding: Binding, grouped: bool) -> Program:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    mask = MASKS[name](binding) if name in MASKS else None
    score = SCORES[name](binding) if name in SCORES else None
    extents = binding.extents
    device = binding.tensors["Q"].device
    per_sequence = {"prefix_lm": extents["b"], "segment": extents["b"]}.get(name)
    blocks = (
        create_block_mask(mask, per_sequence, None, extents["m"], extents["n"], device=str(device)) if mask else None
    )
    compiled = torch.compile(flex_attention, dynamic=False)

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return compiled(q, k, v, score_mod=score, block_mask=blocks, enable_gqa=grouped)  # type: ignore[no-any-return]

    return run
