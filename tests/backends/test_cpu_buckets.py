"""Reductions whose points belong to one result each meet every point once: values against the evaluator, gradients, and which reductions do."""

from __future__ import annotations

import pytest
import torch

import einsum_compiler as ec
from tests.budget import assert_within_budget

T, V, D = 150, 90, 20
PLAN = "plan c { kernel O { program v:32 stream t:64 resident d } }"
SUM = "cascade c(X[t,d], y[t], Z[v,d]) -> O[v,d] { O[v,d] = Z[v,d] * sum[t](X[t,d] where y[t] == v) }"


def places() -> torch.Tensor:
    """Some of nobody, and many of one."""
    y = torch.randint(-3, V + 3, (T,))
    y[::3] = 40
    return y


def test_values_and_gradients() -> None:
    x, y, z = torch.randn(T, D), places(), torch.randn(V, D)
    kernel = ec.compile(SUM, backend="cpu", plan=PLAN)
    result = kernel(x, y, z)
    assert kernel.source("cpu").count("const int64_t place") == 2  # whole tiles and the last one
    inside = (y >= 0) & (y < V)
    plain = z * torch.zeros(V, D).index_add(0, y[inside], x[inside])
    gold = z.double() * torch.zeros(V, D).double().index_add(0, y[inside], x[inside].double())
    assert_within_budget(result, plain, gold)
    given = torch.randn(V, D)
    found = torch.autograd.grad(kernel(x.requires_grad_(), y, z.requires_grad_()), (x, z), given)
    again = x.detach().double().requires_grad_(), z.detach().double().requires_grad_()
    expected = torch.autograd.grad(ec.reference(SUM)(again[0], y, again[1]), again, given.double())
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one.double(), other, rtol=1e-5, atol=1e-5)


def test_the_gradient_of_gathered_rows_meets_every_row_once() -> None:
    text = "cascade c(W[v,d], y[t], Z[t,d]) -> O[t,d] { O[t,d] = Z[t,d] * W[y[t],d] }"
    w, y, z = torch.randn(V, D).requires_grad_(), torch.randint(0, V, (T,)), torch.randn(T, D)
    kernel = ec.compile(text, backend="cpu")
    given = torch.randn(T, D)
    (found,) = torch.autograd.grad(kernel(w, y, z), w, given)
    (gradients,) = kernel.gradients.values()
    assert gradients is not None
    assert "const int64_t place" in gradients.backward.source("cpu")
    plain = torch.zeros(V, D).index_add(0, y, given * z)
    assert_within_budget(found, plain, torch.zeros(V, D).double().index_add(0, y, given.double() * z.double()))


CASES = {
    "other points left out": "sum[t](exp(X[t,d]) where y[t] + 1 == v and L[t] > 3 and d < L[t])",
    "extrema": "max[t](X[t,d] where y[t] == v)",
    "products": "prod[t](X[t,d] where y[t] == v)",
    "places by element": "sum[t](X[t,d] where (y[t] + d) % V == v)",
    "groups of neighbours": "sum[t](X[t,d] where t // 7 == v)",
    "a diagonal": "sum[t](X[t,d] where t == v + 3)",
}


@pytest.mark.parametrize("name", CASES)
def test_filters_and_operators(name: str) -> None:
    text = f"cascade c(X[t,d], y[t], L[t]; V: int = {V}) -> O[v,d] {{ O[v,d] = {CASES[name]} }}"
    arguments = torch.rand(T, D) + 0.5, places(), torch.randint(0, D, (T,))
    given = [a for a, n in zip(arguments, "XyL", strict=True) if f"{n}[" in CASES[name]]
    text = text.replace(", y[t]", "" if len(given) == 1 else ", y[t]", 1).replace(
        ", L[t]", "" if len(given) < 3 else ", L[t]", 1
    )
    ec.compile(text, backend="cpu").validate(*given)


def test_several_results_for_a_point_are_no_buckets() -> None:
    text = "cascade c(X[t,d], y[t], B[v]) -> O[v,d] { O[v,d] = sum[t](X[t,d] where y[t] == B[v]) }"
    kernel = ec.compile(text, backend="cpu", plan=PLAN)
    kernel.validate(torch.randn(T, D), places(), torch.randint(0, V, (V,)))
    assert "const int64_t place" not in kernel.source("cpu")


def test_a_result_holds_no_other_point() -> None:
    x, y = torch.randn(T, D), places()
    x[5], y[5], y[6:] = torch.nan, 7, y[6:].masked_fill(y[6:] == 7, 8)
    text = f"cascade c(X[t,d], y[t]; V: int = {V}) -> O[v,d] {{ O[v,d] = sum[t](X[t,d] where y[t] == v) }}"
    found = ec.compile(text, backend="cpu", plan=PLAN)(x, y)
    assert found[7].isnan().all() and found.isnan().any(-1).sum() == 1


def test_axes_of_one_place_are_summed_first() -> None:
    """The mean of every group of channels."""
    text = "cascade c(X[n,c,y]; G = 16) -> O[n,g] { O[n,g] = mean[c,y](X[n,c,y] where c // (C // G) == g) }"
    kernel = ec.compile(text, backend="cpu")
    kernel.validate(torch.randn(3, 64, 50))
    assert torch.allclose(kernel(x := torch.randn(2, 64, 7)), x.view(2, 16, -1).mean(-1), atol=1e-6)
