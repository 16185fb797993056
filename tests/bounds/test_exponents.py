"""The linear programs of theory.md 8.2, the constants of 4.2, and bounded shapes."""

from __future__ import annotations

from fractions import Fraction
from math import isqrt, prod, sqrt

import pytest
import sympy

from einsum_compiler.passes.bounds.exponents import covering, general
from einsum_compiler.passes.bounds.hbl import Array, Partition, leading
from einsum_compiler.passes.bounds.index_maps import Digit
from einsum_compiler.passes.bounds.symbols import CAPACITY, symbol

HALF, THIRD, QUARTER = Fraction(1, 2), Fraction(1, 3), Fraction(1, 4)


def sets(*names: str) -> list[frozenset[str]]:
    return [frozenset(n) for n in names]


@pytest.mark.parametrize(
    ("ranks", "arrays", "expected"),
    [
        ("mnk", ("mk", "kn", "mn"), (HALF, HALF, HALF)),
        ("bmnk", ("bmk", "bkn", "bmn"), (HALF, HALF, HALF)),
        ("ijkr", ("ijk", "jr", "kr", "ir"), (2 * THIRD, THIRD, THIRD, THIRD)),
        ("ijklr", ("ijkl", "jr", "kr", "lr", "ir"), (3 * QUARTER, QUARTER, QUARTER, QUARTER, QUARTER)),
        ("ik", ("ik", "k", "i"), (Fraction(1), Fraction(0), Fraction(0))),
        ("k", ("k", "k"), (HALF, HALF)),
        ("ij", ("i", "j"), (Fraction(1), Fraction(1))),
    ],
)
def test_exponents(ranks: str, arrays: tuple[str, ...], expected: tuple[Fraction, ...]) -> None:
    assert covering(ranks, sets(*arrays)) == expected


@pytest.mark.parametrize(
    ("arrays", "tile"),
    [
        (("mk", "kn", "mn"), {"m": HALF, "n": HALF, "k": HALF}),
        (("ijk", "jr", "kr", "ir"), {"i": THIRD, "j": THIRD, "k": THIRD, "r": 2 * THIRD}),
    ],
)
def test_the_tile_of_the_dual_program_has_as_many_points(arrays: tuple[str, ...], tile: dict[str, Fraction]) -> None:
    """A tile of S^x coordinates of each rank, every array of which fits in S, has S^sigma points: as many as the exponents allow, so both are optimal."""
    assert all(sum(tile[r] for r in a) <= 1 for a in arrays)
    exponents = covering(tile, sets(*arrays))
    assert exponents is not None and sum(tile.values()) == sum(exponents)


def test_a_coordinate_that_no_array_has_leaves_no_exponents() -> None:
    assert covering("mn", sets("m")) is None


def test_a_convolution_has_the_exponents_of_three_lines_in_a_plane() -> None:
    assert general(2, [[[1, 0]], [[1, 1]], [[0, 1]]]) == (2 * THIRD, 2 * THIRD, 2 * THIRD)


def test_the_general_program_agrees_with_the_one_for_projections() -> None:
    unit = {"m": [1, 0, 0], "n": [0, 1, 0], "k": [0, 0, 1]}
    assert general(3, [[unit[r] for r in a] for a in ("mk", "kn", "mn")]) == (HALF, HALF, HALF)


def problem(arrays: tuple[str, ...], **lengths: int) -> Partition:
    digits = [Digit(r, n, symbol(r.upper())) for r, n in lengths.items()]
    one = sympy.Integer(1)
    points = sympy.Mul(*(d.formula for d in digits))
    return Partition(
        prod(lengths.values()),
        points,
        digits,
        [Array(frozenset(a), 1.0, one, k == len(arrays) - 1) for k, a in enumerate(arrays)],
    )


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        (("mk", "kn", "mn"), "2*K*M*N/sqrt(S)"),
        (("bmk", "bkn", "bmn"), "2*B*K*M*N/sqrt(S)"),
        (("ijk", "jr", "kr", "ir"), "3*I*J*K*R/S**(2/3)"),
        (("ijkl", "jr", "kr", "lr", "ir"), "4*I*J*K*L*R/S**(3/4)"),
        (("ik", "k", "i"), "I*K"),
        (("k", "k"), "2*K"),
        (("i", "j"), "I*J/S"),
    ],
)
def test_the_constants_of_the_closed_form(arrays: tuple[str, ...], expected: str) -> None:
    ranks = sorted(set("".join(arrays)))
    digits = [Digit(r, 10**6, symbol(r.upper())) for r in ranks]
    points = sympy.Mul(*(d.formula for d in digits))
    found = leading(points, digits, [Array(frozenset(a), 1.0, sympy.Integer(1)) for a in arrays])
    assert found is not None
    names = {r.upper(): symbol(r.upper()) for r in ranks} | {"S": CAPACITY}
    assert sympy.simplify(found[0] - sympy.sympify(expected, locals=names)) == 0


def test_a_product_with_a_short_rank_is_not_bounded_as_if_it_were_long() -> None:
    """N x d x N with S >= d^2: loading both factors again costs N^2 d^2/S, and the result N^2; 2 N^2 d/sqrt(S) would be too much beyond."""
    n, d = 4096, 128
    for capacity in (d * d, 4 * d * d, 64 * d * d):
        found = problem(("mk", "kn", "mn"), m=n, n=n, k=d).at(capacity)
        assert found is not None
        truth = n * n * (1 + d * d / capacity)
        assert 0.99 * truth <= found.value <= truth * (1 + 1e-9) + 2 * n * d


@pytest.mark.parametrize("lengths", [{"i": 4096, "k": 4096}, {"i": 128, "k": 65536}])
def test_a_matrix_by_a_vector_moves_the_matrix(lengths: dict[str, int]) -> None:
    found = problem(("ik", "k", "i"), **lengths).at(lengths["i"] + lengths["k"])
    assert found is not None
    assert lengths["i"] * lengths["k"] <= found.value <= lengths["i"] * lengths["k"] + lengths["i"] + lengths["k"]


def test_a_tall_product_moves_the_tall_operands() -> None:
    found = problem(("mk", "kn", "mn"), m=10**5, n=16, k=16).at(1024)
    assert found is not None
    assert 0.99 * 3_200_256 <= found.value <= 3_200_256 * (1 + 1e-9)


@pytest.mark.parametrize("capacity", [99, 399, 1_310_719])
def test_the_tile_that_meets_the_bound_of_a_product(capacity: int) -> None:
    """COSMA: with an a x a tile of the result, a = sqrt(S + 1) - 1, the traffic is 2mnk/a + mn."""
    a = isqrt(capacity + 1) - 1
    assert {99: 9, 399: 19}.get(capacity, a) == a
    assert a * a + 2 * a <= capacity
    n = 64 * a
    found = problem(("mk", "kn", "mn"), m=n, n=n, k=n).at(capacity)
    assert found is not None
    reached = 2 * n**3 / a + n * n
    assert found.value <= reached
    assert reached == pytest.approx(found.value * sqrt(capacity) / a + n * n)
