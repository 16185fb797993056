"""Tile programs as C++ on this machine, against the interpreter and against plain PyTorch in float64."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from einsum_compiler.backends.cpu import CpuKernel, compile_kernel, emit_cpu
from einsum_compiler.backends.cpu.build import instruction_set, runs_here
from einsum_compiler.backends.cpu.order import growing
from einsum_compiler.backends.reference.tile_interpreter import run_program
from einsum_compiler.ir.errors import BackendError
from einsum_compiler.ir.tile import TileProgram
from einsum_compiler.ir.tile_parser import parse_kernel
from tests.backends.tile_samples import SAMPLES, Sample, attention, normal, operands

HERE = instruction_set("native")
# Rounding of one result, relative to the largest: half a unit in the last place, and some for another order of sums.
BAND = {torch.float64: 2e-15, torch.float32: 6e-7, torch.float16: 1e-3, torch.bfloat16: 8e-3}


def compiled(text_or_kernel: object, isa: str = "native") -> CpuKernel:
    kernel = parse_kernel(text_or_kernel) if isinstance(text_or_kernel, str) else text_or_kernel
    return compile_kernel(kernel, isa=isa, cache_directory=Path(os.environ["EINSUM_CACHE_DIR"]) / "cpu")  # type: ignore[arg-type]


def check(found: Tensor, plain: Tensor, exact: Tensor) -> None:
    """NaN and infinities agree; the error is at most twice that of the same-type program, and a rounding band."""
    found, plain, exact = found.detach(), plain.detach(), exact.detach()
    if not found.dtype.is_floating_point:
        assert torch.equal(found, exact.to(found.dtype))
        return
    assert torch.equal(found.isnan(), exact.isnan())
    finite = exact.isfinite()
    assert torch.equal(found[~finite & ~exact.isnan()].double(), exact[~finite & ~exact.isnan()].double())
    if not finite.any():
        return
    error = (found.double() - exact.double())[finite].abs().max()
    theirs = (plain.double() - exact.double())[finite]
    theirs = theirs[theirs.isfinite()].abs().max() if theirs.isfinite().any() else torch.tensor(0.0)
    scale = exact.double()[finite].abs().max()
    assert error <= 2 * theirs + BAND[found.dtype] * max(float(scale), 1e-30), f"{error} against {theirs}"


def run_and_check(sample: Sample, isa: str = "native") -> dict[str, Tensor]:
    """Run a sample and compare all outputs with the interpreter, in its types and in float64."""
    kernel = compiled(sample.kernel, isa)
    tensors = operands(sample)
    kernel(tensors, sample.scalars, sample.extents)
    program = TileProgram("sample", (sample.kernel,))
    plain, _ = run_program(program, sample.tensors, sample.scalars, sample.extents)
    exact, _ = run_program(program, sample.tensors, sample.scalars, sample.extents, exact=True)
    for output in sample.kernel.outputs:
        check(tensors[output.name], plain[output.name], exact[output.name])
    return tensors


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_agree_with_the_interpreter(name: str) -> None:
    run_and_check(SAMPLES[name]())


@pytest.mark.parametrize("name", ["attention_bf16", "window", "gathered_bias", "batched"])
def test_plain_vectors_agree_too(name: str) -> None:
    run_and_check(SAMPLES[name](), "portable")


@pytest.mark.parametrize("isa", ["wide", "widepairs"])
@pytest.mark.parametrize("name", ["attention_f32", "attention_bf16", "window"])
def test_vectors_of_64_bytes_agree_too(name: str, isa: str) -> None:
    """What a machine with AVX-512 runs, without the builtins."""
    if not runs_here(isa):
        pytest.skip(f"this processor has no {isa}")
    run_and_check(SAMPLES[name](), isa)


@pytest.mark.slow
@pytest.mark.parametrize("isa", ["portable", "avx2", "avx512", "wide", "widepairs"])
@pytest.mark.parametrize("name", SAMPLES)
def test_every_instruction_set_that_runs_here(name: str, isa: str) -> None:
    if not runs_here(instruction_set(isa)):
        pytest.skip(f"this processor has no {isa}")
    run_and_check(SAMPLES[name](), isa)


# Attention against plain PyTorch ---------------------------------------------------------------------------------------------

DENSE = attention(rows=16, keys=16, depth=16)


def dense_kernel(rows: int, keys: int, depth: int) -> object:
    """The sample without its causal condition: every range of keys, the last tile partial."""
    from dataclasses import replace

    from einsum_compiler.ir.expression import Binary, Constant, Extent
    from einsum_compiler.ir.tile import Loop, Range, Select

    kernel = attention(rows=rows, keys=keys, depth=depth)
    whole = Binary("//", Extent("n"), Constant(keys))
    seen = Binary("//", Binary("+", Extent("n"), Constant(keys - 1)), Constant(keys))

    def dense(statement: object) -> object:
        if isinstance(statement, Loop):
            ranges = (Range(Constant(0), whole, False), Range(whole, seen, True))
            return replace(statement, ranges=ranges, body=tuple(dense(s) for s in statement.body))
        if isinstance(statement, Select):
            assert isinstance(statement.condition, Binary)
            return replace(statement, condition=statement.condition.right)
        return statement

    return replace(kernel, body=tuple(dense(s) for s in kernel.body))


@pytest.fixture(scope="module")
def causal() -> CpuKernel:
    return compiled(attention(rows=32, keys=32, depth=16))


@pytest.fixture(scope="module")
def dense() -> CpuKernel:
    return compiled(dense_kernel(32, 32, 16))


def plain_attention(q: Tensor, k: Tensor, v: Tensor, scale: float, causal: bool) -> tuple[Tensor, Tensor]:
    s = q @ k.transpose(-1, -2) * scale
    if causal:
        s = s.masked_fill(~torch.ones(s.shape[-2:], dtype=torch.bool).tril(), -math.inf)
    return torch.softmax(s, -1) @ v, torch.logsumexp(s, -1)


@pytest.mark.parametrize("length", [1, 3, 37, 127, 129, 277])
@pytest.mark.parametrize("is_causal", [False, True], ids=["dense", "causal"])
def test_attention_of_ragged_lengths(length: int, is_causal: bool, causal: CpuKernel, dense: CpuKernel) -> None:
    b, h, d = 2, 2, 16
    tensors = {n: normal(b, h, length, d, seed=i) for i, n in enumerate("QKV")}
    tensors |= {"O": torch.full((b, h, length, d), math.nan), "L": torch.full((b, h, length), math.nan)}
    extents = {"b": b, "h": h, "g": h, "m": length, "n": length}
    (causal if is_causal else dense)(tensors, {"scale": 0.25}, extents)
    inputs = [tensors[n] for n in "QKV"]
    plain = plain_attention(*inputs, 0.25, is_causal)
    exact = plain_attention(*(t.double() for t in inputs), 0.25, is_causal)
    for name, p, e in zip("OL", plain, exact, strict=True):
        check(tensors[name], p, e)


def test_strided_operands_and_outputs(dense: CpuKernel) -> None:
    """Every axis order, steps of two along the last axis, a broadcast head: nothing assumes adjacency."""
    length, d = 67, 16
    q = normal(d, length, 2, 1).permute(3, 2, 1, 0)
    k = normal(1, 2, length, 2 * d, seed=1)[..., ::2]
    v = normal(1, 1, length, d, seed=2).expand(1, 2, length, d)
    out = torch.full((1, length, 2, 2 * d), math.nan)
    tensors = {
        "Q": q,
        "K": k,
        "V": v,
        "O": out[..., ::2].transpose(1, 2),
        "L": torch.empty(2, length, 1).permute(2, 0, 1),
    }
    dense(tensors, {"scale": 0.2}, {"b": 1, "h": 2, "g": 2, "m": length, "n": length})
    exact = plain_attention(q.double(), k.double(), v.double(), 0.2, False)
    check(tensors["O"], plain_attention(q, k, v, 0.2, False)[0], exact[0])
    check(tensors["L"], plain_attention(q, k, v, 0.2, False)[1], exact[1])
    assert out[..., 1::2].isnan().all()  # nothing between the elements was written


def test_no_keys_and_no_queries(dense: CpuKernel) -> None:
    tensors = {"Q": normal(1, 1, 5, 16), "K": torch.empty(1, 1, 0, 16), "V": torch.empty(1, 1, 0, 16)}
    tensors |= {"O": torch.full((1, 1, 5, 16), math.nan), "L": torch.full((1, 1, 5), math.nan)}
    dense(tensors, {"scale": 1.0}, {"b": 1, "h": 1, "g": 1, "m": 5, "n": 0})
    assert (tensors["O"] == 0).all() and (tensors["L"] == -math.inf).all()
    empty = {n: torch.empty(1, 1, 0, 16) for n in "QKVO"} | {"L": torch.empty(1, 1, 0)}
    dense(empty, {"scale": 1.0}, {"b": 1, "h": 1, "g": 1, "m": 0, "n": 0})


def test_large_scores_and_unseen_nan(causal: CpuKernel) -> None:
    """Scores of 1e4 neither overflow nor lose the maximum; NaN in keys that no row of a tile sees does not arrive."""
    length = 64
    q, k, v = (normal(1, 1, length, 16, seed=i) for i in range(3))
    q, k = q * 50, k * 50
    v[0, 0, 32:] = math.nan
    k[0, 0, 32:] = math.nan
    tensors = {"Q": q, "K": k, "V": v, "O": torch.empty(1, 1, length, 16), "L": torch.empty(1, 1, length)}
    causal(tensors, {"scale": 1.0}, {"b": 1, "h": 1, "g": 1, "m": length, "n": length})
    inputs = [t[:, :, :32] for t in (q, k, v)]
    plain, exact = plain_attention(*inputs, 1.0, True), plain_attention(*(t.double() for t in inputs), 1.0, True)
    check(tensors["O"][:, :, :32], plain[0], exact[0])
    check(tensors["L"][:, :, :32], plain[1], exact[1])


def test_threads_give_the_same_bits(dense: CpuKernel) -> None:
    tensors = {n: normal(1, 4, 130, 16, seed=i) for i, n in enumerate("QKV")}
    results = []
    for threads in (1, 2, 3):
        from einsum_compiler.backends.cpu import load

        found = tensors | {"O": torch.empty(1, 4, 130, 16), "L": torch.empty(1, 4, 130)}
        load(dense.describe(), threads=threads)(found, {"scale": 0.25}, {"b": 1, "h": 4, "g": 4, "m": 130, "n": 130})
        results.append(found["O"])
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


# Structure of the generated code -----------------------------------------------------------------------------------------------


def test_the_loop_of_attention_sweeps_its_scores_twice_and_updates_in_place() -> None:
    source = emit_cpu(attention(rows=96, keys=128, depth=64))
    full = source[source.index("auto full_n_1") : source.index("auto partial_n_1")]
    assert full.count("for (long m_0 = 0; m_0 < 96; ++m_0)") == 2  # maximum; exponential and sum
    assert "tile::rescale<float>{fix}" in full and "exp_difference" in full
    assert "tile::pack_transposed" in full and full.count("tile::product") == 2
    assert "tile::columns" not in full  # no mask code where tiles are full


def test_long_programs_start_first() -> None:
    """A causal loop grows with the rows of its program; a window does not, and its programs keep their order."""
    kernel = attention(rows=96, keys=128, depth=64)
    assert growing(kernel) == {"m.1"}
    assert "const long m_1 = m_1_count - 1 - program % m_1_count;" in emit_cpu(kernel)
    assert growing(SAMPLES["window"]().kernel) == set()


def test_comments_show_the_tile_program() -> None:
    source = emit_cpu(attention(rows=96, keys=128, depth=64))
    assert "// s: f32[m.0:96, n.0:128] = dot(q, k) over e" in source
    assert "// kernel attention(Q: f32[B, H, M, 64]" in source


def test_emission_is_deterministic() -> None:
    assert emit_cpu(attention()) == emit_cpu(attention())


def test_types_without_code_are_refused() -> None:
    with pytest.raises(BackendError) as error:
        emit_cpu(
            parse_kernel(
                "kernel f8(X: f8e4m3[N]; extents n) -> Y: f32[N] {\n  program n in N\n  x: f8e4m3[] = load X[n] fill 0\n  store Y[n] = x\n}"
            )
        )
    assert str(error.value) == "error: tensor X has element type f8e4m3, which the CPU backend does not compute with"
