"""The command line: what each command prints, exit codes, and errors on standard error."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from einsum_compiler.cli import main
from tests.front.programs import ATTENTION, SCALED

ROOT = Path(__file__).resolve().parents[2]
WRONG = ATTENTION.replace("V[b,h,n,f]\n", "V[b,h,n]\n")
SUSPICIOUS = (
    "cascade mean(P[m,n], V[n,f]) -> O[m,f] {\n  D[m] = sum[n](P[m,n])\n  O[m,f] = sum[n](P[m,n] * V[n,f]) / D[m]\n}\n"
)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Writes a text to ``a.ein`` in the current folder."""
    monkeypatch.chdir(tmp_path)

    def write(text: str) -> str:
        (tmp_path / "a.ein").write_text(text)
        return "a.ein"

    return write


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Exit code, standard output and standard error of a command."""

    def command(*arguments: str) -> tuple[int, str, str]:
        try:
            code = main(arguments)
        except SystemExit as stop:  # argparse
            code = int(stop.code or 0)
        found = capsys.readouterr()
        return code, found.out, found.err

    return command


Run = Callable[..., tuple[int, str, str]]
File = Callable[[str], str]


def test_check(file: File, run: Run) -> None:
    assert run("check", file(ATTENTION)) == (0, "", "")
    assert run("check", file(WRONG)) == (
        1,
        "",
        (
            "a.ein:4:29: error: V has 4 ranks (b,h,n,f), found 3 indices\n"
            "    O[b,h,m,f] = A[b,h,m,n] * V[b,h,n]\n"
            "                              ^~~~~~~~\n"
        ),
    )
    assert run("check", file(SUSPICIOUS)) == (
        0,
        "",
        (
            "a.ein:3:12: warning: a quotient of two sums over n is 0/0 where nothing is summed\n"
            "    O[m,f] = sum[n](P[m,n] * V[n,f]) / D[m]\n"
            "             ^~~~~~~~~~~~~~~~~~~~~~~~~~~~~~\n"
            "note: divide the weights before the second sum: A = P / D, then sum A * V\n"
        ),
    )


def test_wrong_arguments_exit_with_2(file: File, run: Run) -> None:
    path = file(ATTENTION)
    for arguments, message in (
        (["check", "no.ein"], "einsumc check: error: there is no file 'no.ein'\n"),
        (["check", path, "--name", "x"], "einsumc check: error: no cascade 'x' in a.ein; there are attention\n"),
        (
            ["run", path, "--size", "q=3"],
            "einsumc run: error: --size: attention has no rank or parameter q; there are b, e, f, h, m, n, scale\n",
        ),
        (
            ["run", path, "--dtype", "X=f32"],
            "einsumc run: error: --dtype: attention has no input X; there are Q, K, V\n",
        ),
        (
            ["opt", path, "-p", "fold"],
            "einsumc opt: error: -p: unknown pass 'fold'; one of inline, normalize, lattices, reassociate, flatten, box_order, split, defer, online, precision\n",
        ),
        (
            ["opt", path, "-p", "inline", "--print-after", "online"],
            "einsumc opt: error: --print-after: no pass 'online' in the pipeline; there are inline\n",
        ),
        (
            ["source", path, "--backend", "cpu", "--target", "sm_90"],
            "einsumc source: error: target sm_90 is not one of the backend cpu\n",
        ),
        (
            ["compile", path, "--backend", "triton"],
            "einsumc compile: error: --backend triton needs a --target: sm_80, sm_90, sm_100, gfx942\n",
        ),
    ):
        assert run(*arguments) == (2, "", message)
    for arguments, end in (
        (["run", path, "--size", "m"], "error: argument --size: 'm': expected name=number\n"),
        (
            ["run", path, "--dtype", "x32"],
            "error: argument --dtype: 'x32' is no element type; one of f64, f32, f16, bf16,",
        ),
        (["frobnicate"], "error: argument COMMAND: invalid choice: 'frobnicate'"),
        ([], "error: the following arguments are required: COMMAND\n"),
    ):
        code, out, err = run(*arguments)
        assert (code, out) == (2, "") and end in err


def test_a_wrong_plan_and_a_wrong_result_exit_with_1(file: File, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    path = file(SCALED)
    assert run("run", path, "--plan", "plan x { kernel Y { program m } }", "--size", "m=4,n=5,e=3")[::2] == (
        1,
        "error: the plan has kernels for Y; this program needs Z; C\n",
    )
    monkeypatch.setattr("einsum_compiler.validate.FACTOR", -1e9)
    code, _, err = run("run", path, "--size", "m=4,n=5,e=3")
    assert code == 1 and err.startswith("error: Z[")


def test_run(file: File, run: Run) -> None:
    code, out, err = run("run", file(SCALED), "--size", "m=4,n=5,e=3,w=7", "--dtype", "bf16,Y=f32", "--seed", "3")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[:2] == ["Z: [4] float32", "C: [4] int64"]
    assert (
        re.fullmatch(r"Z: error \S+, plain \S+, budget \S+", lines[2]) and lines[3] == "C: error 0, plain 0, budget 0"
    )


def test_bench(file: File, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "einsum_compiler.cost.calibration.calibrate", lambda: None
    )  # plans of later tests must not depend on it
    monkeypatch.setattr("einsum_compiler.benchmark.measure", lambda call, seconds, wait: [call() and 1e-3] * 5)
    monkeypatch.setattr("einsum_compiler.benchmark.statistics.median", lambda times: 1e-3)
    monkeypatch.setattr("einsum_compiler.benchmark.min", lambda times: 1e-3, raising=False)
    monkeypatch.setattr("einsum_compiler.benchmark.max", lambda times: 1e-3, raising=False)
    code, out, err = run("bench", file(SCALED), "--size", "m=4,n=5,e=3")
    assert (code, err) == (0, "")
    assert re.fullmatch(
        r"median 1\.000 ms of 5 runs \(1\.000 to 1\.000 ms\); 0\.0 GFLOP/s of tile operations; 0\.00 GB/s of compulsory traffic; "
        r"predicted 0\.0\d\d ms, limited by \w+\n",
        out,
    )


def test_passes(file: File, run: Run, golden: Callable[..., None]) -> None:
    code, out, err = run("passes", file(ATTENTION), "--size", "m=300,n=300")
    assert (code, err) == (0, "")
    golden(out)


def test_explain(file: File, run: Run) -> None:
    code, out, err = run("explain", file(ATTENTION), "--size", "m=256,n=256")
    assert (code, err) == (0, "") and "what it forces: passes over each reduced rank" in out
    assert "plans compared by predicted time" in out


def test_opt_prints_what_is_asked_for(file: File, run: Run, golden: Callable[..., None]) -> None:
    path = file(ATTENTION)
    code, out, err = run("opt", path, "-p", "inline,normalize,flatten", "--print-after=changed", "--verify=each")
    assert (code, err) == (0, "")
    golden(out)
    # What is printed is a text again.
    Path("b.ein").write_text(out.split("\n\n")[-1])
    assert run("opt", "b.ein", "-p", "inline") == (0, out.split("\n\n")[-1], "")
    every = run("opt", path, "-p", "inline,normalize,flatten", "--print-after=all")[1]
    one = run("opt", path, "-p", "inline,normalize,flatten", "--print-after=inline")[1]
    heads = [[line for line in text.splitlines() if line.startswith("#")] for text in (every, out, one)]
    assert heads == [
        ["# after inline", "# after normalize", "# after flatten"],
        ["# after inline", "# after normalize"],
        ["# after inline"],
    ]
    timed = run("opt", path, "-p", "inline,normalize", "--time")[1].splitlines()[:2]
    assert [re.sub(r"[\d.]+", "T", line) for line in timed] == ["#     T ms  inline", "#     T ms  normalize"] or all(
        "ms" in t for t in timed
    )


def test_opt_finds_a_pass_that_changes_values(file: File, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from einsum_compiler.ir.parser import parse
    from einsum_compiler.passes import registry
    from einsum_compiler.passes.certificate import Transformed
    from einsum_compiler.passes.pipeline import Pass

    other = parse(SCALED.replace("* w", "+ w")).cascade(None)
    step = registry.PASSES["flatten"]
    monkeypatch.setitem(registry.PASSES, "flatten", Pass("flatten", step.options, lambda *_: Transformed(other)))
    monkeypatch.setenv("EINSUM_CACHE_DIR", str(Path.cwd()))
    code, out, err = run("opt", file(SCALED), "-p", "flatten", "--verify=each")
    assert (code, out) == (1, "")
    assert err.startswith("error: the compiler failed in 'flatten': after flatten: the values of 'Z' changed\n")
    assert run("opt", file(SCALED), "-p", "flatten")[0] == 0


def test_source(file: File, run: Run) -> None:
    path = file(ATTENTION)
    code, out, err = run("source", path, "--target", "sm_90")
    assert (code, err) == (0, "") and "import triton" in out
    assert run("source", path, "--backend", "triton") == (0, out, "")
    code, out, err = run("source", path)
    assert (code, err) == (0, "") and out.startswith("// Generated from the tile program")


def test_compile(file: File, run: Run) -> None:
    path = file(ATTENTION)
    code, out, err = run("compile", path, "--target", "sm_90", "--dtype", "bf16", "--size", "m=4096,n=4096,h=16")
    assert (code, err) == (0, "")
    assert re.search(r"attention for sm_90\n.*registers.*spills.*shared memory.*matrix instructions", out, re.DOTALL)
    assert re.search(r"attention\.O +│ +\d+ │ +\d+ │ +\d+ │ wgmma \d+", out)
    code, out, err = run("compile", path)
    assert (code, err) == (0, "") and "attention for native" in out and "Q, K, V, O" in out


def test_help_names_every_command(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    for name in ("check", "passes", "bound", "run", "bench", "source", "compile", "opt", "repro"):
        assert re.search(rf"^    {name} ", out, re.MULTILINE)
        code, text, _ = run(name, "--help")
        assert code == 0 and f"example: einsumc {name} " in text


def test_the_module_and_the_reader_of_a_pipe_that_leaves(file: File) -> None:
    path = Path(file(ATTENTION)).resolve()
    command = [sys.executable, "-m", "einsum_compiler.cli"]
    done = subprocess.run([*command, "check", str(path)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    piped = f"{sys.executable} -m einsum_compiler.cli opt {path} --print-after=all | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", piped], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("# after inline\n", "")
