"""Kernels inside ``torch.compile``, ``torch.export``, autocast, checkpointing and ``torch.func``: one operator, the values of a direct call."""

from __future__ import annotations

import copy
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.library import opcheck
from torch.utils.checkpoint import checkpoint

import einsum_compiler as ec
from einsum_compiler.operators import operator

# A bias per head, a learnable temperature, a window, a table read through integers, a mask, and row statistics besides the output.
VARIANT = """
cascade variant(Q[b,h,m,e], K[b,h,n,e], V[b,h,n,f], TB[h,u], BU[r], OK[b,n]; W: int, lambda = 1/sqrt(E)) -> O[b,h,m,f], L[b,h,m] {
  S[b,h,m,n] = lambda * Q[b,h,m,e] * K[b,h,n,e]
  X[b,h,m,n] = S[b,h,m,n] + TB[h,BU[m - n + N - 1]]   where OK[b,n] and m - n < W
  MX[b,h,m]  = max[n](X[b,h,m,n])
  P[b,h,m,n] = exp(X[b,h,m,n] - MX[b,h,m])
  D[b,h,m]   = sum[n](P[b,h,m,n])
  A[b,h,m,n] = P[b,h,m,n] / D[b,h,m]
  O[b,h,m,f] = A[b,h,m,n] * V[b,h,n,f]
  L[b,h,m]   = MX[b,h,m] + log(D[b,h,m])
}
"""
PLAIN = """
cascade plain(Q[b,m,e], K[b,n,e], V[b,n,f]) -> O[b,m,f] {
  S[b,m,n] = Q[b,m,e] * K[b,n,e] / sqrt(E)
  O[b,m,f] = softmax[n](S[b,m,n]) * V[b,n,f]
}
"""


@pytest.fixture(scope="module")
def kernel() -> ec.Kernel:
    return ec.compile(VARIANT)


@pytest.fixture(scope="module")
def plain() -> ec.Kernel:
    return ec.compile(PLAIN)


def operands(length: int = 9, gradient: bool = True, batch: int = 2) -> list[Tensor]:
    shapes = (batch, 2, length, 4), (batch, 2, length, 4), (batch, 2, length, 3), (2, 5)
    floats = [torch.randn(shape, requires_grad=gradient) for shape in shapes]
    keys = torch.rand(batch, length) < 0.8
    keys[0] = False  # a sequence whose rows see nothing
    return [*floats, torch.randint(0, 5, (2 * length - 1,)), keys]


def three(length: int = 7) -> list[Tensor]:
    return [torch.randn(2, length, 4, requires_grad=True) for _ in range(3)]


def gradients(call: Callable[..., Tensor], given: list[Tensor]) -> tuple[Tensor, ...]:
    wanted = [t for t in given if t.requires_grad]
    return torch.autograd.grad(call(*given).sin().sum(), wanted)


