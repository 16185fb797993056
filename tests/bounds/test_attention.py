"""The table of theory.md 8.4, the identities of 4.3 and the crossover near the square of the head dimension."""

from __future__ import annotations

import itertools

import pytest

from einsum_compiler.derivation import derive
from einsum_compiler.nominal import nominal_binding
from einsum_compiler.passes.bounds.analysis import Analysis
from einsum_compiler.passes.bounds.result import Bound, BoundReport
from einsum_compiler.passes.bounds.sweeps import Sweeps, deferred, sweeps
from einsum_compiler.passes.normalize import normalize
from tests.bounds.cases import (
    ATTENTION,
    BACKWARD,
    BIAS,
    CAUSAL,
    GROUPED,
    LATENT,
    WINDOW,
    analysis,
)

N, D = 4096, 128
SIZES = {"p": N, "m": N, "e": D, "f": D}


def atomic(report: BoundReport) -> Bound:
    return next(b for b in report.classes if b.name.endswith("atomic"))


@pytest.mark.parametrize(
    ("capacity", "fused", "once", "buffered", "unfused"),
    [(16384, 67.1, 70.3, 1433.4, 101.2), (65536, 16.8, 18.9, 288.4, 67.6), (262144, 4.2, 6.3, 73.4, 50.9)],
)
def test_the_table_of_traffic(capacity: int, fused: float, once: float, buffered: float, unfused: float) -> None:
    found = analysis(ATTENTION, **SIZES)
    value = atomic(found.at(capacity)).value
    assert value is not None
    assert value / 1e6 == pytest.approx(fused, abs=0.051)
    one, several, again, spilled = sweeps(found, capacity, "m")
    for schedule, expected in ((one, once), (several, buffered), (spilled, unfused)):
        assert schedule.value is not None
        assert schedule.value / 1e6 == pytest.approx(expected, abs=0.051)
        assert found.spaces.value(schedule.formula, capacity) == pytest.approx(schedule.value)
    assert one.value is not None and again.value is not None
    # Three passes recomputed read K in each: (3E + F)/(E + F) = 2 times.
    assert again.value - 2 * N * D == 2 * (one.value - 2 * N * D)


def test_the_crossover_of_the_table() -> None:
    """At S = 8192 fused rows move 134 million elements and products one by one 129; at 16384, d^2, 67 against 101."""
    found = analysis(ATTENTION, **SIZES)
    for capacity, fused, unfused in ((8192, 134.2, 129.0), (16384, 67.1, 101.2)):
        value, spilled = atomic(found.at(capacity)).value, sweeps(found, capacity, "m")[-1].value
        assert value is not None and spilled is not None
        assert (value / 1e6, spilled / 1e6) == pytest.approx((fused, unfused), abs=0.5)


def test_a_step_of_decoding_moves_its_cache_once() -> None:
    found = analysis(ATTENTION, p=1, m=N, e=D, f=D)
    for capacity in (1024, 16384, 262144):
        assert found.at(capacity).value == found.compulsory.value == 2 * N * D + 2 * D


def test_compulsory_traffic() -> None:
    assert analysis(ATTENTION, **SIZES).compulsory.value == 4 * N * D
    assert str(analysis(ATTENTION, **SIZES).compulsory.formula) == "E*M + E*P + F*M + F*P"


def test_one_pass_meets_the_fused_bound() -> None:
    """1-pass = P M (E+F)^2/S + P (E+F) up to the rounding of tiles, where a row takes E + F + 2 elements."""
    found = analysis(ATTENTION, **SIZES)
    for rows in (64, 128, 512):
        capacity = rows * (2 * D + 2)
        schedule = Sweeps(found, "m").once(capacity)
        assert schedule.rows == rows
        assert schedule.value == N * N * 2 * D / rows + N * 2 * D
        bound = atomic(found.at(capacity)).value
        assert bound is not None and schedule.value is not None
        assert bound <= schedule.value <= (bound * (2 * D + 2) / (2 * D) + N * 2 * D) * (1 + 1e-9)


