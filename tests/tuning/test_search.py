"""Searches: candidates that misbehave, the comparison at the end, interruption, and what cannot be tuned."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import einsum_compiler as ec
from einsum_compiler.ir.binding import Binding, bind
from einsum_compiler.tuning.interruption import Interruption
from einsum_compiler.tuning.lookup import tuned_plan
from einsum_compiler.tuning.result import FAILED, MEASURED, OPEN, TuningResult, conclusion
from einsum_compiler.tuning.search import Limits
from einsum_compiler.tuning.tune import Options, tune

# One small kernel whose plans differ in the tile of m alone.
ROWS = """
cascade rows(X[m,e]) -> Y[m] {
  Y[m] = sum[e](X[m,e] * X[m,e])
}
"""
PLAN = "plan rows {{\n  kernel Y {{ program m:{}  stream e:16 }}\n}}"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """And one thread: on a busy machine two wait for each other."""
    monkeypatch.setenv("EINSUM_CACHE_DIR", str(tmp_path))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def rows(m: int = 40) -> tuple[ec.Kernel, Binding]:
    kernel = ec.compile(ROWS, backend="cpu")
    return kernel, bind(kernel.cascade, (torch.randn(m, 16),), {})


def search(hook: str, *tiles: int, **limits: float) -> tuple[ec.Kernel, Binding, TuningResult]:
    kernel, binding = rows()
    given = tuple(PLAN.format(t) for t in tiles)
    options = Options(
        Limits(**{"budget": 100.0, "time": 0.02, **limits}), hook=f"tests.tuning.hooks:{hook}", given=given
    )
    return kernel, binding, tune(kernel, binding, options)


def tile_of(plan: str) -> int:
    return int(plan.split("m:")[1].split()[0]) if "m:" in plan else 1


def test_candidates_that_misbehave_do_not_end_the_search() -> None:
    kernel, _, result = search("misbehave", 2, 3, 4, 5, 6, 7, 8, run=2.0)
    said = {tile_of(t.plan): t.reason for t in result.trials if t.outcome == FAILED}
    assert said[2] == "crashes: the process died of SIGSEGV"
    assert said[3] == "crashes: the process died of SIGKILL"
    assert said[4].startswith("hangs: no answer in 2")
    assert said[5].startswith("wrong: Y[") and "budget" in said[5]
    assert said[6] == "wrong: Y[39] is not written, or NaN"
    assert said[7] == "RuntimeError: out of luck"
    assert [t.outcome for t in result.trials[:2]] == [MEASURED, MEASURED]
    assert result.chosen is not None and tile_of(result.chosen) == 8
    assert result.ratio is not None and result.ratio > 2
    assert conclusion(result).startswith("chosen: m:8 over e:16, ")
    for line in ("chosen", "crashes: the process", "2 measured, 6 failed"):
        assert line in str(result)
    # Later calls use it: of this kernel, of others, and at sizes near by; not far away.
    for found in (kernel, rows()[0]):
        assert "program m:8 " in found.ir("plan", torch.randn(50, 16))
        x = torch.randn(40, 16)
        torch.testing.assert_close(found(x), (x * x).sum(1))
    assert "program m:8 " not in kernel.ir("plan", torch.randn(80, 16))


def test_a_tuned_plan_is_never_slower_than_the_default() -> None:
    kernel, binding, result = search("fast_alone", 4, 8)
    timed = {tile_of(t.plan): t.measured or 0.0 for t in result.trials}
    assert timed[8] < timed[tile_of(result.default.plan)] / 2
    assert result.chosen is None and result.plan == ec.parse_plan(result.default.plan)
    assert result.ratio is not None and result.ratio < 0.9
    assert "the default plan is kept: in turns with it, the best candidate reached 0." in str(result)
    assert next(t for t in result.trials if tile_of(t.plan) == 4).reason == "crashes: the process died of SIGKILL"
    found = tuned_plan(kernel, binding, "cpu")
    assert found is not None and found.plan is None


@pytest.fixture
def listening() -> Iterator[None]:
    """A process started in the background of a script ignores interruptions, and so would the search."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("listening")
