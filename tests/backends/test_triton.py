"""Generated Triton under the interpreter against the tile interpreter: samples, functions, arithmetic, refusals."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from einsum_compiler.backends.reference.tile_interpreter import run_kernel
from einsum_compiler.backends.triton.emit import emit_triton
from einsum_compiler.backends.triton.launch import compile_kernel
from einsum_compiler.backends.triton.layout import layout_of
from einsum_compiler.ir.errors import BackendError, ShapeError
from einsum_compiler.ir.tile import Loop
from einsum_compiler.ir.tile_parser import parse_kernel
from einsum_compiler.ir.torch_types import torch_dtype
from tests.backends.tile_samples import SAMPLES, Sample, attention, attention_sample, normal, operands

pytest.importorskip("triton")

# The interpreter computes both branches of a where and the logarithms of empty rows.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
TOLERANCE = {"f64": 1e-12, "f32": 5e-6, "f16": 2e-3, "bf16": 1.6e-2}


def both(sample: Sample, tmp_path: Path) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Operands after a run of the tile interpreter, and after one of the generated kernel."""
    expected, found = operands(sample), operands(sample)
    run_kernel(sample.kernel, expected, sample.scalars, sample.extents)
    compile_kernel(sample.kernel, cache_directory=tmp_path)(found, sample.scalars, sample.extents)
    return expected, found


def agree(sample: Sample, tmp_path: Path) -> None:
    expected, found = both(sample, tmp_path)
    for output in sample.kernel.outputs:
        tolerance = TOLERANCE.get(output.dtype, 0)
        torch.testing.assert_close(
            found[output.name], expected[output.name], rtol=tolerance, atol=tolerance, equal_nan=True
        )


@pytest.mark.parametrize("name", SAMPLES)
def test_sample(name: str, tmp_path: Path) -> None:
    agree(SAMPLES[name](), tmp_path)


def test_nan_is_handed_on_by_maxima(tmp_path: Path) -> None:
    expected, found = both(SAMPLES["distances"](), tmp_path)
    assert expected["X"][2].isnan().all() and found["X"][2].isnan().all()
    assert not found["X"][3].isnan().any()


@pytest.mark.parametrize(("m", "n"), [(1, 1), (24, 16), (25, 70)])
def test_attention_sizes(m: int, n: int, tmp_path: Path) -> None:
    agree(attention_sample("f32", m=m, n=n), tmp_path)


def test_attention_against_pytorch(tmp_path: Path) -> None:
    sample = attention_sample("f32")
    _, found = both(sample, tmp_path)
    q, k, v = (sample.tensors[x].double() for x in "QKV")
    k, v = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
    s = (0.3 * q @ k.mT).masked_fill(torch.arange(41) > torch.arange(37)[:, None], -math.inf)
    torch.testing.assert_close(found["O"].double(), torch.softmax(s, -1) @ v, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found["L"].double(), torch.logsumexp(s, -1), rtol=1e-5, atol=1e-5)


def mapped(expression: str, dtype: str, x: torch.Tensor, result: str, scalars: str = "") -> Sample:
    """A kernel that maps one vector by an expression of ``x`` and the position ``i``."""
    kernel = parse_kernel(
        f"""
kernel mapped(X: {dtype}[I]{"; " + scalars if scalars else ""}{"" if scalars else ";"} extents i) -> Y: {result}[I] {{
  program i.1 in (I + 15) // 16
  x: {dtype}[i.0:16] = load X[16 * i.1 + i.0] where 16 * i.1 + i.0 < I fill 0
  store Y[16 * i.1 + i.0] over i.0:16 = {expression} where 16 * i.1 + i.0 < I
}}""".replace("];; ", "]; ")
    )
    values = {"c": 2.5, "w": -3, "flag": True}
    named = {s.name: values[s.name] for s in kernel.scalars}
    return Sample(kernel, {"X": x}, named, {"i": x.numel()})


