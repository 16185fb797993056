"""Compiled gradients of the operators in ``examples/``: against autograd through the evaluator, against differences, from run to run."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor

import einsum_compiler as ec
from einsum_compiler.ir.errors import EinsumWarning
from tests.passes.test_differentiate import EXAMPLES, arguments

# Filters that are closed forms and that are not, grouped heads, side outputs, sums of columns.
QUICK = {"gqa", "tree"}
EACH = pytest.mark.parametrize(
    "path", [pytest.param(p, marks=() if p.stem in QUICK else pytest.mark.slow) for p in EXAMPLES], ids=lambda p: p.stem
)
SLOWLY = pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)


def compiled(path: Path, backend: str = "cpu") -> ec.Kernel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EinsumWarning)
        return ec.compile(path, backend=backend)


def trained(kernel: ec.Kernel) -> tuple[dict[str, Tensor], dict[str, object], list[str]]:
    """Arguments, parameters, and the names of what is trained: floating inputs, and parameters that have a real default."""
    tensors, parameters = arguments(kernel.cascade)
    return tensors, parameters, [n for n, t in tensors.items() if t.is_floating_point()]


def loss_of(outputs: object) -> Tensor:
    """A random projection of every floating output; what is infinite (the log-sum-exp of an empty row) does not enter."""
    torch.manual_seed(3)
    found = torch.zeros((), dtype=torch.float64)
    for out in outputs if isinstance(outputs, tuple) else (outputs,):
        if out.is_floating_point():
            finite = torch.isfinite(out)
            found = found + (torch.where(finite, out, 0) * torch.randn(out.shape, dtype=out.dtype)).sum()
    return found


def gradients(kernel: ec.Kernel) -> dict[str, Tensor]:
    tensors, parameters, wanted = trained(kernel)
    given = {n: t.clone().requires_grad_() if n in wanted else t for n, t in tensors.items()}
    found = torch.autograd.grad(loss_of(kernel(**given, **parameters)), [given[n] for n in wanted], allow_unused=True)
    return {n: torch.zeros_like(given[n]) if g is None else g for n, g in zip(wanted, found, strict=True)}


@EACH
def test_every_gradient_is_that_of_the_evaluator(path: Path) -> None:
    found, expected = gradients(compiled(path)), gradients(compiled(path, "reference"))
    assert any(g.any() for g in expected.values()), "a test of zeros proves nothing"
    for name, reference in expected.items():
        torch.testing.assert_close(
            found[name], reference, rtol=1e-10, atol=1e-10, msg=lambda m, n=name: f"gradient of {n}: {m}"
        )


@SLOWLY
@pytest.mark.slow
def test_gradcheck(path: Path) -> None:
    kernel = compiled(path)
    tensors, parameters, wanted = trained(kernel)

    def loss(*given: Tensor) -> Tensor:
        return loss_of(kernel(**{**tensors, **dict(zip(wanted, given, strict=True))}, **parameters))

    assert torch.autograd.gradcheck(loss, [tensors[n].clone().requires_grad_() for n in wanted], fast_mode=True)


@pytest.mark.parametrize("stem", ["gqa", pytest.param("row_stats", marks=pytest.mark.slow)])
def test_gradcheck_of_several(stem: str) -> None:
    test_gradcheck(Path(f"examples/{stem}.ein"))


SIDE = """
cascade side(Q[m,e], K[n,e], V[n,f]; t) -> O[m,f], L[m], MX[m], C[n], H[m] {
  S[m,n] = t * Q[m,e] * K[n,e]   where n <= m + 3
  MX[m]  = max[n](S[m,n])
  P[m,n] = exp(S[m,n] - MX[m])
  D[m]   = sum[n](P[m,n])
  A[m,n] = P[m,n] / D[m]
  O[m,f] = A[m,n] * V[n,f]
  L[m]   = MX[m] + log(D[m])
  C[n]   = sum[m](A[m,n])
  H[m]   = -sum[n](A[m,n] * log(A[m,n] + 1e-12))
}
"""


@pytest.mark.parametrize("used", [{0}, {1}, {2}, {3}, {4}, {0, 1, 2, 3, 4}], ids=str)
def test_side_outputs_in_the_loss(used: set[int]) -> None:
    """Log-sum-exp, row maximum, column sums and entropy, alone and together, and a learnable scalar."""
    torch.manual_seed(0)
    given = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((9, 4), (7, 4), (7, 3), ())]
    kernels = [ec.compile(SIDE, backend=b) for b in ("cpu", "reference")]
    weights = [torch.randn(s, dtype=torch.float64) for s in ((9, 3), (9,), (9,), (7,), (9,))]
    one, other = (
        torch.autograd.grad(
            sum((o * w).sum() for i, (o, w) in enumerate(zip(k(*given), weights, strict=True)) if i in used),
            given,
            allow_unused=True,
        )
        for k in kernels
    )
    for tensor, mine, reference in zip(given, one, other, strict=True):
        expected = torch.zeros_like(tensor) if reference is None else reference
        found = torch.zeros_like(tensor) if mine is None else mine
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


def test_the_same_bits_from_run_to_run_and_with_any_number_of_threads() -> None:
    kernel = ec.compile("examples/gqa.ein", backend="cpu")
    q, k, v = (torch.randn(s, requires_grad=True) for s in ((2, 4, 150, 16), (2, 2, 150, 16), (2, 2, 150, 16)))
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 2):
            torch.set_num_threads(count)
            out = kernel(q, k, v)
            out = out[0] if isinstance(out, tuple) else out
            found.append((out.detach(), *torch.autograd.grad(out.square().sum(), (q, k, v))))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize(
    ("equations", "message"),
    [
        (
            "H[m + 1,n] = 0.5 * H[m,n] + X[m,n]\n  O[m] = H[m + 1,0]",
            "'H' has cases or is a recurrence, which has no gradient here",
        ),
        (
            "I[m,j] = topk[n](X[m,n], count = 2)\n  O[m] = sum[j](X[m,I[m,j]])",
            "topk has no compiled form: no backend generates code for it",
        ),
    ],
)
def test_what_has_no_gradient_says_so_when_it_is_called(equations: str, message: str) -> None:
    kernel = ec.compile(f"cascade f(X[m,n]) -> O[m] {{\n  {equations}\n}}")
    with pytest.raises(ec.EinsumError) as caught:
        kernel(torch.randn(3, 4, requires_grad=True))
    assert message in str(caught.value)
