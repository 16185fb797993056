"""Enumerated ski-slopes: the whole front of theory.md 8.3, and no point of any front below the bounds (soundness)."""

from __future__ import annotations

from math import prod

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from einsum_compiler.passes.bounds.enumeration import Nest, Operand, operands_of, ski_slope
from einsum_compiler.passes.bounds.exponents import general
from einsum_compiler.passes.bounds.hbl import Array, Partition
from einsum_compiler.passes.bounds.index_maps import Digit
from einsum_compiler.passes.bounds.symbols import symbol
from tests.bounds.cases import BATCHED, CONVOLUTION, MATMUL, analysis

PRODUCT_32 = {
    3: 66560, 5: 50176, 8: 33792, 14: 25600, 24: 17408, 44: 13312, 80: 9216, 152: 7168, 288: 5120, 560: 4096, 1088: 3072
}  # fmt: skip


def operand(ranks: str, result: bool = False) -> Operand:
    return Operand(tuple(((r, 1),) for r in ranks), result)


def product(*arrays: str) -> tuple[Operand, ...]:
    return tuple(operand(a, k == len(arrays) - 1) for k, a in enumerate(arrays))


def test_the_front_of_a_product_of_32() -> None:
    lengths, operands = operands_of(analysis(MATMUL, m=32, n=32, k=32).spaces, "Z")
    front = ski_slope(lengths, operands)
    assert {n.buffer: n.accesses for n in front} == PRODUCT_32
    ratios = [n.accesses / (2 * 32**3 / n.buffer**0.5 + 1024) for n in front]
    assert min(ratios) == pytest.approx(1.02, abs=0.005)
    assert ratios.index(min(ratios)) == len(front) - 1


def test_the_front_of_mttkrp() -> None:
    front = ski_slope({r: 8 for r in "ijkr"}, product("ijk", "jr", "kr", "ir"))
    assert min(n.accesses / (3 * 8**4 / n.buffer ** (2 / 3)) for n in front) == pytest.approx(1.53, abs=0.005)


def test_too_many_tilings_are_refused() -> None:
    with pytest.raises(ValueError, match="more than 500,000 tilings"):
        ski_slope({r: 5040 for r in "mnk"}, product("mk", "kn", "mn"))


RANKS = "ijkl"
subsets = st.sets(st.sampled_from(RANKS), min_size=1, max_size=3).map(lambda s: "".join(sorted(s)))
lengths = st.sampled_from([1, 2, 3, 4, 6, 8, 12])


@settings(max_examples=60, deadline=None)
@given(
    arrays=st.lists(subsets, min_size=2, max_size=4, unique=True), sizes=st.tuples(lengths, lengths, lengths, lengths)
)
def test_no_tiling_moves_less_than_the_bound(arrays: list[str], sizes: tuple[int, ...]) -> None:
    ranks = sorted(set("".join(arrays)))
    extents = {r: n for r, n in zip(RANKS, sizes, strict=True) if r in ranks}
    digits = [Digit(r, n, symbol(r.upper())) for r, n in extents.items()]
    one = sympy.Integer(1)
    parts = [Array(frozenset(a), 1.0, one, k == len(arrays) - 1, (a,)) for k, a in enumerate(arrays)]
    problem = Partition(prod(extents.values()), sympy.Mul(*(d.formula for d in digits)), digits, parts)
    for nest in ski_slope(extents, product(*arrays)):
        found = problem.at(nest.buffer)
        assert found is None or found.value <= nest.accesses * (1 + 1e-9), (nest, found.formula)


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        (MATMUL, {"m": 24, "n": 6, "k": 60}),
        (BATCHED, {"b": 3, "m": 8, "n": 12, "k": 8}),
        (CONVOLUTION, {"i": 67, "r": 8}),
    ],
)
def test_no_tiling_moves_less_than_the_report_says(text: str, sizes: dict[str, int]) -> None:
    found = analysis(text, **sizes)
    extents, operands = operands_of(found.spaces, "Z")
    front: tuple[Nest, ...] = ski_slope(extents, operands)
    for nest in front:
        if nest.buffer >= 4:
            assert found.at(nest.buffer).value <= nest.accesses * (1 + 1e-9), nest
    assert front[-1].accesses == found.compulsory.value


@settings(max_examples=25, deadline=None)
@given(
    coefficients=st.lists(
        st.tuples(st.integers(-2, 2), st.integers(-2, 2)).filter(any), min_size=2, max_size=3, unique=True
    ),
    sizes=st.tuples(st.integers(1, 6), st.integers(1, 6)),
)
def test_integer_maps_hold_for_every_box(coefficients: list[tuple[int, int]], sizes: tuple[int, int]) -> None:
    """``|V| <= prod |A_j|^s_j`` on boxes, which tiles are."""
    s = general(2, [[list(c)] for c in coefficients])
    points = [(x, y) for x in range(sizes[0]) for y in range(sizes[1])]
    if s is not None:
        reached = [len({a * x + b * y for x, y in points}) for a, b in coefficients]
        assert len(points) <= prod(n ** float(x) for n, x in zip(reached, s, strict=True)) * (1 + 1e-9)
