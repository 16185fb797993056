"""Tile programs written by hand, with operands, for the tests of both code generators.

``SAMPLES`` maps a name to a function that makes a ``Sample``; ``operands`` allocates its outputs. Tests compare a back
end with ``backends.reference.tile_interpreter``, so no sample states its result.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from einsum_compiler.ir.scalar import evaluate_scalar
from einsum_compiler.ir.tile import TileKernel
from einsum_compiler.ir.tile_parser import parse_kernel
from einsum_compiler.ir.torch_types import torch_dtype


@dataclass(frozen=True)
class Sample:
    """A kernel with inputs, schedule operands included."""

    kernel: TileKernel
    tensors: dict[str, Tensor]
    scalars: dict[str, bool | int | float]
    extents: dict[str, int]


def operands(sample: Sample) -> dict[str, Tensor]:
    """The inputs with outputs that hold NaN, or the largest integer, until the kernel writes them."""
    names = {**sample.scalars, **{r.upper(): n for r, n in sample.extents.items()}}
    found = dict(sample.tensors)
    for output in sample.kernel.outputs:
        shape = [int(evaluate_scalar(e, names)) for e in output.extents]
        dtype = torch_dtype(output.dtype)
        found[output.name] = torch.full(shape, math.nan if dtype.is_floating_point else 1, dtype=dtype)
    return found


def normal(*shape: int, dtype: str = "f32", seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + 1000 * len(shape) + sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(torch_dtype(dtype))


def attention(dtype: str = "f32", *, depth: int = 64, rows: int = 64, keys: int = 64, group: int = 1) -> TileKernel:
    """Causal attention with grouped heads: full tiles first, then partial ones."""
    wide = "f64" if dtype == "f64" else "f32"
    narrow = dtype in ("f16", "bf16")
    cast = f"pc: {dtype}[m.0:{rows}, n.0:{keys}] = map cast(p, {dtype})" if narrow else ""
    weights = "pc" if narrow else "p"
    full = f"min({rows} * m.1 // {keys}, N // {keys})"
    seen = f"min(({rows} * m.1 + {rows - 1}) // {keys} + 1, (N + {keys - 1}) // {keys})"
    return parse_kernel(f"""
