"""Records of tuned plans: which sizes they serve, several processes, damage, and files for other machines."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import einsum_compiler as ec
from einsum_compiler.ir.binding import Binding, bind
from einsum_compiler.ir.errors import EinsumWarning
from einsum_compiler.tuning import records
from einsum_compiler.tuning.lookup import dtypes_of, place_of
from einsum_compiler.tuning.result import Trial, TuningResult
from einsum_compiler.tuning.transfer import UnusableFile, read_results, take_over
from einsum_compiler.tuning.tune import digest_of, versions_now

TEXT = """
cascade banded(X[m,e], Y[n,e]; W: int = 8, causal: bool = false, scale = 0.5) -> Z[m] {
  Z[m] = sum[n,e](X[m,e] * Y[n,e] * scale) where m - n < W and (n <= m or not causal)
}
"""
PLAN = "plan banded {\n  kernel Z { program m:24  stream n:64  resident e }\n}"
ROOT = Path(__file__).resolve().parents[2]


def bound(m: int = 1000, n: int = 1000, e: int = 16, **scalars: Any) -> Binding:
    return bind(ec.compile(TEXT).cascade, (torch.empty(m, e), torch.empty(n, e)), scalars)


def result(binding: Binding, chosen: str | None = PLAN, **more: Any) -> TuningResult:
    kernel = ec.compile(TEXT)
    place = place_of(kernel, dtypes_of(binding), "cpu")
    trials = (Trial(PLAN.replace("24", "96"), 2e-3, 1.5e-3, "measured"), Trial(PLAN, 1e-3, 1e-3, "measured"))
    known: dict[str, Any] = {
        "program": "banded", "digest": digest_of(TEXT), "backend": "cpu", "extents": dict(binding.extents), "dtypes": dtypes_of(binding),
        "scalars": dict(binding.scalars), "fixed": ("e",), "machine": dict(place.machine), "versions": versions_now(), "trials": trials,
        "chosen": chosen, "ratio": 1.5, "default_seconds": 1.5e-3, "chosen_seconds": 1e-3, "finished": True,
    }  # fmt: skip
    return TuningResult(**{**known, **more})


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EINSUM_CACHE_DIR", str(tmp_path / "cache"))


def test_a_record_serves_the_sizes_near_its_own() -> None:
    record = asdict(result(bound()))
    assert records.distance(record, bound()) == 0
    for near in (bound(m=1400), bound(m=720, n=1200), bound(W=11), bound(scale=3.0)):
        assert (records.distance(record, near) or 0) >= 0
    for far in (bound(m=1500), bound(n=700), bound(e=17), bound(W=16), bound(causal=True), bound(m=1), bound(m=0)):
        assert records.distance(record, far) is None
    one = asdict(result(bound(m=1)))
    assert records.distance(one, bound(m=1)) == 0 and records.distance(one, bound(m=2)) is None


def test_the_nearest_finished_record_counts() -> None:
    kernel = ec.compile(TEXT)
    place = place_of(kernel, dtypes_of(bound()), "cpu")
    assert records.find(place, bound()) is None
    other = PLAN.replace("24", "48")
    records.keep(place, asdict(result(bound(m=1000))))
    records.keep(place, asdict(result(bound(m=1300), other)))
    records.keep(place, asdict(result(bound(m=1250), None, finished=False)))
    found = records.find(place, bound(m=1250))
    assert found is not None and str(found.plan) == other and not found.exact
    known = records.exact(place, bound(m=1250))
    assert known is not None and known.trials == result(bound()).trials
    records.keep(place, asdict(result(bound(m=1250), None)))
    found = records.find(place, bound(m=1250))
    assert found is not None and found.plan is None and found.exact
    assert "program m:24 " in kernel.ir("plan", torch.empty(900, 16), torch.empty(1000, 16))


def _write(path: Path, first: int) -> None:
    place = records.Place(path, {}, {})
    record = asdict(result(bound()))
    for m in range(first, first + 15):
        records.keep(place, {**record, "extents": {**record["extents"], "m": m}})


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "tuned" / "a.json"
    fork = multiprocessing.get_context("fork")
    writers = [fork.Process(target=_write, args=(path, 100 * i)) for i in range(1, 4)]
    for writer in writers:
        writer.start()
    while any(w.is_alive() for w in writers):
        if path.exists():  # a reader never sees half a file
            assert json.loads(path.read_text())["format"] == 1
    assert [w.exitcode for w in writers] == [0] * 3
    kept = sorted(r["extents"]["m"] for r in json.loads(path.read_text())["records"])
    assert kept == [100 * i + k for i in range(1, 4) for k in range(15)]
    assert not list(path.parent.glob("*.partial"))


def test_damaged_files_count_as_missing() -> None:
    place = place_of(ec.compile(TEXT), dtypes_of(bound()), "cpu")
    place.path.parent.mkdir(parents=True)
    for text in ("", "[]", "{}", '{"records": 3}', '{"records": [{"extents": {}}, 4]}', "\x00"):
        place.path.write_text(text)
        assert records.find(place, bound()) is None
    record = asdict(result(bound(), "plan of nothing"))
    place.path.write_text(json.dumps({"format": 1, "records": [record]}))
    with pytest.warns(EinsumWarning, match="holds a record that is no plan: it is not used"):
        assert records.find(place, bound()) is None


def test_a_plan_that_does_not_fit_nearby_sizes_is_left_alone() -> None:
    kernel = ec.compile(TEXT)
    records.keep(
        place_of(kernel, dtypes_of(bound()), "cpu"), asdict(result(bound(), "plan banded { kernel A { program m } }"))
    )
    assert kernel.ir("plan", torch.empty(1000, 16), torch.empty(1000, 16)).startswith("plan banded {\n  kernel Z")


def test_a_file_carries_plans_to_another_cache_and_another_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel, path = ec.compile(TEXT), tmp_path / "tuned.json"
    tuned = result(bound())
    tuned.save(path)
    assert read_results(path, kernel) == [tuned]
    lines, again, _ = take_over(kernel, [tuned])
    assert again == [] and lines == [
        "taken over: chosen: m:24 over n:64, 1.000 ms against 1.500 ms of the default: 1.50 x in turns"
    ]
    found = records.find(place_of(kernel, dtypes_of(bound()), "cpu"), bound())
    assert found is not None and str(found.plan) == PLAN
    # What another machine or version measured is measured again.
    elsewhere = replace(tuned, machine={**tuned.machine, "device": "Another CPU"})
    lines, again, sizes = take_over(kernel, [elsewhere])
    assert PLAN in again and sizes["m"] == 1000 and sizes["W"] == 8
    assert lines[0].startswith("timed again, since device is ") and "was Another CPU" in lines[0]
    lines, again, _ = take_over(kernel, [replace(tuned, versions={**tuned.versions, "code": "0"})])
    assert again and lines[0].startswith("timed again, since the code of the compiler has changed")


def test_files_that_are_none(tmp_path: Path) -> None:
    kernel, path = ec.compile(TEXT), tmp_path / "tuned.json"

    def message() -> str:
        with pytest.raises(UnusableFile) as caught:
            read_results(path, kernel)
        return str(caught.value).replace(str(path), "FILE")

    assert message() == "cannot read FILE: No such file or directory"
    for text in ("", "[]", "{}", '{"format": 1}', '{"format": 1, "records": [3]}'):
        path.write_text(text)
        assert message() == "FILE is no file of tuned plans"
    path.write_text('{"format": 9, "records": []}')
    assert message() == "FILE has the format 9; this version reads 1"
    replace(result(bound()), digest="0").save(path)
    assert message() == "FILE holds plans for banded, none for this text of banded"


TUNED_CALL = """
import torch
import einsum_compiler as ec
torch.set_num_threads(1)
x = torch.randn(40, 16)
kernel = ec.compile("cascade rows(X[m,e]) -> Y[m] {\\n  Y[m] = sum[e](X[m,e] * X[m,e])\\n}", tune=2.0)
torch.testing.assert_close(kernel(x), (x * x).sum(1))
kernel(torch.randn(44, 16))
"""


def test_of_two_processes_that_would_tune_one_does(tmp_path: Path) -> None:
    import os

    environment = {**os.environ, "EINSUM_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT), "EINSUM_DEBUG": "1"}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", TUNED_CALL], env=environment, cwd=ROOT, text=True, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=200)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sum(line.startswith("einsum_compiler: tuning rows") for text in said for line in text.splitlines()) == 1
