"""Philox 4x32-10 (Salmon et al., SC 2011) on 64-bit integer tensors: ``uniform(seed, coordinates...)``.

Counter-based, so that the backward pass draws the numbers of the forward pass without storing them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from einsum_compiler.ir.errors import SpecError

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
WORD = 0xFFFFFFFF
ROUNDS = 10
COORDINATES = 4  # words of the counter


def philox(counter: tuple[Tensor, ...], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Four random words of 32 bits, each in an int64 tensor, from a counter and a key of such words."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        # The product of two words fills 64 bits; the arithmetic shift is masked back to the upper word.
        p0, p1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        high0, low0 = (p0 >> 32) & WORD, p0 & WORD
        high1, low1 = (p1 >> 32) & WORD, p1 & WORD
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + WEYL[0]) & WORD, (k1 + WEYL[1]) & WORD
    return c0, c1, c2, c3


def uniform(seed: Tensor, *coordinates: Tensor) -> Tensor:
    """Numbers in [0, 1): the upper 24 bits of the first word times 2**-24, equal on all back ends.

    ``seed`` has 64 bits; ``coordinates`` (at most four, integers) are the words of the counter.
    The result is float64; it is exact in float32.
    """
    if len(coordinates) > COORDINATES:
        raise SpecError(f"uniform takes at most {COORDINATES} coordinates after the seed, not {len(coordinates)}")
    seed = seed.to(torch.int64)
    words = [c.to(torch.int64) & WORD for c in coordinates]
    words += [torch.zeros_like(seed)] * (COORDINATES - len(words))
    word = philox(tuple(words), (seed & WORD, (seed >> 32) & WORD))[0]
    return (word >> 8).to(torch.float64) * 2.0**-24
