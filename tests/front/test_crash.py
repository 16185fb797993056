"""Defects of the compiler: an error that says so, and a file that reproduces them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import einsum_compiler as ec
from einsum_compiler.cli import main
from einsum_compiler.crash import Case, read_case
from tests.front.programs import ATTENTION, qkv

DEFECTS = {
    "normalize": "einsum_compiler.passes.registry.normalize",
    "online": "einsum_compiler.passes.online.online",
    "lower": "einsum_compiler.passes.lowering.lower.lower",
    "emit": "einsum_compiler.backends.cpu.emit.emit_cpu",
}


def defect(*arguments: object, **options: object) -> None:
    raise ZeroDivisionError("a planted defect")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from einsum_compiler.building import BUILT

    monkeypatch.setenv("EINSUM_CACHE_DIR", str(tmp_path))
    for key in list(BUILT):
        monkeypatch.delitem(BUILT, key)
    return tmp_path


def plant(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    if where == "normalize":
        from einsum_compiler.passes import registry
        from einsum_compiler.passes.pipeline import Pass

        step = registry.PASSES["normalize"]
        monkeypatch.setitem(registry.PASSES, "normalize", Pass("normalize", step.options, defect))
    else:
        monkeypatch.setattr(DEFECTS[where], defect)


@pytest.mark.parametrize("where", DEFECTS)
def test_a_crash_names_the_step_and_writes_what_reproduces_it(
    where: str, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = "plan attention { kernel O { program b, h, m:32  stream n:32  resident e, f } }"
    with monkeypatch.context() as patch:
        plant(patch, where)
        with pytest.raises(ec.InternalError) as caught:
            ec.compile(ATTENTION, plan=plan)(*qkv(dtype=torch.bfloat16), scale=0.5)
        (path,) = cache.glob("repro-*.ein")
        assert str(caught.value) == (
            f"error: the compiler failed in '{where}': ZeroDivisionError: a planted defect\n"
            "note: this is a defect of the compiler, not of the program\n"
            f"note: what reproduces it is in {path}\n"
            f"note: einsumc repro {path}"
        )
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        # The file is a program like any other, and says how it failed.
        written = path.read_text()
        assert (
            written.endswith(ATTENTION) and "ZeroDivisionError: a planted defect" in written and '"torch": "' in written
        )
        assert main(["repro", str(path)]) == 1
        assert "the compiler failed in" in capsys.readouterr().err
    case = read_case(path)
    assert case.text == ATTENTION
    if where == "normalize":
        assert case == Case(ATTENTION, "<text>")
    else:
        assert case.dtypes == dict.fromkeys("QKV", "bf16")
        assert case.shapes == {"Q": [1, 2, 40, 16], "K": [1, 2, 50, 16], "V": [1, 2, 50, 16]}
        assert (case.backend, case.parameters, case.plan) == ("cpu", {"scale": 0.5}, str(ec.parse_plan(plan)))
    assert main(["repro", str(path)]) == 0
    assert capsys.readouterr().out == "the compiler does not fail here any more\n"


def test_a_crash_in_a_pipeline_of_passes(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "attention.ein"
    text.write_text(ATTENTION)
    with monkeypatch.context() as patch:
        plant(patch, "normalize")
        assert main(["opt", str(text), "-p", "inline,normalize"]) == 1
        assert "the compiler failed in 'normalize': ZeroDivisionError" in capsys.readouterr().err
    (path,) = cache.glob("repro-*.ein")
    assert read_case(path).pipeline == "inline,normalize"
    assert main(["repro", str(path)]) == 0


def test_views_of_a_program_are_covered_too(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = ec.compile(ATTENTION)
    plant(monkeypatch, "lower")
    for view in (lambda: kernel.explain(*qkv()), lambda: kernel.ir("tile"), lambda: kernel.source("triton")):
        with pytest.raises(ec.InternalError, match="the compiler failed in 'lower'"):
            view()


def test_errors_of_the_user_and_interrupts_pass_through(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(DEFECTS["lower"], stop)
    with pytest.raises(KeyboardInterrupt):
        ec.compile(ATTENTION)(*qkv())
    assert not list(cache.glob("repro-*"))


def test_a_file_that_is_no_reproducer(tmp_path: Path) -> None:
    path = tmp_path / "plain.ein"
    path.write_text(ATTENTION)
    with pytest.raises(ec.SpecError) as caught:
        read_case(path)
    assert str(caught.value) == f"error: {path} is not a reproducer: it has no line '#! step: ...'"
