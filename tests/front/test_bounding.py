"""Bounds through the front door: ``Kernel.bounds``, ``einsumc bound``, capacities of devices."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import einsum_compiler as ec
from einsum_compiler.bounding import capacities
from einsum_compiler.cli import main
from einsum_compiler.compilation import compilation
from einsum_compiler.cost.device import device
from einsum_compiler.ir.errors import BackendError
from einsum_compiler.movement import moved_elements, plan_elements
from einsum_compiler.nominal import nominal_binding
from einsum_compiler.passes.traffic import footprint_of
from einsum_compiler.tuning.candidates import candidates
from tests.bounds.cases import ATTENTION
from tests.front.test_candidates import CAUSAL, NETWORK, RMSNORM_GEMM, SOFTMAX

SIZES = {"p": 2048, "m": 2048, "e": 64, "f": 64}


@pytest.fixture(scope="module")
def kernel() -> ec.Kernel:
    return ec.compile(ATTENTION, backend="cpu")


def test_a_capacity_in_elements(kernel: ec.Kernel) -> None:
    found = kernel.bounds(SIZES, capacity=65536)
    assert found.value == 2048 * 2048 * 128**2 / 65536
    assert str(found.formula) == "M*P*(E + F)**2/S"
    assert "QK, SN, A never stored" in found.schedules
    assert "Saha & Ye" in found.source
    assert found.report.best.latex() == r"\frac{M P \left(E + F\right)^{2}}{S}"
    assert found.curve([65536.0]) == ((65536.0, found.value),)


def test_a_device_has_two_levels(kernel: ec.Kernel) -> None:
    found = kernel.bounds(SIZES, device="h200")
    assert [level.level for level in found.levels] == ["processor", "L2"]
    assert found.value == found.at("processor").value
    assert found.at("L2").value == found.at("L2").compulsory.value == 4 * 2048 * 64
    h200 = device("h200")
    own = h200.level("registers").bytes + h200.level("shared").bytes
    assert capacities(h200, 2) == (("processor", own / 2), ("L2", (h200.level("L2").bytes + own * h200.processors) / 2))


def test_without_either_the_device_of_the_kernel(kernel: ec.Kernel) -> None:
    assert kernel.bounds(SIZES).levels[0].level == "processor"


def test_wrong_questions(kernel: ec.Kernel) -> None:
    with pytest.raises(ValueError, match="a device or a capacity, not both"):
        kernel.bounds(SIZES, device="h200", capacity=100)
    with pytest.raises(ValueError, match=r"a fast memory of 2\.0 elements holds no operands and result"):
        kernel.bounds(SIZES, capacity=2)
    with pytest.raises(BackendError, match="unknown device 'h999'"):
        kernel.bounds(SIZES, device="h999")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "attention.ein"
    path.write_text(ATTENTION)
    assert main(["bound", str(path), "--size", "p=2048,m=2048,e=64,f=64", "--capacity", "65536"]) == 0
    out = capsys.readouterr().out
    for text in (
        "│ K      │ read    │    131,072 │ E*M     │",
        "│ fused, m,p atomic               │ 1,048,576 │ M*P*(E + F)**2/S",
        "│ several passes, recomputed",
        "S = 4,096: below it cut into groups, above it fused, m,p atomic",
        "the Einsums as written: no other order of contraction, no algebra that saves products",
    ):
        assert text in out
    assert main(["bound", str(path), "--capacity", "3"]) == 2
    assert main(["bound", str(path), "--latex", "--device", "h200", "--dtype", "bf16"]) == 0
    assert r"\frac{" in capsys.readouterr().out


def test_a_plan_moves_at_least_what_it_must() -> None:
    """Traffic of plans against the compulsory elements of each tensor and the bound at a capacity that the kernel's tiles need."""
    for name, sizes in (
        ("causal", {"m": 300, "n": 300}),
        ("gqa", {"m": 200, "n": 333, "h": 4, "g": 2}),
        ("window", {"m": 513, "n": 513}),
    ):
        kernel = ec.compile(Path(__file__).parents[2] / "examples" / f"{name}.ein", backend="cpu")
        found = kernel.bounds(sizes, capacity=2**20)
        plan = plan_elements(kernel.derivation, nominal_binding(kernel.cascade, sizes), "cpu", None)
        for touched in found.report.touched:
            total = plan[touched.tensor]
            assert total is not None and total >= touched.count, (name, touched)
        assert sum(m or 0 for m in plan.values()) >= found.value


@pytest.mark.parametrize("text", [SOFTMAX, RMSNORM_GEMM, CAUSAL, NETWORK])
def test_no_plan_moves_less_than_the_bound_of_what_its_programs_hold(text: str) -> None:
    kernel = ec.compile(text, backend="cpu")
    sizes = {"h": 2, "m": 100, "n": 130, "k": 70, "e": 16, "f": 24}
    binding = nominal_binding(kernel.cascade, {r: n for r, n in sizes.items() if r in extents_of(kernel)})
    plans = [c.plan for c in candidates(kernel.derivation, binding, "cpu", exhaustive=True)]
    for plan in random.Random(text).sample(plans, min(8, len(plans))):
        compiled = compilation(kernel.derivation, binding, "cpu", plan)
        moved = sum(n for n in moved_elements(compiled).values() if n is not None)
        held = max(footprint_of(part.tile).total for part in compiled.parts) / 4
        assert moved >= kernel.bounds(binding.extents, capacity=max(64.0, held)).value, str(plan)


def extents_of(kernel: ec.Kernel) -> set[str]:
    return {r for t in kernel.cascade.inputs for r in t.ranks}


def test_explain_shows_the_bound_beside_the_plan(kernel: ec.Kernel, capsys: pytest.CaptureFixture[str]) -> None:
    text = kernel.explain()
    assert "│ all    │         │" in text
    assert "elements of one processor: " in text
    assert "times as many" in text


def test_sizes_by_an_unknown_name_say_which_names_there_are() -> None:
    kernel = ec.compile("cascade f(X[m,n]; T: int) -> Y[m] { Y[m] = sum[n](X[m,n] where n < T) }")
    with pytest.raises(ec.ShapeError) as caught:
        kernel.bounds({"M": 5})
    assert str(caught.value).splitlines() == [
        "error: no rank or parameter named M in f",
        "note: extents are given by rank: n, m; parameters: T",
    ]
