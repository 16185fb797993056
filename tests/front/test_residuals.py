"""What is saved for the backward pass: chosen by predicted time, written in a plan, and the same values either way."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

import einsum_compiler as ec
from einsum_compiler.gradients import gradient_kernels
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.plan_parser import parse_plan

ATTENTION = """
cascade attention(Q[h,m,e], K[h,n,e], V[h,n,f]; scale = 1/sqrt(E)) -> O[h,m,f] {
  S[h,m,n] = Q[h,m,e] * K[h,n,e] * scale   where n <= m
  MX[h,m]  = max[n](S[h,m,n])
  P[h,m,n] = exp(S[h,m,n] - MX[h,m])
  D[h,m]   = sum[n](P[h,m,n])
  A[h,m,n] = P[h,m,n] / D[h,m]
  O[h,m,f] = A[h,m,n] * V[h,n,f]
}
"""
# Z is as large as the output; with few e it costs a few multiply-adds of what is read anyway.
GATED = """
cascade gated(X[m,e], W[e,f], U[m,f]) -> Y[m,f] {
  Z[m,f] = X[m,e] * W[e,f]
  Y[m,f] = silu(Z[m,f]) * U[m,f]
}
"""
NORMALISED = """
cascade normalised(X[m,e], G[e]; epsilon = 0.001) -> Y[m,e] {
  SS[m]  = sum[e](X[m,e] * X[m,e])
  R[m]   = rsqrt(SS[m] / E + epsilon)
  Y[m,e] = X[m,e] * R[m] * G[e]
}
"""


def chosen(text: str, *shapes: tuple[int, ...], plan: str | None = None) -> tuple[str, ...]:
    """What is saved for arguments of these shapes, all of which require gradients."""
    kernel = ec.compile(text, backend="cpu", plan=plan)
    given = [torch.empty(s, device="meta", requires_grad=True) for s in shapes]
    return gradient_kernels(kernel, dict(zip(kernel.names, given, strict=False))).gradient.saved


def gated(length: int, depth: int) -> tuple[tuple[int, ...], ...]:
    return (length, depth), (depth, 1024), (length, 1024)


def saving(*names: str) -> str:
    return f"plan any {{\n  saves {', '.join(names) or 'nothing'}\n}}"


# -- the choice


def test_statistics_of_long_rows_are_saved() -> None:
    assert chosen(ATTENTION, *[(8, 2048, 64)] * 3) == ("MX", "D", "O")


def test_what_is_cheap_to_compute_again_is_not_saved() -> None:
    assert chosen(GATED, *gated(8192, 4)) == ()
    assert chosen(GATED, *gated(8192, 512)) == ("Z",)


def test_no_pairs_are_saved_though_a_bias_is_as_large() -> None:
    text = ATTENTION.replace("V[h,n,f];", "V[h,n,f], B[h,m,n];").replace("* scale ", "* scale + B[h,m,n] ")
    saved = chosen(text, *[(2, 1024, 32)] * 3, (2, 1024, 1024))
    assert set(saved) <= {"MX", "D", "O"}


def test_sizes_of_one_class_share_a_choice() -> None:
    kernel = ec.compile(GATED, backend="cpu")

    def saved(length: int) -> object:
        given = [torch.empty(s, device="meta", requires_grad=True) for s in gated(length, 4)]
        return gradient_kernels(kernel, dict(zip(kernel.names, given, strict=True)))

    assert saved(8192) is saved(8000)


def test_the_values_of_parameters_given_as_tensors_are_not_waited_for() -> None:
    """Tensors on ``meta`` have none; a whole number of 0 would divide by 0, and no float stands for one."""
    text = GATED.replace("U[m,f])", "U[m,f]; c: int, on: bool, t = 1.0)")
    text = text.replace("silu(Z[m,f]) * U[m,f]", "silu(Z[m,f] / t) * U[m,f]   where m // c == f // c or not on")
    kernel = ec.compile(text, backend="cpu")
    given = [torch.empty(s, device="meta", requires_grad=True) for s in (*gated(8192, 512), ())]
    whole = [torch.empty((), device="meta", dtype=t) for t in (torch.int64, torch.bool)]
    arguments = dict(zip(("X", "W", "U", "t", "c", "on"), (*given, *whole), strict=True))
    assert gradient_kernels(kernel, arguments).saved == ("Z",)


# -- the plan


@pytest.mark.parametrize("text", ["saves MX, D", "saves nothing"])
def test_plans_say_what_is_saved(text: str) -> None:
    plan = parse_plan(f"plan attention {{\n  {text}\n}}")
    assert plan.saves == (() if "nothing" in text else ("MX", "D")) and not plan.kernels
    assert parse_plan(str(plan)) == plan and text in str(plan)
    kernel = "kernel O { program h, m:64  stream n:64  resident e, f }"
    for body in (f"{text}\n  {kernel}\n", f"{kernel}\n  {text}\n", f"{text} {kernel}", f"{kernel} {text}"):
        both = parse_plan(f"plan attention {{ {body} }}")
        assert both.saves == plan.saves and len(both.kernels) == 1 and parse_plan(str(both)) == both


def test_the_clauses_of_a_plan_may_share_a_line() -> None:
    kernel, split = "kernel O { program m:64  stream n:64 }", "split O over n:128 into 4"
    order = "O = Q[m,e] * (K[n,e] * V[n,f])"
    one = parse_plan(f"plan a {{ order deferred order {order} {split} saves MX, D {kernel} }}")
    assert (one.orders, len(one.splits), one.saves, len(one.kernels)) == (("deferred", order), 1, ("MX", "D"), 1)
    assert parse_plan(str(one)) == one


def test_what_a_plan_may_not_say_is_named() -> None:
    with pytest.raises(PlanError, match=r"'kernl O .*': expected saves, order, split or kernel"):
        parse_plan("plan a { saves X kernl O { program m } }")
    with pytest.raises(PlanError, match="'programs m' in the kernel of O: expected program, stream, "):
        parse_plan("plan a { kernel O { programs m stream n:4 } }")


def test_plans_that_save_what_they_may_not() -> None:
    with pytest.raises(PlanError, match="'saves P': attention can save MX, D, O for its backward pass"):
        chosen(ATTENTION, *[(2, 64, 16)] * 3, plan=saving("P"))
    with pytest.raises(PlanError, match="once"):
        parse_plan("plan a {\n  saves X\n  saves Y\n}")
    with pytest.raises(PlanError, match="needs its kernels"):
        parse_plan("plan a {\n  saves X\n  split O over n:128 into 4\n}")
    with pytest.raises(PlanError, match="at least one kernel, or says what is saved"):
        parse_plan("plan a { }")


def test_a_plan_decides() -> None:
    assert chosen(GATED, *gated(8192, 4), plan=saving("Z")) == ("Z",)
    assert chosen(NORMALISED, (64, 32), (32,), plan=saving("R")) == ("R",)


# -- values


def gradients(kernel: ec.Kernel, given: list[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(kernel(*given).sin().sum(), given)


@pytest.mark.parametrize(
    ("text", "shapes", "choices"),
    [
        (GATED, ((37, 3), (3, 24), (37, 24)), [("Z",), ()]),
        pytest.param(NORMALISED, ((37, 24), (24,)), [("SS",), ("R",), ()], marks=pytest.mark.slow),
        (ATTENTION, ((1, 300, 16),) * 3, [("MX", "D")]),  # long enough for sums that programs add up
        pytest.param(ATTENTION, ((2, 37, 8),) * 3, [("MX", "D", "O"), ("MX", "O"), ("D",), ()], marks=pytest.mark.slow),
    ],
)
def test_gradients_are_the_same(text: str, shapes: tuple[tuple[int, ...], ...], choices: list[tuple[str, ...]]) -> None:
    torch.manual_seed(0)
    given = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes]
    expected = gradients(ec.compile(text, backend="reference"), given)
    for names in choices:
        kernel = ec.compile(text, backend="cpu", plan=saving(*names))
        for found, wanted in zip(gradients(kernel, given), expected, strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("names", [(), pytest.param(("Z",), marks=pytest.mark.slow)])
def test_checkpoints_and_compiled_graphs(names: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    kernel = ec.compile(GATED, backend="cpu", plan=saving(*names))
    given = [torch.randn(s, requires_grad=True) for s in ((37, 3), (3, 24), (37, 24))]
    expected = gradients(kernel, given)
    again = torch.autograd.grad(checkpoint(kernel, *given, use_reentrant=False).sin().sum(), given)
    graph = torch.compile(lambda *a: kernel(*a).sin().sum(), fullgraph=True, dynamic=True, backend="aot_eager")
    for found in (again, torch.autograd.grad(graph(*given), given)):
        assert all(map(torch.equal, found, expected))


@pytest.mark.slow
def test_a_traced_graph_of_any_length_has_the_choice_of_its_first() -> None:
    kernel = ec.compile(GATED, backend="cpu")
    graph = torch.compile(lambda *a: kernel(*a).sum(), fullgraph=True, dynamic=True, backend="aot_eager")
    for length in (40, 72):
        given = [torch.randn(s, requires_grad=True) for s in ((length, 3), (3, 24), (length, 24))]
        found = torch.autograd.grad(graph(*given), given)
        expected = torch.autograd.grad(kernel(*given).sum(), given)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b)


# -- what is shown


def test_explain_shows_the_choice(capsys: pytest.CaptureFixture[str]) -> None:
    given = [torch.empty(s, device="meta", requires_grad=True) for s in gated(8192, 4)]
    text = ec.compile(GATED, backend="cpu").explain(*given)
    assert "saves nothing (the least predicted time)" in text
    rows = [line for line in text.splitlines() if line.startswith("│ saves")]
    assert len(rows) == 2 and rows[0].split("│")[-2].strip() == "1.00" and "saves Z" in rows[1]
    assert "saves" not in ec.compile(GATED, backend="cpu").explain(*[t.detach() for t in given])
    written = ec.compile(GATED, backend="cpu", plan=saving("Z")).explain(*given)
    assert "saves Z (as the plan says)" in written
    capsys.readouterr()


@pytest.mark.slow
def test_explain_says_where_it_makes_no_difference() -> None:
    given = [torch.empty(s, device="meta", requires_grad=True) for s in ((8192, 8192), (8192,))]
    assert "it makes no difference" in ec.compile(NORMALISED, backend="cpu").explain(*given)
