"""The GPU benchmark where there is no GPU: it says so, and its check runs under Triton's interpreter."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from benchmarks.gpu_cases import CASES, EXAMPLES
from einsum_compiler.ir.errors import AccuracyError
from einsum_compiler.ir.parser import parse

pytest.importorskip("triton")


def test_without_a_gpu_it_gives_the_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main(["--folder", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "skipped: no GPU: torch.cuda.is_available() is false\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_the_check_runs_under_the_interpreter(direction: str) -> None:
    case = next(c for c in CASES if c.cascade == "causal")
    found = gpu.check(gpu.shrunk(case, gpu.SMALL), 16, direction, "cpu", seed=3)
    assert set(found) == ({"O", "L"} if direction == "forward" else {"dQ", "dK", "dV"})


def test_what_a_kernel_does_not_write_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    from einsum_compiler.backends.triton.launch import CompiledKernel

    monkeypatch.setattr(CompiledKernel, "__call__", lambda *given: None)
    case = next(c for c in CASES if c.cascade == "causal")
    with pytest.raises(AccuracyError, match=r"O.* is nan"):
        gpu.check(gpu.shrunk(case, gpu.SMALL), 16, "forward", "cpu", seed=4)


def test_every_cascade_of_the_examples_is_a_case_that_binds() -> None:
    declared = {(p.stem, c.name): c for p in EXAMPLES.glob("*.ein") for c in parse(p.read_text(), str(p)).cascades}
    assert {(c.file, c.cascade) for c in CASES} == set(declared)
    for case in CASES:
        for sizes in (gpu.SMALL, gpu.CHECKED):
            gpu.shrunk(case, sizes).binding(declared[(case.file, case.cascade)], 16)
        case.binding(declared[(case.file, case.cascade)], 64)
