"""The numbers of a report: data moved against the bound, times, and the pictures that show them."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

import einsum_compiler as ec
from einsum_compiler import cli
from einsum_compiler.compilation import Compilation, compilation
from einsum_compiler.cost.considered import predictions
from einsum_compiler.cost.device import Device, device
from einsum_compiler.movement import Movement, movement
from einsum_compiler.nominal import nominal_binding
from einsum_compiler.passes.traffic import traffic_of
from einsum_compiler.quantities import duration, ratio, rounded, scaled
from einsum_compiler.report.plot import Axis, Curve, Guide, Mark, plot, ticks
from einsum_compiler.report.slope import bound_curve
from einsum_compiler.report.times import times
from tests.front.programs import ATTENTION
from tests.passes import zoo

DENSE = ATTENTION.replace(" where n <= m", "")
PLAN = "plan attention { kernel O { program b, h, m:64  stream n:32  resident e, f } }"


def compiled(text: str, plan: str | None = None, **sizes: int) -> Compilation:
    kernel = ec.compile(text, plan=plan)
    return compilation(kernel.derivation, nominal_binding(kernel.cascade, sizes), "cpu", kernel.plan)


def moved(program: Compilation, on: str = "h200") -> Movement:
    return movement(program, device(on))


def number(text: str) -> float:
    """What a printed quantity stands for."""
    value, prefix = re.fullmatch(r"([\d.]+) ?([kMGTP]?)(?:B|el)?", text).groups()  # type: ignore[union-attr]
    return float(value) * 10 ** (3 * " kMGTP".index(prefix or " "))


# -- quantities ---------------------------------------------------------------------------------------------------------------


def test_quantities_have_three_digits_and_a_unit() -> None:
    assert [scaled(n, "B") for n in (0, 7, 999, 1000, 999_600, 16_777_216)] == [
        "0 B", "7 B", "999 B", "1.00 kB", "1.00 MB", "16.8 MB",
    ]  # fmt: skip
    assert [duration(s) for s in (1.5, 0.0123, 4.56e-6, 7e-9, 0.9999)] == [
        "1.50 s",
        "12.3 ms",
        "4.56 us",
        "7.00 ns",
        "1.00 s",
    ]
    assert [ratio(r) for r in (1, 12.34, 1234.5)] == ["1.00", "12.3", "1,234"]
    assert [rounded(v, "B") for v in (1000, 2.5e6)] == ["1 kB", "2.5 MB"]


# -- data movement ------------------------------------------------------------------------------------------------------------


def test_every_tile_of_queries_reads_all_keys() -> None:
    """By hand: 256 queries in tiles of 64 read K and V four times; Q and O pass once."""
    found = moved(compiled(DENSE, PLAN, b=1, h=2, m=256, n=256, e=32, f=32))
    once = 2 * 256 * 32 * 4
    rows = {t.tensor: t for t in found.tensors}
    assert {n: t.programs_ratio for n, t in rows.items()} == {
        "Q": "1.00", "K": "4.00", "V": "4.00", "O": "1.00", "all": "2.50",
    }  # fmt: skip
    assert rows["K"].least == scaled(once, "B") and rows["K"].programs == scaled(4 * once, "B")
    assert rows["all"].memory == scaled(4 * once, "B"), "a cache of 52 MB holds everything"
    assert found.kernels == (4 * once,)


@pytest.mark.parametrize("name", ["ATTENTION", "CAUSAL", "COLUMN_SUM", "CLIPPED", "LAYERNORM_GEMM", "UNION"])
def test_no_plan_moves_less_than_the_bound(name: str) -> None:
    program = compiled(getattr(zoo, name))
    for on in ("cpu", "h200"):
        found = moved(program, on)
        assert len(found.levels) >= 2
        assert any(level.ratio for level in found.levels)
        for level in found.levels:
            if not level.plan.startswith("a program holds"):
                assert number(level.plan) >= 0.995 * number(level.bound), level
        total = sum(
            traffic_of(p.tile, {**program.binding.extents, **p.planned.extents}, program.binding.scalars, {}).bytes or 0
            for p in program.parts
        )
        assert found.tensors[-1].tensor == "all" and found.tensors[-1].programs == scaled(total, "B")


def test_the_curve_falls_to_each_element_once() -> None:
    from einsum_compiler.bounding import analysis_of

    program = compiled(DENSE, b=1, h=1)
    analysis = analysis_of(program.derivation, program.binding)
    points = bound_curve(analysis, 64.0, 2.0**26)
    assert all(a[0] < b[0] and a[1] >= b[1] * 0.999 for a, b in pairwise(points))
    assert points[-1] == (2.0**26, analysis.compulsory.value)
    assert points[0][1] > 5 * points[-1][1]


def test_numbers_that_depend_on_values_are_named() -> None:
    text = ATTENTION.replace("V[b,h,n,f];", "V[b,h,n,f], D1: i32[m], D2: i32[n];").replace("n <= m", "D1[m] == D2[n]")
    found = moved(compiled(text, m=1024, n=1024))
    assert found.tensors[-1].programs == "depends on values" and "which tiles are visited" in found.notes[0]


def test_mixed_types_are_counted_in_elements() -> None:
    kernel = ec.compile(DENSE)
    binding = nominal_binding(kernel.cascade, {}, "bf16", None, {"V": "f32"})
    found = moved(compilation(kernel.derivation, binding, "cpu", None))
    assert found.unit == "elements" and number(found.tensors[0].least) == pytest.approx(4 * 4 * 1024 * 64, rel=0.01)


# -- time ---------------------------------------------------------------------------------------------------------------------


def gpu(program: str) -> tuple[Compilation, Device]:
    kernel = ec.compile(program, backend="triton")
    binding = nominal_binding(kernel.cascade, {}, "bf16")
    return compilation(kernel.derivation, binding, "triton", None), device("h200")


@pytest.mark.parametrize("name", ["ATTENTION", "COLUMN_SUM"])
def test_predicted_times_are_those_of_the_cost_model(name: str) -> None:
    for program, on in ((compiled(getattr(zoo, name)), device("cpu")), gpu(getattr(zoo, name))):
        found = times(program, on, None, movement(program, on).kernels, None)
        expected = predictions([p.planned for p in program.parts], program.request, on)
        assert [k.time for k in found.kernels] == [duration(p.seconds) for p in expected]
        assert found.predicted == duration(sum(p.seconds for p in expected))
        assert found.measured == "" and "measured" not in found.roofline
        assert found.compared[0].ratio == "1.00 ×"


def test_a_measured_time_is_a_point_of_the_roofline() -> None:
    program, on = compiled(DENSE), device("cpu")
    found = times(program, on, None, movement(program, on).kernels, 0.25)
    work = program.parts[0].work.operations
    assert work is not None and found.measured == "250 ms"
    assert f"measured: {scaled(work / 0.25, 'op/s')}" in found.roofline


def test_a_page_with_a_measurement_and_one_for_another_device(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "row.ein"
    source.write_text("cascade row(X[m,n]) -> Y[m] {\n  Y[m] = sum[n](X[m,n] * X[m,n])\n}\n")
    page = source.with_suffix(".html")
    assert cli.main(["report", str(source), "--size", "m=64,n=64", "--measure"]) == 0
    assert "Measured: <b>" in page.read_text()
    assert cli.main(["report", str(source), "--device", "h200"]) == 0
    assert "NVIDIA H200" in page.read_text() and "tl" in page.read_text()
    capsys.readouterr()
    assert cli.main(["report", str(source), "--device", "h200", "--backend", "cpu"]) == 2
    assert "runs kernels of the backend triton" in capsys.readouterr().err
    assert cli.main(["report", str(source), "--device", "toaster"]) == 1
    assert "unknown device 'toaster'" in capsys.readouterr().err


# -- plots --------------------------------------------------------------------------------------------------------------------


def test_a_point_stands_where_its_numbers_say() -> None:
    x, y = Axis("x", str, 1.0, 10_000.0), Axis("y", str, 1.0, 100.0)
    marks = [Mark(1.0, 1.0, "low", "a"), Mark(10_000.0, 100.0, "high", "a"), Mark(100.0, 10.0, "middle", "a")]
    svg = ElementTree.fromstring(plot("points", x, y, [Curve(((1.0, 1.0), (10_000.0, 100.0)), "line")], marks))
    low, high, middle = [(float(c.get("cx", "")), float(c.get("cy", ""))) for c in svg.iter("circle")]
    assert middle == pytest.approx(((low[0] + high[0]) / 2, (low[1] + high[1]) / 2), abs=0.02)
    assert low[0] < high[0] and low[1] > high[1]


def test_labels_of_points_in_one_place_do_not_cover_each_other() -> None:
    x, y = Axis("x", str, 1.0, 100.0), Axis("y", str, 1.0, 100.0)
    marks = [Mark(10.0, 10.0 + i / 10, f"a rather long label {i}", "a") for i in range(4)]
    svg = ElementTree.fromstring(plot("crowd", x, y, [], marks, [Guide(10.0, "here")]))
    places = [(float(t.get("x", "")), float(t.get("y", ""))) for t in svg.iter("text") if "rather" in (t.text or "")]
    for i, a in enumerate(places):
        for b in places[i + 1 :]:
            assert abs(a[1] - b[1]) >= 12 or abs(a[0] - b[0]) >= 100


def test_ticks_are_round_and_few() -> None:
    for least, most in ((1e-3, 1e12), (300.0, 700.0), (0.9, 40.0), (64.0, 1e9)):
        found = ticks(Axis("", str, least, most))
        assert 2 <= len(found) <= 10 and all(least <= t <= most for t in found)
        assert all(round(t / 10 ** math.floor(math.log10(t) + 1e-9), 6) in range(1, 10) for t in found)
