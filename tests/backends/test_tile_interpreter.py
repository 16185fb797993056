"""Tile programs run and count: attention with ragged ends, gathers, tile lists, stores and types."""

from __future__ import annotations

import math

import pytest
import torch

from einsum_compiler.backends.reference.philox import uniform
from einsum_compiler.backends.reference.tile_interpreter import run_kernel, run_program
from einsum_compiler.ir.errors import VerifyError
from einsum_compiler.ir.tile import TileProgram
from einsum_compiler.ir.tile_parser import parse_kernel

CAUSAL = """
kernel attention(Q: {t}[B, H, M, 12], K: {t}[B, G, N, 12], V: {t}[B, G, N, 8]; scale: f64; extents b, h, g, m, n) -> O: f32[B, H, M, 8], L: f32[B, H, M] {{
  program b in B, h in H, m.1 in (M + 15) // 16
  q: {t}[m.0:16, e:12] = load Q[b, h, 16 * m.1 + m.0, e] where 16 * m.1 + m.0 < M fill 0
  loop n.1 in full [0, min(2 * m.1, N // 8)), partial [min(2 * m.1, N // 8), min(2 * m.1 + 2, (N + 7) // 8)) carry
      MX.run: f32[m.0:16] = -inf next MX.next, D.run: f32[m.0:16] = 0 next D.next, O.run: f32[m.0:16, f:8] = 0 next O.next {{
    k: {t}[n.0:8, e:12] = load K[b, h // 2, 8 * n.1 + n.0, e] partial where 8 * n.1 + n.0 < N fill 0
    s: f32[m.0:16, n.0:8] = dot(q, k) over e
    s2: f32[m.0:16, n.0:8] = map s * scale
    s3: f32[m.0:16, n.0:8] = select partial (8 * n.1 + n.0 <= 16 * m.1 + m.0 and 8 * n.1 + n.0 < N, s2, -inf)
    MX.next: f32[m.0:16] = reduce max over n.0:8 (s3) accumulate MX.run
    c: f32[m.0:16] = map if(MX.next == -inf, 0, MX.next)
    fix: f32[m.0:16] = map if(MX.run == MX.next, 1, exp(MX.run - c))
    p: f32[m.0:16, n.0:8] = map exp(s3 - c)
    D.next: f32[m.0:16] = reduce sum over n.0:8 (p) accumulate D.run * fix
    v: {t}[n.0:8, f:8] = load V[b, h // 2, 8 * n.1 + n.0, f] partial where 8 * n.1 + n.0 < N fill 0
    pc: {t}[m.0:16, n.0:8] = map cast(p, {t})
    O.next: f32[m.0:16, f:8] = dot(pc, v) over n.0 accumulate O.run * fix
  }}
  store O[b, h, 16 * m.1 + m.0, f] over m.0:16, f:8 = if(D.run == 0, 0, O.run / D.run) where 16 * m.1 + m.0 < M
  store L[b, h, 16 * m.1 + m.0] over m.0:16 = MX.run + log(D.run) where 16 * m.1 + m.0 < M
}}
"""


def attention_case(dtype: torch.dtype, m: int, n: int) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
    generator = torch.Generator().manual_seed(m * 1000 + n)
    shapes = {"Q": (2, 4, m, 12), "K": (2, 2, n, 12), "V": (2, 2, n, 8)}
    tensors = {k: torch.randn(s, generator=generator, dtype=torch.float64).to(dtype) for k, s in shapes.items()}
    return tensors, {"b": 2, "h": 4, "g": 2, "m": m, "n": n}


