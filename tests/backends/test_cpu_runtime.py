"""The C++ runtime of tile programs, function by function, against NumPy in float64 and PyTorch."""

import ctypes
import itertools
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from einsum_compiler.backends.cpu import build
from einsum_compiler.cost.register_blocks import stays_near

RUNTIME = Path(__file__).resolve().parents[2] / "backends" / "cpu" / "runtime"
FLAGS = [
    "-std=gnu++17",
    "-O2",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fwrapv",
    "-fPIC",
    "-shared",
    "-Wall",
    "-Wextra",
    "-Werror",
]
# Where AVX-512 is missing, "wide" and "widepairs" run its code with plain code in place of its builtins.
BYTES = {"portable": 16, "avx2": 32, "avx512": 64, "avx512bf16": 64, "wide": 64, "widepairs": 64}

UNARY = {
    "exp": np.exp, "exp2": np.exp2, "log": np.log, "log2": np.log2, "log1p": np.log1p, "tanh": np.tanh, "sin": np.sin, "cos": np.cos,
    "sqrt": np.sqrt, "rsqrt": lambda x: 1 / np.sqrt(x), "abs": np.abs, "floor": np.floor, "ceil": np.ceil, "round": np.round,
    "trunc": np.trunc, "sigmoid": lambda x: torch.sigmoid(torch.from_numpy(x)).numpy(),
    "erf": lambda x: torch.erf(torch.from_numpy(x)).numpy(), "softplus": lambda x: np.logaddexp(0, x),
}  # fmt: skip

