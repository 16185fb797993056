"""Gradients repeat: the same bits from run to run and with any number of threads, whatever the plan adds up where."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import einsum_compiler as ec
from einsum_compiler.gradients import gradient_kernels
from einsum_compiler.kernel import Kernel
from tests.front.programs import ATTENTION

COLUMNS = """
cascade columns(X[m,n], W[n]) -> Y[n], T[m] {
  E[m,n] = exp(X[m,n] * W[n])
  Y[n] = sum[m](E[m,n])
  T[m] = sum[n](E[m,n] * X[m,n])
}
"""


def attention(heads: int, length: int, dtype: torch.dtype) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(1, heads, length, 16).to(dtype).requires_grad_() for _ in range(3)]


def gradients(kernel: Kernel, given: list[Tensor]) -> tuple[Tensor, ...]:
    out = kernel(*given)
    outputs = out if isinstance(out, tuple) else (out,)
    return torch.autograd.grad(sum(o.float().square().sum() for o in outputs), given)  # type: ignore[arg-type]


def agree(kernel: Kernel, given: list[Tensor]) -> None:
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3, 2):
            torch.set_num_threads(count)
            found.append(gradients(kernel, given))
    finally:
        torch.set_num_threads(threads)
    assert all(g.any() for g in found[0])
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_sums_that_programs_add_up_in_memory(dtype: torch.dtype) -> None:
    """Many heads: the plan accumulates, and heads run on whatever thread is free."""
    kernel, given = ec.compile(ATTENTION), attention(6, 530, dtype)
    agree(kernel, given)
    backward = gradient_kernels(kernel, dict(zip("QKV", given, strict=True))).backward
    assert "accumulate" in backward.ir("plan")


def test_one_head_in_kernels_of_its_own() -> None:
    agree(ec.compile(ATTENTION), attention(1, 530, torch.float32))


def test_column_sums_and_sums_of_all() -> None:
    torch.manual_seed(0)
    agree(ec.compile(COLUMNS), [torch.randn(300, 70, requires_grad=True), torch.randn(70, requires_grad=True)])