def test_keys_that_stay_pay_for_results_that_go_by() -> None:
    """FlashAttention-1's order, K and V of a tile kept while Q and the output go by: (E + 2F)/(E + F) = 1.5 times the traffic of FlashAttention-2's."""
    found = analysis(ATTENTION, **SIZES)
    capacity = 512 * (2 * D + 2)
    rows, keys = (Sweeps(found, rank).once(capacity) for rank in ("m", "p"))
    assert rows.value is not None and keys.value is not None and keys.rows is not None
    assert keys.value == -(-N // keys.rows) * N * 3 * D - N * D + N * 2 * D
    # Without what each order moves once.
    assert (keys.value - N * D) / (rows.value - N * 2 * D) == pytest.approx(1.5)
    assert str(keys.formula).count("2*F") == 1


def test_deferral_saves_a_pass() -> None:
    """Division deferred: two passes, (2E + F) in place of (3E + F)."""
    derivation = derive(ATTENTION, "test", None)
    binding = nominal_binding(derivation.declared, SIZES)
    later = Analysis(deferred(normalize(dict(derivation.stages)["inline"])), binding.extents, binding.scalars)
    schedules = Sweeps(later, "m")
    assert schedules.levels.passes == 2
    assert schedules.streamed_per_pass() == (("K",), ("V", "K"))
    rows = 64
    assert schedules.recomputed(rows * (2 * D + 2)).value == N * N * 3 * D / rows + N * 2 * D
    # Where a sum is stored after a map, the map's result pays for it: the fused bound does not change.
    assert atomic(later.at(65536)).value == atomic(analysis(ATTENTION, **SIZES).at(65536)).value


@pytest.mark.parametrize("d", [32, 64, 128])
def test_the_best_class_changes_at_the_square_of_the_head_dimension(d: int) -> None:
    """Saha & Ye: fused attention wins for S above d^2, products one by one below."""
    found = analysis(ATTENTION, p=4096, m=4096, e=d, f=d)
    first = found.crossovers(d * d / 16, d * d * 16, 8)[0]
    assert first.below == "cut into groups"
    assert first.above == "fused, m,p atomic"
    assert first.capacity == pytest.approx(d * d, rel=0.02)


def test_tiles_of_scores_win_over_whole_rows_below_the_square() -> None:
    """2 sqrt((E+F)(E+2F)) P M/sqrt(S) against P M (E+F)^2/S: at S = 2/3 d^2."""
    found = analysis(ATTENTION, **SIZES)
    for factor, tiled_is_less in ((0.5, True), (0.6, True), (0.75, False), (1.0, False)):
        names = {b.name.split(" ")[1]: b.value for b in found.at(factor * D * D).classes}
        assert (names["tiles"] < names["m,p"]) is tiled_is_less


def formula_of(text: str, capacity: int = 65536, **sizes: float) -> str:
    return str(atomic(analysis(text, **({**SIZES, **sizes} if "F" not in sizes else sizes)).at(capacity)).formula)


def test_weights_come_from_the_tensors() -> None:
    assert formula_of(ATTENTION) == "M*P*(E + F)**2/S"
    assert formula_of(CAUSAL) == "P*(E + F)**2*(P + 1)/(2*S)"
    assert formula_of(WINDOW, W=256) == "W*(E + F)**2*(2*P - W + 1)/(2*S)"
    assert formula_of(BIAS) == "M*P + M*P*(E + F)**2/S"  # a bias is read once at every point
    assert formula_of(GROUPED, h=8, g=2) == "H*M*P*(E + F)**2/S"
    assert formula_of(LATENT, 2**18, h=16, p=N, m=N, e=576, F=512) == "E*H*M*P*(E + F)/S"  # values are part of the keys


def test_the_backward_cascade() -> None:
    """Alpha = 3d (Q, dO, dQ) and two statistics, beta = 4d (K, V, dK, dV): 12 N^2 d^2/S."""
    value = atomic(analysis(BACKWARD, **SIZES).at(2**16)).value
    assert value == pytest.approx(N * N * (3 * D + 2) * 4 * D / 2**16)


def test_grouped_heads_share_keys_and_values() -> None:
    found = analysis(GROUPED, h=8, g=2, **SIZES)
    assert found.compulsory.value == (8 + 8 + 2 + 2) * N * D
    # All of the traffic at once: the group's heads pack into one tile of rows.
    assert found.at(2**22).value == found.compulsory.value


def test_no_spill_contains_the_others() -> None:
    found = analysis(ATTENTION, **SIZES)
    for power in range(10, 22):
        report = found.at(2**power)
        assert report.no_spill.value is not None
        assert report.no_spill.value <= report.value
        assert found.spaces.value(report.no_spill.formula, 2**power) == pytest.approx(report.no_spill.value)
    # It tends to the simple form where S is far above d^2.
    far = found.at(2**18)
    value, simple = far.no_spill.value, atomic(far).value
    assert value is not None and simple is not None
    assert 0.8 * simple <= value <= simple


def test_the_curve_falls_and_formulas_have_its_values() -> None:
    found = analysis(ATTENTION, **SIZES)
    curve = found.curve([2**k for k in range(8, 24, 2)])
    assert all(a[1] >= b[1] for a, b in itertools.pairwise(curve))
    for capacity, value in curve:
        report = found.at(capacity)
        assert report.value == pytest.approx(max(value, report.compulsory.value or 0))
        assert found.spaces.value(report.formula, capacity) == pytest.approx(report.value, rel=2e-3)


@pytest.mark.parametrize("text", [ATTENTION, CAUSAL])
@pytest.mark.parametrize("capacity", [300, 1000, 5000, 20000, 10**5, 10**6])
def test_no_named_schedule_moves_less_than_the_bound(text: str, capacity: int) -> None:
    found = analysis(text, p=1024, m=1024, e=64, f=64)
    least = found.at(capacity).value
    for schedule in sweeps(found, capacity, "m")[:3]:
        assert schedule.value is None or schedule.value >= least * (1 - 1e-9)
