"""topk, argsort, ``in``, and the counter-based random numbers of the evaluator."""

from __future__ import annotations

import math

import pytest
import torch

from einsum_compiler.backends.reference.evaluate import reference
from einsum_compiler.backends.reference.philox import philox, uniform
from tests.backends.plain import close, randn


def test_topk_falls_with_ties_to_the_lower_coordinate() -> None:
    text = "cascade c(X[q,c]) -> I[q,j] { I[q,j] = topk[c](X[q,c], count = 3) }"
    x = torch.tensor([[1.0, 3, 3, 2], [0, 0, 0, 0], [-1, math.inf, -math.inf, 5]])
    found = reference(text)(x)
    assert isinstance(found, torch.Tensor) and found.dtype == torch.int64
    assert found.tolist() == [[1, 2, 3], [0, 1, 2], [1, 3, 0]]


def test_fewer_candidates_leave_empty_entries() -> None:
    text = """cascade c(X[q,c], NL[q]) -> I[q,j], V[q,j], R[q,j] {
      I[q,j] = topk[c](X[q,c] where c < NL[q], count = 3)
      R[q,j] = I[q,j]
      V[q,j] = X[q, I[q,j]]
    }"""
    x = torch.tensor([[1.0, -math.inf], [2, 3], [4, 5]])
    index, values, copy = reference(text)(x, torch.tensor([2, 1, 0]))
    assert index.tolist() == [[0, 1, -1], [0, -1, -1], [-1, -1, -1]] and torch.equal(index, copy)
    assert values.tolist() == [[1, -math.inf, 0], [2, 0, 0], [0, 0, 0]]


def test_argsort_rises_is_stable_and_puts_empty_points_last() -> None:
    text = """cascade c(X[q,c]) -> I[q,j], S[q,j] {
      I[q,j] = argsort[c](X[q,c] where X[q,c] != 0)
      S[q,j] = X[q, I[q,j]]
    }"""
    x = torch.tensor([[2.0, 0, 1, 2, 1], [0, 5, 0, 4, -3]], dtype=torch.float64, requires_grad=True)
    index, values = reference(text)(x)
    assert index.tolist() == [[2, 4, 0, 3, -1], [4, 3, 1, -1, -1]]
    assert values.tolist() == [[1, 1, 2, 2, 0], [-3, 4, 5, 0, 0]]
    weight = torch.arange(1.0, 6)
    gradient = torch.autograd.grad((values * weight).sum(), x)[0]
    assert gradient.tolist() == [[3, 0, 1, 4, 2], [0, 3, 0, 2, 1]]


