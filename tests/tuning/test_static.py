"""What compiled candidates tell, and when that rules them out."""

from __future__ import annotations

from pathlib import Path

import pytest

import einsum_compiler as ec
from einsum_compiler.nominal import nominal_binding
from einsum_compiler.tuning.static import Limits, Static, of_target, refusal, static_figures

ATTENTION = """
cascade attention(Q[b,h,m,e], K[b,h,n,e], V[b,h,n,f]; scale = 1/sqrt(E)) -> O[b,h,m,f] {
  S[b,h,m,n] = Q[b,h,m,e] * K[b,h,n,e] * scale
  A[b,h,m,n] = softmax[n](S[b,h,m,n])
  O[b,h,m,f] = A[b,h,m,n] * V[b,h,n,f]
}
"""
PLAN = "plan attention {{ kernel O {{ program b, h, m:{}  stream n:{}  resident e, f  warps {} stages {} }} }}"
H100 = Limits(shared=232448, spills=512)


def test_refusals() -> None:
    assert refusal(Static(scratch=2**20), Limits(threads=4, cache=2**25)) == ""
    assert (
        refusal(Static(scratch=2**24), Limits(threads=4, cache=2**25))
        == "tiles of 65536 KiB exceed the last cache (32768 KiB)"
    )
    assert refusal(Static(shared=240000, spills=0), H100) == "needs 234 KiB of shared memory; the device has 227"
    assert refusal(Static(shared=230000, spills=513), H100) == "spills 513 (more than 512 is not tried)"
    assert refusal(Static(shared=230000, spills=512), H100) == ""
    assert refusal(Static(), Limits()) == ""


@pytest.mark.parametrize(("tiles", "expected"), [((64, 64, 4, 2), ""), ((128, 256, 8, 4), "shared memory")])
def test_figures_of_a_gpu_that_is_not_here(tiles: tuple[int, ...], expected: str) -> None:
    kernel = ec.compile(ATTENTION, backend="triton")
    binding = nominal_binding(kernel.cascade, {"m": 1024, "n": 1024, "e": 128, "f": 128}, "bf16")
    figures = of_target(kernel, binding, PLAN.format(*tiles), "sm_90")
    assert figures.registers > 0 and figures.shared > 0
    found = refusal(figures, H100)
    assert expected in found if expected else found == ""


def test_figures_of_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EINSUM_CACHE_DIR", str(tmp_path))
    kernel = ec.compile(ATTENTION, backend="cpu")
    binding = nominal_binding(kernel.cascade, {"m": 64, "n": 64, "e": 16, "f": 16}, seed=0)
    found = static_figures(kernel, binding, kernel.executable(binding), "", "cpu")
    # At least the accumulator and one tile of scores, f32.
    assert found.scratch >= 64 * (16 + 64) * 4 and found.refusal == ""
