"""Calls: what they accept, what they give, what they refuse, and what they cost."""

from __future__ import annotations

import statistics
import time
import warnings
from typing import Any

import numpy as np
import pytest
import torch

import einsum_compiler as ec
from tests.budget import assert_within_budget
from tests.front.programs import ATTENTION, SCALED, qkv


@pytest.fixture(scope="module")
def attention() -> ec.Kernel:
    return ec.compile(ATTENTION)


@pytest.fixture(scope="module")
def scaled() -> ec.Kernel:
    return ec.compile(SCALED)


def message(call: Any) -> str:
    """The class and the whole message of what a call raises."""
    with pytest.raises(ec.EinsumError) as caught:
        call()
    return f"{type(caught.value).__name__} {caught.value}"


# -- results ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["cpu", "triton", "reference"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_every_backend_gives_the_type_of_the_inputs(backend: str, dtype: torch.dtype) -> None:
    q, k, v = qkv(20, 30, dtype=dtype)
    out = ec.compile(ATTENTION, backend=backend)(q, k, v)
    gold = ec.reference(ATTENTION)(q, k, v)
    assert out.dtype == dtype
    plain = ec.compile(ATTENTION, backend="reference")(q, k, v)
    assert_within_budget(out, plain, gold)


def test_types_of_outputs(scaled: ec.Kernel) -> None:
    x, y = torch.randn(5, 3), torch.randn(4, 3)

    def types(a: torch.dtype, b: torch.dtype) -> list[torch.dtype]:
        return [t.dtype for t in scaled(x.to(a), y.to(b))]

    assert types(torch.float32, torch.float32) == [torch.float32, torch.int64]
    assert types(torch.bfloat16, torch.bfloat16) == [torch.bfloat16, torch.int64]
    assert types(torch.bfloat16, torch.float16) == [torch.float32, torch.int64]
    assert types(torch.bfloat16, torch.float64) == [torch.float64, torch.int64]


def test_arguments_by_keyword_in_any_order(attention: ec.Kernel) -> None:
    q, k, v = qkv()
    by_position = attention(q, k, v, 0.5)
    assert torch.equal(attention(V=v, scale=0.5, K=k, Q=q), by_position)
    assert torch.equal(attention(q, k, scale=0.5, V=v), by_position)
    # K and V have one shape: only the order of the names tells these calls apart.
    assert torch.equal(attention(q, V=k, K=v, scale=0.5), attention(q, v, k, 0.5))


def test_parameters_as_tensors_without_axes(attention: ec.Kernel, scaled: ec.Kernel) -> None:
    q, k, v = qkv()
    expected = attention(q, k, v, scale=0.25)
    for value in (
        torch.tensor(0.25),
        torch.tensor(0.25, dtype=torch.float64),
        torch.tensor(0.25, dtype=torch.bfloat16),
    ):
        assert torch.equal(attention(q, k, v, scale=value), expected)
        assert torch.equal(attention(q, k, v, scale=value * 2), attention(q, k, v, scale=0.5))
    x, y = torch.randn(5, 3), torch.randn(4, 3)
    assert torch.equal(scaled(x, y, torch.tensor(3))[0], scaled(x, y, 3)[0])


def test_numbers_of_every_value_and_type_are_told_apart(scaled: ec.Kernel) -> None:
    x, y = torch.randn(5, 3), torch.randn(4, 3)
    one = scaled(x, y, 1)[0]
    torch.testing.assert_close(scaled(x, y, 5)[0], 5 * one)
    torch.testing.assert_close(scaled(x, y)[0], 2 * one)
    assert message(lambda: scaled(x, y, 1.0)).startswith("ShapeError <text>:1:")
    assert message(lambda: scaled(x, y, True)).startswith("ShapeError <text>:1:")


def test_a_remembered_call_reads_the_new_values(attention: ec.Kernel) -> None:
    q, k, v = qkv()
    first = attention(q, k, v)
    again = attention(q, k, v)
    assert torch.equal(first, again) and first.data_ptr() != again.data_ptr()
    torch.testing.assert_close(attention(q, k, 2 * v), 2 * first)
    strided = torch.stack([v, v], -1)[..., 0]
    assert torch.equal(attention(q, k, strided), first)


