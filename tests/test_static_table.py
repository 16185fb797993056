"""The committed static figures: no default plan on sm_90 spills or asks for too much shared memory, and they are those of the code."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.gpu_cases import CASES
from benchmarks.static import RESULTS, Row, Setting, load, resident, row_of, save
from einsum_compiler.cost.device import device, device_for
from einsum_compiler.tuning.machine import versions

pytest.importorskip("triton")

ROWS = load(RESULTS / "static.json")
# Not in the table: their first plans spill, and compiling the next ones takes minutes.
LEFT_OUT = {"block_max", "combiner", "landmark", "music_rel", "talking_heads", "transnext"}
# Nothing that was tried keeps these in registers.
SPILL: set[str] = set()


def test_default_plans_of_sm_90_fit() -> None:
    limits = device_for("triton", "sm_90").limits
    assert limits is not None
    found = [r for r in ROWS.values() if (r.target, r.direction) == ("sm_90", "forward")]
    assert {r.case for r in found if r.width == 64} == {c.cascade for c in CASES} - LEFT_OUT
    assert not [r.case for r in found if r.refusal]
    assert {r.case for r in found if r.spills or any(k["shared"] > limits.shared for k in r.kernels)} == SPILL


def test_attention_runs_on_warp_groups() -> None:
    for name in ("attention", "causal", "grouped", "window", "alibi", "soft_cap", "segment"):
        for row in (r for r in ROWS.values() if (r.case, r.target, r.direction) == (name, "sm_90", "forward")):
            assert row.spills == 0 and all(
                set(k["matrix"]) == {"wgmma"} and k["matrix"]["wgmma"] >= 12 for k in row.kernels
            )


BACKWARD = (
    "alibi", "alibi_fixed", "attention", "bias", "causal", "chunk_causal", "chunk_ids", "cross", "dilated", "grouped", "key_bias", "out_gate", "out_scale", "padding", "prefix_lm",
    "seg_table", "segment", "sink_logit", "sink_window", "soft_cap", "t5_bias", "temperature", "weighted_keys", "window",
)  # fmt: skip


def test_backward_plans_of_attention_fit() -> None:
    found = {k: r for k, r in ROWS.items() if r.direction == "backward"}
    wanted = {f"{n} {w} backward sm_90" for n in BACKWARD for w in (64, 128)}
    assert wanted <= found.keys()
    assert not {r.case for r in found.values() if r.spills or r.refusal}
    assert all(any("wgmma" in k["matrix"] for k in r.kernels) for r in found.values())


@pytest.mark.parametrize(
    "name",
    ["causal", "seg_table", pytest.param("diff", marks=pytest.mark.slow), pytest.param("tree", marks=pytest.mark.slow)],
)
def test_the_table_is_that_of_the_code(name: str) -> None:
    setting = Setting(next(c for c in CASES if c.cascade == name), 64, "forward", "sm_90")
    found, known = row_of(setting, None), ROWS[setting.key]
    assert found.spills == 0
    if versions()["triton"] == "3.9.0":
        assert (found.plans, found.kernels) == (known.plans, known.kernels)


def test_programs_of_a_processor() -> None:
    h100, mi300x = device("h100"), device("mi300x")
    assert resident(h100, 4, 122, 32768) == 4  # by registers: 65536 / (128 * 128)
    assert resident(h100, 8, 64, 100_000) == 2  # by shared memory
    assert resident(h100, 8, 24, 0) == 8  # by warps
    assert resident(mi300x, 4, 128, 65536) == 1


def test_rows_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "static.json"
    row = Row("causal", 1, 64, "forward", "sm_90", "code", ["plan"], [{"spills": 8}])
    save(path, {"key": row})
    assert load(path) == {"key": row} and load(path)["key"].spills == 8
