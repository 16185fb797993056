"""What FlexAttention refuses, and what happens here: tensors read twice, other head counts, results beside the output, no keys."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention

import einsum_compiler as ec
from tests.budget import assert_within_budget
from tests.flex.case import Sizes, operands
from tests.flex.cases import case

SIZES = Sizes(2, 4, 40, 56)
KINDS = (torch.float32, torch.float64)


def attend(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """The weights and the output, with heads repeated to those of the queries."""
    k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
    weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
    return weights, weights @ v


def test_a_trained_tensor_read_twice() -> None:
    """Compiled FlexAttention has one gradient gather for each tensor; here the two reads add up."""
    read_twice = case("symmetric: read twice")
    sizes = read_twice.sizes(40)
    gradients = []
    for dtype in KINDS:
        bias = read_twice.captures(sizes, dtype)["BI"].requires_grad_()
        q, k, v = operands(sizes, dtype=dtype)
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + bias[:, None] + bias
        (scores.softmax(-1) @ v).square().sum().backward()
        gradients.append(bias.grad)
    bias = read_twice.captures(sizes, torch.float32)["BI"].requires_grad_()
    kernel = ec.compile(read_twice.program(lse=False), backend="cpu")
    kernel(*operands(sizes, dtype=torch.float32), BI=bias).square().sum().backward()
    assert bias.grad is not None and gradients[0] is not None and gradients[1] is not None
    assert_within_budget(bias.grad, gradients[0], gradients[1], "gradient of the bias")


def test_different_head_counts_of_keys_and_values() -> None:
    text = """
    cascade heads(Q[b,h,m,e], K[b,g,n,e], V[b,i,n,f]; scale = 1/sqrt(E)) -> O[b,h,m,f] {
      S[b,h,m,n] = Q[b,h,m,e] * K[b,h // (H // G),n,e] * scale
      A[b,h,m,n] = softmax[n](S[b,h,m,n])
      O[b,h,m,f] = A[b,h,m,n] * V[b,h // (H // I),n,f]
    }
    """
    plain = []
    for dtype in KINDS:
        q, k, v = operands(SIZES, dtype=dtype)
        plain.append((q, k[:, :2], v[:, :1]))
    with pytest.raises((ValueError, RuntimeError)):
        flex_attention(*plain[0], enable_gqa=True)
    found = ec.compile(text, backend="cpu")(*plain[0])
    assert_within_budget(found, attend(*plain[0])[1], attend(*plain[1])[1])


def test_results_beside_the_output() -> None:
    """The greatest score, the share of the key at the same place and the entropy of the weights, in the same pass over the keys."""
    text = """
    cascade side(Q[b,h,m,e], K[b,h,n,e], V[b,h,n,f]; scale = 1/sqrt(E)) -> O[b,h,m,f], MX[b,h,m], OWN[b,h,m], EN[b,h,m] {
      S[b,h,m,n] = Q[b,h,m,e] * K[b,h,n,e] * scale
      MX[b,h,m]  = max[n](S[b,h,m,n])
      P[b,h,m,n] = exp(S[b,h,m,n] - MX[b,h,m])
      D[b,h,m]   = sum[n](P[b,h,m,n])
      A[b,h,m,n] = P[b,h,m,n] / D[b,h,m]
      O[b,h,m,f] = A[b,h,m,n] * V[b,h,n,f]
      OWN[b,h,m] = sum[n](A[b,h,m,n] where n == m)
      EN[b,h,m]  = MX[b,h,m] + log(D[b,h,m]) - sum[n](A[b,h,m,n] * S[b,h,m,n])
    }
    """
    results = []
    for dtype in KINDS:
        q, k, v = operands(SIZES, dtype=dtype)
        weights, out = attend(q, k, v)
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        entropy = -(weights * weights.log()).sum(-1)
        results.append((out, scores.amax(-1), weights.diagonal(dim1=-2, dim2=-1), entropy))
    kernel = ec.compile(text, backend="cpu")
    tensors = operands(SIZES, dtype=torch.float32)
    for actual, plain, gold in zip(kernel(*tensors), *results, strict=True):
        assert_within_budget(actual, plain, gold)


def test_no_keys() -> None:
    """FlexAttention raises; here the output is 0 and the log-sum-exp minus infinity."""
    none = Sizes(2, 2, 5, 0)
    q, k, v = operands(none, dtype=torch.float32)
    with pytest.raises((ValueError, IndexError, RuntimeError)):
        flex_attention(q, k, v)
    out, lse = ec.compile(case("causal").text, backend="cpu")(q, k, v)
    assert not out.any() and (lse == -torch.inf).all()


@pytest.mark.parametrize("function", ["gelu", "relu"])
def test_an_activation_in_place_of_the_softmax(function: str) -> None:
    """FlexAttention takes the logarithm of the activation plus an offset, and undoes its softmax afterwards."""
    text = f"""
    cascade activation(Q[b,h,m,e], K[b,h,n,e], V[b,h,n,f]; scale = 1/sqrt(E)) -> O[b,h,m,f] {{
      S[b,h,m,n] = Q[b,h,m,e] * K[b,h,n,e] * scale
      A[b,h,m,n] = {function}(S[b,h,m,n])
      O[b,h,m,f] = A[b,h,m,n] * V[b,h,n,f]
    }}
    """
    results = []
    for dtype in KINDS:
        q, k, v = operands(SIZES, dtype=dtype)
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        results.append(getattr(torch.nn.functional, function)(scores) @ v)
    found = ec.compile(text, backend="cpu")(*operands(SIZES, dtype=torch.float32))
    assert_within_budget(found, *results)
