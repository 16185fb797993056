"""Bounds of cascades that nobody listed make sense."""

from __future__ import annotations

import itertools

import pytest

from einsum_compiler.passes.bounds.result import Bound, BoundReport
from tests.bounds.cases import (
    BATCHED,
    CHAIN,
    CONVOLUTION,
    DIFFERENTIAL,
    EXPANDED,
    LINEAR,
    MATMUL,
    NORM,
    RECURRENCE,
    SEGMENTS,
    TALKING,
    TENSOR,
    WINDOW,
    analysis,
)

LONG = {"p": 4096, "m": 4096, "e": 128, "f": 128}


def named(report: BoundReport, end: str) -> Bound:
    return next(b for b in report.classes if b.name.endswith(end))


def test_differential_attention_has_two_score_products_and_one_value() -> None:
    report = analysis(DIFFERENTIAL, **LONG).at(2**18)
    assert str(named(report, "atomic").formula) == "M*P*(2*E + F)**2/S"
    assert report.value == pytest.approx(4096**2 * 384**2 / 2**18)


def test_mixing_heads_needs_all_heads_of_a_pair_at_once() -> None:
    """The bound is H times that of separate heads, so cutting wins at capacities where attention would be fused."""
    found = analysis(TALKING, h=8, g=8, j=8, **LONG)
    assert str(named(found.at(2**20), "p,m atomic").formula) == "G*H + G*J + M*P*(E*H + F*J)**2/S"
    assert found.at(2**16).optimal.startswith("cut")
    assert found.at(2**20).optimal == "fused, p,m atomic"


def test_linear_attention_is_compulsory_once_its_state_fits() -> None:
    found = analysis(LINEAR, **LONG)
    assert found.at(128 * 128).value == pytest.approx(4 * 4096 * 128, rel=0.02)
    assert found.at(128 * 128 // 16).value > 1.5 * 4 * 4096 * 128
    assert any("nothing non-linear" in a for a in found.at(2**16).classes[0].assumptions)


def test_three_way_scores() -> None:
    """Three arrays of weight E + F over (p, m, l): 4 |V| (E+F)^3/S^2."""
    report = analysis(TENSOR, p=1024, m=1024, l=1024, e=32, f=32).at(4096)
    assert str(named(report, "atomic").formula) == "4*L*M*P*(E + F)**3/S**2"


def test_statistics_of_a_norm_cost_nothing() -> None:
    norm, plain = analysis(NORM, m=4096, k=1024, n=1024), analysis(MATMUL, m=4096, k=1024, n=1024)
    for capacity in (2**12, 2**16):
        assert (
            norm.at(capacity).value == plain.at(capacity).value == pytest.approx(2 * 4096 * 1024 * 1024 / capacity**0.5)
        )


def test_a_window_has_linear_traffic() -> None:
    short, long = (analysis(WINDOW, p=n, m=n, e=64, f=64, W=256).at(2**15).value for n in (8192, 16384))
    assert long == pytest.approx(2 * short, rel=0.05)


def test_batches_multiply() -> None:
    one, four = (analysis(BATCHED, b=b, m=512, n=512, k=512).at(4096).value for b in (1, 4))
    assert four == 4 * one


def test_a_convolution_moves_its_operands() -> None:
    """I + R + M elements; an index m + r counts what it reaches, 65535 + ..., not the product of its ranks."""
    found = analysis(CONVOLUTION, i=65536, r=128)
    assert found.compulsory.value == 65536 + 128 + (65536 - 127)
    assert found.at(4096).value == found.compulsory.value
    assert found.at(8).value > found.compulsory.value


def test_a_chain_of_products_is_not_cheaper_cut_than_its_parts() -> None:
    found = analysis(CHAIN, m=8192, a=512, b=512, c=512, d=512)
    report = found.at(2**12)
    cut = next(b for b in report.classes if b.name.startswith("cut"))
    assert cut.name == "cut, Y1, Y2 stored"
    assert cut.value == pytest.approx(3 * 2 * 8192 * 512**2 / 2**6)
    assert any("another order of contraction" in a for a in cut.assumptions)
    assert found.at(2**24).value == found.compulsory.value


def test_keys_and_values_expanded_from_latents() -> None:
    found = analysis(EXPANDED, h=16, p=1024, m=1024, e=128, f=128, c=512)
    assert found.compulsory.value == 1024 * 512 + 2 * 16 * 128 * 512 + 2 * 16 * 1024 * 128
    assert found.at(2**24).value == found.compulsory.value


def test_filters_that_read_tensors_leave_the_compulsory_bound() -> None:
    report = analysis(SEGMENTS, **LONG).at(2**16)
    assert report.value == report.compulsory.value
    assert report.best.schedules == "every schedule"
    assert "what the values of SQ leave reaches all that K can be read at" in report.compulsory.assumptions
    assert "QK is computed where the values of SQ say" in report.notes


def test_a_recurrence_carries_its_state() -> None:
    found = analysis(RECURRENCE, t=4096, e=64, f=64)
    assert found.at(2**14).value == found.compulsory.value == 4096 * (64 * 4 + 1)


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        (DIFFERENTIAL, {"p": 256, "m": 256, "e": 32, "f": 32}),
        (TALKING, {"h": 2, "g": 2, "j": 2, "p": 256, "m": 256, "e": 32, "f": 32}),
        (TENSOR, {"p": 32, "m": 32, "l": 32, "e": 8, "f": 8}),
        (CHAIN, {"m": 512, "a": 64, "b": 64, "c": 64, "d": 64}),
        (EXPANDED, {"h": 2, "p": 256, "m": 256, "e": 32, "f": 32, "c": 64}),
        (NORM, {"m": 256, "k": 64, "n": 64}),
    ],
)
def test_more_memory_never_costs_more_and_everything_fits_in_the_end(text: str, sizes: dict[str, int]) -> None:
    found = analysis(text, **sizes)
    values = [found.at(2**k).value for k in range(6, 26, 4)]
    assert all(a >= b * (1 - 1e-3) for a, b in itertools.pairwise(values))
    assert values[-1] == found.compulsory.value
