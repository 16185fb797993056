"""Static figures of targets that are not there: matrix instructions, registers, spills."""

from __future__ import annotations

from pathlib import Path

import pytest

from einsum_compiler.backends.triton.cross import TARGETS, StaticFigures, cross_compile
from einsum_compiler.backends.triton.warps import warps_for
from einsum_compiler.ir.errors import BackendError
from einsum_compiler.ir.launch import Launch
from einsum_compiler.ir.tile_parser import parse_kernel
from tests.backends.tile_samples import SAMPLES, attention

pytest.importorskip("triton")

UNIT = {"sm_80": "mma", "sm_90": "wgmma", "sm_100": "tcgen05", "gfx942": "mfma"}


def figures(target: str, dtype: str, depth: int, tmp_path: Path) -> StaticFigures:
    kernel = attention(dtype, depth=depth, rows=128, keys=64)
    return cross_compile(kernel, target, cache_directory=tmp_path)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("dtype", "depth"), [("bf16", 64), ("f16", 128)])
def test_attention_uses_the_matrix_unit_and_keeps_its_registers(
    target: str, dtype: str, depth: int, tmp_path: Path
) -> None:
    found = figures(target, dtype, depth, tmp_path)
    assert found.matrix_instructions[UNIT[target]] > 0
    assert all(n == 0 for name, n in found.matrix_instructions.items() if name != UNIT[target])
    assert 0 < found.registers <= 256
    assert 0 < found.shared_memory <= 166_912
    if (target, depth) not in {("sm_80", 128), ("gfx942", 128)}:
        assert found.spills == 0


def test_spills_are_seen(tmp_path: Path) -> None:
    kernel = attention("bf16", depth=128, rows=128, keys=128)
    assert cross_compile(kernel, "sm_90", Launch(warps=4), cache_directory=tmp_path).spills > 100


def test_f32_products_are_ieee_unless_tf32_is_allowed(tmp_path: Path) -> None:
    kernel = attention("f32", depth=32, rows=64, keys=32)
    exact = cross_compile(kernel, "sm_80", cache_directory=tmp_path)
    rounded = cross_compile(kernel, "sm_80", tf32=True, cache_directory=tmp_path)
    assert exact.matrix_instructions["mma"] == 0
    assert rounded.matrix_instructions["mma"] > 0


@pytest.mark.parametrize("name", ["window", "gathered_bias", "distances", "batched", "listed_tiles", "decoding"])
def test_samples_compile(name: str, tmp_path: Path) -> None:
    found = cross_compile(SAMPLES[name]().kernel, "sm_90", cache_directory=tmp_path)
    assert found.spills == 0
    assert ".target sm_90a" in found.assembly


def test_unknown_target() -> None:
    with pytest.raises(BackendError) as caught:
        cross_compile(SAMPLES["decoding"]().kernel, "sm_70")
    assert str(caught.value) == "error: unknown target 'sm_70'\nnote: one of sm_80, sm_90, sm_100, gfx942"


def test_warps_follow_the_registers_tiles_need() -> None:
    assert [
        warps_for(attention("bf16", depth=d, rows=r, keys=k))
        for d, r, k in ((64, 64, 64), (64, 128, 64), (128, 128, 64))
    ] == [4, 8, 8]
    assert warps_for(attention("bf16", depth=128, rows=128, keys=128)) == 8
    assert warps_for(SAMPLES["decoding"]().kernel) == 4


def test_powers_compile(tmp_path: Path) -> None:
    """Triton refuses a global NaN that a function reads which is called twice: it is not equal to itself."""
    kernel = parse_kernel("""
kernel powers(X: f32[I]; c: f64; extents i) -> Y: f32[I] {
  program i.1 in (I + 127) // 128
  x: f32[i.0:128] = load X[128 * i.1 + i.0] where 128 * i.1 + i.0 < I fill 0
  store Y[128 * i.1 + i.0] over i.0:128 = x ** c + (x + 1) ** c where 128 * i.1 + i.0 < I
}""")
    assert cross_compile(kernel, "sm_90", cache_directory=tmp_path).spills == 0


def test_powers_of_whole_numbers_compile(tmp_path: Path) -> None:
    kernel = parse_kernel("""
kernel powers(X: i64[I]; w: i64; extents i) -> Y: i64[I] {
  program i.1 in (I + 127) // 128
  x: i64[i.0:128] = load X[128 * i.1 + i.0] where 128 * i.1 + i.0 < I fill 0
  store Y[128 * i.1 + i.0] over i.0:128 = x ** w + (-1) ** x + w ** 5 + 3 ** w where 128 * i.1 + i.0 < I
}""")
    assert cross_compile(kernel, "sm_90", cache_directory=tmp_path).spills == 0
