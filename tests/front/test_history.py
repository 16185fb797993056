"""Calls with a history: what calls of one signature share is found once, and no call takes what belongs to another."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch

import einsum_compiler as ec
from einsum_compiler.ir.errors import ShapeError

TEXT = """
cascade weighted(X[b,m,e], W[e,f]; power = 2.0) -> Y[b,m,f] {
  Y[b,m,f] = X[b,m,e]**power * W[e,f]
}
"""


@pytest.fixture(scope="module")
def kernel() -> ec.Kernel:
    return ec.compile(TEXT, backend="cpu")


def tensors(b: int, m: int, wanted: tuple[bool, bool]) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(b * m)
    x = torch.rand(b, m, 5).add_(0.5).requires_grad_(wanted[0])
    return x, torch.randn(5, 3).requires_grad_(wanted[1])


CALLS = tuple(product([(True, True), (True, False), (False, True)], [(2, 7), (3, 4)], [2.0, 3.0]))


@pytest.mark.parametrize("calls", [CALLS, CALLS[::-1]], ids=["new", "known"])
def test_gradients_are_those_of_the_call(kernel: ec.Kernel, calls: tuple[Any, ...]) -> None:
    for wanted, size, power in calls:
        x, w = tensors(*size, wanted)
        kernel(x, w, power=power).square().sum().backward()
        found = [t.grad for t in (x, w)]
        x.grad = w.grad = None
        (x**power @ w).square().sum().backward()
        for ours, gold in zip(found, (x.grad, w.grad), strict=True):
            assert (ours is None) == (gold is None)
            if ours is not None:
                torch.testing.assert_close(ours, gold)


def test_a_known_signature_is_not_matched_again(kernel: ec.Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = tensors(2, 9, (True, True))
    kernel(x, w).sum().backward()

    def refused(*_: object) -> None:
        raise AssertionError("matched again")

    for module in ("kernel", "gradients"):
        monkeypatch.setattr(f"einsum_compiler.{module}.bind", refused)
    x.grad = None
    kernel(x, w).sum().backward()
    assert x.grad is not None
    with pytest.raises(AssertionError, match="matched again"):
        kernel(*tensors(2, 10, (True, True)))


def test_what_does_not_fit_is_said_at_every_call(kernel: ec.Kernel) -> None:
    x, w = tensors(2, 7, (True, True))
    for _ in range(2):
        with pytest.raises(ShapeError, match="rank e"):
            kernel(x, w[:4])