def expected(tensors: dict[str, torch.Tensor], scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    q, k, v = (tensors[x].double() for x in "QKV")
    k, v = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
    s = scale * q @ k.mT
    s = s.masked_fill(torch.arange(s.shape[-1]) > torch.arange(s.shape[-2])[:, None], -math.inf)
    return torch.softmax(s, -1) @ v, torch.logsumexp(s, -1)


@pytest.mark.parametrize(("m", "n"), [(37, 37), (16, 40), (40, 17), (1, 1)])
@pytest.mark.parametrize("name", ["f32", "bf16"])
def test_attention(name: str, m: int, n: int) -> None:
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[name]
    tensors, extents = attention_case(dtype, m, n)
    program = TileProgram("attention", (parse_kernel(CAUSAL.format(t=name)),))
    out, lse = expected(tensors, 0.3)
    exact, _ = run_program(program, tensors, {"scale": 0.3}, extents, exact=True)
    torch.testing.assert_close(exact["O"], out, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(exact["L"], lse, rtol=1e-12, atol=1e-12)
    rounded, counts = run_program(program, tensors, {"scale": 0.3}, extents)
    assert rounded["O"].dtype == torch.float32
    tolerance = 1e-5 if name == "f32" else 2e-2
    torch.testing.assert_close(rounded["O"].double(), out, rtol=tolerance, atol=tolerance)
    if (m, n, name) == (37, 37, "f32"):
        # Query tiles 0, 1, 2 see key tiles [0, 2), [0, 4), [0, 5); the last key tile holds 5 keys.
        visited = 2 + 4 + 5
        assert counts.iterations == {"n.1": 8 * visited}
        assert counts.loads == {"Q": 8 * 37 * 12, "K": 8 * (10 * 8 + 5) * 12, "V": 8 * (10 * 8 + 5) * 8}
        assert counts.stores == {"O": 8 * 37 * 8, "L": 8 * 37}
        partial = 2 + 2 + 1
        tile = 2 * 16 * 8 * 12 + 16 * 8 + 16 * 8 + 2 * 16 + 4 * 16 + 2 * 16 * 8  # dot, map, max, c, fix, p
        tile += 16 * 8 + 16 + 16 * 8 + 2 * 16 * 8 * 8 + 16 * 8  # D with D.run * fix, cast, dot, O.run * fix
        select = 16 * 8 * (2 + 1 + 2 * 2 + 2 * 1 + 1)  # two comparisons, and, 8*n.1+n.0 twice, 16*m.1+m.0, the select
        end = 3 * 16 * 8 + 2 * 16
        assert counts.operations == 8 * (visited * tile + partial * select + 3 * end)


GATHER = """
kernel gather(K: f32[P, 4], T: i32[N]; extents p, n) -> O: f32[4], C: i64[N] {
  t: i32[n:6] = load T[n] where n < N fill -1
  k: f32[n:6, e:4] = load K[t, e] where n < N and t >= 0 fill 0
  o: f32[e:4] = reduce sum over n:6 (abs(k))
  c: i64[n:6] = map t // 2 * 10 + t % 2
  store O[e] over e:4 = o
  store C[n] over n:6 = c where n < N
}
"""


def test_gather_and_floor_division() -> None:
    table = torch.tensor([2, -1, 0, 2, 1], dtype=torch.int32)
    keys = torch.randn(3, 4)
    program = TileProgram("gather", (parse_kernel(GATHER),))
    results, counts = run_program(program, {"K": keys, "T": table}, {}, {"p": 3, "n": 5})
    torch.testing.assert_close(results["O"], keys[[2, 0, 2, 1]].abs().sum(0))
    assert results["C"].tolist() == [10, -9, 0, 10, 1]
    assert counts.loads == {"T": 5, "K": 16} and counts.stores == {"O": 4, "C": 5}
    assert counts.operations == 2 * 24 + 4 * 6  # abs and the sum; //, *, +, %


def test_a_load_outside_its_tensor_is_an_error() -> None:
    kernel = parse_kernel(
        "kernel k(K: f32[3]) -> O: f32[4] {\n k: f32[e:4] = load K[e] fill 0\n store O[e] over e:4 = k\n}"
    )
    with pytest.raises(VerifyError) as error:
        run_kernel(kernel, {"K": torch.zeros(3), "O": torch.zeros(4)}, {}, {})
    assert str(error.value) == "error: coordinate 3 on axis 0 of K is outside its extent 3"


def test_operands_of_a_dot_have_one_type() -> None:
    kernel = parse_kernel(
        "kernel k() -> {\n a: f32[e:2] = map 1\n b: bf16[e:2] = map 1\n c: f32[] = dot(a, b) over e\n}"
    )
    with pytest.raises(VerifyError) as error:
        run_kernel(kernel, {}, {}, {})
    assert str(error.value) == "error: dot(a, b): operands of types torch.float32, torch.bfloat16"


LISTED = """
kernel listed(X: f32[N]; extents n) -> O: f32[2], P: i64[2] {
  program m in 2
  loop n.1 in full list s at m, partial list s at m carry A.run: f32[] = 0 next A.next, C.run: i64[] = 0 next C.next {
    x: f32[n.0:4] = load X[4 * n.1 + n.0] partial where 4 * n.1 + n.0 < N fill 0
    y: f32[n.0:4] = select partial (n.0 > 0, x, 100)
    A.next: f32[] = reduce sum over n.0:4 (y) accumulate A.run
    C.next: i64[] = map 10 * C.run + n.1
  }
  store O[m] = A.run
  store P[m] = C.run
}
"""


def test_tile_lists_run_full_tiles_then_partial_ones() -> None:
    values = torch.arange(10, dtype=torch.float32)
    offsets = torch.tensor([0, 1, 2, 2, 3], dtype=torch.int32)
    tensors = {"X": values, "s.offsets": offsets, "s.tiles": torch.tensor([1, 2, 2], dtype=torch.int32)}
    results, counts = run_program(TileProgram("listed", (parse_kernel(LISTED),)), tensors, {}, {"n": 10})
    assert results["P"].tolist() == [12, 2]
    assert results["O"].tolist() == [4 + 5 + 6 + 7 + 100 + 9, 109]
    assert counts.loads == {"X": 4 + 2 + 2, "s.offsets": 2 * 2 * 2, "s.tiles": 3}
    assert counts.iterations == {"n.1": 3}


def test_batch_axes_and_integer_dots() -> None:
    text = """
    kernel k(A: i8[2, 3, 4], B: i8[2, 4]) -> C: i32[3, 2] {
      a: i8[h:2, m:3, e:4] = load A[h, m, e] fill 0
      b: i8[h:2, e:4] = load B[h, e] fill 0
      c: i32[m:3, h:2] = dot(a, b) over e
      store C[m, h] over m:3, h:2 = c
    }"""
    a = torch.randint(-128, 127, (2, 3, 4), dtype=torch.int8)
    b = torch.randint(-128, 127, (2, 4), dtype=torch.int8)
    results, counts = run_program(TileProgram("k", (parse_kernel(text),)), {"A": a, "B": b}, {}, {})
    assert torch.equal(results["C"], torch.einsum("hme,he->mh", a.int(), b.int()).int())
    assert counts.operations == 2 * 24


def test_uniform_is_that_of_the_evaluator() -> None:
    text = """
    kernel k(; seed: i64) -> Y: f32[3], Z: f32[3] {
      y: f32[i:3] = map uniform(seed, i, 2)
      z: f32[i:3] = map i / 3
      store Y[i] over i:3 = y
      store Z[i] over i:3 = z
    }"""
    results, _ = run_program(TileProgram("k", (parse_kernel(text),)), {}, {"seed": 5}, {})
    assert torch.equal(results["Y"].double(), uniform(torch.tensor(5), torch.arange(3), torch.tensor(2)))
    assert torch.equal(results["Z"], torch.arange(3) / torch.tensor(3.0))


def test_maps_compute_in_f32_and_scalars_do_not_widen() -> None:
    text = """
    kernel k(X: bf16[2]; c: f64) -> Y: bf16[2], Z: f32[2], W: f64[2] {
      x: bf16[i:2] = load X[i] fill 0
      y: bf16[i:2] = map x * c
      z: f32[i:2] = map x * c
      w: f64[i:2] = map x * c
      store Y[i] over i:2 = y
      store Z[i] over i:2 = z
      store W[i] over i:2 = w
    }"""
    x = torch.tensor([1.0, 3.0], dtype=torch.bfloat16)
    results, _ = run_program(TileProgram("k", (parse_kernel(text),)), {"X": x}, {"c": 0.1}, {})
    assert torch.equal(results["Z"], x.float() * torch.tensor(0.1))
    assert torch.equal(results["Y"], results["Z"].bfloat16())
    assert torch.equal(results["W"], x.double() * 0.1)