def same(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> bool:
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


# -- the operator itself


@pytest.mark.slow
def test_opcheck_with_tables_masks_numbers_and_two_outputs(kernel: ec.Kernel) -> None:
    opcheck(operator(kernel).overload, tuple(operands()), {"W": 4})
    cheap = ("test_schema", "test_faketensor")
    opcheck(operator(kernel).overload, tuple(operands(gradient=False)), {"W": 4, "lambda_": 0.4}, test_utils=cheap)


@pytest.mark.slow
def test_opcheck_with_a_learnable_scalar(kernel: ec.Kernel) -> None:
    scale = torch.tensor(0.6, requires_grad=True)
    opcheck(operator(kernel, ("lambda",)).overload, (*operands(), scale), {"W": 4})


def test_opcheck_of_what_gradients_run(plain: ec.Kernel) -> None:
    plain(*three())
    (kernels,) = plain.gradients.values()
    q, k, v = (t.detach() for t in three())
    made = kernels.forward(q, k, v)
    saved = made if isinstance(made, tuple) else (made,)
    opcheck(operator(kernels.forward).overload, (q, k, v))
    given = dict(zip(kernels.written, saved, strict=True)) | {"Q": q, "K": k, "V": v}
    given = {n: given.get(n.removesuffix(".saved"), torch.randn_like(saved[0])) for n in kernels.backward.names}
    opcheck(operator(kernels.backward).overload, tuple(given.values()))


def test_the_name_and_schema_of_an_operator(kernel: ec.Kernel) -> None:
    schema = operator(kernel).schema
    name, _, rest = schema.partition("(")
    assert name == kernel.identity == ec.compile(VARIANT).identity
    assert name != ec.compile(VARIANT, backend="cpu").identity
    assert "(" + rest == (
        "(Tensor Q, Tensor K, Tensor V, Tensor TB, Tensor BU, Tensor OK, *, SymInt W, Scalar? lambda_=None) -> (Tensor, Tensor)"
    )


def test_the_operator_gives_the_bits_of_a_direct_call(kernel: ec.Kernel) -> None:
    given = operands()
    through = operator(kernel).overload
    assert same(kernel(*given, W=4), through(*given, W=4))
    direct = gradients(lambda *a: kernel(*a, W=4)[0], given)
    assert same(direct, gradients(lambda *a: through(*a, W=4)[0], given))


# -- torch.compile


def test_a_module_compiles_without_a_graph_break(kernel: ec.Kernel) -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.heads = nn.Linear(8, 8)
            self.temperature = nn.Parameter(torch.tensor(0.5))
            self.table = nn.Parameter(torch.randn(2, 5))

        def forward(self, x: Tensor, buckets: Tensor, keys: Tensor) -> Tensor:
            q = self.heads(x).unflatten(-1, (2, 4)).transpose(1, 2)
            out, lse = kernel(q, q, q, self.table, buckets, keys, W=6, **{"lambda": self.temperature})
            return out.transpose(1, 2).flatten(2) + lse.exp().sum()

    module, x = Attention(), torch.randn(2, 9, 8)
    buckets, keys = operands()[4:]
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    found = []
    for call in (module, compiled):
        module.zero_grad()
        out = call(x, buckets, keys)
        out.sin().sum().backward()
        found.append((out.detach(), *(p.grad.clone() for p in module.parameters() if p.grad is not None)))
    assert len(found[0]) == 5
    assert same(*found)


def test_lengths_and_windows_do_not_recompile_when_they_are_dynamic(kernel: ec.Kernel) -> None:
    graphs = []

    def count(graph: torch.fx.GraphModule, _: object) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    def call(w: int, *given: Tensor) -> Tensor:
        return kernel(*given, W=w)[0]

    compiled = torch.compile(call, fullgraph=True, backend=count, dynamic=True)
    for length, window in ((9, 4), (12, 5), (31, 7)):
        given = operands(length, gradient=False)
        assert torch.equal(compiled(window, *given), call(window, *given))
    assert len(graphs) == 1


@pytest.mark.slow
def test_inductor_runs_it_forwards_and_backwards(
    kernel: ec.Kernel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # graphs and kernels are kept together or not at all
    given = operands()
    compiled = torch.compile(lambda *a: kernel(*a, W=4)[0] * 2, fullgraph=True)
    found, expected = gradients(compiled, given), gradients(lambda *a: kernel(*a, W=4)[0] * 2, given)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


CACHED = """
import sys, torch
sys.path.insert(0, {root!r})
import einsum_compiler as ec
kernel = ec.compile({text!r})
given = [torch.ones(2, 7, 4, requires_grad=True) for _ in range(3)]
compiled = torch.compile(lambda *a: kernel(*a) * 2, fullgraph=True)
torch.autograd.grad(compiled(*given).sum(), given)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kept", [True, False])
def test_a_graph_that_inductor_cached_runs_in_the_next_process(tmp_path: Path, kept: bool) -> None:
    """It names operators of forward and backward kernels, also where the cache of kernels was not kept with it."""
    script = CACHED.format(root=str(Path(__file__).resolve().parents[2]), text=PLAIN)
    for process in range(2):
        folders = {
            "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "graphs"),
            "EINSUM_CACHE_DIR": str(tmp_path / f"kernels{0 if kept else process}"),
        }
        run = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, **folders},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert run.returncode == 0, run.stderr


def test_wrong_arguments_are_named_while_tracing(plain: ec.Kernel) -> None:
    with pytest.raises(Exception, match="plain misses the argument V"):
        torch.compile(lambda q: plain(q, q), fullgraph=True, backend="eager")(torch.randn(1, 3, 4))
    with pytest.raises(Exception, match="the extents of rank e disagree: 4 in Q"):
        torch.compile(lambda q, k: plain(q, k, k), fullgraph=True, backend="eager")(
            torch.randn(1, 3, 4), torch.randn(1, 3, 5)
        )


# -- torch.export


class Wrapped(nn.Module):
    def __init__(self, kernel: ec.Kernel) -> None:
        super().__init__()
        self.kernel, self.heads = kernel, nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        q = self.heads(x)
        return self.kernel(q, q, x)


@pytest.mark.parametrize("strict", [False, True])
def test_an_exported_program_runs(plain: ec.Kernel, strict: bool) -> None:
    module, x = Wrapped(plain), torch.randn(2, 7, 4)
    length = torch.export.Dim("length", min=2, max=4096)
    program = torch.export.export(module, (x,), dynamic_shapes={"x": {1: length}}, strict=strict)
    calls = [str(n.target) for n in program.graph.nodes if "einsum_compiler" in str(n.target)]
    assert calls == [f"einsum_compiler.{plain.identity}.default"]
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    for loaded in (program, torch.export.load(file)):
        for size in (7, 20):
            x = torch.randn(2, size, 4)
            assert torch.equal(loaded.module()(x), module(x))


# -- autocast


@pytest.mark.parametrize("compiled", [False, True])
def test_autocast_is_that_of_pytorch_s_attention(plain: ec.Kernel, compiled: bool) -> None:
    given = three()
    call = torch.compile(plain.__call__, fullgraph=True, backend="aot_eager") if compiled else plain
    rounded = [t.detach().bfloat16().requires_grad_() for t in given]
    with torch.autocast("cpu", torch.bfloat16):
        out = call(*given)
        found = torch.autograd.grad(out.float().sin().sum(), given)
        assert out.dtype == nn.functional.scaled_dot_product_attention(*given).dtype == torch.bfloat16
    expected = torch.autograd.grad(plain(*rounded).float().sin().sum(), rounded)
    assert all(g.dtype == torch.float32 for g in found)
    assert same(found, tuple(g.float() for g in expected))


def test_autocast_leaves_what_the_text_fixes_and_float64() -> None:
    kernel = ec.compile("cascade f(X[m], Y: f32[m]; c = 2.0) -> Z[m], U[m] {\n  Z[m] = X[m] * c\n  U[m] = Y[m] * c\n}")
    x = torch.tensor([1.001], requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        z, u = kernel(x, x)
        assert (z.dtype, u.dtype) == (torch.bfloat16, torch.float32)
        assert z.item() == 2 and u.item() == torch.tensor(2.002).item()
        assert kernel(x.double(), x)[0].dtype == torch.float64


# -- checkpointing, copies, transforms


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_gives_the_same_gradients(kernel: ec.Kernel, reentrant: bool) -> None:
    given = operands()

    def call(*a: Tensor) -> Tensor:
        return kernel(*a, W=4)[0] * 2

    checkpoint(call, *given, use_reentrant=reentrant).sin().sum().backward()
    assert same(tuple(t.grad for t in given if t.grad is not None), gradients(call, given))


def test_a_copy_of_a_module_has_a_kernel_of_its_own(plain: ec.Kernel) -> None:
    module = copy.deepcopy(Wrapped(plain))
    assert module.kernel is not plain and module.kernel.identity == plain.identity
    x = torch.randn(1, 5, 4)
    assert torch.equal(module.kernel(x, x, x), plain(x, x, x))


def test_a_second_derivative_is_an_error_that_says_so(plain: ec.Kernel) -> None:
    q, k, v = three()
    for cotangent in (None, torch.randn(2, 7, 4, requires_grad=True)):
        (once,) = torch.autograd.grad(
            plain(q, k, v), q, torch.ones(2, 7, 4) if cotangent is None else cotangent, create_graph=True
        )
        with pytest.raises(
            ec.PlanError, match="the gradient of plain is differentiated again: second derivatives are not derived"
        ):
            once.sum().backward()


def test_vmap_is_an_error_that_says_what_to_do(plain: ec.Kernel) -> None:
    with pytest.raises(ec.BackendError, match=r"torch.vmap over plain.*\n.*\n.*\nnote: write the batch as a rank"):
        torch.vmap(plain)(*(torch.randn(3, 2, 5, 4) for _ in range(3)))


def test_functional_transforms_are_an_error_that_says_what_to_use(plain: ec.Kernel) -> None:
    given = tuple(t.detach() for t in three())
    with pytest.raises(ec.BackendError, match=r"torch.func does not differentiate plain\nnote: torch.autograd"):
        torch.func.grad(lambda *a: plain(*a).sin().sum())(*given)
    for run in (lambda: torch.func.jvp(plain, given, given), lambda: dual(plain, given)):
        with pytest.raises(ec.BackendError, match=r"plain has no derivative in forward mode \(jvp\)\nnote: torch"):
            run()


def dual(kernel: ec.Kernel, given: tuple[torch.Tensor, ...]) -> None:
    with torch.autograd.forward_ad.dual_level():
        kernel(*(torch.autograd.forward_ad.make_dual(t, t) for t in given))
