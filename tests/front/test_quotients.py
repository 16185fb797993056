"""Reads at quotients (``KS[n,e // 32]``, a scale for a group of columns): in range where the extents say so, and then without a test."""

from __future__ import annotations

import pytest
import torch

import einsum_compiler as ec

DEQUANTISED = """
cascade grouped(Q[b,h,m,e], K8[b,g,n,e], KS[b,g,n,c], V8[b,g,n,f], VS[b,g,n,d]; w: int) -> O[b,h,m,f] {
  K[b,g,n,e] = K8[b,g,n,e] * KS[b,g,n,e // w]
  V[b,g,n,f] = V8[b,g,n,f] * VS[b,g,n,f // w]
  S[b,h,m,n] = Q[b,h,m,e] * K[b,h // (H // G),n,e] / sqrt(E)
  O[b,h,m,f] = softmax[n](S[b,h,m,n]) * V[b,h // (H // G),n,f]
}
"""
PER_TOKEN = """
cascade tokens(P[m,n], V8[n,f]) -> O[m,f] {
  O[m,f] = P[m,n] * V8[n,f]
}
"""


def operands(lengths: tuple[int, int], width: int, groups: int) -> list[torch.Tensor]:
    torch.manual_seed(0)
    (m, n), (h, g) = lengths, (4, 2)
    codes = [torch.randint(-128, 127, (2, g, n, width), dtype=torch.int8) for _ in range(2)]
    scales = [torch.rand(2, g, n, groups) * 0.02 for _ in range(2)]
    return [torch.randn(2, h, m, width), codes[0], scales[0], codes[1], scales[1]]


def expected(
    q: torch.Tensor, k8: torch.Tensor, ks: torch.Tensor, v8: torch.Tensor, vs: torch.Tensor, w: int
) -> torch.Tensor:
    k, v = (
        (codes.double() * scales.double().repeat_interleave(w, -1)[..., : codes.shape[-1]]).repeat_interleave(2, 1)
        for codes, scales in ((k8, ks), (v8, vs))
    )
    return torch.nn.functional.scaled_dot_product_attention(q.double(), k, v).float()


@pytest.mark.parametrize(("width", "groups"), [(64, 2), (40, 2)], ids=["whole groups", "a shorter last one"])
def test_scales_of_groups_need_no_test(width: int, groups: int) -> None:
    kernel = ec.compile(DEQUANTISED, backend="cpu")
    given = operands((1, 300), width, groups)
    torch.testing.assert_close(kernel(*given, w=32), expected(*given, w=32), rtol=1e-4, atol=1e-5)
    program = kernel.ir("tile", *given, w=32)
    assert program.count("kernel ") == 1
    assert "// 32 <" not in program
    assert "h.1 <" not in program


def test_columns_without_a_scale_are_empty() -> None:
    kernel = ec.compile(DEQUANTISED, backend="cpu")
    given = operands((3, 70), 64, 1)
    padded = [given[0], *(torch.nn.functional.pad(t, (0, 1)) if t.is_floating_point() else t for t in given[1:])]
    found = kernel(*given, w=32)
    torch.testing.assert_close(found, expected(*padded, w=32), rtol=1e-4, atol=1e-5)
    assert (found[..., 32:] == 0).all()


def test_a_widened_operand_keeps_the_order_it_is_read_in() -> None:
    kernel = ec.compile(
        PER_TOKEN, backend="cpu", plan="plan tokens { kernel O { program m:8  stream n:64  resident f } }"
    )
    p, v8 = torch.randn(16, 128), torch.randint(-128, 127, (128, 32), dtype=torch.int8)
    torch.testing.assert_close(kernel(p, v8), p @ v8.float(), rtol=1e-4, atol=1e-3)
    assert "V8.tile.f32: f32[n.0:64, f:32]" in kernel.ir("tile", p, v8)
