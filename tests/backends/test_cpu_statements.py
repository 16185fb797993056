"""Statement by statement: every function, operator, reduction and carry that tile programs can hold, as C++."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from einsum_compiler.ir.errors import BackendError
from einsum_compiler.ir.tile import Loop
from einsum_compiler.ir.tile_parser import parse_kernel
from tests.backends.test_cpu import compiled, run_and_check
from tests.backends.tile_samples import Sample, normal

EDGES = [0.0, -0.0, 1.0, -1.0, 0.5, 2.5, -2.5, 1e-30, 88.0, -104.0, 20.0, math.inf, -math.inf, math.nan]


def one_axis(lines: list[tuple[str, str]], dtype: str, x: torch.Tensor, y: torch.Tensor | None = None) -> Sample:
    """A kernel that maps X (and Y) through every expression; outputs R0, R1, ... of the types given."""
    outputs = ", ".join(f"R{i}: {kind}[N]" for i, (kind, _) in enumerate(lines))
    second = f", Y: {dtype}[N]" if y is not None else ""
    body = [f"  x: {dtype}[n.0:24] = load X[24 * n.1 + n.0] where 24 * n.1 + n.0 < N fill 0"]
    if y is not None:
        body.append(f"  y: {dtype}[n.0:24] = load Y[24 * n.1 + n.0] where 24 * n.1 + n.0 < N fill 1")
    body += [
        f"  store R{i}[24 * n.1 + n.0] over n.0:24 = {value} where 24 * n.1 + n.0 < N"
        for i, (_, value) in enumerate(lines)
    ]
    text = "\n".join(
        [
            f"kernel maps(X: {dtype}[N]{second}; c: f64, k: i64, flag: bool; extents n) -> {outputs} {{",
            "  program n.1 in (N + 23) // 24",
            *body,
            "}",
        ]
    )
    tensors = {"X": x} | ({"Y": y} if y is not None else {})
    return Sample(parse_kernel(text), tensors, {"c": 1.75, "k": -3, "flag": True}, {"n": x.numel()})


REAL = [
    "exp(x)", "exp2(x)", "log(x)", "sqrt(x)", "rsqrt(x)", "tanh(x)", "sigmoid(x)", "silu(x)", "gelu(x)", "erf(x)", "softplus(x)",
    "relu(x)", "abs(x)", "sign(x)", "floor(x)", "ceil(x)", "round(x)", "max(x, y)", "min(x, y)", "max(x, y, 0.5)", "clamp(x, -1, 2)",
    "x ** 2", "x ** -1", "-x", "x / 3", "x * c + k", "if(x > y, x, y)", "if(flag and x == x, 1, 2)", "if(not (x < y or y < 0), x, 0)",
    "cast(x, bf16)", "cast(x, f16)", "if(x > 1, cast(2.5, i32), 7)", "x + n.0", "stop_gradient(x) - y", "if(0 <= x < 1 < y, 1, 0)",
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_functions(dtype: str) -> None:
    x = torch.cat([torch.tensor(EDGES, dtype=torch.float64), normal(30, dtype="f64") * 3]).to(
        torch.float32 if dtype == "f32" else torch.float64
    )
    run_and_check(one_axis([(dtype, e) for e in REAL], dtype, x, x.flip(0).contiguous()))


def test_trigonometry_and_powers() -> None:
    x = normal(40) * 10
    run_and_check(
        one_axis(
            [("f32", e) for e in ("sin(x)", "cos(x)", "abs(x) ** 1.5", "abs(x) ** y", "x // 2", "x % 1.5")],
            "f32",
            x,
            normal(40, seed=1),
        )
    )


INTEGER = [
    "x // 3", "x % 3", "x // y", "x % y", "x // 8", "x % 8", "x // -3", "x % -3", "x + y", "x * y - k", "x & 12", "x | y", "x ^ y", "x << 2", "x >> 1",
    "max(x, y)", "min(x, k)", "abs(x)", "sign(x)", "-x", "x ** 3", "x ** y", "3 ** abs(x)", "(-1) ** x", "clamp(x, -2, 5)", "(24 * n.1 + n.0) // 5 % 3", "if(x == y, 1, n.0)", "cast(x, i8)",
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["i64", "i32"])
def test_integer_arithmetic(dtype: str) -> None:
    kind = torch.int64 if dtype == "i64" else torch.int32
    x = torch.tensor([-9, -8, -7, -1, 0, 1, 2, 3, 7, 8, 9, 130, -130, 2**30, -(2**30), *range(-13, 14)], dtype=kind)
    y = torch.tensor([3, -3, 5, -5, 7] * 20, dtype=kind)[: x.numel()]
    lines = [("i64", e) for e in INTEGER] + [
        ("f32", "x / y"),
        ("bool", "x < y"),
        ("bool", "x == 3 or y == 5"),
        ("i32", "x - y"),
        ("f32", "exp(x % 4)"),
    ]
    run_and_check(one_axis(lines, dtype, x, y))


def test_booleans_and_small_integers() -> None:
    x = torch.tensor([True, False, True, True, False] * 6)
    run_and_check(
        one_axis(
            [
                ("bool", "x and y"),
                ("bool", "x or not y"),
                ("bool", "x ^ y"),
                ("f32", "if(x, 2, 3)"),
                ("i64", "x + y"),
                ("i8", "x"),
            ],
            "bool",
            x,
            x.flip(0),
        )
    )
    small = torch.arange(-20, 20, dtype=torch.int8)
    run_and_check(one_axis([("i64", "x * x"), ("f32", "x / 2"), ("u8", "x + 30")], "i8", small))


def test_uniform_numbers_are_those_of_the_reference() -> None:
    x = torch.arange(50, dtype=torch.int64)
    run_and_check(
        one_axis([("f32", "uniform(k, x)"), ("f32", "uniform(7, n.0, x, 3)"), ("f64", "uniform(k, n.1)")], "i64", x)
    )


def test_wide_results_of_narrow_operands_keep_their_precision() -> None:
    run_and_check(one_axis([("f64", "x * c"), ("bf16", "x * c"), ("f16", "x + 1")], "f32", normal(40)))


# Reductions ------------------------------------------------------------------------------------------------------------------

REDUCTIONS = """
kernel reductions(X: f32[A, B, C]; extents a, b, c) -> R0: f32[A, C], R1: f32[B, C], R2: f32[A, B], R3: f32[A], R4: f32[C], R5: i64[A], R6: bool[A], R7: bool[C], R8: f32[A], R9: bf16[B], R10: f32[A, C] {
  program p in 1
  x: f32[a:3, b:5, c:20] = load X[a, b, c] fill 0
  r0: f32[a:3, c:20] = reduce sum over b:5 (x)
  r1: f32[b:5, c:20] = reduce max over a:3 (x)
  r2: f32[a:3, b:5] = reduce min over c:20 (x * 2)
  r3: f32[a:3] = reduce sum over b:5, c:20 (x)
  r4: f32[c:20] = reduce prod over a:3, b:5 (1 + x / 10)
  r5: i64[a:3] = reduce sum over b:5, c:20 (x > 0)
  r6: bool[a:3] = reduce any over b:5, c:20 (x > 2)
  r7: bool[c:20] = reduce all over a:3, b:5 (x < 2)
  r8: f32[a:3] = reduce max over b:5, c:20 (abs(x)) accumulate r3
  m: f32[a:3, b:5] = reduce sum over c:20 (x)
  r9: bf16[b:5] = reduce sum over a:3 (m)
  r10: f32[a:3, c:20] = reduce sum over b:5 (x * m) accumulate r0 * 0.5
  store R0[a, c] over a:3, c:20 = r0
  store R1[b, c] over b:5, c:20 = r1
  store R2[a, b] over a:3, b:5 = r2
  store R3[a] over a:3 = r3
  store R4[c] over c:20 = r4
  store R5[a] over a:3 = r5
  store R6[a] over a:3 = r6
  store R7[c] over c:20 = r7
  store R8[a] over a:3 = r8
  store R9[b] over b:5 = r9
  store R10[a, c] over a:3, c:20 = r10
}
"""


@pytest.mark.parametrize("with_nan", [False, True])
def test_reductions_over_every_axis(with_nan: bool) -> None:
    x = normal(3, 5, 20)
    if with_nan:
        x[1, 2, 3] = math.nan
    run_and_check(Sample(parse_kernel(REDUCTIONS), {"X": x}, {}, {"a": 3, "b": 5, "c": 20}))


def test_scalar_tiles_and_axes_of_one() -> None:
    text = """
