"""Compilers, the cache on disk, kernels as data, and what a launch refuses."""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from einsum_compiler.backends.cpu import compile_artifact, compile_kernel, load
from einsum_compiler.backends.cpu.build import Toolchain, compiler_version, instruction_set, runs_here, shared_object
from einsum_compiler.ir.errors import BackendError, ShapeError, ToolchainError
from einsum_compiler.ir.tile_parser import parse_kernel
from tests.backends.tile_samples import SAMPLES

TEXT = """
kernel scaled(X: f32[N]; c: f64, k: i64; extents n) -> Y: f32[N] {
  program n.1 in (N + 15) // 16
  x: f32[n.0:16] = load X[16 * n.1 + n.0] where 16 * n.1 + n.0 < N fill 0
  store Y[16 * n.1 + n.0] over n.0:16 = x * c + k where 16 * n.1 + n.0 < N
}
"""
KERNEL = parse_kernel(TEXT)


def operands(n: int = 40) -> dict[str, torch.Tensor]:
    return {"X": torch.arange(n, dtype=torch.float32), "Y": torch.full((n,), -1.0)}


SCALARS = {"c": 0.5, "k": 3}


# Compilers -------------------------------------------------------------------------------------------------------------------


def test_a_missing_compiler_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(BackendError) as error:
        compile_kernel(KERNEL, cache_directory=tmp_path, compiler="no-such-compiler")
    assert str(error.value) == (
        "error: the CPU backend needs a C++ compiler and found no 'no-such-compiler'\n"
        "note: install one: apt install g++, dnf install gcc-c++, or conda install gxx\n"
        "note: or name another in EINSUM_CXX, for example EINSUM_CXX=g++-13"
    )


def test_another_compiler_that_refuses_is_named(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo other 1.0 && exit 0\necho "error: no such builtin" >&2\nexit 1\n'
    )
    other.chmod(0o755)
    with pytest.raises(ToolchainError) as error:
        shared_object("int f();\n", Toolchain(str(other), "portable"), tmp_path, "refused")
    assert error.value.notes == (
        f"kernels are written for GCC, and {other} is another compiler",
        "error: no such builtin",
    )


def test_refused_code_is_shown_with_line_numbers(tmp_path: Path) -> None:
    with pytest.raises(ToolchainError) as error:
        shared_object("int f() {\n  return 1 +;\n}\n", Toolchain("g++", "portable"), tmp_path, "broken")
    assert "failed on generated code (portable)" in str(error.value)
    assert "error: expected primary-expression" in str(error.value)
    assert "    2 |   return 1 +;" in str(error.value)
    assert not list(tmp_path.glob("*.so")) and not list(tmp_path.glob("*.partial"))
    assert pickle.loads(pickle.dumps(error.value)).code == error.value.code


def test_unknown_instruction_sets() -> None:
    with pytest.raises(BackendError) as error:
        instruction_set("sse9")
    assert str(error.value) == "error: unknown instruction set 'sse9'; one of native, avx512, avx2, portable"


@pytest.mark.parametrize("name", ["attention_bf16", "window"])
def test_code_for_avx512_compiles_anywhere(name: str, tmp_path: Path) -> None:
    artifact = compile_artifact(SAMPLES[name]().kernel, isa="avx512bf16", cache_directory=tmp_path)
    assert artifact.path.exists() and artifact.isa == "avx512bf16"
    if not runs_here("avx512bf16"):
        with pytest.raises(BackendError) as error:
            load(artifact)
        assert str(error.value) == (
            f"error: this processor does not execute avx512bf16, for which kernel '{artifact.name}' was compiled"
        )


# The cache -------------------------------------------------------------------------------------------------------------------


def test_a_known_key_needs_neither_emitter_nor_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compile_kernel(KERNEL, cache_directory=tmp_path, key="abc")
    monkeypatch.setattr("einsum_compiler.backends.cpu.emit.emit_cpu", lambda kernel: pytest.fail("emitted again"))
    warm = compile_kernel(KERNEL, cache_directory=tmp_path, key="abc", compiler="no-such-compiler")
    found = operands()
    warm(found, SCALARS, {"n": 40})
    assert torch.equal(found["Y"], found["X"] * 0.5 + 3)


def test_the_same_source_is_compiled_once_and_other_flags_anew(tmp_path: Path) -> None:
    first = compile_artifact(KERNEL, isa="portable", cache_directory=tmp_path)
    stamp = first.path.stat().st_mtime_ns
    assert compile_artifact(KERNEL, isa="portable", cache_directory=tmp_path) == first
    assert first.path.stat().st_mtime_ns == stamp
    assert compile_artifact(KERNEL, isa="avx512", cache_directory=tmp_path).path != first.path