kernel attention(Q: {dtype}[B, H, M, {depth}], K: {dtype}[B, G, N, {depth}], V: {dtype}[B, G, N, {depth}]; scale: f64; extents b, h, g, m, n)
    -> O: {dtype}[B, H, M, {depth}], L: {wide}[B, H, M] {{
  program b in B, h in H, m.1 in (M + {rows - 1}) // {rows}
  q: {dtype}[m.0:{rows}, e:{depth}] = load Q[b, h, {rows} * m.1 + m.0, e] where {rows} * m.1 + m.0 < M fill 0
  loop n.1 in full [0, {full}), partial [{full}, {seen}) carry
      MX.run: {wide}[m.0:{rows}] = -inf next MX.next, D.run: {wide}[m.0:{rows}] = 0 next D.next,
      O.run: {wide}[m.0:{rows}, f:{depth}] = 0 next O.next {{
    k: {dtype}[n.0:{keys}, e:{depth}] = load K[b, h // {group}, {keys} * n.1 + n.0, e] partial where {keys} * n.1 + n.0 < N fill 0
    s: {wide}[m.0:{rows}, n.0:{keys}] = dot(q, k) over e
    s2: {wide}[m.0:{rows}, n.0:{keys}] = map s * scale
    s3: {wide}[m.0:{rows}, n.0:{keys}] = select partial ({keys} * n.1 + n.0 <= {rows} * m.1 + m.0 and {keys} * n.1 + n.0 < N, s2, -inf)
    MX.next: {wide}[m.0:{rows}] = reduce max over n.0:{keys} (s3) accumulate MX.run
    c: {wide}[m.0:{rows}] = map if(MX.next == -inf, 0, MX.next)
    fix: {wide}[m.0:{rows}] = map if(MX.run == MX.next, 1, exp(MX.run - c))
    p: {wide}[m.0:{rows}, n.0:{keys}] = map exp(s3 - c)
    D.next: {wide}[m.0:{rows}] = reduce sum over n.0:{keys} (p) accumulate D.run * fix
    v: {dtype}[n.0:{keys}, f:{depth}] = load V[b, h // {group}, {keys} * n.1 + n.0, f] partial where {keys} * n.1 + n.0 < N fill 0
    {cast}
    O.next: {wide}[m.0:{rows}, f:{depth}] = dot({weights}, v) over n.0 accumulate O.run * fix
  }}
  store O[b, h, {rows} * m.1 + m.0, f] over m.0:{rows}, f:{depth} = if(D.run == 0, 0, O.run / D.run) where {rows} * m.1 + m.0 < M
  store L[b, h, {rows} * m.1 + m.0] over m.0:{rows} = MX.run + log(D.run) where {rows} * m.1 + m.0 < M
}}
""")


def attention_sample(
    dtype: str = "f32", *, depth: int = 24, rows: int = 24, keys: int = 16, m: int = 37, n: int = 41
) -> Sample:
    kernel = attention(dtype, depth=depth, rows=rows, keys=keys, group=2)
    # The axes of Q lie in another order in memory: it is read through its strides.
    q = normal(2, m, 4, depth, dtype=dtype).transpose(1, 2)
    tensors = {
        "Q": q,
        "K": normal(2, 2, n, depth, dtype=dtype, seed=1),
        "V": normal(2, 2, n, depth, dtype=dtype, seed=2),
    }
    return Sample(kernel, tensors, {"scale": 0.3}, {"b": 2, "h": 4, "g": 2, "m": m, "n": n})


def window() -> Sample:
    """A sliding window: partial tiles, full tiles, partial tiles; rows without keys; two-sided integer arithmetic."""
    kernel = parse_kernel("""
kernel window(S: f32[M, N], V: f32[N, 16]; W: i64, o: i64; extents m, n) -> O: f32[M, 16] {
  program m.1 in (M + 15) // 16
  loop n.1 in partial [max(0, (16 * m.1 + o - W) // 8), max(0, min((16 * m.1 + 15 + o - W) // 8 + 1, N // 8))),
      full [max(0, min((16 * m.1 + 15 + o - W) // 8 + 1, N // 8)), max(0, min((16 * m.1 + o) // 8, N // 8))),
      partial [max(0, (16 * m.1 + 15 + o - W) // 8 + 1, (16 * m.1 + o) // 8), min((16 * m.1 + 15 + o) // 8 + 1, (N + 7) // 8)) carry
      X.run: f32[m.0:16] = -inf next X.next, D.run: f32[m.0:16] = 0 next D.next, O.run: f32[m.0:16, f:16] = 0 next O.next {
    s: f32[m.0:16, n.0:8] = load S[16 * m.1 + m.0, 8 * n.1 + n.0] where 16 * m.1 + m.0 < M
        partial where 8 * n.1 + n.0 < N fill 0
    t: f32[m.0:16, n.0:8] = select partial
        (8 * n.1 + n.0 <= 16 * m.1 + m.0 + o and 16 * m.1 + m.0 + o - (8 * n.1 + n.0) < W and 8 * n.1 + n.0 < N, s, -inf)
    X.next: f32[m.0:16] = reduce max over n.0:8 (t) accumulate X.run
    c: f32[m.0:16] = map if(X.next == -inf, 0, X.next)
    fix: f32[m.0:16] = map if(X.run == X.next, 1, exp(X.run - c))
    p: f32[m.0:16, n.0:8] = map exp(t - c)
    D.next: f32[m.0:16] = reduce sum over n.0:8 (p) accumulate D.run * fix
    v: f32[n.0:8, f:16] = load V[8 * n.1 + n.0, f] partial where 8 * n.1 + n.0 < N fill 0
    O.next: f32[m.0:16, f:16] = dot(p, v) over n.0 accumulate O.run * fix
  }
  store O[16 * m.1 + m.0, f] over m.0:16, f:16 = if(D.run == 0, 0, O.run / D.run) where 16 * m.1 + m.0 < M
}
""")
    tensors = {"S": normal(45, 61), "V": normal(61, 16)}
    return Sample(kernel, tensors, {"W": 19, "o": -7}, {"m": 45, "n": 61})


def two_sweeps() -> Sample:
    """Statistics in one loop, values in a second: a softmax written whole."""
    kernel = parse_kernel("""
kernel softmax(X: f32[M, N]; extents m, n) -> Y: bf16[M, N], Z: f32[M] {
  program m.1 in (M + 3) // 4
  loop n.1 in full [0, N // 16), partial [N // 16, (N + 15) // 16) carry R: f32[m.0:4] = -inf next R.next, T: f32[m.0:4] = 0 next T.next {
    x: f32[m.0:4, n.0:16] = load X[4 * m.1 + m.0, 16 * n.1 + n.0] where 4 * m.1 + m.0 < M partial where 16 * n.1 + n.0 < N fill -inf
    R.next: f32[m.0:4] = reduce max over n.0:16 (x) accumulate R
    c: f32[m.0:4] = map if(R.next == -inf, 0, R.next)
    T.next: f32[m.0:4] = reduce sum over n.0:16 (exp(x - c)) accumulate T * if(R == R.next, 1, exp(R - c))
  }
  d: f32[m.0:4] = map if(R == -inf, 0, R)
  loop n.1 in full [0, N // 16), partial [N // 16, (N + 15) // 16) {
    y: f32[m.0:4, n.0:16] = load X[4 * m.1 + m.0, 16 * n.1 + n.0] where 4 * m.1 + m.0 < M partial where 16 * n.1 + n.0 < N fill -inf
    store Y[4 * m.1 + m.0, 16 * n.1 + n.0] over m.0:4, n.0:16 = exp(y - d) / T where 4 * m.1 + m.0 < M and 16 * n.1 + n.0 < N
  }
  store Z[4 * m.1 + m.0] over m.0:4 = d + log(T) where 4 * m.1 + m.0 < M
}
""")
    x = normal(10, 40)
    x[3, 5:] = -math.inf
    return Sample(kernel, {"X": x}, {}, {"m": 10, "n": 40})


def normalized_product() -> Sample:
    """RMSNorm and a product in one sweep over the depth: the factor is applied after the loop."""
    kernel = parse_kernel("""
kernel rms_product(X: f16[M, D], G: f16[D], W: f16[D, N]; eps: f64; extents m, n, d) -> Y: f16[M, N] {
  program m.1 in (M + 15) // 16, n.1 in (N + 15) // 16
  loop d.1 in full [0, D // 32), partial [D // 32, (D + 31) // 32) carry
      A.run: f32[m.0:16, n.0:16] = 0 next A.next, S.run: f32[m.0:16] = 0 next S.next {
    x: f16[m.0:16, d.0:32] = load X[16 * m.1 + m.0, 32 * d.1 + d.0] where 16 * m.1 + m.0 < M partial where 32 * d.1 + d.0 < D fill 0
    g: f16[d.0:32] = load G[32 * d.1 + d.0] partial where 32 * d.1 + d.0 < D fill 0
    w: f16[d.0:32, n.0:16] = load W[32 * d.1 + d.0, 16 * n.1 + n.0] where 16 * n.1 + n.0 < N partial where 32 * d.1 + d.0 < D fill 0
    S.next: f32[m.0:16] = reduce sum over d.0:32 (x * x) accumulate S.run
    xg: f16[m.0:16, d.0:32] = map cast(x * g, f16)
    A.next: f32[m.0:16, n.0:16] = dot(xg, w) over d.0 accumulate A.run
  }
  store Y[16 * m.1 + m.0, 16 * n.1 + n.0] over m.0:16, n.0:16 = A.run * rsqrt(S.run / D + eps)
      where 16 * m.1 + m.0 < M and 16 * n.1 + n.0 < N
}
""")
    tensors = {
        "X": normal(20, 70, dtype="f16"),
        "G": normal(70, dtype="f16"),
        "W": normal(70, 27, dtype="f16").T.contiguous().T,
    }
    return Sample(kernel, tensors, {"eps": 1e-5}, {"m": 20, "n": 27, "d": 70})


def gathered_bias() -> Sample:
    """Indices from integer tiles: a table read by relative position, and rows picked by a page table."""
    kernel = parse_kernel("""
kernel bias(S: f32[M, N], T: f32[R], P: i64[C], X: f32[N, 5]; extents m, n, r, c) -> Y: f32[M, N], Z: f32[N, 5] {
  program m in M, n.1 in (N + 7) // 8
  s: f32[n.0:8] = load S[m, 8 * n.1 + n.0] where 8 * n.1 + n.0 < N fill 0
  t: f32[n.0:8] = load T[m - (8 * n.1 + n.0) + R // 2] where 8 * n.1 + n.0 < N and 0 <= m - (8 * n.1 + n.0) + R // 2 < R fill 0
  i: i64[n.0:8] = load P[(8 * n.1 + n.0) // 4] where (8 * n.1 + n.0) // 4 < C fill -1
  j: i64[n.0:8] = map 4 * i + (8 * n.1 + n.0) % 4
  x: f32[n.0:8, e:5] = load X[j, e] where 0 <= j < N fill 0
  store Y[m, 8 * n.1 + n.0] over n.0:8 = s + t * if((m - (8 * n.1 + n.0)) % 3 == 1, 2, -1) + (m - (8 * n.1 + n.0)) // 3 where 8 * n.1 + n.0 < N
  store Z[8 * n.1 + n.0, e] over n.0:8, e:5 = x where 8 * n.1 + n.0 < N and m == 0
}
""")
    pages = torch.tensor([3, 0, -1, 1, 2], dtype=torch.int64)
    tensors = {"S": normal(9, 19), "T": normal(15), "P": pages, "X": normal(19, 5)}
    return Sample(kernel, tensors, {}, {"m": 9, "n": 19, "r": 15, "c": 5})


def distances() -> Sample:
    """A reduction whose body is no product, over an axis that is no power of two, with NaN among the operands."""
    kernel = parse_kernel("""
kernel distances(Q: f32[M, 5], K: f32[N, 5]; extents m, n) -> S: f32[M, N], X: f32[M, N] {
  program m.1 in (M + 7) // 8, n.1 in (N + 7) // 8
  q: f32[m.0:8, e:5] = load Q[8 * m.1 + m.0, e] where 8 * m.1 + m.0 < M fill 0
  k: f32[n.0:8, e:5] = load K[8 * n.1 + n.0, e] where 8 * n.1 + n.0 < N fill 0
  s: f32[m.0:8, n.0:8] = reduce sum over e:5 (abs(q - k))
  x: f32[m.0:8, n.0:8] = reduce min over e:5 (max(q, k))
  store S[8 * m.1 + m.0, 8 * n.1 + n.0] over m.0:8, n.0:8 = s where 8 * m.1 + m.0 < M and 8 * n.1 + n.0 < N
  store X[8 * m.1 + m.0, 8 * n.1 + n.0] over m.0:8, n.0:8 = x where 8 * m.1 + m.0 < M and 8 * n.1 + n.0 < N
}
""")
    q = normal(11, 5)
    q[2, 3] = math.nan
    return Sample(kernel, {"Q": q, "K": normal(13, 5)}, {}, {"m": 11, "n": 13})


def batched() -> Sample:
    """Batch axes in products, merged rows, a transposed result, an outer product and axes of one coordinate."""
    kernel = parse_kernel("""
kernel batched(Q: f32[H, M, 3, 6], K: f32[H, N, 6], V: f32[H, N]; extents h, m, n) -> S: f32[N, M, 3, H], Y: f32[H, M, 3] {
  program h.1 in (H + 1) // 2, m.1 in (M + 3) // 4
  q: f32[h.0:2, m.0:4, r:3, e:6] = load Q[2 * h.1 + h.0, 4 * m.1 + m.0, r, e] where 2 * h.1 + h.0 < H and 4 * m.1 + m.0 < M fill 0
  k: f32[h.0:2, n:7, e:6] = load K[2 * h.1 + h.0, n, e] where 2 * h.1 + h.0 < H and n < N fill 0
  v: f32[h.0:2, n:7] = load V[2 * h.1 + h.0, n] where 2 * h.1 + h.0 < H and n < N fill 0
  s: f32[n:7, m.0:4, r:3, h.0:2] = dot(q, k) over e
  y: f32[h.0:2, m.0:4, r:3] = dot(s, v) over n
  store S[n, 4 * m.1 + m.0, r, 2 * h.1 + h.0] over n:7, m.0:4, r:3, h.0:2 = s where 2 * h.1 + h.0 < H and 4 * m.1 + m.0 < M and n < N
  store Y[2 * h.1 + h.0, 4 * m.1 + m.0, r] over h.0:2, m.0:4, r:3 = y where 2 * h.1 + h.0 < H and 4 * m.1 + m.0 < M
}
""")
    tensors = {"Q": normal(3, 5, 3, 6), "K": normal(3, 7, 6), "V": normal(3, 7)}
    return Sample(kernel, tensors, {}, {"h": 3, "m": 5, "n": 7})


def listed_tiles() -> Sample:
    """Documents: the tiles of each program come from a schedule found at run time."""
    kernel = parse_kernel("""
kernel documents(A: i32[M], C: i32[N], X: f32[N, 8]; extents m, n) -> Y: f32[M, 8], T: i64[M] {
  program m.1 in (M + 7) // 8
  schedule s of A[m] == C[n] split m by m.1:8, n by n.1:8 program m.1 in (M + 7) // 8 stream n.1 in (N + 7) // 8
  a: i32[m.0:8] = load A[8 * m.1 + m.0] where 8 * m.1 + m.0 < M fill -1
  loop n.1 in full list s at m.1, partial list s at m.1 carry Y.run: f32[m.0:8, e:8] = 0 next Y.next, T.run: i64[m.0:8] = 0 next T.next {
    c: i32[n.0:8] = load C[8 * n.1 + n.0] partial where 8 * n.1 + n.0 < N fill -2
    w: f32[m.0:8, n.0:8] = map if(a == c, 1.0, 0.0)
    T.next: i64[m.0:8] = reduce sum over n.0:8 (if(a == c, 1, 0)) accumulate T.run
    x: f32[n.0:8, e:8] = load X[8 * n.1 + n.0, e] partial where 8 * n.1 + n.0 < N fill 0
    Y.next: f32[m.0:8, e:8] = dot(w, x) over n.0 accumulate Y.run
  }
  store Y[8 * m.1 + m.0, e] over m.0:8, e:8 = Y.run where 8 * m.1 + m.0 < M
  store T[8 * m.1 + m.0] over m.0:8 = T.run where 8 * m.1 + m.0 < M
}
""")
    documents = torch.tensor([0] * 5 + [1] * 14 + [2] * 8, dtype=torch.int32)
    tensors = {"A": documents, "C": documents, "X": normal(27, 8)}
    # Document 1 fills query tile 1 and key tile 1; its other pairs are partial.
    listed = [([], [0, 1]), ([1], [0, 2]), ([], [1, 2, 3]), ([], [2, 3])]
    offsets, tiles = [0], []
    for full, partial in listed:
        for part in (full, partial):
            tiles += part
            offsets.append(len(tiles))
    tensors["s.offsets"] = torch.tensor(offsets, dtype=torch.int32)
    tensors["s.tiles"] = torch.tensor(tiles, dtype=torch.int32)
    return Sample(kernel, tensors, {}, {"m": 27, "n": 27})


def decoding() -> Sample:
    """One query row: products without rows, and a causal edge that is a scalar."""
    kernel = parse_kernel("""
kernel decode(Q: bf16[H, 1, 20], K: bf16[N, 20], V: bf16[N, 12]; scale: f64; extents h, n) -> O: f32[H, 1, 12] {
  program h in H
  q: bf16[m:1, e:20] = load Q[h, m, e] fill 0
  loop n.1 in full [0, N // 16), partial [N // 16, (N + 15) // 16) carry
      MX.run: f32[m:1] = -inf next MX.next, D.run: f32[m:1] = 0 next D.next, O.run: f32[m:1, f:12] = 0 next O.next {
    k: bf16[n.0:16, e:20] = load K[16 * n.1 + n.0, e] partial where 16 * n.1 + n.0 < N fill 0
    s: f32[m:1, n.0:16] = dot(q, k) over e
    t: f32[m:1, n.0:16] = select partial (16 * n.1 + n.0 < N, s * scale, -inf)
    MX.next: f32[m:1] = reduce max over n.0:16 (t) accumulate MX.run
    fix: f32[m:1] = map if(MX.run == MX.next, 1, exp(MX.run - MX.next))
    p: f32[m:1, n.0:16] = map exp(t - MX.next)
    pc: bf16[m:1, n.0:16] = map cast(p, bf16)
    D.next: f32[m:1] = reduce sum over n.0:16 (p) accumulate D.run * fix
    v: bf16[n.0:16, f:12] = load V[16 * n.1 + n.0, f] partial where 16 * n.1 + n.0 < N fill 0
    O.next: f32[m:1, f:12] = dot(pc, v) over n.0 accumulate O.run * fix
  }
  store O[h, m, f] over m:1, f:12 = O.run / D.run
}
""")
    tensors = {
        "Q": normal(3, 1, 20, dtype="bf16"),
        "K": normal(37, 20, dtype="bf16"),
        "V": normal(37, 12, dtype="bf16"),
    }
    return Sample(kernel, tensors, {"scale": 0.2}, {"h": 3, "n": 37})


def neighbourhood(dtype: str = "f32", y: int = 3, x: int = 5, v: int = 4, u: int = 6, depth: int = 12) -> Sample:
    """Queries and keys are boxes of a grid: four axes in the scores, merged into rows and columns for the products."""
    cast = f"pc: {dtype}[y.0:{y}, x.0:{x}, v.0:{v}, u.0:{u}] = map cast(p, {dtype})"
    kernel = parse_kernel(f"""
kernel neighbourhood(Q: {dtype}[Y, X, {depth}], K: {dtype}[V, U, {depth}], Z: {dtype}[V, U, {depth}]; scale: f64; extents y, x, v, u)
    -> O: f32[Y, X, {depth}], C: i64[Y, X] {{
  program y.1 in (Y + {y - 1}) // {y}, x.1 in (X + {x - 1}) // {x}
  q: {dtype}[y.0:{y}, x.0:{x}, e:{depth}] = load Q[{y} * y.1 + y.0, {x} * x.1 + x.0, e]
      where {y} * y.1 + y.0 < Y and {x} * x.1 + x.0 < X fill 0
  loop t.1 in partial [0, ((V + {v - 1}) // {v}) * ((U + {u - 1}) // {u})) carry
      D.run: f32[y.0:{y}, x.0:{x}] = 0 next D.next, C.run: i64[y.0:{y}, x.0:{x}] = 0 next C.next,
      O.run: f32[y.0:{y}, x.0:{x}, f:{depth}] = 0 next O.next {{
    k: {dtype}[v.0:{v}, u.0:{u}, e:{depth}] = load K[{v} * (t.1 // ((U + {u - 1}) // {u})) + v.0, {u} * (t.1 % ((U + {u - 1}) // {u})) + u.0, e]
        where {v} * (t.1 // ((U + {u - 1}) // {u})) + v.0 < V and {u} * (t.1 % ((U + {u - 1}) // {u})) + u.0 < U fill 0
    s: f32[y.0:{y}, x.0:{x}, v.0:{v}, u.0:{u}] = dot(q, k) over e
    m: f32[y.0:{y}, x.0:{x}, v.0:{v}, u.0:{u}] = select partial
        (abs({y} * y.1 + y.0 - ({v} * (t.1 // ((U + {u - 1}) // {u})) + v.0)) <= 2
         and abs({x} * x.1 + x.0 - ({u} * (t.1 % ((U + {u - 1}) // {u})) + u.0)) <= 3
         and {v} * (t.1 // ((U + {u - 1}) // {u})) + v.0 < V and {u} * (t.1 % ((U + {u - 1}) // {u})) + u.0 < U, s * scale, -inf)
    p: f32[y.0:{y}, x.0:{x}, v.0:{v}, u.0:{u}] = map exp(m)
    D.next: f32[y.0:{y}, x.0:{x}] = reduce sum over v.0:{v}, u.0:{u} (p) accumulate D.run
    C.next: i64[y.0:{y}, x.0:{x}] = reduce sum over v.0:{v}, u.0:{u} (if(m > -inf, 1, 0)) accumulate C.run
    z: {dtype}[v.0:{v}, u.0:{u}, f:{depth}] = load Z[{v} * (t.1 // ((U + {u - 1}) // {u})) + v.0, {u} * (t.1 % ((U + {u - 1}) // {u})) + u.0, f]
        where {v} * (t.1 // ((U + {u - 1}) // {u})) + v.0 < V and {u} * (t.1 % ((U + {u - 1}) // {u})) + u.0 < U fill 0
    {cast}
    O.next: f32[y.0:{y}, x.0:{x}, f:{depth}] = dot(pc, z) over v.0, u.0 accumulate O.run
  }}
  store O[{y} * y.1 + y.0, {x} * x.1 + x.0, f] over y.0:{y}, x.0:{x}, f:{depth} = O.run / D.run
      where {y} * y.1 + y.0 < Y and {x} * x.1 + x.0 < X
  store C[{y} * y.1 + y.0, {x} * x.1 + x.0] over y.0:{y}, x.0:{x} = C.run where {y} * y.1 + y.0 < Y and {x} * x.1 + x.0 < X
}}
""")
    tensors = {
        "Q": normal(7, 8, depth, dtype=dtype),
        "K": normal(7, 8, depth, dtype=dtype, seed=1),
        "Z": normal(7, 8, depth, dtype=dtype, seed=2),
    }
    return Sample(kernel, tensors, {"scale": 0.2}, {"y": 7, "x": 8, "v": 7, "u": 8})


SAMPLES: dict[str, Callable[[], Sample]] = {
    "attention_f32": lambda: attention_sample("f32"),
    "attention_f16": lambda: attention_sample("f16", depth=16, rows=16, keys=16),
    "attention_bf16": lambda: attention_sample("bf16"),
    "attention_f64": lambda: attention_sample("f64", depth=17, rows=8, keys=24),
    "window": window,
    "two_sweeps": two_sweeps,
    "normalized_product": normalized_product,
    "gathered_bias": gathered_bias,
    "distances": distances,
    "batched": batched,
    "listed_tiles": listed_tiles,
    "decoding": decoding,
    "neighbourhood": neighbourhood,
}
