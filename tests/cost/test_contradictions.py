"""Filters that hold nowhere, or along the streamed rank only: what is priced is what is visited."""

from __future__ import annotations

import pytest
import torch

import einsum_compiler as ec
from einsum_compiler.cost.visits import filter_of, visited
from einsum_compiler.ir.build import conjuncts
from einsum_compiler.ir.cascade import Equation
from einsum_compiler.ir.parser import parse
from einsum_compiler.ir.plan import KernelPlan, RankTile

EXTENTS = {"m": 512, "n": 512}
PLAN = KernelPlan(("O",), (RankTile("m", 64),), RankTile("n", 32))


def tiles(where: str) -> tuple[float, float, float]:
    """The full and the partial tiles of n that a program visits, and the most."""
    equation: Equation = parse(f"cascade f(X[m,n]) -> O[m] {{ O[m] = X[m,n] where {where} }}").cascade().equations[0]
    found = visited(filter_of("n", frozenset(conjuncts(equation.where)), {}), PLAN, "n", EXTENTS, {})
    return found.full, found.partial, found.most


@pytest.mark.parametrize(
    "where",
    ["n < m and n > m", "n % 2 == 0 and n % 2 == 1", "n < 0", "n < m and m < n - 5 and n % 3 == 0", "n * n < 0"],
)
def test_a_filter_that_holds_nowhere_visits_nothing(where: str) -> None:
    assert tiles(f"{where} and n < N") == (0, 0, 0)


def test_a_filter_over_the_streamed_rank_alone() -> None:
    assert tiles("n < N") == (16, 0, 16)
    assert tiles("n < 70 and n < N") == (2, 1, 3)


def test_the_prediction_of_a_contradiction_does_not_grow_with_what_is_hidden(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = """
    cascade f(Q[m,e], K[n,e], V[n,f]) -> O[m,f] {{
      S[m,n] = Q[m,e] * K[n,e] where {where}
      O[m,f] = softmax[n](S[m,n]) * V[n,f]
    }}"""
    q, k = torch.ones(512, 16), torch.ones(2048, 16)

    def milliseconds(where: str, keys: torch.Tensor) -> float:
        report = ec.compile(text.format(where=where), backend="cpu").explain(q, keys, keys)
        row = next(line for line in report.partition("predicted milliseconds")[2].splitlines() if line.startswith("│"))
        return float(row.split("│")[2])

    nothing = milliseconds("n < m and n > m", k)
    assert nothing == milliseconds("n < m and n > m", k[:256])
    assert nothing < milliseconds("n < 16", k) < milliseconds("n <= m", k)
    capsys.readouterr()