def test_an_interruption_keeps_what_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEARCH", str(os.getpid()))
    kernel, binding, result = search("interrupt", 4, 8)
    outcomes = {tile_of(t.plan): t.outcome for t in result.trials}
    assert result.interrupted and outcomes[4] == MEASURED and outcomes[8] == OPEN
    assert result.chosen is not None and tile_of(result.chosen) == 4
    assert "(interrupted)" in str(result)
    # The next search of these sizes times only what is left.
    options = Options(Limits(100.0), hook="tests.tuning.hooks:misbehave", given=(PLAN.format(4), PLAN.format(8)))
    again = tune(kernel, binding, options)
    assert {tile_of(t.plan): t.outcome for t in again.trials}[8] == MEASURED
    assert [t.measured for t in again.trials if tile_of(t.plan) == 4] == [
        t.measured for t in result.trials if tile_of(t.plan) == 4
    ]


@pytest.mark.usefixtures("listening")
def test_an_interruption_inside_a_destructor_is_not_lost() -> None:
    """Python drops what is raised there; the search waits for it instead."""

    class Interrupting:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    interruption = Interruption()
    with interruption.awaited():
        interruption.wait([], 0.0)
        Interrupting()  # gone at once
        with pytest.raises(KeyboardInterrupt):
            interruption.wait([], 60.0)
        interruption.wait([], 0.0)
    assert interruption.happened and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    interruption.close()


def test_the_first_candidate_is_measured_whatever_the_budget() -> None:
    _, _, result = search("misbehave", 8, 9, 10, budget=1e-6)
    assert result.finished and result.chosen is not None and tile_of(result.chosen) == 8
    assert [t.outcome for t in result.trials] == [MEASURED, MEASURED, OPEN, OPEN]
    assert "4 candidates" in str(result) and "2 measured, 2 not reached" in str(result)


def test_a_reference_of_nan_is_no_check() -> None:
    """Roots of normal numbers are NaN, and anything agrees with NaN: inputs are drawn again without their signs."""
    from einsum_compiler.tuning.task import task_of
    from einsum_compiler.tuning.worker import _Worker

    kernel = ec.compile(ROWS.replace("X[m,e] * X[m,e]", "sqrt(X[m,e])"), backend="cpu")
    binding = bind(kernel.cascade, (torch.rand(40, 16),), {})
    worker = _Worker(task_of(kernel, binding, "cpu", Path(os.environ["EINSUM_CACHE_DIR"])))
    assert not worker.reference.gold["Y"].isnan().any() and (worker.binding.tensors["X"] >= 0).all()
    assert worker.check(kernel.executable(binding)).startswith("Y: error ")


def test_what_cannot_be_tuned() -> None:
    kernel, binding = rows()
    x = binding.tensors["X"]

    def message(call: object) -> str:
        assert callable(call)
        with pytest.raises(ec.EinsumError) as caught:
            call()
        return f"{type(caught.value).__name__}: {caught.value.message}"

    assert (
        message(lambda: kernel.tune(x, budget=0)) == "BackendError: a budget is a positive number of seconds, found 0"
    )
    assert message(lambda: kernel.tune(x.to("meta"))).startswith("BackendError: tensors on the device 'meta'")
    assert message(lambda: ec.compile(ROWS, backend="triton").tune(x)).startswith(
        "BackendError: times under Triton's interpreter"
    )
    assert message(lambda: ec.compile(ROWS, plan=PLAN.format(8)).tune(x)).startswith(
        "PlanError: this kernel has a given"
    )
    assert message(lambda: ec.compile(ROWS, plan=PLAN.format(8), tune=True)).startswith("PlanError: a plan is given")
    assert message(lambda: ec.compile(ROWS, backend="reference", tune=True)).startswith(
        "BackendError: the backend 'ref"
    )
    assert message(lambda: kernel.tune(x, hook="tests.tuning.hooks:none")).startswith("BackendError: no hook 'tests.")
    given = Options(given=("plan rows { kernel Z { program m:4 } }",))
    assert message(lambda: tune(kernel, binding, given)).startswith("PlanError: the plan has kernels for Z")