kernel scalars(X: f32[N], Y: f32[N, 1]; extents n) -> Z: f32[N], S: f32[N] {
  program n in N
  x: f32[] = load X[n] fill 0
  t: f32[] = map x * 2 + 1
  y: f32[i:1] = load Y[n, i] fill 0
  s: f32[] = reduce sum over i:1 (y * t)
  d: f32[] = dot(y, y) over i
  store Z[n] = t + s
  store S[n] = d
}
"""
    run_and_check(Sample(parse_kernel(text), {"X": normal(9), "Y": normal(9, 1)}, {}, {"n": 9}))


# Products --------------------------------------------------------------------------------------------------------------------

PRODUCTS = """
kernel products(A: {0}[7, 10], B: {0}[10, 9], C: {0}[9, 10], W: {0}[2, 7, 3, 10]) -> R0: {1}[7, 9], R1: {1}[7, 9], R2: {1}[9, 7], R3: {1}[7, 7], R4: {1}[2, 3, 9], R5: {1}[2, 2], R6: {1}[10] {{
  program p in 1
  a: {0}[i:7, k:10] = load A[i, k] fill 0
  b: {0}[k:10, j:9] = load B[k, j] fill 0
  c: {0}[j:9, k:10] = load C[j, k] fill 0
  w: {0}[h:2, i:7, r:3, k:10] = load W[h, i, r, k] fill 0
  r0: {1}[i:7, j:9] = dot(a, b) over k
  r1: {1}[i:7, j:9] = dot(a, c) over k accumulate r0 * 2 + 1
  r2: {1}[j:9, i:7] = dot(a, b) over k
  aa: {0}[l:7, k:10] = load A[l, k] fill 0
  r3: {1}[i:7, l:7] = dot(a, aa) over k accumulate r3.before
  r4: {1}[h:2, r:3, j:9] = dot(w, ac) over i, k
  store R0[i, j] over i:7, j:9 = r0
  store R1[i, j] over i:7, j:9 = r1
  store R2[j, i] over j:9, i:7 = r2
  store R3[i, l] over i:7, l:7 = r3
  store R4[h, r, j] over h:2, r:3, j:9 = r4
  ww: {0}[g:2, i:7, r:3, k:10] = load W[g, i, r, k] fill 0
  r5: {1}[h:2, g:2] = dot(w, ww) over i, r, k
  store R5[h, g] over h:2, g:2 = r5
  o: {0}[i:7] = load A[i, 3] fill 0
  r6: {1}[k:10] = dot(o, a) over i
  store R6[k] over k:10 = r6
}}
"""


@pytest.mark.parametrize(("narrow", "wide"), [("f32", "f32"), ("bf16", "f32"), ("f64", "f64"), ("i32", "i64")])
def test_products_in_every_order_of_axes(narrow: str, wide: str) -> None:
    text = PRODUCTS.format(narrow, wide)
    text = text.replace(
        "  aa:",
        f"  r3.before: {wide}[i:7, l:7] = map i - l\n  ac: {narrow}[i:7, k:10, j:9] = map {'cast(a * b, ' + narrow + ')'}\n  aa:",
    )
    tensors = {"A": normal(7, 10), "B": normal(10, 9), "C": normal(9, 10), "W": normal(2, 7, 3, 10)}
    kinds = {"f32": torch.float32, "bf16": torch.bfloat16, "f64": torch.float64, "i32": torch.int32}
    run_and_check(Sample(parse_kernel(text), {n: (t * 3).to(kinds[narrow]) for n, t in tensors.items()}, {}, {}))


# Loops -----------------------------------------------------------------------------------------------------------------------


def test_carried_tiles_exchange_their_values() -> None:
    """Fibonacci numbers: the next value of one tile is another carried tile as it was."""
    text = """
