"""The error budget of a kernel: what every numeric test compares with (design.md, section 12).

A kernel may be twice as far from float64 as the plain program in its own element type, plus a rounding band. No
tolerance is set by hand: a hard input that hurts the plain program raises the allowance by as much.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

FACTOR = 2.0
BAND = 2.0  # roundings of a result of the largest size


@dataclass(frozen=True)
class Budget:
    """What the kernel is allowed, and the two terms it consists of."""

    plain: float
    band: float

    @property
    def allowed(self) -> float:
        return FACTOR * self.plain + self.band


def error_of(actual: Tensor, gold: Tensor) -> Tensor:
    """The error of every element in float64: 0 where both are the same infinity, infinite where only one is."""
    actual = actual.detach().to(torch.float64)
    both = (actual == gold) | (actual.isnan() & gold.isnan())
    difference = (actual - gold).abs()
    return torch.where(both, 0.0, torch.where(difference.isnan(), torch.inf, difference))


def budget(plain: Tensor, gold: Tensor) -> Budget:
    """The budget that the plain program's result in the kernel's type leaves, against its float64 run."""
    if not gold.numel():
        return Budget(0.0, 0.0)
    finite = gold[gold.isfinite()]
    largest = finite.abs().max().item() if finite.numel() else 0.0
    return Budget(error_of(plain, gold).max().item(), BAND * torch.finfo(plain.dtype).eps * largest)


def assert_within_budget(actual: Tensor, plain: Tensor, gold: Tensor, name: str = "result") -> None:
    """Fails with the worst element if ``actual`` is further from ``gold`` than its budget.

    ``plain``: the plain program in the element type of the inputs; ``gold``: the same program in float64.
    """
    assert actual.shape == gold.shape, f"{name}: shape {tuple(actual.shape)}, expected {tuple(gold.shape)}"
    assert gold.dtype == torch.float64
    assert not gold.isnan().any(), f"{name}: the float64 program gave NaN; the test is wrong"
    if not gold.numel():
        return
    limit = budget(plain, gold)
    errors = error_of(actual, gold)
    worst = int(errors.argmax())
    index = tuple(int(i) for i in torch.unravel_index(torch.tensor(worst), errors.shape))
    assert errors.flatten()[worst].item() <= limit.allowed, (
        f"{name}{list(index)}: got {actual[index].item()!r}, float64 gives {gold[index].item()!r}; "
        f"error {errors[index].item():.3g}, allowed {limit.allowed:.3g} = "
        f"{FACTOR:g} * {limit.plain:.3g} + {limit.band:.3g}"
    )
