"""``einsumc tune``: what it prints, the file it writes and reads, and wrong arguments."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from einsum_compiler.cli import main
from tests.tuning.test_search import ROWS

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Exit code, standard output and standard error of a command, in a folder with ``rows.ein`` and a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EINSUM_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "rows.ein").write_text(ROWS)

    def command(*arguments: str) -> tuple[int, str, str]:
        try:
            code = main(arguments)
        except SystemExit as stop:  # argparse
            code = int(stop.code or 0)
        found = capsys.readouterr()
        return code, found.out, found.err

    return command


def test_wrong_arguments_exit_with_2(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{}")
    for arguments, message in (
        (["--budget", "0"], "--budget: expected a positive number of seconds, found 0"),
        (["-o", "no/tuned.json"], "--output: there is no folder 'no'"),
        (["--import", "no.json"], "--import: cannot read no.json: No such file or directory"),
        (["--import", "bad.json"], "--import: bad.json is no file of tuned plans"),
        (["--size", "q=3"], "--size: rows has no rank or parameter q; there are e, m"),
    ):
        assert run("tune", "rows.ein", *arguments) == (2, "", f"einsumc tune: error: {message}\n")
    code, out, err = run("tune", "rows.ein", "--budget", "soon")
    assert (code, out) == (2, "") and "argument --budget: invalid float value: 'soon'" in err
    code, out, err = run("tune", "rows.ein", "--plan", "plan rows { kernel Y { program m:4  stream e:16 } }")
    assert (code, out) == (1, "") and err.startswith("error: this kernel has a given plan")
    code, out, err = run("tune", "rows.ein", "--backend", "triton", "--size", "m=40,e=16")
    assert (code, out) == (1, "") and err.startswith("error: times under Triton's interpreter say nothing about a GPU")


def test_tuning_prints_a_table_and_writes_a_file_that_can_be_imported(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        size = ["--size", "m=40,e=600"]
        # Some candidates, not all: on a busy machine the first ones take longer than the smallest of these budgets.
        for budget in ("0.1", "0.4", "1.6"):
            code, out, err = run("tune", "rows.ein", *size, "--budget", budget, "-o", "tuned.json")
            if '"finished": true' in Path("tuned.json").read_text():
                break
        assert (code, err) == (0, "")  # no bar where standard error is no terminal
        assert re.search(r"^rows on cpu, E=600, M=40$", out, re.MULTILINE)
        assert re.search(r"default: .* ms .*\n", out) and "predicted" in out and "not reached" in out
        assert re.search(r"^(chosen: |the default plan is kept: )", out.splitlines()[-1])
        monkeypatch.setenv("EINSUM_CACHE_DIR", str(tmp_path / "another"))
        code, out, err = run("tune", "rows.ein", "--import", "tuned.json")
        assert (code, err) == (0, "") and out.startswith("taken over: ") and len(out.splitlines()) == 1
    finally:
        torch.set_num_threads(before)