def test_threads_that_compile_the_same_kernel_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        paths = {a.path for a in pool.map(lambda _: compile_artifact(KERNEL, cache_directory=tmp_path), range(4))}
    assert len(paths) == 1 and len(list(tmp_path.glob("*.so"))) == 1


def test_an_artifact_runs_in_another_process_without_the_compiler_passes(tmp_path: Path) -> None:
    artifact = compile_artifact(KERNEL, cache_directory=tmp_path)
    (tmp_path / "artifact").write_bytes(pickle.dumps(artifact))
    code = f"""
import pickle, sys, torch
from einsum_compiler.backends.cpu import load
kernel = load(pickle.load(open({str(tmp_path / "artifact")!r}, "rb")))
before = set(sys.modules)
y = torch.empty(5)
kernel(dict(X=torch.ones(5), Y=y), dict(c=2.0, k=1), dict(n=5))
assert y.tolist() == [3.0] * 5
assert not {{"jinja2", "lark", "islpy", "einsum_compiler.backends.cpu.emit", "einsum_compiler.passes"}} & set(sys.modules)
omp = {{line.split()[-1] for line in open("/proc/self/maps") if "libgomp" in line}}
assert len(omp) == 1, omp
"""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=False)
    assert done.returncode == 0, done.stderr


def test_a_truncated_entry_counts_as_missing(tmp_path: Path) -> None:
    kernel = compile_kernel(KERNEL, cache_directory=tmp_path, key="abc")
    (tmp_path / f"abc-{kernel.describe().isa}.pickle").write_bytes(b"\x80")
    compile_kernel(KERNEL, cache_directory=tmp_path, key="abc")


def test_compilers_are_told_apart() -> None:
    assert compiler_version("/usr/bin/true") != compiler_version(sys.executable)


def test_flags_of_gcc_are_for_gcc_alone(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo "other 1.0" && exit\n'
        'case "$*" in *-fno-thread-jumps*) echo "error: unknown flag" >&2; exit 1;; esac\nexec g++ "$@"\n'
    )
    other.chmod(0o755)
    both = [compile_kernel(KERNEL, cache_directory=tmp_path, compiler=name) for name in ("g++", str(other))]
    results = []
    for kernel in both:
        tensors = operands()
        kernel(tensors, SCALARS, {"n": 40})
        results.append(tensors["Y"])
    assert len(list(tmp_path.glob("*.so"))) == 2
    assert torch.equal(*results)


# Launches --------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scaled(tmp_path_factory: pytest.TempPathFactory) -> object:
    return compile_kernel(KERNEL, cache_directory=tmp_path_factory.mktemp("cpu"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": torch.zeros(40, dtype=torch.float64)}, "'X' is f64; kernel 'scaled' takes f32"),
        ({"X": torch.zeros(40, dtype=torch.complex64)}, "'X' is torch.complex64; kernel 'scaled' takes f32"),
        ({"X": torch.zeros(4, 10)}, "'X' of kernel 'scaled' has 2 axes, expected 1"),
        ({"Y": torch.zeros(41)}, "'Y' of kernel 'scaled' has shape [41], expected [40]"),
        ({"X": torch.zeros(40, device="meta")}, "'X' is on meta; kernel 'scaled' runs on the CPU"),
    ],
)
def test_operands_that_do_not_fit(scaled: object, change: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(ShapeError) as error:
        scaled(operands() | change, SCALARS, {"n": 40})  # type: ignore[operator]
    assert str(error.value) == f"error: {message}"


def test_a_missing_operand(scaled: object) -> None:
    with pytest.raises(ShapeError) as error:
        scaled({"X": torch.zeros(4)}, SCALARS, {"n": 4})  # type: ignore[operator]
    assert str(error.value) == "error: kernel 'scaled' needs the operand 'Y'"


def test_extents_beyond_32_bits(scaled: object) -> None:
    huge = torch.zeros(1).expand(2**29)
    with pytest.raises(BackendError) as error:
        scaled({"X": huge, "Y": huge}, SCALARS, {"n": 2**29})  # type: ignore[operator]
    assert str(error.value) == "error: extent N = 536870912 exceeds 268435456, the largest of the CPU backend"


def test_a_call_costs_little_beyond_the_kernel(scaled: object) -> None:
    found = operands(1)
    best = float("inf")
    for _ in range(200):
        start = time.perf_counter()
        scaled(found, SCALARS, {"n": 1})  # type: ignore[operator]
        best = min(best, time.perf_counter() - start)
    assert best < 40e-6  # 8 us on an idle machine
