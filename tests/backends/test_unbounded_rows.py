"""Values per row that may be infinite, times weights that a filter of rows and columns removes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import einsum_compiler as ec
from tests.budget import assert_within_budget

ROW = 5  # its divisor is 0: only what the filter leaves of it may be infinite
TEXTS = {
    "quotient": "X[m,f] = A[m,f] / D[m]",
    "factors": "R[m] = 1 / D[m]\n X[m,f] = -R[m] * A[m,f] * 2",
}


def text_of(form: str) -> str:
    return f"""cascade c(W[m,n], A[m,f], D[m]) -> O[n,f] {{
      {TEXTS[form]}
      S[m,n] = W[m,n] where n <= m
      O[n,f] = sum[m](X[m,f] * S[m,n]) }}"""


def tensors() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    divisors = torch.rand(37, generator=generator) + 0.5
    divisors[ROW] = 0
    return [torch.randn(37, 37, generator=generator), torch.randn(37, 6, generator=generator), divisors]


def plain(form: str, weights: Tensor, a: Tensor, divisors: Tensor) -> Tensor:
    scale = -2 if form == "factors" else 1
    return weights.tril().T @ torch.where(divisors[:, None] == 0, 0, a * scale / divisors[:, None])


def check(form: str, backend: str) -> None:
    given = tensors()
    kernel = ec.compile(text_of(form), backend=backend)
    found = kernel(*given)
    gold = ec.reference(text_of(form))(*(t.double() for t in given))
    reached = torch.arange(37) <= ROW
    assert bool(gold[~reached].isfinite().all()) and not bool(gold[reached].isfinite().any())
    assert not bool(found[reached].isfinite().any())
    assert_within_budget(found[~reached], plain(form, *given)[~reached], gold[~reached])
    products = [line for line in kernel.ir("tile").splitlines() if line.count(":") > 3 and "map if" in line]
    assert not products, "a test of all three axes"


@pytest.mark.parametrize("form", TEXTS)
def test_cpu(form: str) -> None:
    check(form, "cpu")


@pytest.mark.parametrize("form", TEXTS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the divisor is 0
def test_triton_interpreter(form: str) -> None:
    pytest.importorskip("triton")
    check(form, "triton")