kernel fibonacci(X: i64[N]; extents n, t) -> Y: i64[N], Z: i64[N], C: i64[N] {
  program p in 1
  x: i64[n:6] = load X[n] where n < N fill 0
  loop t in full [0, T) carry a: i64[n:6] = x next b, b: i64[n:6] = x + 1 next s, c: i64[n:6] = 0 next c {
    s: i64[n:6] = map a + b
  }
  store Y[n] over n:6 = a where n < N
  store Z[n] over n:6 = b where n < N
  store C[n] over n:6 = c where n < N
}
"""
    for steps in (0, 1, 7):
        run_and_check(Sample(parse_kernel(text), {"X": torch.arange(5)}, {}, {"n": 5, "t": steps}))


def test_a_carried_tile_that_is_read_after_its_next_value_keeps_it() -> None:
    text = """
kernel late(X: f32[N, 16]; extents n) -> Y: f32[16], Z: f32[16] {
  program p in 1
  loop n in full [0, N) carry a: f32[e:16] = 0 next a.next, d: f32[e:16] = 0 next d.next {
    x: f32[e:16] = load X[n, e] fill 0
    a.next: f32[e:16] = map max(a, x)
    d.next: f32[e:16] = map d + (a.next - a)
  }
  store Y[e] over e:16 = a
  store Z[e] over e:16 = d
}
"""
    run_and_check(Sample(parse_kernel(text), {"X": normal(9, 16)}, {}, {"n": 9}))


def test_masks_of_every_form() -> None:
    """Bounds from above and below, parity, a tile of lengths, a scalar condition: in loads and in stores."""
    text = """
