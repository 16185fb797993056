"""Gradients through autograd: values, precision, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import einsum_compiler as ec
from tests.budget import assert_within_budget
from tests.front.programs import ATTENTION, qkv

CAUSAL = Path("examples/causal.ein")


def doubles(*shapes: tuple[int, ...]) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize("backend", ["cpu", "triton"])
@pytest.mark.slow
def test_gradcheck_with_a_bias_and_a_scale(backend: str) -> None:
    kernel = ec.compile("examples/bias.ein", backend=backend)
    tensors = doubles((1, 2, 5, 4), (1, 1, 6, 4), (1, 1, 6, 3), (1, 2, 5, 6), ())

    def outputs(*given: torch.Tensor) -> torch.Tensor:
        return kernel(*given[:4], scale=given[4])[0]

    # Triton's interpreter is slow: there, the Jacobian along random directions.
    assert torch.autograd.gradcheck(outputs, tensors, fast_mode=backend == "triton")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_gradients_are_within_the_budget_of_plain_pytorch(dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    shapes = ((1, 4, 131, 24), (1, 2, 131, 24), (1, 2, 131, 40))
    tensors = [torch.randn(shape).to(dtype).requires_grad_() for shape in shapes]
    cotangent = torch.randn(1, 4, 131, 40).to(dtype)
    kernel = ec.compile(CAUSAL)
    found = torch.autograd.grad(kernel(*tensors)[0], tensors, cotangent)

    def plain(to: torch.dtype) -> tuple[torch.Tensor, ...]:
        q, k, v = (t.detach().to(to).requires_grad_() for t in tensors)
        scores = q @ k.repeat_interleave(2, 1).transpose(-1, -2) * 24**-0.5
        scores = scores.masked_fill(torch.ones(131, 131, dtype=torch.bool).triu(1), float("-inf"))
        out = scores.softmax(-1) @ v.repeat_interleave(2, 1)
        return torch.autograd.grad(out, (q, k, v), cotangent.to(to))

    for name, actual, same, gold in zip("QKV", found, plain(dtype), plain(torch.float64), strict=True):
        assert actual.dtype == dtype
        assert_within_budget(actual, same, gold, f"gradient of {name}")


def test_gradients_repeat_bit_for_bit() -> None:
    kernel = ec.compile(CAUSAL)
    tensors = [torch.randn(2, 2, 70, 16, requires_grad=True) for _ in range(3)]
    first, second = (torch.autograd.grad(kernel(*tensors)[0].square().sum(), tensors) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_rows_without_keys_and_huge_logits_give_finite_gradients() -> None:
    kernel = ec.compile(CAUSAL)
    q = (torch.randn(1, 1, 9, 8) * 1e4).requires_grad_()  # four rows more than keys: they see none
    k, v = (torch.randn(1, 1, 5, 8, requires_grad=True) for _ in range(2))
    found = torch.autograd.grad(kernel(q, k, v)[0].sum(), (q, k, v))
    assert all(g.isfinite().all() for g in found)
    assert not found[0][:, :, :4].any()


@pytest.mark.parametrize(
    "length", [pytest.param(1, marks=pytest.mark.slow), pytest.param(150, marks=pytest.mark.slow), 200]
)
def test_a_ragged_length_divides_by_no_statistic_beyond_the_last_row(length: int) -> None:
    kernel = ec.compile("examples/softmax.ein")
    torch.manual_seed(2)
    tensors = [torch.randn(1, 1, length, 16, requires_grad=True) for _ in range(3)]
    found = torch.autograd.grad(kernel(*tensors)[0].sin().sum(), tensors)
    wide = [t.detach().double().requires_grad_() for t in tensors]
    gold = torch.autograd.grad(torch.nn.functional.scaled_dot_product_attention(*wide).sin().sum(), wide)
    same = torch.autograd.grad(torch.nn.functional.scaled_dot_product_attention(*tensors).sin().sum(), tensors)
    for name, actual, plain, exact in zip("QKV", found, same, gold, strict=True):
        assert_within_budget(actual, plain, exact, f"gradient of {name} at length {length}")


def test_only_what_requires_a_gradient_gets_one() -> None:
    kernel = ec.compile(ATTENTION)
    q, k, v = qkv()
    assert not kernel(q, k, v).requires_grad
    k.requires_grad_()
    out = kernel(q, k, v)
    out.sum().backward()
    assert k.grad is not None and q.grad is None
    with torch.no_grad():
        assert not kernel(q, k, v).requires_grad


@pytest.mark.parametrize(
    ("text", "shapes"),
    [
        ("cascade f(X[m,n]) -> O[m] {\n  O[m] = sum[n](X[m,n])\n}", [(3, 4)]),  # nothing else is n long
        ("cascade f(X[m,n], Y[e]; c = 1/sqrt(E)) -> O[m] {\n  O[m] = c * X[m,n]\n}", [(3, 4), (5,)]),
        ("cascade f(X[m]; C: int, a = C / M) -> O[m,c] {\n  O[m,c] = a * X[m]\n}", [(3,)]),
        ("cascade f(X[m,n]; s) -> O[m], P[n] {\n  O[m] = sum[n](X[m,n] * s)\n  P[n] = X[0,n]\n}", [(3, 4)]),
    ],
)
def test_extents_that_no_tensor_of_the_backward_cascade_has(text: str, shapes: list[tuple[int, ...]]) -> None:
    tensors = doubles(*shapes)
    parameters = {"C": 4} if "C: int" in text else {"s": torch.tensor(0.7, dtype=torch.float64, requires_grad=True)}
    wanted = [*tensors[:1], *(v for v in parameters.values() if isinstance(v, torch.Tensor) and "; s" in text)]
    keywords = {n: v for n, v in parameters.items() if f"; {n}" in text}
    found = []
    for backend in ("cpu", "reference"):
        made = ec.compile(text, backend=backend)(*tensors, **keywords)
        loss = sum((t.sin().sum() for t in (made if isinstance(made, tuple) else (made,))), torch.zeros(()))
        found.append(torch.autograd.grad(loss, wanted))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=0)


def test_outputs_that_depend_on_inputs_by_choices_alone_have_no_history() -> None:
    kernel = ec.compile(
        "cascade seen(X[m,n]) -> H: bool[m,n], C[m] { H[m,n] = X[m,n] > 0  C[m] = sum[n](1 where H[m,n]) }"
    )
    x = torch.randn(5, 7, requires_grad=True)
    for call in (kernel, torch.compile(kernel, backend="eager")):
        seen, count = call(x)
        assert torch.equal(seen, x > 0)
        assert torch.equal(count, (x > 0).sum(1))
        assert not seen.requires_grad
        assert not count.requires_grad
    assert kernel.explain(x).endswith(
        "saved for the backward pass: nothing, for no output has a gradient along what requires one"
    )


def test_groups_of_a_size_that_is_a_parameter() -> None:
    kernel = ec.compile("cascade scaled(X[m,e], Z[o,g]; per: int) -> Y[m,o] { Y[m,o] = X[m,e] * Z[o,e // per] }")
    x, z = doubles((3, 32), (5, 4))
    found = torch.autograd.grad(kernel(x, z, per=8).square().sum(), (x, z))
    expected = torch.autograd.grad((x @ z.repeat_interleave(8, 1).T).square().sum(), (x, z))
    assert all(torch.allclose(a, b) for a, b in zip(found, expected, strict=True))


def test_an_input_with_the_name_of_an_extent_that_the_backward_cascade_is_given() -> None:
    kernel = ec.compile("cascade f(X[k], K[m]) -> O[m] { O[m] = X[k] * K[m] }")
    x, y = doubles((5,), (3,))
    (found,) = torch.autograd.grad(kernel(x, y.detach()).sum(), x)
    assert torch.allclose(found, y.sum().expand(5))


def test_vectors_along_an_axis_without_padding_end_with_it() -> None:
    """Vectors along two heads, which are the first axis of a product: lanes beyond them lay behind the scratch memory."""
    text = """cascade duality(B[b,s,n], C[b,t,n], X[b,s,h,d], DT[b,s,h], A[h]) -> Y[b,t,h,d] {
      L[b,s,h] = -softplus(DT[b,s,h]) * exp(A[h])
      CS[b,t,h] = sum[s](L[b,s,h] where s <= t)
      W[b,h,t,s] = C[b,t,n] * B[b,s,n] * exp(CS[b,t,h] - CS[b,s,h]) where s <= t
      Y[b,t,h,d] = W[b,h,t,s] * X[b,s,h,d] }"""
    torch.manual_seed(0)
    shapes = ((2, 37, 3), (2, 37, 3), (2, 37, 2, 5), (2, 37, 2), (2,))
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    found = torch.autograd.grad(ec.compile(text)(*inputs).square().sum(), inputs)
    expected = torch.autograd.grad(ec.reference(text)(*inputs).square().sum(), inputs)
    for f, e in zip(found, expected, strict=True):
        torch.testing.assert_close(f, e, rtol=1e-9, atol=1e-9 * float(e.abs().max()))


@pytest.mark.parametrize("backend", ["cpu", "triton"])
@pytest.mark.parametrize(
    "place", ["floor(P[q])", "floor(stop_gradient(P[q]))", "stop_gradient(floor(P[q]))", "P[q] - 0.5"]
)
def test_an_index_that_a_float_gives_passes_no_gradient_on_and_what_it_reads_has_one(place: str, backend: str) -> None:
    text = f"""cascade f(V[x,c], P[q]) -> O[q,c] {{
      I[q] = cast({place}, i32)
      F[q] = P[q] - floor(P[q])
      O[q,c] = (1 - F[q]) * V[I[q],c] + F[q] * V[I[q] + 1,c]
    }}"""
    v, p = torch.randn(9, 3, dtype=torch.float64).requires_grad_(), (torch.rand(5).double() * 7 + 0.6).requires_grad_()
    weight = torch.randn(5, 3)
    found, expected = (
        torch.autograd.grad((f(v, p) * weight).sum(), (v, p))
        for f in (ec.compile(text, backend=backend), ec.reference(text))
    )
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", ["cpu", "triton"])
@pytest.mark.parametrize(
    "right",
    [
        "prod[i](X[b,i] * W[i] where i <= b)",
        "prod[i](exp(X[b,i]) * W[i]) + prod[i](X[b,i] where i < 4)",
        "prod[i](1 - X[b,i] where W[i] > 0)",
    ],
)
def test_a_factor_of_a_product_gets_the_product_of_the_others(right: str, backend: str) -> None:
    text = f"cascade f(X[b,i], W[i]) -> P[b] {{ P[b] = {right} + W[0] }}"
    x = torch.randn(6, 9, dtype=torch.float64)
    x[1, 0] = x[4, 1] = x[5, 0] = x[5, 2] = 0  # one zero, and two
    x[3] = 1
    given = x.requires_grad_(), torch.randn(9, dtype=torch.float64).requires_grad_()
    weight = torch.arange(1.0, 7.0)
    found, expected = (
        torch.autograd.grad((f(*given) * weight).sum(), given)
        for f in (ec.compile(text, backend=backend), ec.reference(text))
    )
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