FUNCTIONS = [
    "exp(x)", "exp(x * 0.5 - 1)", "exp2(x)", "log(abs(x))", "sqrt(abs(x))", "rsqrt(abs(x) + 0.1)", "tanh(x)", "tanh(x / 100)", "sigmoid(x)",
    "silu(x)", "gelu(x)", "erf(x)", "softplus(x)", "sin(x)", "cos(x)", "relu(x)", "abs(x)", "sign(x)", "floor(x)", "ceil(x)",
    "round(x * 2)", "max(x, 0.5, 1)", "min(x, 0.5)", "clamp(x, -1, 1)", "x ** 2", "x ** 5", "abs(x) ** 1.5", "2.0 ** x",
    "x // 0.75", "x % 0.75", "if(x > 0 and not x > 1, 1 / x, -x)", "if(0 < x <= 1 or x == 2, 1, 0)", "-x - -x * 2 - (x - 1)",
    "cast(x, bf16) * 3", "cast(x, f16) * 3", "x + (16 * i.1 + i.0) * 2 - I",
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("expression", FUNCTIONS)
def test_function(expression: str, dtype: str, tmp_path: Path) -> None:
    x = torch.cat(
        [
            normal(30, dtype=dtype) * 3,
            torch.tensor([0.0, 0.5, 1.5, -2.5, 2.0, 30.0, -30.0]).to(normal(1, dtype=dtype).dtype),
        ]
    )
    agree(mapped(expression, dtype, x, dtype), tmp_path)


@pytest.mark.parametrize("function", ["relu(x)", "max(x, 0)", "clamp(x, -1, 1)", "sign(x)", "tanh(x)", "round(x)"])
def test_nan_stays_nan(function: str, tmp_path: Path) -> None:
    sample = mapped(function, "f32", torch.tensor([math.nan, 1.0]), "f32")
    _, found = both(sample, tmp_path)
    assert found["Y"].isnan().tolist() == [True, False]


INTEGERS = [
    "x // 3", "x % 3", "x // -3", "x % -3", "x // w", "x % w", "(i.0 - 8) // 4", "(i.0 - 8) % 4", "i.0 // 3 + i.1 % 2", "-x",
    "x & 6", "x | 9", "x ^ 5", "x << 3", "x >> 1", "abs(x)", "sign(x)", "max(x, w)", "min(x, 3)", "x ** 3", "x ** w", "3 ** abs(x)", "(-1) ** x", "ceil(x / 4)",
    "floor(x / 4)", "if(x == 3, w, x)", "x * 1000000007", "(16 * i.1 + i.0) * 1000000007 * 100", "cast(x > 2, i64) + 1", "relu(x)",
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["i64", "i32", "i8"])
@pytest.mark.parametrize("expression", INTEGERS)
def test_integers(expression: str, dtype: str, tmp_path: Path) -> None:
    x = torch.arange(-9, 10).to({"i64": torch.int64, "i32": torch.int32, "i8": torch.int8}[dtype])
    agree(mapped(expression, dtype, x, "i64", scalars="w: i64;" if "w" in expression else ""), tmp_path)


def test_scalars_keep_their_width(tmp_path: Path) -> None:
    sample = mapped("x * c", "f64", normal(20, dtype="f64"), "f64", scalars="c: f64;")
    sample.scalars["c"] = 0.1
    _, found = both(sample, tmp_path)
    assert torch.equal(found["Y"], sample.tensors["X"] * 0.1)
    wide = mapped("x + w", "i64", torch.arange(20), "i64", scalars="w: i64;")
    wide.scalars["w"] = 2**40
    _, found = both(wide, tmp_path)
    assert torch.equal(found["Y"], torch.arange(20) + 2**40)
    sample = mapped("if(flag, x, -x)", "f32", normal(20), "f32", scalars="flag: bool;")
    agree(sample, tmp_path)


def test_uniform_is_philox(tmp_path: Path) -> None:
    agree(mapped("uniform(w, 16 * i.1 + i.0, 7)", "f32", normal(20), "f32", scalars="w: i64;"), tmp_path)


@pytest.mark.parametrize("operator", ["sum", "prod", "max", "min", "any", "all"])
@pytest.mark.parametrize("dtype", ["f32", "i64", "f16"])
def test_reduction(operator: str, dtype: str, tmp_path: Path) -> None:
    body = "x > 0" if operator in ("any", "all") else "x"
    result = "bool" if operator in ("any", "all") else ("i64" if dtype == "i64" else "f32")
    kernel = parse_kernel(f"""
kernel reduced(X: {dtype}[M, 3, 5]; extents m) -> Y: {result}[M] {{
  program m.1 in (M + 3) // 4
  x: {dtype}[m.0:4, a:3, c:5] = load X[4 * m.1 + m.0, a, c] where 4 * m.1 + m.0 < M fill 0
  y: {result}[m.0:4] = reduce {operator} over a:3, c:5 ({body})
  store Y[4 * m.1 + m.0] over m.0:4 = y where 4 * m.1 + m.0 < M
}}""")
    x = normal(6, 3, 5) + (2 if operator == "all" else -2 if operator == "any" else 0)
    x = (x * 2).to(torch.int64) if dtype == "i64" else x.to({"f32": torch.float32, "f16": torch.float16}[dtype])
    agree(Sample(kernel, {"X": x}, {}, {"m": 6}), tmp_path)


def test_no_environment_variable_is_needed(tmp_path: Path) -> None:
    import triton

    before = triton.knobs.runtime.interpret
    both(SAMPLES["decoding"](), tmp_path)
    assert triton.knobs.runtime.interpret == before
    assert len(list(tmp_path.glob("kernel_*.py"))) == 1


def test_full_ranges_have_no_mask_code() -> None:
    source = emit_triton(attention("bf16", depth=64, rows=64, keys=64))
    full, partial = source.split("    for n_1 in range(")[1:]
    assert "mask=" not in full and "tl.where(((" not in full
    assert "k = tl.load(" in full and "mask=" in partial
    assert "tl.exp2(s2 * 1.4426950408889634 - (c * 1.4426950408889634)[:, None])" in full
    assert "O_next = tl.dot(pc, v, O_run * fix[:, None])" in full


def test_wide_offsets() -> None:
    kernel = attention("bf16", depth=64, rows=64, keys=64)
    assert "(tl.cast(n_0, tl.int64) * K_stride2)" in emit_triton(kernel, wide=True)
    assert "(n_0 * K_stride2)" in emit_triton(kernel)


def test_refusals(tmp_path: Path) -> None:
    sample = SAMPLES["decoding"]()
    kernel = compile_kernel(sample.kernel, cache_directory=tmp_path)
    tensors = operands(sample)
    with pytest.raises(ShapeError, match=r"kernel 'decode' needs the tensor 'K'$"):
        kernel({k: t for k, t in tensors.items() if k != "K"}, sample.scalars, sample.extents)
    with pytest.raises(ShapeError, match=r"'K' is f32; kernel 'decode' takes bf16$"):
        kernel({**tensors, "K": tensors["K"].float()}, sample.scalars, sample.extents)
    with pytest.raises(ShapeError, match=r"'K' has 1 axes; kernel 'decode' takes 2$"):
        kernel({**tensors, "K": tensors["K"][0]}, sample.scalars, sample.extents)
    with pytest.raises(
        BackendError, match=r"extent N = 536870912 exceeds 268435456, the largest of the Triton backend$"
    ):
        kernel(tensors, sample.scalars, {**sample.extents, "n": 2**29})


def distant(rows: int, depth: int) -> Sample:
    kernel = parse_kernel(f"""
kernel distant(Q: f16[M, {depth}], K: f32[N, {depth}]; extents m, n) -> S: f32[M, N] {{
  program m.1 in (M + {rows - 1}) // {rows}
  q: f16[m.0:{rows}, e:{depth}] = load Q[{rows} * m.1 + m.0, e] where {rows} * m.1 + m.0 < M fill 0
  loop n.1 in partial [0, (N + {rows - 1}) // {rows}) {{
    k: f32[n.0:{rows}, e:{depth}] = load K[{rows} * n.1 + n.0, e] partial where {rows} * n.1 + n.0 < N fill 0
    k2: f32[n.0:{rows}, e:{depth}] = map k * 2 + e
    s: f32[m.0:{rows}, n.0:{rows}] = reduce sum over e:{depth} (abs(q - k2)) accumulate 1
    store S[{rows} * m.1 + m.0, {rows} * n.1 + n.0] over m.0:{rows}, n.0:{rows} = s
        where {rows} * m.1 + m.0 < M and {rows} * n.1 + n.0 < N
  }}
}}""")
    return Sample(kernel, {"Q": normal(70, depth, dtype="f16"), "K": normal(40, depth)}, {}, {"m": 70, "n": 40})


def test_a_body_too_large_for_registers_is_streamed(tmp_path: Path) -> None:
    sample = distant(64, 20)
    assert "for e_1 in range(0, 20):" in emit_triton(sample.kernel)
    assert "for e_1 in" not in emit_triton(distant(16, 20).kernel)
    agree(sample, tmp_path)
    agree(distant(16, 20), tmp_path)


def test_nested_loops_are_refused() -> None:
    sample = distant(16, 20)
    loop = sample.kernel.body[1]
    assert isinstance(loop, Loop)
    kernel = replace(sample.kernel, body=(sample.kernel.body[0], replace(loop, body=(loop,))))
    with pytest.raises(BackendError) as caught:
        emit_triton(kernel)
    assert str(caught.value) == "error: loop 'n.1' holds another loop; the Triton backend wants one flattened loop"


def test_axes_of_boxes_are_merged_for_products() -> None:
    kernel = SAMPLES["neighbourhood"]().kernel
    layout = layout_of(kernel)
    merged = {tuple(a.rank for a in d.axes): (d.size, d.padded) for d in layout.dimensions}
    assert merged == {("y.0", "x.0"): (15, 16), ("e",): (12, 16), ("v.0", "u.0"): (24, 32), ("f",): (12, 16)}
    source = emit_triton(kernel)
    assert "s = tl.dot(q, tl.trans(k)" in source and "tl.reshape" not in source


@pytest.mark.parametrize("dtype", ["f8e4m3", "f8e5m2", "f16", "bf16", "i64", "i32", "i16", "i8", "u8", "bool"])
def test_types_are_loaded_and_stored(dtype: str, tmp_path: Path) -> None:
    x = (normal(40) * 4).to(torch_dtype("f32" if dtype == "bool" else dtype))
    x = x > 0 if dtype == "bool" else x
    sample = mapped("x", dtype, x, dtype)
    found = operands(sample)
    compile_kernel(sample.kernel, cache_directory=tmp_path)(found, {}, sample.extents)
    assert torch.equal(found["Y"].view(torch.uint8), x.view(torch.uint8))


@pytest.mark.parametrize(
    ("source", "target"),
    [("bf16", "f8e4m3"), ("f32", "f16"), ("f32", "bf16"), ("i64", "u8"), ("u8", "f32"), ("f32", "i32")],
)
def test_conversions(source: str, target: str, tmp_path: Path) -> None:
    x = (normal(40).abs() * 3).to(torch_dtype(source))
    if target.startswith("f8"):
        x = x.to(torch_dtype(target)).to(x.dtype)  # the interpreter rounds ties of f8 its own way
    sample = mapped("x", source, x, target)
    found = operands(sample)
    compile_kernel(sample.kernel, cache_directory=tmp_path)(found, {}, sample.extents)
    assert torch.equal(found["Y"].view(torch.uint8), x.to(torch_dtype(target)).view(torch.uint8))


def test_bf16_rounds_to_even(tmp_path: Path) -> None:
    ties = torch.tensor([1.00390625, 1.01171875, -1.00390625, 3.3895e38, math.inf, -0.0, 1e-40])
    agree(mapped("x", "f32", ties, "bf16"), tmp_path)


def test_no_programs(tmp_path: Path) -> None:
    sample = mapped("x", "f32", torch.zeros(0), "f32")
    compile_kernel(sample.kernel, cache_directory=tmp_path)(operands(sample), {}, sample.extents)
