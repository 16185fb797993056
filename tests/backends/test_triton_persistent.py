"""Persistent programs: a plan property that prints and parses, computes the same, and compiles for targets without a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import einsum_compiler as ec
from einsum_compiler.backends.triton.cross import cross_compile
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.launch import Launch
from einsum_compiler.ir.plan_parser import parse_plan
from tests.backends.tile_samples import attention

pytest.importorskip("triton")

CAUSAL = Path(__file__).resolve().parents[2] / "examples" / "causal.ein"
PLAN = "plan causal {{ kernel O, L {{ program b, h, m:16  stream n:16  resident e, f{} }} }}"


def inputs() -> tuple[torch.Tensor, ...]:
    return torch.randn(2, 2, 50, 16), torch.randn(2, 1, 50, 16), torch.randn(2, 1, 50, 16)


def test_it_prints_and_parses() -> None:
    plan = parse_plan(PLAN.format("  warps 8 stages 3  persistent 2"))
    assert plan.kernels[0].launch == Launch(8, 3, 2)
    assert str(plan).split() == PLAN.format(" warps 8 stages 3 persistent 2").split()
    assert parse_plan(str(plan)) == plan
    with pytest.raises(PlanError, match="'persistent many': expected a number of programs for every processor"):
        parse_plan(PLAN.format("  persistent many"))


def test_few_programs_do_the_work_of_all_under_the_interpreter() -> None:
    """16 programs on two processors, one each: the same numbers bit for bit."""
    given = inputs()
    kernels = [ec.compile(CAUSAL, backend="triton", plan=PLAN.format(more)) for more in ("", "  persistent 1")]
    assert ["tl.num_programs(0)" in k.source("triton", *given) for k in kernels] == [False, True]
    kernels[1].validate(*given)
    for once, in_turn in zip(kernels[0](*given), kernels[1](*given), strict=True):
        assert torch.equal(once, in_turn)


def test_the_loop_compiles_without_spills(tmp_path: Path) -> None:
    kernel = attention("bf16", depth=64, rows=128, keys=64)
    found = cross_compile(kernel, "sm_90", Launch(persistent=1), cache_directory=tmp_path)
    assert found.matrix_instructions["wgmma"] > 0 and found.spills == 0


def test_threads_of_a_cpu_take_program_after_program_anyway() -> None:
    with pytest.raises(PlanError, match="the plan has persistent programs, which a launch on a GPU has"):
        ec.compile(CAUSAL, backend="cpu", plan=PLAN.format("  persistent 1"))(*inputs())
