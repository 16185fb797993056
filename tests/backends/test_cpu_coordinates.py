"""Integers of positions beyond 32 bits: what lanes hold is what the evaluator computes in 64."""

from __future__ import annotations

import pickle

import pytest
import torch

import einsum_compiler as ec
from einsum_compiler.backends.cpu import load
from einsum_compiler.backends.cpu.coordinates import fits
from einsum_compiler.ir.binding import bind

LENGTH, PLACES = 30_000, 1009

INDICES = (
    "(104729 * n) // 3200000",
    "(700000 * n) % K",
    "(5 - 700000 * n) % K",
    "(N * 100003 + n) % K",
    "max(700000 * n, 5) % K",
    "if(n > 5, 700000 * n, n) % K",
    "(n << 17) % K",
    "((700000 * n) ^ 5) % K",
    "(700000 * n) // 1024 % 512",
    "((n * 100003) // 7 - n * 100003) % K",
    "(I[n] * 700000) % K",
    "(I[n] * n + n * 100003) % K",
    "(n * stride) % K",
)
CONDITIONS = (
    "(m * 104729 + n * 99991) % 97 < 40",  # a list of tiles
    "(n * 100000) // 3 % 5 < m",
    "100003 * n + 7 * m < limit",  # ranges in closed form
    "n * 100003 >= N * 90000 - m",
    "N * 90000 > n * 100003",
    "(n * 100000) // 3000000 == m + 900",
    "n // 4 * 400000 < limit and n > m",
    "(100003 * I[n]) % 97 < 40 + m",
)


def _operands() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    table = torch.randint(0, LENGTH, (LENGTH,), dtype=torch.int32)
    return {"X": torch.rand(PLACES), "Y": torch.rand(LENGTH), "I": table}


@pytest.mark.parametrize("index", INDICES)
def test_an_index_is_that_of_the_evaluator(index: str) -> None:
    """As a place of one tensor, of rows whose lanes share it, and as a number."""
    lines = (
        f"  O[n] = X[{index}] * Y[n]",
        f"  P[m, n] = X[({index} + m) % K] * Y[n]",
        f"  R[n] = {index.replace('K', '1009')} + 0.0 * Y[n]",
    )
    text = "cascade c(X[k], Y[n], I[n]; stride: int, M = 2) -> O[n], P[m, n], R[n] {\n" + "\n".join(lines) + "\n}"
    operands = _operands()
    found = ec.compile(text, backend="cpu")(**operands, stride=700_000)
    expected = ec.reference(text)(**operands, stride=700_000)
    for f, e in zip(found, expected, strict=True):
        assert e.count_nonzero() > e.numel() / 2
        assert torch.equal(f, e.float())


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_filter_is_that_of_the_evaluator(condition: str) -> None:
    """Of rows and lanes, with numbers whose sums f32 holds exactly."""
    text = (
        "cascade c(Z[m], Y[n], V[n, e], I[n]; limit: int) -> O[m, e] {\n"
        f"  O[m, e] = sum[n](max(Z[m], Y[n]) * V[n, e] where {condition})\n}}"
    )
    operands = {"Z": torch.rand(48), "Y": torch.rand(LENGTH), "V": torch.rand(LENGTH, 2)}
    operands = {name: (t * 8).floor() for name, t in operands.items()} | {"I": _operands()["I"]}
    found = ec.compile(text, backend="cpu")(**operands, limit=2_500_000_000)
    expected = ec.reference(text)(**operands, limit=2_500_000_000)
    assert expected.count_nonzero() > 0
    assert found.tolist() == expected.tolist()


@pytest.mark.parametrize("length", [2**31 // 700_000 - 600, 2**31 // 700_000, 2**31 // 700_000 + 2, 3200])
def test_calls_near_the_edge(length: int) -> None:
    """One kernel serves lengths whose products fit and lengths whose products do not, in another process too."""
    Y = torch.rand(length)
    assert torch.equal(KERNEL(Y), ec.reference(TEXT)(Y).float())
    ((_, kernel),) = KERNEL.executable(bind(KERNEL.cascade, (Y,), {})).kernels
    (limit,) = kernel.artifact.limits
    assert dict(limit.terms)["n"] == 700_000
    assert fits((limit,), {"n": length}) == (length == 2**31 // 700_000 - 600)
    other = load(pickle.loads(pickle.dumps(kernel.describe())))
    other({"Y": Y, "O": (found := torch.empty(length))}, {}, {"n": length})
    assert torch.equal(found, ec.reference(TEXT)(Y).float())


def test_sums_of_coordinates_have_no_limits() -> None:
    kernel = ec.compile(
        "cascade c(X[m, n]) -> O[m] {\n  O[m] = sum[n](X[m, n] where n + 2 * m <= N + M)\n}", backend="cpu"
    )
    ((_, compiled),) = kernel.executable(bind(kernel.cascade, (torch.rand(40, 50),), {})).kernels
    assert compiled.artifact.limits == ()


TEXT = "cascade c(Y[n]) -> O[n] {\n  O[n] = (700000 * n) % 1009 * Y[n]\n}"
KERNEL = ec.compile(TEXT, backend="cpu")
