"""Devices as data: every file is complete, its figures agree with one another, and unknown names are refused."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from einsum_compiler.cost import calibration, cpu
from einsum_compiler.cost.cpu import estimate
from einsum_compiler.cost.device import Device, device, device_for, names
from einsum_compiler.ir.errors import BackendError

GPUS = [name for name in names() if name != "cpu"]


@pytest.mark.parametrize("name", GPUS)
def test_a_gpu_is_complete_and_says_where_its_figures_are_from(name: str) -> None:
    d = device(name)
    assert d.name == name
    assert len(d.sources) >= 2
    assert d.limits is not None
    assert [level.name for level in d.levels][:2] == ["registers", "shared"]
    assert d.memory.name == "memory"
    assert d.matrix["bf16"] > d.vector["f32"]


@pytest.mark.parametrize("name", GPUS)
def test_levels_grow_and_slow_down_outwards(name: str) -> None:
    levels = device(name).levels
    assert all(a.bandwidth > b.bandwidth for a, b in itertools.pairwise(levels))
    whole = [level.bytes * (device(name).processors if level.per == "processor" else 1) for level in levels]
    assert whole[-1] == max(whole)


@pytest.mark.parametrize("name", ["a100", "h100", "h200", "b200"])
def test_vector_peak_is_lanes_times_clock(name: str) -> None:
    """An SM has 64 (A100) or 128 lanes; the vector clock is at most 10 % above the one of the matrix units."""
    d = device(name)
    lanes = 64 if name == "a100" else 128
    assert 0.99 <= d.vector["f32"] / (d.processors * lanes * 2 * d.clock) <= 1.1


def test_an_unknown_device_names_what_was_meant() -> None:
    with pytest.raises(BackendError) as caught:
        device("h20")
    assert str(caught.value) == (
        "error: unknown device 'h20'; one of cpu, a100, b200, h100, h200, mi300x\nnote: did you mean h200?"
    )


def test_the_machine_here() -> None:
    d = estimate()
    assert isinstance(d, Device)
    assert d.processors >= 1
    assert d.matrix["f32"] < d.vector["f32"]
    assert d.memory.bytes > d.level("L2").bytes > d.level("L1").bytes


def test_figures_of_this_machine_are_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EINSUM_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cpu, "cpu_device", lambda: cpu._known() or cpu.estimate())  # other tests plan for a fixed one
    cpu._known.cache_clear()
    assert not cpu.cpu_device().measured
    found = calibration.calibrate()
    assert found.measured and found.sources == ("measured here with the runtime of the kernels",)
    assert found.matrix["f32"] < found.vector["f32"] and 0 < found.launch < 1e-2
    assert found.level("L1").bandwidth > found.memory.bandwidth
    monkeypatch.setattr(calibration, "_measured", lambda: pytest.fail("measured again"))
    cpu._known.cache_clear()  # as in another process
    assert calibration.calibrate() == cpu.cpu_device() == found
    cpu._known.cache_clear()


def test_a_target_names_its_device() -> None:
    assert device_for("triton", "sm_80").name == "a100"
    assert device_for("triton", "gfx942").name == "mi300x"
    assert device_for("cpu").name == "cpu"