@pytest.mark.parametrize("backend", ["cpu", "triton"])
@pytest.mark.parametrize("sizes", [(0, 8, 4, 4), (8, 0, 4, 4), (8, 8, 4, 0), (1, 1, 1, 1)], ids=str)
def test_extents_of_zero_and_one(backend: str, sizes: tuple[int, int, int, int]) -> None:
    m, n, e, f = sizes
    q, k, v = torch.randn(1, 2, m, e), torch.randn(1, 2, n, e), torch.randn(1, 2, n, f)
    out = ec.compile(ATTENTION, backend=backend)(q, k, v)
    torch.testing.assert_close(out.double(), ec.reference(ATTENTION)(q, k, v), rtol=1e-5, atol=1e-5)


def test_a_contraction_over_nothing_is_zero() -> None:
    q, k, v = torch.randn(1, 2, 8, 0), torch.randn(1, 2, 9, 0), torch.randn(1, 2, 9, 4)
    out = ec.compile(ATTENTION, backend="cpu")(q, k, v, scale=1.0)
    torch.testing.assert_close(out, v.cumsum(2)[:, :, :8] / torch.arange(1, 9)[:, None])
    assert message(lambda: ec.compile(ATTENTION, backend="triton")(q, k, v, scale=1.0)) == (
        "BackendError error: e has no coordinates, and the Triton backend holds tiles of at least one"
    )


def test_tensors_without_values_give_shapes(attention: ec.Kernel) -> None:
    q, k, v = (t.to("meta") for t in qkv(7, 9))
    out = attention(q, k, v)
    assert (out.shape, out.dtype, out.device.type) == ((1, 2, 7, 16), torch.float32, "meta")
    assert attention(q.bfloat16(), k.bfloat16(), v.bfloat16()).dtype == torch.bfloat16


# -- choices ------------------------------------------------------------------------------------------------------------------


def test_a_plan_as_value_or_text_changes_tiles_and_not_results(attention: ec.Kernel) -> None:
    q, k, v = qkv()
    text = "plan attention { kernel O { program b, h, m:16  stream n:32  resident e, f } }"
    for plan in (text, ec.parse_plan(text)):
        planned = ec.compile(ATTENTION, plan=plan)
        torch.testing.assert_close(planned(q, k, v), attention(q, k, v))
        assert "stream n:32" in planned.ir("plan", q, k, v)


def test_a_plan_that_does_not_fit() -> None:
    plan = "plan attention { kernel P { program b } }"
    assert message(lambda: ec.compile(ATTENTION, plan=plan)(*qkv())) == (
        "PlanError error: the plan has kernels for P; this program needs O"
    )
    assert message(lambda: ec.compile(ATTENTION, plan="tiles 3")) == (
        "PlanError error: not a plan: expected 'plan NAME { kernel ... }'"
    )


def test_choices_that_do_not_exist() -> None:
    assert message(lambda: ec.compile(ATTENTION, backend="gpu")) == (
        "BackendError error: unknown backend 'gpu'; one of auto, cpu, triton, reference\nnote: did you mean cpu?"
    )
    assert message(lambda: ec.compile(ATTENTION, target="sm90")) == (
        "BackendError error: unknown target 'sm90'; one of native, avx512, avx2, portable, sm_80, sm_90, sm_100, gfx942\n"
        "note: did you mean sm_90, sm_80 or sm_100?"
    )
    assert message(lambda: ec.compile(ATTENTION, backend="cpu", target="sm_90")) == (
        "BackendError error: target 'sm_90' is a GPU, and the backend is 'cpu'"
    )
    assert message(lambda: ec.compile(ATTENTION, backend="triton", target="avx2")) == (
        "BackendError error: target 'avx2' is an instruction set of the CPU, and the backend is 'triton'"
    )
    assert message(lambda: ec.compile(ATTENTION, "attend")) == (
        "SpecError error: no cascade 'attend' in the text\nnote: did you mean attention?"
    )
    assert (
        message(lambda: ec.compile("no/such.ein"))
        == "SpecError error: cannot read 'no/such.ein': No such file or directory"
    )
    assert message(lambda: ec.compile("Y[m] = X[m] * 2")).endswith(
        "\nnote: a text of a program has the form: cascade NAME(...) -> ... { ... }"
    )