kernel masks(X: f32[M, N], T: i64[M]; W: i64, flag: bool; extents m, n) -> Y: f32[M, N] {
  program m.1 in (M + 3) // 4, n.1 in (N + 15) // 16
  t: i64[m.0:4] = load T[4 * m.1 + m.0] where 4 * m.1 + m.0 < M fill 0
  x: f32[m.0:4, n.0:16] = load X[4 * m.1 + m.0, 16 * n.1 + n.0] where flag and 4 * m.1 + m.0 < M and 16 * n.1 + n.0 < N
      and 16 * n.1 + n.0 < t and 2 <= 16 * n.1 + n.0 and (n.0 + m.0) % 3 != 1 fill -7
  z: f32[m.0:4, n.0:16] = load X[4 * m.1 + m.0, 16 * n.1 + n.0 - W] where 4 * m.1 + m.0 < M and 0 <= 16 * n.1 + n.0 - W < N fill 100
  store Y[4 * m.1 + m.0, 16 * n.1 + n.0] over m.0:4, n.0:16 = 0 where 4 * m.1 + m.0 < M and 16 * n.1 + n.0 < N
  store Y[4 * m.1 + m.0, 16 * n.1 + n.0] over m.0:4, n.0:16 = x + z where 4 * m.1 + m.0 < M and 16 * n.1 + n.0 < N and (n.0 * m.0) % 2 == 0
}
"""
    tensors = {"X": normal(10, 37), "T": torch.tensor([0, 1, 5, 20, 36, 37, 40, 3, 17, 16])}
    for flag in (True, False):
        run_and_check(Sample(parse_kernel(text), tensors, {"W": 5, "flag": flag}, {"m": 10, "n": 37}))


def test_loops_inside_loops_are_refused() -> None:
    inner = parse_kernel(
        "kernel k(X: f32[N]; extents n) -> Y: f32[N] {\n  program p in 1\n  loop n in full [0, N) {\n    x: f32[] = load X[n] fill 0\n    store Y[n] = x\n  }\n}"
    )
    loop = inner.body[0]
    assert isinstance(loop, Loop)
    nested = replace(inner, body=(replace(loop, rank="t", body=(loop,)),))
    with pytest.raises(BackendError) as error:
        compiled(nested)
    assert str(error.value) == "error: the CPU backend runs no loop inside a loop (loop t)"


def test_tiles_without_elements_have_memory_of_their_own() -> None:
    from einsum_compiler.backends.cpu.storage import Arena

    arena = Arena()
    offsets = [arena.allocate(size) for size in (512, 0, 0, 32)]
    assert offsets == [0, 512, 576, 640] and arena.size == 704
    for offset in (512, 576):
        arena.release(offset)
    assert arena.allocate(128) == 512