SOURCE = """
#include "gather.hpp"
#include "tile.hpp"
using namespace tile;
#define BODY __attribute__((always_inline))
#define EACH(name, T, expression) \\
    void name(long n, const T* x, const T* y, T* z) { (void)y; for_each_row(1, n, [&](long, auto j) BODY { auto a = load(x, j); auto b = load(y, j); (void)a; (void)b; store(z, j, expression); }); }
#define PRODUCT(name, A, B, C) \\
    void name(int how, long m, long n, long k, const A* a, long ar, long ad, const B* b, long bs, C* c, long cs, const C* scale) { \\
        strided<const A> x{a, ar, ad}; matrix<const B> y{b, bs}; matrix<C> z{c, cs}; \\
        if (how == 0) product(overwrite{}, m, n, k, x, y, z); \\
        if (how == 1) product(accumulate{}, m, n, k, x, y, z); \\
        if (how == 2) product(rescale<C>{scale}, m, n, k, x, y, z); }
#define NEARBY(name, T) \\
    int name(long m, long n, long k, const T* a, long ar, long ad, const T* b, long bs, T* c, T* left, T* right) { \\
        const auto x = nearby_left(m, n, k, strided<const T>{a, ar, ad}, left); \\
        const auto y = nearby(m, n, k, matrix<const T>{b, bs}, right); \\
        product(overwrite{}, m, n, k, x, y, matrix<T>{c, n}); \\
        return (x.data == left) + 2 * (y.data == right); }
#define FOLD(name, op) \\
    void name##_rows(long m, long n, const float* x, float* o) { matrix<const float> s{x, n}; \\
        fold_rows(op{}, m, n, [&](long i, auto j) BODY { return load(s, i, j); }, [&](long i, float v) { o[i] = v; }); } \\
    void name##_columns(long m, long n, const float* x, float* o) { matrix<const float> s{x, n}; \\
        fold_columns(op{}, m, n, [&](long i, auto j) BODY { return load(s, i, j); }, [&](auto j, auto v) { store(o, j, v); }); }
template <class T> void gather(int masked, long size, long count, const T* from, const int64_t* offsets, const int32_t* live, T* to) {
    lane_run runs[64];
    find_runs(runs, offsets, size);
    if (masked) gather_row_where(to, from, offsets, runs, count, size, 7, [&](auto j) BODY { return load(live, j) != 0; });
    else gather_row(to, from, offsets, runs, count, size, 7);
}
extern "C" {
void asking(long m, long n, long k, const float* a, const float* b, float* c, long count, int64_t* asked) {
    long told = 0;
    product(overwrite{}, m, n, k, strided<const float>{a, k, 1}, matrix<const float>{b, n}, matrix<float>{c, n},
            asking_for<float>(m, n, count, [&](long row) BODY { asked[told++] = row; })); }
int vector_bytes() { return VECTOR_BYTES; }
%s
EACH(exp2_5, float, exp2_nonpositive<5>(a)) EACH(exp2_3, float, exp2_nonpositive<3>(a)) EACH(exp_5, float, exp_nonpositive<5>(a)) EACH(exp_difference, float, exp_difference(a))
EACH(max_, float, max(a, b)) EACH(min_, float, min(a, b)) EACH(pow_, float, pow(a, b)) EACH(pow_shared_, float, pow(a, *y)) EACH(pow_shared_f64, double, pow(a, *y))
EACH(select_, float, select(a < b, a, 7.0f))
EACH(floor_divide_i32, int32_t, floor_divide(a, b)) EACH(modulo_i32, int32_t, modulo(a, b))
EACH(floor_divide_i64, int64_t, floor_divide(a, b)) EACH(modulo_i64, int64_t, modulo(a, b))
EACH(modulo_f32, float, modulo(a, b)) EACH(max_scalar, float, max(a, 0.5f)) EACH(cube, float, power<3>(a))
EACH(half_power_1, float, half_power<1>(a)) EACH(half_power_minus_1, float, half_power<-1>(a)) EACH(half_power_3, float, half_power<3>(a)) EACH(half_power_minus_3, float, half_power<-3>(a)) EACH(half_power_7, float, half_power<7>(a))
EACH(exp_f64, double, exp(a)) EACH(floor_f64, double, floor(a)) EACH(round_f64, double, round(a))
PRODUCT(product_f32, float, float, float) PRODUCT(product_f64, double, double, double) PRODUCT(product_bf16, bf16, bf16, float) PRODUCT(product_f16, float, f16, float)
NEARBY(nearby_f32, float) NEARBY(nearby_f64, double)
int near_enough(long depth, long row, long panel) { return stays_near(depth, row, panel); }
FOLD(sum, sum) FOLD(max, maximum) FOLD(min, minimum) FOLD(prod, prod)
int any_negative(long n, const float* x) { int r = 0; fold_rows(any_of{}, 1, n, [&](long, auto j) BODY { return load(x, j) < 0; }, [&](long, int v) { r = v; }); return r != 0; }
int all_negative(long n, const float* x) { int r = 0; fold_rows(all_of{}, 1, n, [&](long, auto j) BODY { return load(x, j) < 0; }, [&](long, int v) { r = v; }); return r != 0; }
void bf16_of(long n, const float* x, bf16* y) { copy(1, n, matrix<const float>{x, n}, matrix<bf16>{y, n}); }
void f16_of(long n, const float* x, f16* y) { copy(1, n, matrix<const float>{x, n}, matrix<f16>{y, n}); }
void of_bf16(long n, const bf16* x, float* y) { copy(1, n, matrix<const bf16>{x, n}, matrix<float>{y, n}); }
void of_f16(long n, const f16* x, float* y) { copy(1, n, matrix<const f16>{x, n}, matrix<float>{y, n}); }
void transpose_f32(long m, long n, const float* x, long rs, long cs, float* y, long padded) { transpose(m, n, strided<const float>{x, rs, cs}, matrix<float>{y, padded}, padded); }
void transpose_bf16(long m, long n, const bf16* x, long rs, long cs, float* y, long padded) { transpose(m, n, strided<const bf16>{x, rs, cs}, matrix<float>{y, padded}, padded); }
void gather_f32(int masked, long size, long count, const float* f, const int64_t* o, const int32_t* l, float* t) { gather(masked, size, count, f, o, l, t); }
void gather_f64(int masked, long size, long count, const double* f, const int64_t* o, const int32_t* l, double* t) { gather(masked, size, count, f, o, l, t); }
void gather_i8(int masked, long size, long count, const int8_t* f, const int64_t* o, const int32_t* l, int8_t* t) { gather(masked, size, count, f, o, l, t); }
void fill_frame(long r0, long r, long c0, long c, float* y, float v) { fill(r0, r, c0, c, matrix<float>{y, c}, v); }
void pairs(int from_transpose, int a_f32, long m, long n, long k, const bf16* a, const float* af, const bf16* b, bf16* packed, long padded, float* c) {
    if (from_transpose) transpose_pairs(n, k, strided<const bf16>{b, k, 1}, matrix<bf16>{packed, 2 * padded}, padded);
    else pack_pairs(k, n, matrix<const bf16>{b, n}, matrix<bf16>{packed, 2 * padded}, padded);
    if (a_f32) product_pairs(overwrite{}, m, n, (k + 1) / 2, matrix<const float>{af, k + k %% 2}, matrix<const bf16>{packed, 2 * padded}, matrix<float>{c, n});
    else product_pairs(overwrite{}, m, n, (k + 1) / 2, matrix<const bf16>{a, k + k %% 2}, matrix<const bf16>{packed, 2 * padded}, matrix<float>{c, n}); }
}
"""


