"""What a loop looks like in Triton: ranges with one body share a loop, rows are those of what it carries."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from einsum_compiler.backends.reference.tile_interpreter import run_kernel
from einsum_compiler.backends.triton.emit import emit_triton
from einsum_compiler.backends.triton.launch import compile_kernel
from einsum_compiler.backends.triton.orientation import oriented
from einsum_compiler.ir.tile import Loop
from einsum_compiler.ir.tile_parser import parse_kernel
from tests.backends.tile_samples import Sample, normal, operands

pytest.importorskip("triton")

# The order of the indices matters: X = X / 2 + tile.
RANGES = parse_kernel("""
kernel ranges(S: f32[N]; a: i64; extents n) -> X: f32[16] {
  loop n.1 in full [0, 1), partial [a, a + 2), partial [3, a), partial [1, 2) carry X.run: f32[n.0:16] = 0 next X.next {
    s: f32[n.0:16] = load S[16 * n.1 + n.0] partial where 16 * n.1 + n.0 < N fill 0
    X.next: f32[n.0:16] = map X.run / 2 + s
  }
  store X[n.0] over n.0:16 = X.run
}""")
# dK[n, e] += dS[m, n] Q[m, e] with m streamed.
KEYS = parse_kernel("""
kernel keys(Q: f32[M, 32], K: f32[N, 32]; extents m, n) -> G: f32[N, 32] {
  program n.1 in (N + 31) // 32
  k: f32[n.0:32, e:32] = load K[32 * n.1 + n.0, e] where 32 * n.1 + n.0 < N fill 0
  loop m.1 in partial [0, (M + 15) // 16) carry G.run: f32[n.0:32, e:32] = 0 next G.next {
    q: f32[m.0:16, e:32] = load Q[16 * m.1 + m.0, e] partial where 16 * m.1 + m.0 < M fill 0
    s: f32[m.0:16, n.0:32] = dot(q, k) over e
    p: f32[m.0:16, n.0:32] = map tanh(s) + 1
    t: f32[m.0:16, n.0:32] = select partial (32 * n.1 + n.0 <= 16 * m.1 + m.0, p, 0)
    seen: bool[m.0:16] = reduce any over n.0:32 (t != 0)
    v: f32[m.0:16, e:32] = select partial (seen, q, 0)
    G.next: f32[n.0:32, e:32] = dot(t, v) over m.0 accumulate G.run
  }
  store G[32 * n.1 + n.0, e] over n.0:32, e:32 = G.run where 32 * n.1 + n.0 < N
}""")


def agree(sample: Sample, tmp_path: Path) -> None:
    expected, found = operands(sample), operands(sample)
    run_kernel(sample.kernel, expected, sample.scalars, sample.extents)
    compile_kernel(sample.kernel, cache_directory=tmp_path)(found, sample.scalars, sample.extents)
    for output in sample.kernel.outputs:
        torch.testing.assert_close(found[output.name], expected[output.name], rtol=5e-6, atol=5e-6)


@pytest.mark.parametrize("a", [3, 5, 0])
def test_ranges_with_one_body_share_a_loop(a: int, tmp_path: Path) -> None:

    agree(Sample(RANGES, {"S": normal(101)}, {"a": a}, {"n": 101}), tmp_path)
    assert emit_triton(RANGES).count("    for ") == 2


def test_rows_are_those_of_what_is_carried(tmp_path: Path) -> None:
    agree(Sample(KEYS, {"Q": normal(45, 32), "K": normal(70, 32)}, {}, {"m": 45, "n": 70}), tmp_path)
    loop = next(s for s in oriented(KEYS).body if isinstance(s, Loop))
    axes = {s.target: s.type.ranks for s in loop.body if hasattr(s, "target")}
    assert axes["s"] == axes["p"] == axes["t"] == ("n.0", "m.0") and axes["q"] == ("m.0", "e")
    body = emit_triton(KEYS).split("for m_1")[1]
    assert "tl.dot(k, tl.trans(q)," in body and body.count("tl.trans") == 1
