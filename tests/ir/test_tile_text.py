"""Tile programs print and parse back to the same kernel."""

from __future__ import annotations

import pytest

from einsum_compiler.ir.errors import SpecError
from einsum_compiler.ir.expression import Binary, Constant, Extent, Rank, Read
from einsum_compiler.ir.tile import Loop, Map, ProgramRank, Schedule, TileKernel, TileType
from einsum_compiler.ir.tile_parser import parse_kernel
from einsum_compiler.ir.tile_printer import print_kernel

ATTENTION = """\
kernel attention(Q: f32[B, H, M, 64], K: f32[B, G, N, 64], V: f32[B, G, N, 64]; scale: f64, W: i64; extents b, h, g, m, n) -> O: f32[B, H, M, 64], L: f32[B, H, M] {
  program b in B, h in H, m.1 in (M + 95) // 96
  schedule s of n <= m split m by m.1:96, n by n.1:128 program m.1 in (M + 95) // 96 stream n.1 in (N + 127) // 128
  q: f32[m.0:96, e:64] = load Q[b, h, 96 * m.1 + m.0, e] where 96 * m.1 + m.0 < M fill 0
  loop n.1 in full [0, m.1), partial [m.1, m.1 + 1), full list s at m.1, partial list s at m.1 carry MX.run: f32[m.0:96] = -inf next MX.next, O.run: f32[m.0:96, f:64] = 0 next O.next {
    k: f32[n.0:128, e:64] = load K[b, h // 4, 128 * n.1 + n.0, e] where 128 * n.1 + n.0 < N partial where n.0 <= W fill 0.5
    s: f32[m.0:96, n.0:128] = dot(q, k) over e
    s2: f32[m.0:96, n.0:128] = map s * scale
    s3: f32[m.0:96, n.0:128] = select partial (128 * n.1 + n.0 <= 96 * m.1 + m.0 and not N == 3, s2, -inf)
    s4: f32[m.0:96, n.0:128] = select (n.0 < 3, s3, -inf)
    MX.next: f32[m.0:96] = reduce max over n.0:128 (s4) accumulate MX.run
    p: bf16[m.0:96, n.0:128] = map cast(if(MX.next == -inf, 0, exp(s4 - MX.next)), bf16)
    O.next: f32[m.0:96, f:64] = dot(p, p) over n.0 accumulate O.run * -2
    loop c.1 in partial [0, 3) {
      store L[b, h, c.1] = 1
    }
  }
  a: f32[] = reduce sum (1)
  store O[b, h, 96 * m.1 + m.0, f] over m.0:96, f:64 = O.run where 96 * m.1 + m.0 < M
}"""


def test_text_round_trip() -> None:
    kernel = parse_kernel(ATTENTION)
    assert print_kernel(kernel) == ATTENTION
    assert parse_kernel(print_kernel(kernel)) == kernel
    assert isinstance(kernel.body[1], Loop) and kernel.body[1].carries[0].initial == Constant(float("-inf"))


def test_a_tile_named_like_an_extent_or_rank_is_told_apart() -> None:
    value = Binary("+", Read("N"), Binary("*", Extent("n"), Binary("+", Rank("m"), Read("m"))))
    kind = TileType("i64")
    body = (Map("N", kind, Constant(1)), Map("m", kind, Constant(2)), Map("x", kind, value))
    kernel = TileKernel("k", (), (), (), ("n",), (ProgramRank("m", Constant(2)),), body)
    assert "x: i64[] = map N[] + N * (m + m[])" in print_kernel(kernel)
    assert parse_kernel(print_kernel(kernel)) == kernel


def test_schedule_without_program_ranks() -> None:
    schedule = Schedule("s", Constant(True), (("n", "n.1", 8),), (), ProgramRank("n.1", Constant(3)))
    kernel = TileKernel("k", (), (), (), (), (), (), (schedule,))
    assert parse_kernel(print_kernel(kernel)) == kernel


def test_errors_point_at_the_text() -> None:
    with pytest.raises(SpecError) as error:
        parse_kernel("kernel k() -> {\n  x: f32[] = map y\n}")
    assert str(error.value) == (
        "<tile>:2:18: error: 'y' is neither a tile, an index, a scalar nor an extent of this kernel\n"
        "    x: f32[] = map y\n"
        "                   ^"
    )
    with pytest.raises(SpecError, match="unexpected 'x' in a tile program"):
        parse_kernel("kernel k() -> {\n  store x x[] = y\n}")