def start_compile(isa, folder):
    source = folder / f"{isa}.cpp"  # of its own: a compiler may still read another one's
    source.write_text(SOURCE % "\n".join(f"EACH({name}_, float, {name}(a))" for name in UNARY))
    library = folder / f"{isa}.so"
    command = ["g++", *FLAGS, *build.FLAGS[isa], f"-I{RUNTIME}", str(source), "-o", str(library)]
    return library, subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    if not shutil.which("g++"):
        pytest.skip("needs g++")
    folder = tmp_path_factory.mktemp("runtime")
    jobs = {isa: start_compile(isa, folder) for isa in BYTES}
    return {isa: (library, job.communicate()[1], job.returncode) for isa, (library, job) in jobs.items()}


@pytest.fixture(scope="module", params=BYTES)
def runtime(request, libraries):
    path, errors, code = libraries[request.param]
    assert code == 0, errors
    if not build.runs_here(request.param):
        pytest.skip(f"compiled; this processor has no {request.param}")
    library = ctypes.CDLL(str(path))
    assert library.vector_bytes() == BYTES[request.param]
    return library


def call(function, *arguments):
    convert = {int: ctypes.c_long, float: ctypes.c_float}
    return function(
        *[a.ctypes.data_as(ctypes.c_void_p) if isinstance(a, np.ndarray) else convert[type(a)](a) for a in arguments]
    )


def apply(function, x, y=None):
    result = np.full_like(x, 99)
    call(function, len(x), x, x if y is None else y, result)
    return result


def ulps(result, exact):
    """The distance in units of the last place of the exact value rounded to f32; below 2^-126 a result may be 0."""
    with np.errstate(all="ignore"):
        rounded = exact.astype(np.float32)
        same = (
            (result == rounded) | (np.isnan(result) & np.isnan(rounded)) | ((result == 0) & (np.abs(exact) < 2.0**-126))
        )
        unit = np.spacing(np.maximum(np.abs(rounded), np.float32(2.0**-126))).astype(np.float64)
        distance = np.abs(result.astype(np.float64) - exact) / unit
    return np.where(same, 0.0, np.where(np.isfinite(distance), distance, np.inf))


random = np.random.default_rng(0)
SPREAD = (random.standard_normal(40003) * 10.0 ** random.uniform(-6, 1.9, 40003)).astype(np.float32)
SPECIAL = np.array([0.0, -0.0, 1, -1, 0.5, -0.5, 1.5, 2.5, -2.5, 88.72, 88.73, -87.33, -104, 127.99999, 128, -126, -127, 3e38, -3e38, 1e-38, 1e-40,
                    8388607.5, 1e9, -1e9, np.inf, -np.inf, np.nan], np.float32)  # fmt: skip