def test_block_selection_by_membership_and_by_gather() -> None:
    """Blocks chosen by mean scores: the gather over chosen blocks equals the filter over all keys."""
    text = """cascade blocks(Q[m,e], K[n,e], V[n,f]; T = 4, C = ceil(N / T), J = 2, I = T) -> O[m,f], G[m,f], X[m,j] {
      KM[c,e] = mean[i](K[c * T + i, e])
      R[m,c] = Q[m,e] * KM[c,e] where c * T <= m
      X[m,j] = topk[c](R[m,c], count = 2)
      S[m,n] = Q[m,e] * K[n,e] where n // T in X[m, :] and n <= m
      A[m,n] = softmax[n](S[m,n])
      O[m,f] = A[m,n] * V[n,f]
      Z[m,j,i] = Q[m,e] * K[X[m,j] * T + i, e] where X[m,j] * T + i <= m and X[m,j] * T + i < N
      B[m,j,i] = softmax[j,i](Z[m,j,i])
      G[m,f] = B[m,j,i] * V[X[m,j] * T + i, f]
    }"""
    q, k, v = randn(14, 3), randn(14, 3), randn(14, 2)
    dense, gathered, chosen = reference(text)(q, k, v)
    close(gathered, dense)
    means = torch.stack([k[i : i + 4].mean(0) for i in range(0, 14, 4)])
    scores = q @ k.mT
    for m in range(14):
        routed = (q[m] @ means.mT)[: m // 4 + 1]
        best = routed.topk(min(2, len(routed))).indices
        assert [c for c in chosen[m].tolist() if c >= 0] == best.tolist()
        seen = [n for n in range(m + 1) if n // 4 in best]
        close(dense[m], scores[m, seen].softmax(-1) @ v[seen])


def test_membership_of_a_padded_list() -> None:
    text = """cascade c(BL[h,i,k], X[n]) -> A[h,m], B[h,m] {
      A[h,m] = X[n] where n // 2 in BL[h, m // 2, :]
      B[h,m] = X[n] where n // 2 not in BL[h, m // 2, :]
    }""".replace("-> A[h,m]", "-> A[h,m]").replace("X[n])", "X[n], Y[m])")
    blocks = torch.tensor([[[0, -1], [0, 1]], [[-1, -1], [1, -1]]], dtype=torch.int32)
    x = torch.tensor([1.0, 2, 4, 8])
    a, b = reference(text)(blocks, x, torch.zeros(4))
    assert a.tolist() == [[3, 3, 15, 15], [0, 0, 12, 12]]
    assert b.tolist() == [[12, 12, 0, 0], [15, 15, 3, 3]]


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_published_words(
    counter: tuple[int, ...], key: tuple[int, int], words: tuple[int, ...]
) -> None:
    """The known answers of the Random123 library."""
    found = philox(tuple(map(torch.tensor, counter)), (torch.tensor(key[0]), torch.tensor(key[1])))
    assert tuple(int(w) for w in found) == words


def test_uniform() -> None:
    """D10: the upper 24 bits of the first word; the seed is the key, low word first."""
    assert uniform(torch.tensor(0)).item() == (0x6627E8D5 >> 8) * 2.0**-24
    seed = torch.tensor(0x299F31D0A4093822)
    words = map(torch.tensor, (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344))
    assert uniform(seed, *words).item() == (0xD16CFE09 >> 8) * 2.0**-24
    text = """cascade drop(P[h,m,n]; seed: int, p = 0.25) -> A[h,m,n] {
      A[h,m,n] = if(uniform(seed, h, m, n) < p, 0, P[h,m,n] / (1 - p))
    }"""
    p = torch.ones(4, 40, 50, dtype=torch.float64)
    first, again, other = (reference(text)(p, seed=s) for s in (7, 7, 8))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert abs(first.mean().item() - 1) < 0.02
    assert first[2, 3, 4].item() == (0 if uniform(*map(torch.tensor, (7, 2, 3, 4))) < 0.25 else 1 / 0.75)


def test_uniform_takes_four_coordinates() -> None:
    with pytest.raises(Exception, match="uniform takes at most 4 coordinates after the seed, not 5"):
        uniform(*[torch.tensor(1)] * 6)


FUNCTIONS = {
    "exp": torch.exp, "exp2": torch.exp2, "log": torch.log, "sqrt": torch.sqrt, "rsqrt": torch.rsqrt, "tanh": torch.tanh,
    "sigmoid": torch.sigmoid, "relu": torch.relu, "silu": torch.nn.functional.silu, "gelu": torch.nn.functional.gelu,
    "erf": torch.erf, "abs": torch.abs, "sign": torch.sign, "sin": torch.sin, "cos": torch.cos, "floor": torch.floor,
    "ceil": torch.ceil, "round": torch.round, "softplus": lambda x: torch.log1p(torch.exp(x)),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_those_of_pytorch(name: str) -> None:
    x = torch.tensor([0.5, 1.5, 2.5, 3.0, 0.1], dtype=torch.float64)
    if name not in ("log", "sqrt", "rsqrt"):
        x = torch.cat([x, -x])
    text = f"cascade c(X[n]) -> A[n], B[] {{ A[n] = {name}(X[n])  B[] = {name}(3) }}"
    found, constant = reference(text)(x)
    close(found, FUNCTIONS[name](x))
    close(constant.double(), FUNCTIONS[name](torch.tensor(3.0, dtype=torch.float64)))


def test_functions_of_several_arguments() -> None:
    text = """cascade c(X[n]) -> A[n], B[n], C[n], D[n] {
      A[n] = max(X[n], 0, 1) + min(X[n], n)
      B[n] = clamp(X[n], -1, 1)
      C[n] = X[n]**2 + 2**n + X[n]**(-1)
      D[n] = stop_gradient(X[n]) * X[n]
    }"""
    x = torch.tensor([-2.0, 0.5, 3], dtype=torch.float64, requires_grad=True)
    a, b, c, d = reference(text)(x)
    close(a, torch.tensor([1 - 2, 1 + 0.5, 3 + 2], dtype=torch.float64))
    close(b, torch.tensor([-1, 0.5, 1], dtype=torch.float64))
    close(c, x**2 + 2 ** torch.arange(3) + 1 / x)
    close(torch.autograd.grad(d.sum(), x)[0], x.detach())
