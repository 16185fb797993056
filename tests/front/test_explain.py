"""What a person is shown: the report, the counts in it, rates, and validation."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

import einsum_compiler as ec
from einsum_compiler import tables
from einsum_compiler.backends.reference.tile_interpreter import run_kernel
from einsum_compiler.compilation import compilation
from einsum_compiler.inspection import tile_kernels, works
from einsum_compiler.validate import Validation
from einsum_compiler.work import work_of
from tests.front.programs import ATTENTION, SCALED, qkv
from tests.front.visited import visited

PLAN = "plan attention { kernel O { program b, h, m:16  stream n:32  resident e, f } }"
DOCUMENTS = ATTENTION.replace("V[b,h,n,f];", "V[b,h,n,f], D1[m], D2[n];").replace("n <= m", "D1[m] == D2[n]")


def test_the_report_of_attention(golden: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    q, k, v = qkv(2048, 2048, 64)
    plan = "plan attention { kernel O { program b, h, m:96  stream n:128  resident e, f } }"
    report = ec.compile(ATTENTION, plan=plan).explain(q, k, v)
    assert capsys.readouterr().out == report + "\n"
    assert max(map(len, report.splitlines())) <= 100
    golden(report)


def test_a_narrow_terminal_and_one_without_unicode(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = ec.compile(ATTENTION)
    monkeypatch.setattr(tables, "width", lambda: 60)
    report = kernel.explain(*qkv())
    assert max(map(len, report.splitlines())) <= 60
    assert "pass 2: A.p reads S again" in " ".join(report.split())

    class Ascii:
        encoding = "ascii"

        def write(self, text: str) -> None:
            text.encode("ascii")

        def isatty(self) -> bool:
            return False

    monkeypatch.setattr(tables.sys, "stdout", Ascii())
    kernel.explain(*qkv())


def test_where_fusing_is_worse_it_is_left_and_said() -> None:
    """Every tile of columns of Y would compute its rows of T again."""
    text = """cascade twice(A[m,k], B[k,f], C[f,g]) -> Y[m,g] {
      T[m,f] = exp(sum[k](A[m,k] * B[k,f]))
      Y[m,g] = T[m,f] * C[f,g]
    }"""
    kernel = ec.compile(text, backend="cpu")

    def explained(columns: int) -> str:
        shapes = ((1024, 512), (512, 512), (512, columns))
        return " ".join(kernel.explain(*(torch.empty(s) for s in shapes)).split())

    worse = explained(8192)
    assert "kernel 2 of 2 writes Y" in worse
    times = re.search(
        r"not fused: T\S* is stored between kernels; computing it where it is read would take (\S+) times", worse
    )
    assert times is not None and float(times[1]) > 1.1
    better = explained(64)
    assert "kernel 1 of 1 writes Y" in better
    times = re.search(r"fused: T\S* is never stored; storing it between kernels would take (\S+) times", better)
    assert times is not None and float(times[1]) > 0.9


def test_two_ranks_streamed_as_one_have_the_passes_of_the_text() -> None:
    text = """cascade windows(Q[y,x,e], K[u,v,e], V[u,v,f]) -> O[y,x,f] {
      S[y,x,u,v] = Q[y,x,e] * K[u,v,e] where y // 7 == u // 7 and x // 7 == v // 7
      M[y,x]     = max[u,v](S[y,x,u,v])
      P[y,x,u,v] = exp(S[y,x,u,v] - M[y,x])
      D[y,x]     = sum[u,v](P[y,x,u,v])
      O[y,x,f]   = P[y,x,u,v] * V[u,v,f] / D[y,x]
    }"""
    kernel = ec.compile(text, backend="cpu")
    made = compilation(kernel.derivation, kernel.binding(*(torch.empty(14, 14, 16) for _ in "QKV")), "cpu", None)
    found = {p.rank: (p.written.passes, p.compiled) for p in made.passes}
    assert found["u_v"] == (3, 1)


def test_without_arguments_the_last_call_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    kernel = ec.compile(ATTENTION)
    assert "M = 1024" in kernel.explain()
    kernel(*qkv(40, 50))
    assert "M = 40, E = 16, N = 50" in kernel.explain()


def test_counted_tiles_are_those_of_the_loops() -> None:
    q, k, v = qkv(100, 120)
    for text, more in (
        (ATTENTION, ()),
        (ATTENTION.replace("n <= m", "n <= m and m - n < 20"), ()),
        (ATTENTION.replace(" where n <= m", ""), ()),
        (DOCUMENTS, (torch.arange(100) // 30, torch.arange(120) // 30)),
    ):
        kernel = ec.compile(text, plan=PLAN)
        (work,) = works(kernel.derivation, kernel.binding(q, k, v, *more), "cpu", kernel.plan)
        assert work.sweeps is not None
        (sweep,) = work.sweeps
        full, partial = visited(kernel, q, k, v, *more)
        assert (sweep.full, sweep.partial, sweep.total) == (2 * full, 2 * partial, 2 * 7 * 4)
        assert work.programs == 2 * 7


def test_tiles_that_depend_on_absent_values_are_not_counted() -> None:
    kernel = ec.compile(DOCUMENTS, plan=PLAN)
    ids = torch.zeros(100, dtype=torch.int64, device="meta"), torch.zeros(120, dtype=torch.int64, device="meta")
    (work,) = works(kernel.derivation, kernel.binding(*(t.to("meta") for t in qkv(100, 120)), *ids), "cpu", kernel.plan)
    assert work.sweeps is work.operations is None
    assert "give them to count the tiles" in kernel.explain(*(t.to("meta") for t in qkv(100, 120)), *ids)


@pytest.mark.parametrize("text", [ATTENTION.replace(" where n <= m", ""), SCALED], ids=["attention", "scaled"])
def test_operations_are_those_the_interpreter_counts(text: str) -> None:
    """In full tiles the interpreter also runs what only masks need; without masks both count the same."""
    kernel = ec.compile(text)
    arguments = qkv(96, 256) if text is not SCALED else [torch.randn(96, 16), torch.randn(128, 16)]
    binding = kernel.binding(*arguments)
    for program in tile_kernels(kernel.derivation, binding, "cpu", None):
        tensors: dict[str, Any] = dict(binding.tensors)
        for name, shape, dtype in _buffers(kernel, binding):
            tensors[name] = torch.zeros(shape, dtype=dtype)
        counts = run_kernel(program, tensors, binding.scalars, binding.extents)
        work = work_of(program, binding.tensors, binding.scalars, binding.extents)
        assert work.operations == counts.operations
        assert work.sweeps is not None and sum(s.full + s.partial for s in work.sweeps) == sum(
            counts.iterations.values()
        )


def _buffers(kernel: ec.Kernel, binding: Any) -> list[tuple[str, list[int], torch.dtype]]:
    executable = kernel.executable(binding)
    return [b[:3] for _, outputs in executable._sizes(binding.scalars, binding.extents) for b in outputs]


def test_benchmark_prints_rates() -> None:
    from einsum_compiler.benchmark import benchmark

    kernel = ec.compile(ATTENTION, plan=PLAN)
    q, k, v = qkv(100, 120)
    result = benchmark(kernel, kernel.binding(q, k, v), seconds=0.01)
    (work,) = works(kernel.derivation, kernel.binding(q, k, v), "cpu", kernel.plan)
    assert result.operations == work.operations
    assert result.compulsory_bytes == 4 * (q.numel() + k.numel() + v.numel() + q.numel())
    shown = str(
        replace(
            result,
            median=2e-3,
            least=1e-3,
            greatest=3e-3,
            runs=7,
            operations=4_000_000,
            compulsory_bytes=2_000_000,
            predicted=(1.5e-3, "matrix"),
        )
    )
    assert (
        shown
        == "median 2.000 ms of 7 runs (1.000 to 3.000 ms); 2.0 GFLOP/s of tile operations; 1.00 GB/s of compulsory traffic; "
        "predicted 1.500 ms, limited by matrix"
    )
    with pytest.raises(ec.BackendError, match="tensors on the device 'meta' have no values"):
        kernel.benchmark(*(t.to("meta") for t in (q, k, v)))


# -- validation ---------------------------------------------------------------------------------------------------------------


def test_validation_of_every_kind_of_output() -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        q, k, v = qkv(dtype=dtype)
        result = ec.compile(ATTENTION).validate(q, k, v)
        assert isinstance(result, Validation) and result.outputs[0].error <= result.outputs[0].budget
    result = ec.compile(SCALED).validate(torch.randn(5, 3), torch.randn(4, 3))
    assert [a.output for a in result.outputs] == ["Z", "C"]
    assert str(result.outputs[1]) == "C: error 0, plain 0, budget 0"


def test_validation_with_nan_and_infinities() -> None:
    kernel = ec.compile("cascade power(X[m,e]) -> Z[m,e], S[m] {\n  Z[m,e] = X[m,e] * 2\n  S[m] = max[e](X[m,e])\n}")
    x = torch.randn(4, 8)
    x[1, 2], x[2, 3], x[3, 0] = torch.inf, -torch.inf, torch.nan
    kernel.validate(x)


def test_an_overflow_that_plain_pytorch_shares_allows_nothing_elsewhere() -> None:
    from einsum_compiler.validate import validate

    kernel = ec.compile("cascade double(X[m]) -> Z[m] {\n  Z[m] = X[m] * 2\n}")
    binding = kernel.binding(torch.tensor([60000.0, 1.0, -60000.0, 4.0], dtype=torch.float16))
    assert validate(kernel, binding).outputs[0].error == 0
    with pytest.raises(ec.AccuracyError, match=r"Z\[3\] is 9, expected 8: error 1, budget 0.0"):
        validate(Wrong(kernel, "Z", (3,), 9.0), binding)  # type: ignore[arg-type]
    with pytest.raises(ec.AccuracyError, match=r"Z\[2\] is inf, expected -120000"):
        validate(Wrong(kernel, "Z", (2,), torch.inf), binding)  # type: ignore[arg-type]


class Wrong:
    """A kernel that changes one element of what the right one gives."""

    def __init__(self, kernel: ec.Kernel, name: str, place: tuple[int, ...], value: Any) -> None:
        self.kernel, self.change = kernel, (name, place, value)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.kernel, name)

    def run(self, binding: Any) -> dict[str, Any]:
        found = self.kernel.run(binding)
        name, place, value = self.change
        found[name][place] = value
        return found


def test_the_message_names_the_worst_element() -> None:
    from einsum_compiler.validate import validate

    x, y = torch.ones(5, 3), torch.ones(4, 3)
    kernel = ec.compile(SCALED)
    binding = kernel.binding(x, y)
    cases = {
        ("Z", (2,), 25.0): (
            "error: Z[2] is 25, expected 24: error 1, budget 9.54e-06\n"
            "note: plain PyTorch in the same types has an error of 1.91e-06"
        ),
        ("Z", (1,), torch.nan): (
            "error: Z[1] is nan, expected 24: error inf, budget 9.54e-06\n"
            "note: plain PyTorch in the same types has an error of 1.91e-06"
        ),
        ("C", (4,), 2): "error: C[4] is 2, expected 3",
    }
    for change, expected in cases.items():
        with pytest.raises(ec.AccuracyError) as caught:
            validate(Wrong(kernel, *change), binding)  # type: ignore[arg-type]
        assert str(caught.value) == expected
    x[0, 0] = torch.inf
    with pytest.raises(ec.AccuracyError) as caught:
        validate(Wrong(kernel, "Z", (0,), 3.0), kernel.binding(x, y))  # type: ignore[arg-type]
    assert str(caught.value) == "error: Z[0] is 3.0, expected inf"


def test_in_float64_no_error_of_f32_is_allowed() -> None:
    from einsum_compiler.validate import validate

    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(n, 3, generator=generator, dtype=torch.float64) for n in (5, 4))
    kernel = ec.compile(SCALED)
    binding = kernel.binding(x, y)
    validate(kernel, binding)
    off = kernel.run(binding)["Z"][2].item() + 1e-9
    with pytest.raises(ec.AccuracyError, match="budget"):
        validate(Wrong(kernel, "Z", (2,), off), binding)  # type: ignore[arg-type]