# NaN with something in the low bits, which exponents are computed in.
MARKED = np.array([0x7FC00001, 0x7FC00101, 0x7FFFFFFF, 0xFFC00081, 0xFFFFFFFF], np.uint32).view(np.float32)
BOUND = {
    "exp": 1.5,
    "exp2": 1.5,
    "log": 1.5,
    "log2": 2.5,
    "log1p": 2.5,
    "tanh": 2,
    "sin": 1.5,
    "cos": 1.5,
    "sigmoid": 3,
    "erf": 1.5,
    "softplus": 3,
    "rsqrt": 1.5,
}


@pytest.mark.parametrize("name", UNARY)
def test_functions_are_within_a_few_units_of_the_last_place(runtime, name):
    x = np.concatenate([SPREAD, SPECIAL, MARKED])
    with np.errstate(all="ignore"):
        exact = UNARY[name](x.astype(np.float64))
    distance = ulps(apply(getattr(runtime, name + "_"), x), exact)
    worst = int(np.argmax(distance))
    assert distance[worst] <= BOUND.get(name, 0.5), (x[worst], exact[worst], distance[worst])


@pytest.mark.parametrize(
    "name, base, bound",
    [
        ("exp2_5", np.exp2, 2.4e-7),
        ("exp_5", np.exp, 2.4e-7),
        ("exp2_3", np.exp2, 7.6e-5),
        ("exp_difference", np.exp, 4e-6),
    ],
)
def test_cheap_exponentials_of_arguments_that_are_not_positive(runtime, name, base, bound):
    x = -np.abs(SPREAD[np.abs(SPREAD) < 87])
    exact = base(x.astype(np.float64))
    assert np.max(np.abs(apply(getattr(runtime, name), x) / exact - 1)) < bound
    limits = apply(getattr(runtime, name), np.array([-np.inf, -1e30, -200, np.nan, 0], np.float32))
    assert np.isnan(apply(getattr(runtime, name), MARKED)).all()
    assert limits[:3].tolist() == [0, 0, 0] and np.isnan(limits[3]) and abs(limits[4] - 1) < bound


def test_extrema_keep_nan(runtime):
    x, y = (
        np.array(v, np.float32)
        for v in zip(*itertools.product([0, 1, -1, np.nan, np.inf, -np.inf], repeat=2), strict=True)
    )
    for name, reference in [("max_", np.maximum), ("min_", np.minimum)]:
        np.testing.assert_array_equal(apply(getattr(runtime, name), x, y), reference(x, y))
    np.testing.assert_array_equal(apply(runtime.max_scalar, x), np.maximum(x, np.float32(0.5)))
    np.testing.assert_array_equal(apply(runtime.select_, x, y), np.where(x < y, x, np.float32(7)))