def test_a_quotient_by_one_is_no_bare_rank() -> None:
    """Four heads do not divide into three: the last reads outside of the axis, which is empty."""
    kernel = ec.compile("cascade heads(X[h], K[g]) -> O[h] { O[h] = X[h] * K[h // (H // G)] }", backend="cpu")
    assert kernel(torch.ones(4), torch.tensor([1.0, 2.0, 3.0])).tolist() == [1, 2, 3, 0]


def test_numbers_arrays_and_layouts() -> None:
    kernel = ec.compile("cascade scaled(X[m]; s = 2.0, k: int = 1) -> Y[m] { Y[m] = X[m] * s + k }", backend="cpu")
    leaf = torch.ones(3, requires_grad=True)
    found = kernel(leaf, s=np.float32(1.5), k=np.int64(3))
    assert found.tolist() == [4.5] * 3
    found.sum().backward()
    assert leaf.grad is not None and leaf.grad.tolist() == [1.5] * 3
    assert "X: expected a tensor, found numpy.ndarray\n" in message(lambda: kernel(np.ones(3)))
    assert "X: expected a dense tensor, found the layout torch.sparse_coo" in message(
        lambda: kernel(torch.ones(3).to_sparse())
    )
    nested = torch.nested.as_nested_tensor([torch.ones(3), torch.ones(2)])
    assert "X: expected a dense tensor, found a nested one" in message(lambda: kernel(nested))


def test_a_tensor_may_have_the_name_of_an_extent_that_no_input_binds() -> None:
    """The kernel has a parameter for the extent of k, which is that of i, beside the tensor K."""
    kernel = ec.compile(
        "cascade f(K[i,e]) -> W[i,e] { S[i,e] = exp(K[i,e])  W[i,e] = sum[k](S[k,e] where k < i) }", backend="cpu"
    )
    keys = torch.randn(37, 3, dtype=torch.float64)
    assert torch.allclose(kernel(keys), keys.exp().cumsum(0) - keys.exp())


def test_a_cascade_by_name() -> None:
    two = ATTENTION + SCALED
    assert ec.compile(two).cascade.name == "scaled"
    assert ec.compile(two, "attention").cascade.name == "attention"


def test_source_for_a_target(attention: ec.Kernel) -> None:
    for made in (attention.source("triton", target="sm_90"), ec.compile(ATTENTION, target="sm_90").source()):
        assert "import triton" in made and "tl.dot" in made
    assert "// Generated from the tile program" in attention.source("cpu")
    assert attention.source(target="avx2") == attention.source("cpu")
    assert message(lambda: attention.source("cpu", target="sm_90")) == (
        "BackendError error: target 'sm_90' is a GPU, and the backend is 'cpu'"
    )


# -- refusals -----------------------------------------------------------------------------------------------------------------


def test_devices_that_a_backend_does_not_serve() -> None:
    from einsum_compiler.devices import backend_for

    class Elsewhere:
        def __init__(self, kind: str) -> None:
            self.device = torch.device(kind, 0)

    gpu = {"Q": Elsewhere("cuda")}
    assert backend_for("auto", None, gpu) == backend_for("triton", "sm_90", gpu) == "triton"
    assert backend_for("auto", "avx2", {}) == "cpu" and backend_for("auto", "sm_90", {}) == "triton"
    assert message(lambda: backend_for("cpu", None, gpu)) == (
        "BackendError error: Q is on cuda:0, and the backend 'cpu' runs on the CPU\n"
        'note: leave out backend="cpu" to run on the device of the tensors'
    )
    assert message(lambda: backend_for("auto", None, {"Q": Elsewhere("mps")})) == (
        "BackendError error: Q is on mps:0, and the backend 'triton' runs on GPUs and the CPU"
    )


