"""Sums that a kernel accumulates in memory over a rank it spreads over programs: values, counts, choice, texts and refusals."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

import einsum_compiler as ec
from einsum_compiler.backends.reference.tile_interpreter import run_program
from einsum_compiler.cost.structures import accumulating
from einsum_compiler.derivation import kernel_cascades
from einsum_compiler.ir.binding import bind
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.extents import all_extents
from einsum_compiler.ir.plan import Accumulation, Plan
from einsum_compiler.ir.plan_parser import parse_plan
from einsum_compiler.ir.tile import TileProgram
from einsum_compiler.ir.tile_parser import parse_kernel
from einsum_compiler.passes.partition import Partition, partition
from einsum_compiler.passes.traffic.exact import traffic_of
from einsum_compiler.specialise import lower_planned, plan_of, request
from tests.budget import assert_within_budget
from tests.variants.agreement import assert_close, evaluated, interpreted

# Three sums of one intermediate: over the stream, over the program rank, and over both.
TEXT = """
cascade sums(A[b,m,e], C[b,n,e], R[b,n]) -> X[b,n,e], Y[b,m,e], Z[b] {{
  S[b,m,n] = sum[e](A[b,m,e] * C[b,n,e]){where}
  T[b,m,n] = {function}
  X[b,n,e] = sum[m](T[b,m,n] * A[b,m,e])
  Y[b,m,e] = sum[n](T[b,m,n] * C[b,n,e])
  Z[b]     = sum[m,n](T[b,m,n])
}}
"""
PLAN = "plan sums {{ kernel X, Y, Z {{ program b, n:{n}  stream m:{m}  resident e  accumulate Y over n  accumulate Z over n }} }}"
# 1 / R is infinite beyond the last row of R, where loads leave 0.
FUNCTIONS = ("sin(S[b,m,n])", "exp(-S[b,m,n] * S[b,m,n])", "S[b,m,n] / R[b,n]", "max(S[b,m,n], 0) + 1 / R[b,n]")
FILTERS = ("", " where n <= m", " where m - n < 40 and n <= m + 3", " where (m + n) % 3 != 1")


def tensors(m: int, n: int, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    torch.manual_seed(m + n)
    return [t.to(dtype) for t in (torch.randn(2, m, 5), torch.randn(2, n, 5), torch.rand(2, n) + 0.5)]


def lowered(
    kernel: ec.Kernel, given: list[torch.Tensor]
) -> tuple[TileProgram, dict[str, torch.Tensor], dict[str, int]]:
    binding = bind(kernel.cascade, given, {})
    wanted = request(kernel.derivation, binding, "cpu")
    planned = plan_of(kernel.derivation, wanted, kernel.plan)
    program = TileProgram("sums", tuple(lower_planned(p, wanted) for p in planned))
    return program, dict(binding.tensors), dict(binding.extents)


@settings(max_examples=3, deadline=None)
@given(
    st.sampled_from(FUNCTIONS), st.sampled_from(FILTERS), st.integers(130, 170), st.integers(130, 170),
    st.sampled_from((1, 16, 48)), st.sampled_from((32, 64)),
)  # fmt: skip
def test_accumulated_sums_equal_the_evaluator_and_their_traffic_the_count(
    function: str, where: str, m: int, n: int, tile: int, stream: int
) -> None:
    text = TEXT.format(function=function, where=where)
    kernel = ec.compile(text, plan=PLAN.format(n=tile, m=stream))
    given = tensors(m, n)
    program, inputs, extents = lowered(kernel, given)
    tiles = replace(program.kernels[0], name="sums")
    assert len(program.kernels) == 1
    assert parse_kernel(str(tiles)) == tiles
    assert set(tiles.accumulated) == {Accumulation(t, ("n.1" if tile > 1 else "n",)) for t in "YZ"}
    if not tiles.schedules:
        written, counts = run_program(program, inputs, {}, extents, exact=True)
        for name, exact in zip("XYZ", ec.reference(text)(*(t.double() for t in given)), strict=True):
            torch.testing.assert_close(written[name], exact, rtol=1e-9, atol=1e-9)
        moved = traffic_of(tiles, extents, {}, inputs)
        for name in "XYZ":
            assert (moved[name].loaded, moved[name].stored) == (counts.loads[name], counts.stores[name])
            assert (counts.loads[name] == 0) == (name == "X")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("where", FILTERS[:2] + FILTERS[3:])
def test_accumulated_sums_on_the_cpu_repeat_bit_for_bit(dtype: torch.dtype, where: str) -> None:
    text = TEXT.format(function=FUNCTIONS[2], where=where)
    given = tensors(150, 139, dtype)
    plan = PLAN.format(n=48, m=32)
    if dtype == torch.bfloat16:  # narrow results are rounded from sums of their own
        plan = (
            plan.replace("Y over", "Y.sum over").replace("Z over", "Z.sum over").replace("X, Y, Z", "X, Y.sum, Z.sum")
        )
        plan = plan[:-2] + " kernel Y { program b, m:16, e } kernel Z { program b } }"
    kernel = ec.compile(text, plan=plan)
    first, second = kernel(*given), kernel(*given)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    gold, same = (ec.reference(text)(*(t.to(d) for t in given)) for d in (torch.float64, torch.float32))
    for name, actual, plain, exact in zip("XYZ", first, same, gold, strict=True):
        assert actual.dtype == dtype
        assert_within_budget(actual, plain.to(dtype), exact, name)


def test_the_planner_accumulates_where_it_computes_less() -> None:
    text = (
        TEXT.format(function="exp(S[b,m,n])", where="")
        .replace(", Z[b] {", " {")
        .replace("  Z[b]     = sum[m,n](T[b,m,n])\n", "")
    )
    many, one = (torch.empty(b, 2048, 64, device="meta") for b in (64, 1))

    def chosen(a: torch.Tensor) -> str:
        return str(ec.compile(text.replace(", R[b,n]", ""), backend="cpu").ir("plan", a, a))

    assert "accumulate" in chosen(many)
    assert "accumulate" not in chosen(one)  # its programs would all follow one another


def test_what_cannot_be_accumulated_is_refused_with_the_reason() -> None:
    given = tensors(150, 139)
    text = TEXT.format(function="sin(S[b,m,n])", where="")
    plan = PLAN.format(n=16, m=32)
    with pytest.raises(PlanError, match="'X' cannot be accumulated over n: 'X' is not summed over a program rank"):
        ec.compile(text, plan=plan.replace("Y over", "X over").replace("X, Y, Z", "Y, X, Z"))(*given)
    with pytest.raises(PlanError, match="this kernel sums it over n"):
        ec.compile(text, plan=plan.replace("Y over n", "Y over b"))(*given)
    with pytest.raises(PlanError, match="programs of a GPU run in no order"):
        ec.compile(text, plan=plan).source("triton", *given)
    with pytest.raises(PlanError, match="'Y' is bf16: sums are accumulated in f32"):
        ec.compile(text, plan=plan)(*tensors(150, 139, torch.bfloat16))
    with pytest.raises(PlanError, match="expected 'accumulate TENSOR over RANKS'"):
        parse_plan("plan p { kernel X { program n accumulate Y } }")


def test_a_plan_that_accumulates_prints_and_parses() -> None:
    plan = parse_plan(PLAN.format(n=16, m=32))
    assert parse_plan(str(plan)) == plan
    assert plan.kernels[0].accumulated == (Accumulation("Y", ("n",)), Accumulation("Z", ("n",)))
    assert "accumulate Y over n  accumulate Z over n" in str(plan)


# Random programs: a chain of maps over b, m, n with filters and statistics of rows, and sums of products over any of their ranks.
MAPS = (
    "sin({0})",
    "exp({0} - R1[m])",
    "{0} * R2[b,n]",
    "{0} / (1 + R2[b,n]**2)",
    "max({0}, R1[m])",
    "if(n < m, {0}, 2 * {0})",
)
STATISTICS = ("", "G[b,m] = max[n]({0})\n", "G[b,m] = sum[n]({0})\n")
LISTED = " where n * n <= 2000 * (m + 1)"  # always true here; its tiles are found at run time
TARGETS = ("b,m,e", "b,n,e", "m,e", "n,e", "b,m", "b,n", "m", "n", "b", "e")


@st.composite
def sums(draw: st.DrawFn) -> tuple[str, dict[str, int]]:
    """A program of sums, and extents."""
    value, lines = "S0[b,m,n]", "  S0[b,m,n] = A[b,m,e] * C[b,n,e]" + draw(st.sampled_from((*FILTERS, LISTED))) + "\n"
    for i in range(1, draw(st.integers(1, 3)) + 1):
        lines += f"  S{i}[b,m,n] = {draw(st.sampled_from(MAPS)).format(value)}\n"
        value = f"S{i}[b,m,n]"
    statistic = draw(st.sampled_from(STATISTICS)).format(value)
    if statistic:
        lines += "  " + statistic + f"  T[b,m,n] = {value} - G[b,m]\n"
        value = "T[b,m,n]"
    targets = draw(st.lists(st.sampled_from(TARGETS), min_size=2, max_size=4, unique=True))
    for i, ranks in enumerate(targets):
        other = draw(st.sampled_from(("A[b,m,e]", "C[b,n,e]"))) if "e" in ranks else "R2[b,n]"
        over = ",".join(r for r in ("b", "m", "n") if r not in ranks)
        lines += f"  Y{i}[{ranks}] = sum[{over}]({value} * {other})\n"
    outputs = ", ".join(f"Y{i}[{ranks}]" for i, ranks in enumerate(targets))
    text = f"cascade sums(A[b,m,e], C[b,n,e], R1[m], R2[b,n]) -> {outputs} {{\n{lines}}}"
    extents = {"b": 3, "m": draw(st.sampled_from((1, 17, 40))), "n": draw(st.sampled_from((1, 17, 40))), "e": 5}
    return text, extents


def agrees_where_it_accumulates(text: str, extents: dict[str, int], tiles: Partition) -> int:
    """How many ways to accumulate the program has; each agrees with the evaluator."""
    generator = torch.Generator().manual_seed(7)
    kernel = ec.compile(text)
    given = {
        t.name: torch.randn([extents[r] for r in t.ranks], generator=generator, dtype=torch.float64)
        for t in kernel.cascade.inputs
    }
    binding = kernel.binding(**given)
    gold = evaluated(kernel, binding)
    derivation, found = kernel.derivation, 0
    extents = all_extents(derivation.normalized, extents)
    default = kernel_cascades(derivation, extents)
    for groups, accumulated in accumulating(default, {n: "f64" for n in given}):
        try:
            parts = kernel_cascades(derivation, extents, groups, accumulated)
        except PlanError:
            continue
        plan = Plan(kernel.cascade.name, tuple(partition(p, extents, tiles) for p in parts))
        assert parse_plan(str(plan)) == plan
        planned = ec.compile(text, plan=str(plan))
        assert_close(interpreted(planned, planned.binding(**given)), gold)
        found += 1
    return found


TILES = st.builds(
    Partition, rows=st.sampled_from((1, 8, 24)), stream=st.sampled_from((16, 32)), vector=st.sampled_from((1, 16))
)


@given(sums(), TILES)
@settings(max_examples=4, deadline=None)
def test_random_sums(program: tuple[str, dict[str, int]], tiles: Partition) -> None:
    event(f"ways: {agrees_where_it_accumulates(*program, tiles)}")


@pytest.mark.slow
@given(sums(), TILES)
@settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
def test_many_random_sums(program: tuple[str, dict[str, int]], tiles: Partition) -> None:
    agrees_where_it_accumulates(*program, tiles)


def test_rows_beyond_the_extent_are_in_no_full_tile_of_a_list() -> None:
    text = "cascade sums(A[b,m,e], C[b,n,e], R1[m]) -> Y[b,m], Z[b,n] {{ S[b,m,n] = A[b,m,e] * C[b,n,e] {} T[b,m,n] = exp(S[b,m,n]) Y[b,m] = T[b,m,n] Z[b,n] = T[b,m,n] }}"
    extents = {"b": 3, "m": 40, "n": 40, "e": 5}
    assert agrees_where_it_accumulates(text.format(LISTED), extents, Partition(rows=24, stream=16, vector=16)) == 2


def test_a_sum_that_is_still_added_up_is_not_read() -> None:
    """All programs add to ``R``; a sum in their kernel that reads it would see a part of it."""
    text = "cascade f(X[m,n]) -> Y[n], R[m], Z[m] { R[m] = sum[n](X[m,n])  Y[n] = sum[m](X[m,n])  Z[m] = sum[n](X[m,n] * R[m]) }"
    plan = "plan f { kernel Y, R, Z { program n:8  stream m:8  accumulate R over n  accumulate Z over n } }"
    with pytest.raises(
        ec.PlanError,
        match=r"'R' cannot be accumulated: '.*' reads it in the same kernel, before all programs have added to it",
    ):
        ec.compile(text, plan=plan, backend="cpu")(torch.randn(20, 20))
    ec.compile(text, backend="cpu").validate(torch.randn(300, 300))


MAP_AND_SUM = "cascade f(X[m,n]) -> Y[m,n], C[m] {{ Y[m,n] = relu(X[m,n])  C[m] = sum[n]({}) }}"


def test_explain_prices_accumulated_sums_whose_output_is_narrow() -> None:
    kernel = ec.compile(MAP_AND_SUM.format("relu(X[m,n])"))
    assert "Y, C.sum: " in kernel.explain(torch.randn(5, 7, dtype=torch.bfloat16))


def test_counts_are_not_accumulated_in_memory() -> None:
    """What is added up there has the type of real sums, f32, which holds no count beyond 2 ** 24."""
    kernel = ec.compile(MAP_AND_SUM.format("1 where X[m,n] > 0"))
    default = kernel_cascades(kernel.derivation, {"m": 5, "n": 7})
    assert not list(accumulating(default, {"X": "f32", "Y": "f32", "C": "i64"}))
    assert list(accumulating(default, {"X": "f32", "Y": "f32", "C": "f32"}))