@pytest.mark.parametrize("kind", ["i32", "i64"])
def test_division_floors_and_the_remainder_has_the_sign_of_the_divisor(runtime, kind):
    dtype = {"i32": np.int32, "i64": np.int64}[kind]
    ends = np.iinfo(dtype)
    x = np.concatenate(
        [random.integers(ends.min, ends.max, 1000), random.integers(-50, 50, 1000), [ends.min, ends.max]]
    ).astype(dtype)
    y = np.concatenate(
        [random.integers(ends.min, ends.max, 500), random.integers(1, 9, 1000), random.integers(-9, -1, 502)]
    ).astype(dtype)
    y[y == 0] = 3
    np.testing.assert_array_equal(apply(getattr(runtime, "floor_divide_" + kind), x, y), x // y)
    np.testing.assert_array_equal(apply(getattr(runtime, "modulo_" + kind), x, y), x % y)
    apply(getattr(runtime, "modulo_" + kind), x, np.zeros_like(y))  # no trap


POWERS = np.array([0, 1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 7, 0.5, -0.5, 1.5, -2.5, 0.1, 16777215, 16777216, 1e9, -1e9, np.inf, -np.inf, np.nan], np.float32)  # fmt: skip


def test_powers_have_the_special_values_of_ieee_754(runtime):
    x, y = map(np.ravel, np.meshgrid(np.concatenate([SPECIAL, SPREAD[:500]]), POWERS))
    with np.errstate(all="ignore"):
        exact = np.power(x.astype(np.float64), y.astype(np.float64))
        near_one = (1 + 1e-3 * SPREAD[:5000]).astype(np.float32)
        large = (60 / np.log2(np.abs(near_one).astype(np.float64))).astype(np.float32)
        exact_large = np.power(near_one.astype(np.float64), large.astype(np.float64))
    result = apply(runtime.pow_, x, y)
    assert np.max(ulps(result, exact)) <= 1.5
    assert np.max(ulps(apply(runtime.pow_, near_one, large), exact_large)) <= 1.5
    zero = exact == 0
    np.testing.assert_array_equal(np.signbit(result[zero]), np.signbit(exact[zero]))
    for power in POWERS:
        base = np.concatenate([SPECIAL, SPREAD[:500]])
        one = np.full_like(base, power)
        with np.errstate(all="ignore"):
            exact = np.power(base.astype(np.float64), one.astype(np.float64))
            wide = np.power(base.astype(np.float64) / 3, one.astype(np.float64))
        assert np.max(ulps(apply(runtime.pow_shared_, base, one), exact)) <= 3, power
        doubles = apply(runtime.pow_shared_f64, base.astype(np.float64) / 3, one.astype(np.float64))
        np.testing.assert_allclose(doubles, wide, rtol=1e-15)


def test_powers_of_halves_are_products_with_a_root(runtime):
    x = np.concatenate([SPECIAL, SPREAD[:5000]])
    for twice in (1, -1, 3, -3, 7):
        with np.errstate(all="ignore"):
            exact = np.power(x.astype(np.float64), np.full(len(x), twice / 2))
        name = f"half_power_{twice}".replace("-", "minus_")
        assert np.max(ulps(apply(getattr(runtime, name), x), exact)) <= 3, twice


def test_float_functions_of_two_arguments_and_f64(runtime):
    x, y = SPREAD[:5001], SPREAD[5001:10002]
    np.testing.assert_array_equal(
        apply(runtime.modulo_f32, x, y), torch.remainder(torch.from_numpy(x), torch.from_numpy(y)).numpy()
    )
    with np.errstate(all="ignore"):
        power = (np.abs(x).astype(np.float64) ** y).astype(np.float32)
        np.testing.assert_allclose(apply(runtime.pow_, np.abs(x), y), power, rtol=2e-7, atol=1e-37)
    np.testing.assert_allclose(apply(runtime.cube, x), x.astype(np.float64) ** 3, rtol=3e-7)
    z = x.astype(np.float64) * 1.25
    np.testing.assert_allclose(apply(runtime.exp_f64, z), np.exp(z), rtol=1e-15)
    np.testing.assert_array_equal(apply(runtime.floor_f64, z), np.floor(z))
    np.testing.assert_array_equal(apply(runtime.round_f64, z), np.round(z))


@pytest.mark.parametrize("name, dtype", [("bf16", torch.bfloat16), ("f16", torch.float16)])
def test_conversions_round_to_nearest_even(runtime, name, dtype):
    bits = torch.arange(65536, dtype=torch.int32).to(torch.int16)
    stored = bits.view(dtype)
    wide = np.zeros(65536, np.float32)
    call(getattr(runtime, "of_" + name), 65536, bits.numpy(), wide)
    np.testing.assert_array_equal(wide, stored.float().numpy())
    x = np.concatenate([random.integers(0, 2**32, 100003, dtype=np.uint32).view(np.float32), SPREAD, SPECIAL, wide[:31744] * np.float32(1 + 2**-9),
                        np.arange(70000, dtype=np.float32), np.arange(4096, dtype=np.float32) * np.float32(2**-25)])  # fmt: skip
    if runtime.vector_bytes() == 64:  # the instruction of AVX512-BF16 takes denormal numbers as 0
        x = x[~(np.abs(x) < 2.0**-126)]
    result = np.zeros(len(x), np.int16)
    call(getattr(runtime, name + "_of"), len(x), x, result)
    expected = torch.from_numpy(x).to(dtype)
    result = torch.from_numpy(result).view(dtype)
    assert torch.equal(result.isnan(), expected.isnan())
    kept = ~expected.isnan()
    assert torch.equal(result[kept].view(torch.int16), expected[kept].view(torch.int16))


SIZES = [
    (1, 1, 1),
    (6, 16, 8),
    (7, 17, 5),
    (13, 3, 31),
    (96, 128, 64),
    (5, 100, 70),
    (19, 77, 150),
    (3, 40, 0),
    (4, 64, 1),
    (11, 15, 129),
]


def bf16_values(x):
    """x rounded to bf16: the values in f32 and the bits."""
    t = torch.from_numpy(np.ascontiguousarray(x, np.float32)).to(torch.bfloat16)
    return t.float().numpy(), t.view(torch.int16).numpy()


@pytest.mark.parametrize("kind", ["f32", "f64", "bf16", "f16"])
@pytest.mark.parametrize("transposed", [False, True])
def test_products_of_any_size_and_stride(runtime, kind, transposed):
    dtype = np.float64 if kind == "f64" else np.float32
    for m, n, k in SIZES:
        a, b = random.standard_normal((k, m) if transposed else (m, k)), random.standard_normal((k, n + 3))
        c, scale = random.standard_normal((m, n + 5)).astype(dtype), random.standard_normal(m).astype(dtype)
        a, b = a.astype(dtype), b.astype(dtype)
        stored_a, stored_b = a, b
        if kind == "bf16":
            (a, stored_a), (b, stored_b) = bf16_values(a), bf16_values(b)
        if kind == "f16":
            stored_b = b.astype(np.float16)
            b = stored_b.astype(np.float32)
        strides = (1, m) if transposed else (k, 1)
        exact = (a.T if transposed else a).astype(np.float64) @ b[:, :n]
        for how, start in enumerate([0 * c[:, :n], c[:, :n], c[:, :n].astype(np.float64) * scale[:, None]]):
            result = c.copy()
            call(
                getattr(runtime, "product_" + kind),
                how,
                m,
                n,
                k,
                stored_a,
                *strides,
                stored_b,
                n + 3,
                result,
                n + 5,
                scale,
            )
            np.testing.assert_allclose(
                result[:, :n], start + exact, rtol=0, atol=(1e-13 if kind == "f64" else 2e-6) * (10 + k**0.5)
            )
            np.testing.assert_array_equal(result[:, n:], c[:, n:])


def test_deep_products_add_in_short_chains(runtime):
    """A chain of 2048 f32 additions is off by about the square root of 8 more than the sum of 8 chains of 256."""
    m, n, k = 24, 32, 2048
    a, b = (random.standard_normal(shape).astype(np.float32) for shape in ((m, k), (k, n)))
    exact, chain, result = a.astype(np.float64) @ b, np.zeros((m, n), np.float32), np.zeros((m, n), np.float32)
    for step in range(k):
        chain += a[:, step, None] * b[step]
    call(runtime.product_f32, 0, m, n, k, a, k, 1, b, n, result, n, np.ones(m, np.float32))
    errors = [float(np.sqrt(np.mean((x - exact) ** 2))) for x in (result, chain)]
    assert errors[0] < errors[1] / 2


# m, n, k, strides of A, stride of B, and which of them are copied: 1 A, 2 B
LYING = [
    (40, 96, 67, 67, 1, 1024, 2),
    (40, 48, 67, 67, 1, 1024, 2),
    (40, 29, 67, 67, 1, 1024, 2),
    (40, 24, 16, 16, 1, 24, 0),
    (29, 256, 140, 1, 1024, 256, 3),
    (29, 256, 64, 1, 48, 272, 0),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_operands_that_lie_badly_are_copied(runtime, dtype):
    wide = runtime.vector_bytes() * 4
    for m, n, k, a_row, a_depth, b_row, copied in LYING:
        a, b = random.standard_normal((m + k, 1024)).astype(dtype), random.standard_normal((k, b_row)).astype(dtype)
        c, left, right = np.empty((m, n), dtype), np.empty(k * (m + 64), dtype), np.empty(k * (n + wide), dtype)
        name = "nearby_f64" if dtype == np.float64 else "nearby_f32"
        found = call(getattr(runtime, name), m, n, k, a, a_row, a_depth, b, b_row, c, left, right)
        assert found == copied, (m, n, k)
        size = np.dtype(dtype).itemsize
        flat = np.lib.stride_tricks.as_strided(a, (m, k), (a_row * size, a_depth * size)).astype(np.float64)
        exact = flat @ b[:, :n].astype(np.float64)
        np.testing.assert_allclose(c, exact, rtol=0, atol=8 * np.finfo(dtype).eps * np.sqrt(k) * np.abs(exact).max())


def test_prices_and_products_agree_on_what_stays_near(runtime):
    panel = runtime.vector_bytes() * (4 if runtime.vector_bytes() == 64 else 2)
    for depth, row in itertools.product(
        [1, 16, 17, 64, 128, 129, 512], [0, 4, 64, 192, 256, 320, 1000, 1024, 2048, 4096, 6144]
    ):
        assert bool(call(runtime.near_enough, depth, row, panel)) == stays_near(depth, row, panel), (depth, row)
    assert stays_near(128, 256, 64) and not stays_near(128, 2048, 64) and not stays_near(512, 1088, 64)


def test_products_that_ask_for_rows_ask_for_each_once_and_give_the_same_bits(runtime):
    for m, n, k in [(64, 64, 64), (32, 16, 8), (7, 17, 5), (26, 48, 3), (1, 16, 4)]:
        a, b = (random.standard_normal(s).astype(np.float32) for s in ((m, k), (k, n)))
        for count in (0, 1, 5, 64, 257):
            plain, result = np.zeros((m, n), np.float32), np.zeros((m, n), np.float32)
            asked = np.full(count, -1, np.int64)
            call(runtime.product_f32, 0, m, n, k, a, k, 1, b, n, plain, n, plain)
            call(runtime.asking, m, n, k, a, b, result, count, asked)
            np.testing.assert_array_equal(result, plain)
            np.testing.assert_array_equal(asked, np.arange(count))


@pytest.mark.parametrize("a_f32, from_transpose", list(itertools.product([0, 1], [0, 1])))
def test_products_of_packed_pairs(runtime, a_f32, from_transpose):
    for m, n, k in [(1, 1, 1), (6, 32, 8), (7, 17, 5), (96, 128, 64), (5, 100, 71), (13, 41, 2)]:
        wide_a = np.zeros((m, k + k % 2), np.float32)
        wide_a[:, :k] = random.standard_normal((m, k))
        (a, a_bits), (b, b_bits) = bf16_values(wide_a), bf16_values(random.standard_normal((k, n)))
        padded = (n + 15) // 16 * 16
        packed, c = np.full(((k + 1) // 2, padded, 2), -1, np.int16), np.zeros((m, n), np.float32)
        given = np.ascontiguousarray(b_bits.T) if from_transpose else b_bits
        call(runtime.pairs, from_transpose, a_f32, m, n, k, a_bits, a, given, packed, padded, c)
        np.testing.assert_array_equal(packed[:, :n].transpose(0, 2, 1).reshape(-1, n)[:k], b_bits)
        assert not packed[:, n:].any()
        np.testing.assert_allclose(c, a[:, :k].astype(np.float64) @ b, rtol=0, atol=3e-6 * (10 + k**0.5))


@pytest.mark.parametrize("kind", ["f32", "bf16"])
def test_transposes_with_strides_and_padding(runtime, kind):
    for m, n in [(1, 1), (8, 8), (17, 9), (128, 64), (3, 70), (37, 33)]:
        values, bits = bf16_values(random.standard_normal((m, n + 3)))
        given = values if kind == "f32" else bits
        padded = (m + 15) // 16 * 16
        result = np.full((n, padded), 99, np.float32)
        call(getattr(runtime, "transpose_" + kind), m, n, given, n + 3, 1, result, padded)
        np.testing.assert_array_equal(result[:, :m], values[:, :n].T)
        assert not result[:, m:].any()
        result[:] = 99
        call(getattr(runtime, "transpose_" + kind), m, n, np.ascontiguousarray(given.T), 1, m, result, padded)
        np.testing.assert_array_equal(result[:, :m], values[:, :n].T)


def test_fills(runtime):
    y = np.zeros((5, 7), np.float32)
    call(runtime.fill_frame, 3, 5, 4, 7, y, 2.0)
    assert (y[:3, :4] == 0).all() and (y[3:] == 2).all() and (y[:, 4:] == 2).all()


@pytest.mark.parametrize("name, reference", [("sum", np.sum), ("max", np.max), ("min", np.min), ("prod", np.prod)])
def test_folds_of_rows_and_columns(runtime, name, reference):
    for m, n in [(1, 1), (3, 7), (5, 16), (9, 77), (2, 200), (40, 33)]:
        x = random.uniform(0.6, 1.5, (m, n)).astype(np.float32)
        for axis, kind, count in [(1, "rows", m), (0, "columns", n)]:
            result = np.zeros(count, np.float32)
            call(getattr(runtime, f"{name}_{kind}"), m, n, x, result)
            np.testing.assert_allclose(result, reference(x.astype(np.float64), axis=axis), rtol=1e-5)
    x[1, 2] = np.nan
    result = np.zeros(m, np.float32)
    call(getattr(runtime, name + "_rows"), m, n, x, result)
    assert np.isnan(result).tolist() == [i == 1 for i in range(m)]


def test_extrema_of_rows_keep_a_nan_wherever_it_stands(runtime):
    for n in [1, 5, 8, 16, 31, 64, 77]:
        x = random.standard_normal((n, n)).astype(np.float32)
        x[:, 0] = np.inf
        np.fill_diagonal(x, np.nan)
        for name in ("max", "min"):
            result = np.zeros(n, np.float32)
            call(getattr(runtime, name + "_rows"), n, n, x, result)
            assert np.isnan(result).all()


def test_folds_of_masks(runtime):
    for n in [1, 5, 8, 100]:
        x = np.ones(n, np.float32)
        assert (call(runtime.any_negative, n, x), call(runtime.all_negative, n, x)) == (0, 0)
        x[-1] = -1
        assert (call(runtime.any_negative, n, x), call(runtime.all_negative, n, x)) == (1, int(n == 1))
        assert call(runtime.all_negative, n, -np.ones(n, np.float32)) == 1


@pytest.mark.parametrize("dtype, name", [(np.float32, "f32"), (np.float64, "f64"), (np.int8, "i8")])
def test_rows_gathered_in_runs(runtime, dtype, name):
    """Runs upwards, downwards and on the spot, within a vector in another order, what is none, ragged ends; hidden lanes lie outside of the table."""
    up, down, same, jump = np.arange(8), -np.arange(8), np.zeros(8, np.int64), np.array([0, 3, 1, 9, 2, 2, 4, 5])
    rows, steps, near = up % 4, -(up // 4), np.array([5, 3, 1, 7, 2, 2, 4, 6])
    table = random.permutation(100).astype(dtype)
    for size in (1, 8, 13, 16, 40, 128):
        kinds = [kind for kind in (up, down, same, jump, up * 2, rows, steps, near) for _ in range(2)]
        offsets = np.concatenate([k + random.integers(-4, 104) for k in kinds])[:size]
        shown = (offsets >= 0) & (offsets < 100)
        live = (
            shown
            & (np.repeat(random.random(size), 8)[:size] < 0.6)
            & (random.random(size) < 0.9 + (np.arange(size) // 8 % 2))
        )
        offsets = np.concatenate([offsets, np.zeros(64, np.int64)]).astype(np.int64)  # padded, as buffers are
        for masked, count in itertools.product([0, 1], [size, size - 1, 0]):
            places = offsets if masked else np.clip(offsets, 0, 99)
            result = np.zeros(size, dtype)
            call(getattr(runtime, "gather_" + name), masked, size, count, table, places, live.astype(np.int32), result)
            seen = (live if masked else np.ones(size, bool)) & (np.arange(size) < count)
            np.testing.assert_array_equal(result, np.where(seen, table[np.clip(places[:size], 0, 99)], 7))
