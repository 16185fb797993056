"""Splits from end to end: when they are chosen, what the plan says, and the values of their kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import einsum_compiler as ec
from einsum_compiler.backends.reference.evaluate import evaluate
from einsum_compiler.backends.reference.tile_interpreter import run_program
from einsum_compiler.cost import device
from einsum_compiler.cost.candidates import candidate_plans
from einsum_compiler.derivation import Derivation, derive, kernel_cascades
from einsum_compiler.ir.binding import Binding, bind
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.plan import KernelPlan, Plan, RankSplit
from einsum_compiler.ir.plan_parser import parse_plan
from einsum_compiler.ir.tile import TileProgram
from einsum_compiler.passes.partition import partition
from einsum_compiler.planning import as_plan
from einsum_compiler.specialise import kernel_key, lower_planned, plan_of, request
from einsum_compiler.splitting import split_kernels
from tests.passes import zoo

DECODE = """
cascade decode(Q[b,h,m,e], K[b,g,n,e], V[b,g,n,f]; scale = 1/sqrt(E)) -> O[b,h,m,f], L[b,h,m] {
  S[b,h,m,n] = Q[b,h,m,e] * K[b,h // (H // G),n,e] * scale where n <= m + N - M
  MX[b,h,m]  = max[n](S[b,h,m,n])
  P[b,h,m,n] = exp(S[b,h,m,n] - MX[b,h,m])
  D[b,h,m]   = sum[n](P[b,h,m,n])
  O[b,h,m,f] = P[b,h,m,n] / D[b,h,m] * V[b,h // (H // G),n,f]
  L[b,h,m]   = MX[b,h,m] + log(D[b,h,m])
}
"""

SEGMENTS = """
cascade segments(Q[m,e], K[n,e], V[n,f], SQ: i64[m], SK: i64[n]) -> O[m,f] {
  S[m,n] = Q[m,e] * K[n,e] where SQ[m] == SK[n]
  O[m,f] = softmax[n](S[m,n]) * V[n,f]
}
"""

COUNT = """
cascade count(X[m,n]; c = 0.5) -> A[m], B[m] {
  A[m] = any[n](X[m,n] > 3)
  B[m] = sum[n](X[m,n]) where n < N - m
}
"""

SIZES = {"b": 2, "h": 4, "g": 2, "m": 5, "n": 700, "k": 700, "e": 8, "f": 6}


def inputs(derivation: Derivation, **sizes: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    found = {}
    for tensor in derivation.declared.inputs:
        shape = [{**SIZES, **sizes}[r] for r in tensor.ranks]
        if tensor.dtype == "i64":
            found[tensor.name] = torch.arange(shape[0]) * 4 // shape[0]
        else:
            found[tensor.name] = torch.randn(shape, generator=generator, dtype=torch.float64)
    return found


def forced(derivation: Derivation, binding: Binding, chunks: int) -> Plan:
    """The plan with every streaming kernel in chunks."""
    wanted = request(derivation, binding, "cpu")
    kernels: list[KernelPlan] = []
    splits: list[RankSplit] = []
    for part in kernel_cascades(derivation, binding.extents):
        whole = partition(part, binding.extents)
        if whole.stream is None:
            kernels.append(whole)
            continue
        choice = RankSplit(whole.outputs, whole.stream, chunks)
        made = split_kernels(derivation, part, (choice,), binding.extents, wanted.dtypes)
        assert made.parts, made.certificates
        kernels += [partition(p, {**binding.extents, **made.extents}) for p in made.parts]
        splits.append(choice)
    return Plan(derivation.declared.name, tuple(kernels), tuple(splits))


def interpreted(derivation: Derivation, binding: Binding, plan: Plan) -> dict[str, Any]:
    """Every tensor that the kernels of a plan write, run by the tile interpreter."""
    from einsum_compiler.tile_lists import build_tile_list

    wanted = request(derivation, binding, "cpu")
    held = dict(binding.tensors)
    for planned in plan_of(derivation, wanted, plan):
        kernel = lower_planned(planned, wanted)
        extents = {**binding.extents, **planned.extents}
        operands = dict(held)
        for schedule in kernel.schedules:
            offsets, tiles = build_tile_list(schedule, held, binding.scalars, extents)
            operands |= {f"{schedule.name}.offsets": offsets, f"{schedule.name}.tiles": tiles}
        found, _ = run_program(TileProgram(kernel.name, (kernel,)), operands, binding.scalars, extents)
        held |= {t.name: found[t.name] for t in kernel.outputs}
    return held


@pytest.mark.parametrize(
    ("text", "chunks"),
    [
        (DECODE, 2),
        (DECODE, 7),
        (SEGMENTS, 3),
        (COUNT, 4),
        (zoo.CAUSAL, 3),
        (zoo.EMPTY_ROWS, 4),
        (zoo.SINK, 3),
        (zoo.ROW_STATS, 3),
        (zoo.DIFFERENTIAL, 2),
        (zoo.SIGMOID, 4),
        (zoo.VARIANCE, 3),
        (zoo.LAYERNORM_GEMM, 3),
        (zoo.LOG_SUM, 2),
    ],
)
def test_kernels_of_a_split_agree_with_the_reference(text: str, chunks: int) -> None:
    derivation = derive(text, "<test>", None)
    binding = bind(derivation.declared, (), inputs(derivation))
    plan = forced(derivation, binding, chunks)
    assert plan.splits
    assert parse_plan(str(plan)) == plan
    found = interpreted(derivation, binding, plan)
    expected = evaluate(
        derivation.declared, binding.tensors, binding.scalars, binding.extents, module=derivation.module
    )
    for name, value in expected.items():
        number = ~value.isnan()
        torch.testing.assert_close(found[name][number].to(value.dtype), value[number], rtol=1e-10, atol=1e-10)


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    m, n = q.shape[2], k.shape[2]
    visible = torch.arange(n) <= torch.arange(m)[:, None] + n - m
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=visible)


def test_decoding_fills_the_processors() -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, h, n, 64, generator=generator) for h, n in ((8, 1), (2, 5000), (2, 5000)))
    kernel = ec.compile(DECODE, backend="triton")
    out, _ = kernel(q, k, v)
    torch.testing.assert_close(out, attention(q, k, v), rtol=2e-6, atol=2e-6)
    plan = kernel.ir("plan")
    assert plan == (
        "plan decode {\n"
        "  split O, L over n:64 into 64\n"
        "  kernel MX.n, D.n, O.acc.n { program n.3, b, h:4, m  stream n.2:64  resident e, f  warps 8 stages 2 }\n"
        "  kernel O, L { program b, h, m  resident f, n.3  warps 8 stages 2 }\n"
        "}"
    )
    again = ec.compile(DECODE, backend="triton", plan=plan.replace("into 64", "into 4"))
    torch.testing.assert_close(again(q, k, v)[0], out, rtol=2e-6, atol=2e-6)
    assert again.ir("plan") == plan.replace("into 64", "into 4")


def test_lengths_share_the_kernels_of_a_plan() -> None:
    derivation = derive(DECODE, "<test>", None)
    keys, programs = [], []
    for n in (5000, 5101):
        binding = bind(derivation.declared, (), inputs(derivation, n=n, m=1, b=1))
        wanted = request(derivation, binding, "triton")
        planned = plan_of(derivation, wanted, None)
        assert len(planned) == 2 and planned[0].extents["n.2"] % planned[0].plan.stream.size == 0
        keys.append([kernel_key(derivation, p, wanted, "") for p in planned])
        programs.append([str(lower_planned(p, wanted)) for p in planned])
    assert keys[0] == keys[1]
    assert programs[0] == programs[1]


def test_names_do_not_matter() -> None:
    renamed = DECODE
    for old, new in (
        ("MX", "TOP"),
        ("S[", "Z["),
        ("P[", "W9["),
        ("D[", "SUM["),
        ("Q[", "AA["),
        ("K[", "BB["),
        ("V[", "CC["),
        ("O[", "OUT["),
    ):
        renamed = renamed.replace(old, new)
    for old, new in (("n", "u"), ("m", "t"), ("f", "y")):
        renamed = (
            renamed.replace(f"{old}]", f"{new}]")
            .replace(f",{old},", f",{new},")
            .replace(f"{old} <=", f"{new} <=")
            .replace(f"[{old}](", f"[{new}](")
        )
    renamed = renamed.replace("<= m + N - M", "<= t + U - T").replace("/sqrt", "/ sqrt")
    plans = []
    for text, extents in ((DECODE, {}), (renamed, {"u": 5000, "t": 1, "y": 6})):
        derivation = derive(text, "<test>", None)
        binding = bind(derivation.declared, (), inputs(derivation, n=5000, m=1, b=1, **extents))
        plans.append(as_plan(derivation, plan_of(derivation, request(derivation, binding, "triton"), None)))
    shapes = [
        (
            [(s.rank.size, s.chunks) for s in p.splits],
            [([t.size for t in k.program], k.stream and k.stream.size) for k in p.kernels],
        )
        for p in plans
    ]
    assert shapes[0] == shapes[1] and plans[0].splits


# -- the choice


@pytest.mark.parametrize(
    ("extents", "split"),
    [
        ({"b": 1, "h": 1, "m": 1, "n": 100_000}, True),
        ({"b": 1, "h": 8, "m": 1, "n": 100_000}, True),
        ({"b": 1, "h": 1, "m": 1, "n": 64}, False),  # the merge costs more than it wins
        ({"b": 4, "h": 32, "m": 1024, "n": 10_000}, False),  # enough programs
        ({"b": 0, "h": 1, "m": 1, "n": 100_000}, False),  # nothing to compute
    ],
)
def test_the_choice(extents: dict[str, int], split: bool) -> None:
    derivation = derive(DECODE.replace("h // (H // G)", "h").replace("b,g,n", "b,h,n"), "<test>", None)
    dtypes = dict.fromkeys(("Q", "K", "V", "O", "L"), "bf16")  # in f32 a long sum is split to be exact, too
    sizes = {**extents, "e": 64, "f": 64}
    (best, *_) = candidate_plans(derivation, sizes, "triton", dtypes, device("h100"), {})
    assert bool(best.plan.splits) == split
    for choice in best.plan.splits:
        programs = extents["b"] * extents["h"] * choice.chunks
        assert programs >= device("h100").processors // 2


def test_an_output_along_the_stream_is_not_split() -> None:
    derivation = derive(zoo.MAP_OUT, "<test>", None)
    binding = bind(derivation.declared, (), inputs(derivation, m=1, n=20_000))
    planned = plan_of(derivation, request(derivation, binding, "triton"), None)
    assert not any(p.splits for p in planned if "A" in p.plan.outputs)


def test_what_is_refused_stays_whole() -> None:
    derivation = derive(zoo.CLIPPED.replace(" where n <= m", ""), "<test>", None)
    binding = bind(derivation.declared, (), inputs(derivation, m=1, n=20_000))
    planned = plan_of(derivation, request(derivation, binding, "triton"), None)
    assert not any(p.splits for p in planned)
    (refusal,) = [c for p in planned for c in p.certificates if c.form == "refused"]
    assert (refusal.step, refusal.tensor) == ("split", "O")


# -- plans


def raised(call: Callable[[], object]) -> str:
    with pytest.raises(PlanError) as error:
        call()
    return error.value.message


def test_plans_that_do_not_fit() -> None:
    derivation = derive(zoo.CLIPPED.replace(" where n <= m", ""), "<test>", None)
    binding = bind(derivation.declared, (), inputs(derivation))
    wanted = request(derivation, binding, "cpu")
    whole = as_plan(derivation, plan_of(derivation, wanted, None))
    kernels = str(whole).split("\n", 1)[1]
    refused = parse_plan("plan clipped {\n  split O over n:128 into 4\n" + kernels)
    message = raised(lambda: plan_of(derivation, wanted, refused))
    assert message.startswith("n cannot be split for O: O: ") and "does not separate" in message
    other = parse_plan("plan clipped {\n  split O over m:4 into 4\n" + kernels)
    assert raised(lambda: plan_of(derivation, wanted, other)) == "the plan splits m for O, which streams n"
    unknown = parse_plan("plan clipped {\n  split U over n:128 into 4\n" + kernels)
    assert (
        raised(lambda: plan_of(derivation, wanted, unknown))
        == "the plan splits U, which no kernel of this program writes"
    )