def test_types_of_a_call_that_make_the_text_wrong() -> None:
    gather = ec.compile("cascade gather(X[n,f], I[m]) -> O[m,f] {\n  O[m,f] = X[I[m],f]\n}")
    x = torch.randn(5, 3)
    torch.testing.assert_close(gather(x, torch.tensor([4, 0])), x[[4, 0]])
    assert message(lambda: gather(x, torch.tensor([4.0, 0.0]))) == (
        "SpecError <text>:2:14: error: an index of X is an integer, found a value of type f32\n"
        "    O[m,f] = X[I[m],f]\n"
        "               ^~~~\n"
        "note: give it an integer tensor of its own: I[...] = cast(floor(...), i32)"
    )


def test_what_no_backend_computes() -> None:
    kernel = ec.compile("cascade largest(X[m,e]) -> C[m,k] {\n  C[m,k] = topk[e](X[m,e], count = 2)\n}")
    assert message(lambda: kernel(torch.randn(3, 4))) == (
        "PlanError <text>:2:12: error: topk has no compiled form: no backend generates code for it\n"
        "    C[m,k] = topk[e](X[m,e], count = 2)\n"
        "             ^~~~~~~~~~~~~~~~~~~~~~~~~~\n"
        'note: backend="reference" evaluates it'
    )


def test_warnings_once_per_compile_with_the_place_of_the_caller() -> None:
    text = (
        "cascade mean(P[m,n], V[n,f]) -> O[m,f] {\n"
        "  D[m] = sum[n](P[m,n])\n"
        "  O[m,f] = sum[n](P[m,n] * V[n,f]) / D[m]\n"
        "}"
    )
    for _ in range(2):  # the second time from the cache
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            kernel = ec.compile(text)
            kernel(torch.rand(3, 4), torch.rand(4, 2))
        (warning,) = [w for w in caught if w.category is ec.EinsumWarning]
        assert warning.filename == __file__
        assert str(warning.message) == (
            "<text>:3:12: warning: a quotient of two sums over n is 0/0 where nothing is summed\n"
            "    O[m,f] = sum[n](P[m,n] * V[n,f]) / D[m]\n"
            "             ^~~~~~~~~~~~~~~~~~~~~~~~~~~~~~\n"
            "note: divide the weights before the second sum: A = P / D, then sum A * V"
        )


# -- cost ---------------------------------------------------------------------------------------------------------------------


def test_a_call_costs_little_beyond_its_kernel(attention: ec.Kernel) -> None:
    """Matching, allocation and look-up, with a launch that does nothing. 10 us here; the bound leaves room for busy machines."""
    from dataclasses import replace

    q, k, v = qkv(2, 2)
    attention(q, k, v)
    signature, prepared = list(attention._prepared.items())[-1]
    binding = attention.binding(q, k, v)
    executable = attention.executable(binding)
    idle = replace(executable, kernels=tuple((h, lambda *a: None) for h, _ in executable.kernels))
    run = idle.prepared(binding.tensors, binding.scalars, binding.extents)
    attention._prepared[signature] = replace(prepared, run=run)
    times = []
    for _ in range(300):
        before = time.perf_counter()
        attention(q, k, v)
        times.append(time.perf_counter() - before)
    attention._prepared[signature] = prepared
    assert statistics.median(times) < 60e-6


def test_a_repeated_call_is_known_by_its_strides(attention: ec.Kernel) -> None:
    """What a launch takes beside addresses is kept from the first call: other strides are another call."""
    q, k, v = qkv(2, 2)
    other = k.transpose(-1, -2).contiguous().transpose(-1, -2)
    assert other.shape == k.shape and other.stride() != k.stride()
    expected = attention(q, k, v)
    for keys in (k, other, k, other):
        for found, same in zip(attention(q, keys, v), expected, strict=True):
            torch.testing.assert_close(found, same)


@pytest.mark.filterwarnings("ignore::einsum_compiler.ir.errors.EinsumWarning")
def test_a_condition_over_a_rank_that_is_reduced_and_stored_acts_in_the_reduction() -> None:
    text = "cascade f(X[m,n]) -> P[m,n] {\n  P[m,n] = X[m,n] / sum[n](X[m,n]) where n <= m\n}"
    x = torch.rand(5, 7) + 1
    expected = x.double() / x.double().tril().sum(1, keepdim=True)
    assert torch.equal(ec.reference(text)(x), expected)
    assert_within_budget(ec.compile(text)(x), x / x.tril().sum(1, keepdim=True), expected)
