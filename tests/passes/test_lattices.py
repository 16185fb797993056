"""Reductions over lattices: the same values as the filter, for odd extents, strides, dilations, negative offsets and several terms."""

from __future__ import annotations

import itertools

import pytest
import torch

import einsum_compiler as ec
from einsum_compiler.ir.expression import Reduction
from tests.passes.support import check

PIPELINE = "inline,normalize,lattices"


def _tensors(**shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {n: torch.randn(s, generator=generator, dtype=torch.float64) for n, s in shapes.items()}


def _after(text: str, tensors: dict[str, torch.Tensor], **scalars: float) -> str:
    return str(check(text, tensors, PIPELINE, **scalars).cascade)


@pytest.mark.parametrize("operator", ["sum", "max", "min", "prod", "mean"])
@pytest.mark.parametrize(("c", "d"), [(12, 4), (13, 4), (3, 5), (0, 2)])
def test_groups(operator: str, c: int, d: int) -> None:
    text = f"cascade a(X[c,y]; G = 4) -> M[g] {{ M[g] = {operator}[c,y](X[c,y] where c // {d} == g) }}"
    after = _after(text, _tensors(X=(c, 3)))
    assert f"X[{d} * g + c_part,y]" in after and "//" not in after
    residues = f"cascade a(X[c,y]; G = 6) -> M[g] {{ M[g] = {operator}[c,y](X[c,y] where c % {d} == g) }}"
    assert f"X[g + {d} * c_part,y]" in _after(residues, _tensors(X=(c, 3)))


def test_the_divisor_may_be_a_quotient_of_extents() -> None:
    text = "cascade a(X[c], S[g]) -> M[g] { M[g] = S[g] * sum[c](X[c] where c // (C // G) == g) }"
    assert "X[C // G * g + c_part]" in _after(text, _tensors(X=(12,), S=(3,)))


STRIDED = """cascade a(X[c,t], W[c,k]; U = {s} * T + 3) -> Y[u] {{
  Y[u] = sum[c,k](X[c,(u + {p} - {d} * k) // {s}] * W[c,k] where (u + {p} - {d} * k) % {s} == {e}) where u < U }}"""


@pytest.mark.parametrize(
    ("s", "d", "p", "e"), [v for v in itertools.product((2, 3, 4), (1, 2, 3), (-3, 0, 1), (0, 1)) if v[3] < v[0]]
)
def test_strides_and_dilations(s: int, d: int, p: int, e: int) -> None:
    text = STRIDED.format(s=s, d=d, p=p, e=e)
    for t, k in ((5, 4), (1, 7), (4, 1)):
        after = _after(text, _tensors(X=(2, t), W=(2, k)))
        assert "k_part" in after
        assert ("Y.phases" in after) == (s != d)


@pytest.mark.parametrize(
    ("where", "solved"),
    [
        ("n - m == i", "S[n - i,n]"),
        ("m + n == i and n < 3", "S[i - n,n]"),
        ("i == 5 - n - m", "S["),
        ("(n - m) // 2 == i", "S[n - 2 * i - m_part,n]"),
        ("(m - n) // 3 == i", "S["),
        ("m // 3 == i and m % 3 == n", "S[3 * i + n,n]"),
        ("(m + 2 * n) % 3 == 1 and n <= m", "_part"),
        ("(m + n + i) % 2 == 0 and (m - i) % 3 == 0", "_part"),
        ("(2 * m - 4 * n) % 6 == i", "_part"),
    ],
)
@pytest.mark.parametrize("operator", ["sum", "max"])
def test_several_terms(operator: str, where: str, solved: str) -> None:
    text = f"cascade a(S[m,n]; I = 6) -> D[i] {{ D[i] = {operator}[m,n](S[m,n] where {where}) where i < I }}"
    assert solved in _after(text, _tensors(S=(7, 5)))


def test_a_sum_of_one_point_is_no_sum() -> None:
    text = "cascade a(S[m,n]; K: int = 2) -> D[m] { D[m] = sum[n](S[m,n] where n == m + K) }"
    result = check(text, _tensors(S=(7, 5)), PIPELINE)
    assert not any(isinstance(e.value, Reduction) for e in result.cascade.equations)


@pytest.mark.parametrize(
    "text",
    [
        # every point belongs to several results: tiles of these meet the same operands
        "cascade a(S[m,n]) -> D[m] { D[m] = sum[n](S[m,n] where n // 2 == m // 2) }",
        # nothing is known of the sign of the divisor
        "cascade a(X[n]; s: int = 2) -> D[] { D[] = sum[n](X[n] where n % s == 0) }",
        # no whole numbers
        "cascade a(X[n]; s = 2.0) -> D[] { D[] = sum[n](X[n] where n - s == 0) }",
        # both sides are computed: compared numbers are found side by side
        """cascade a(X[n]; C = 6) -> T[n], B[c] {
          A[n] = exp(X[n])
          B[c] = max[n](A[n] where n // 2 == c)
          T[n] = sum[c](if(A[n] == B[c], 1, 0) where n // 2 == c) }""",
    ],
)
def test_what_stays(text: str) -> None:
    tensors = _tensors(S=(7, 7)) if "S[" in text else _tensors(X=(7,))
    after = _after(text, tensors)
    assert "where n // 2 == c" in after or "_part" not in after


COMPILED = {
    "groups": ("cascade a(X[n,c,y], S[g]) -> M[n,g] { M[n,g] = S[g] * mean[c,y](X[n,c,y] where c // (C // G) == g) }", {"X": (2, 13, 5), "S": (4,)}),
    "strides": (STRIDED.format(s=2, d=1, p=1, e=0), {"X": (3, 9), "W": (3, 4)}),
    "dilated": (STRIDED.format(s=3, d=2, p=-1, e=1), {"X": (3, 9), "W": (3, 5)}),
    "extremes": ("cascade a(S[m,n]; I = 6) -> D[i] { D[i] = max[m,n](S[m,n] where (m + 2 * n) % 3 == i) }", {"S": (7, 5)}),
    "diagonals": ("cascade a(S[m,n]; I = 6) -> D[i] { D[i] = sum[m,n](S[m,n] where n - m == i) }", {"S": (7, 5)}),
    "samples": ("cascade a(X[c,u], W[c,i], Z[y]) -> O[c,y] { O[c,y] = sum[i](default(X[c,3*y+i-1],0)*W[c,i]) + Z[y] }", {"X": (2, 17), "W": (2, 4), "Z": (6,)}),
    "channels": ("cascade a(X[b,c,u], W[o,c,i]; Y = (U + 1) // 2) -> O[b,o,y] { O[b,o,y] = sum[c,i](default(X[b,c,2*y+i-1],0)*W[o,c,i]) where y < Y }", {"X": (2, 3, 9), "W": (2, 3, 3)}),
    "pooling": ("cascade a(X[y,x]; U = (Y - 1) // 2 + 1, V = (X - 1) // 2 + 1, P = 3, Q = 3) -> O[u,v] { O[u,v] = max[p,q](X[2*u+p-1,2*v+q-1] where p < P and q < Q) where u < U and v < V }", {"X": (7, 10)}),
}  # fmt: skip


@pytest.mark.parametrize("name", COMPILED)
def test_kernels_and_gradients(name: str) -> None:
    text, shapes = COMPILED[name]
    tensors = list(_tensors(**shapes).values())
    results = []
    for kernel in (ec.compile(text, backend="cpu"), ec.reference(text)):
        given = [t.clone().requires_grad_() for t in tensors]
        (out,) = [kernel(*given)]
        weights = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).reshape(out.shape)
        results.append((out.detach(), *torch.autograd.grad(out, given, weights)))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
