"""Random float64 tensors and their comparison, for tests of the reference backend."""

from __future__ import annotations

import torch


def randn(*shape: int, seed: int = 0, grad: bool = False) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_(grad)


def close(found: object, expected: torch.Tensor, tolerance: float = 1e-12) -> None:
    assert isinstance(found, torch.Tensor)
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
