"""A case: one mask or score function of FlexAttention, in the language and as the callable FlexAttention takes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.attention.flex_attention as flex_module
from torch import Tensor
from torch.nn.attention.flex_attention import AuxRequest, create_block_mask, flex_attention

Captures = Mapping[str, Any]
Modifier = Callable[..., Any]  # of FlexAttention: (score,) batch, head, query, key
Factory = Callable[..., Modifier]  # of the captures, by keyword

HEAD = "cascade flex(Q[b,h,m,e], K[b,h,n,e], V[b,h,n,f]"
OUTPUT = "  A[b,h,m,n] = softmax[n](S[b,h,m,n])\n  O[b,h,m,f] = A[b,h,m,n] * V[b,h,n,f]"
LSE = "\n  L[b,h,m] = logsumexp[n](S[b,h,m,n])"


@dataclass(frozen=True)
class Sizes:
    """Extents of a call: ``queries`` and ``keys`` may differ."""

    batch: int
    heads: int
    queries: int
    keys: int

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of an image of that many tokens, both powers of two if their number is."""
        height = 1 << (self.keys.bit_length() - 1) // 2
        return height, self.keys // height


Make = Callable[[Sizes, torch.Generator], dict[str, Any]]


def nothing(sizes: Sizes, generator: torch.Generator) -> dict[str, Any]:
    return {}


def square(length: int) -> tuple[int, int]:
    return length, length


@dataclass(frozen=True)
class Case:
    """One mask (``where``), score function (``score``, of ``S0[b,h,m,n]``) or both.

    ``inputs``, ``parameters`` and ``definitions`` are the rest of our text; ``before`` are equations that come first. ``make`` draws the captured
    tensors (floats in f64) and numbers, by the names of our text; ``mask_mod`` and ``score_mod`` take them by keyword and give what FlexAttention is
    called with. ``lengths`` gives the queries and keys of a case of a certain length. ``learnable``: the captures that FlexAttention's tests train.
    ``rejected``: why compiled FlexAttention does not run the case, if it does not.
    """

    name: str
    source: str
    where: str = ""
    score: str = ""
    inputs: str = ""
    parameters: str = ""
    definitions: str = ""
    before: str = ""
    make: Make = nothing
    mask_mod: Factory | None = None
    score_mod: Factory | None = None
    lengths: Callable[[int], tuple[int, int]] = square
    learnable: tuple[str, ...] = ()
    rejected: str = ""

    def __str__(self) -> str:
        return self.name

    @property
    def text(self) -> str:
        """The cascade, with the log-sum-exp as its second output."""
        return self.program(lse=True)

    def program(self, lse: bool) -> str:
        declared = HEAD + (f", {self.inputs}" if self.inputs else "")
        more = f", {self.parameters}" if self.parameters else ""
        outputs = "O[b,h,m,f]" + (", L[b,h,m]" if lse else "")
        product = "Q[b,h,m,e] * K[b,h,n,e] * scale"
        lines = [f"  {self.before}"] if self.before else []
        if self.score:
            lines.append(f"  S0[b,h,m,n] = {product}")
        lines.append(f"  S[b,h,m,n] = {self.score or product}" + (f" where {self.where}" if self.where else ""))
        lines.append(OUTPUT + (LSE if lse else ""))
        body = "\n".join(lines)
        return f"{self.definitions}\n{declared}; scale = 1/sqrt(E){more}) -> {outputs} {{\n{body}\n}}\n".lstrip()

    @property
    def lines(self) -> int:
        """How many lines of our text are the variant's own: everything but the declaration, the product and the softmax."""
        parts = (self.definitions, self.before, self.score, self.where)
        return sum(len([line for line in part.splitlines() if line.strip()]) for part in parts)

    def sizes(self, length: int, batch: int = 2, heads: int = 2) -> Sizes:
        queries, keys = self.lengths(length)
        return Sizes(batch, heads, queries, keys)

    def captures(self, sizes: Sizes, dtype: torch.dtype = torch.float64, seed: int = 0) -> dict[str, Any]:
        """The captured tensors and numbers; floating tensors in ``dtype``."""
        made = self.make(sizes, torch.Generator().manual_seed(seed))
        return {n: v.to(dtype) if isinstance(v, Tensor) and v.is_floating_point() else v for n, v in made.items()}


def operands(
    sizes: Sizes, features: int = 16, dtype: torch.dtype = torch.float64, seed: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """Normal Q, K and V of shapes [b,h,m,e], [b,h,n,e] and [b,h,n,e]."""
    generator = torch.Generator().manual_seed(seed)

    def normal(length: int) -> Tensor:
        shape = sizes.batch, sizes.heads, length, features
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    return normal(sizes.queries), normal(sizes.keys), normal(sizes.keys)


def modifiers(case: Case, captures: Captures) -> tuple[Modifier | None, Modifier | None]:
    """The ``score_mod`` and the ``mask_mod`` of a case."""
    score = case.score_mod(**captures) if case.score_mod else None
    return score, case.mask_mod(**captures) if case.mask_mod else None


def uncompiled(case: Case, captures: Captures, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """FlexAttention as PyTorch runs it without a compiler: the output and the log-sum-exp."""
    score, mask = modifiers(case, captures)
    block = None
    if mask is not None:
        block = create_block_mask(mask, q.shape[0], q.shape[1], q.shape[2], k.shape[2], device="cpu")
    with warnings.catch_warnings(), patch.object(flex_module, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True):
        warnings.simplefilter(
            "ignore"
        )  # it says that it is slow; the flag leaves out a tracer that takes longer than the values
        out, extra = flex_attention(q, k, v, score_mod=score, block_mask=block, return_aux=AuxRequest(lse=True))
    return out, extra.lse
