"""Tensor descriptors: a plan property that prints and parses, computes the same, and shows in the binary."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import einsum_compiler as ec
from einsum_compiler.backends.triton.cross import cross_compile
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.launch import Launch
from einsum_compiler.ir.plan_parser import parse_plan
from einsum_compiler.planning import as_plan
from einsum_compiler.specialise import plan_of, request
from tests.backends.tile_samples import attention
from tests.zoo.cases import Case, Operator
from tests.zoo.checking import in_order
from tests.zoo.inputs import OPERATORS

pytest.importorskip("triton")

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CAUSAL = EXAMPLES / "causal.ein"
PLAN = "plan causal {{ kernel O, L {{ program b, h, m:16  stream n:16  resident e, f  {} }} }}"
DESCRIBED = Launch(descriptors=True)


def inputs(width: int = 16, dtype: torch.dtype = torch.float16) -> tuple[torch.Tensor, ...]:
    shapes = (2, 2, 50, width), (2, 1, 50, width), (2, 1, 50, width)
    return tuple(torch.randn(s, dtype=dtype) for s in shapes)


def test_they_print_and_parse() -> None:
    text = PLAN.format("warps 8 stages 3  copies descriptors")
    plan = parse_plan(text)
    assert plan.kernels[0].launch == Launch(8, 3, descriptors=True)
    assert str(plan).split() == text.split() and parse_plan(str(plan)) == plan
    with pytest.raises(PlanError, match="copies are through pointers or descriptors, not 'magic'"):
        parse_plan(PLAN.format("copies magic"))


def test_a_cpu_has_none() -> None:
    with pytest.raises(PlanError, match="the plan says how tiles are copied, which programs of a GPU do"):
        ec.compile(CAUSAL, backend="cpu", plan=PLAN.format("copies descriptors"))(*inputs(dtype=torch.float32))


def test_boxes_are_copied_whole() -> None:
    given = inputs()
    kernels = [ec.compile(CAUSAL, backend="triton", plan=PLAN.format(more)) for more in ("", "copies descriptors")]
    plain, described = (k.source("triton", *given) for k in kernels)
    assert "descriptor" not in plain
    assert described.count("tl.make_tensor_descriptor") == 4 and "O_boxes.store([16 * m_1, 0]" in described
    assert described.count("tl.load(") == 0 and described.count("tl.store(") == 1  # L has one axis in a tile
    for one, other in zip(kernels[0](*given), kernels[1](*given), strict=True):
        assert torch.equal(one, other)


def test_tensors_that_no_descriptor_describes_take_the_other_form() -> None:
    kernel = ec.compile(CAUSAL, backend="triton", plan=PLAN.format("copies descriptors"))
    given = inputs()
    odd = [torch.empty(2, t.shape[1], 50, 17, dtype=t.dtype)[..., :16].copy_(t) for t in given]
    across = [t.transpose(2, 3).contiguous().transpose(2, 3) for t in given]
    for one, two, three in zip(kernel(*given), kernel(*odd), kernel(*across), strict=True):
        assert torch.equal(one, two) and torch.equal(one, three)


# Rows and widths that are multiples of 16 bytes, lengths that are not multiples of tiles.
ALIGNED = Case("aligned", 36, 52, B=1, H=2, G=1, E=16, F=24)


SOME = [pytest.param(o, marks=() if n % 4 == 0 else pytest.mark.slow) for n, o in enumerate(OPERATORS)]


@pytest.mark.parametrize("operator", SOME, ids=str)
def test_every_operator_computes_the_same(operator: Operator) -> None:
    path = EXAMPLES / f"{operator.file}.ein"
    plain = ec.compile(path, operator.name, backend="triton")
    tensors = operator.inputs(ALIGNED)
    binding = plain.binding(**tensors, **operator.scalars)
    wanted = request(plain.derivation, binding, "triton")
    plan = as_plan(plain.derivation, plan_of(plain.derivation, wanted, None))
    described = replace(plan, kernels=tuple(replace(k, launch=DESCRIBED) for k in plan.kernels))
    kernel = ec.compile(path, operator.name, backend="triton", plan=str(described))
    assert "tl.make_tensor_descriptor" in kernel.source("triton", **tensors, **operator.scalars)
    results = [k(**tensors, **operator.scalars) for k in (plain, kernel)]
    for one, other in zip(*map(in_order, results), strict=True):
        assert torch.equal(one.nan_to_num(), other.nan_to_num())


def test_a_row_that_a_tensor_names() -> None:
    """The index of a page is one number for a program: an axis of one coordinate of the box."""
    text = "cascade paged(Q[b,m,e], K[p,n,e], T: i32[b]) -> S[b,m,n] { S[b,m,n] = sum[e](Q[b,m,e] * K[T[b],n,e]) }"
    given = torch.randn(3, 20, 16), torch.randn(5, 24, 16), torch.tensor([4, 0, 4], dtype=torch.int32)
    plan = "plan paged { kernel S { program b, m:16, n:16  stream e:16  copies descriptors } }"
    kernel = ec.compile(text, backend="triton", plan=plan)
    source = kernel.source("triton", *given)
    assert "tl.reshape(K_boxes.load([" in source
    kernel.validate(*given)


def test_the_accelerator_copies_on_hopper_and_blackwell(tmp_path: Path) -> None:
    kernel = attention("bf16", depth=64, rows=128, keys=64)
    plain = cross_compile(kernel, "sm_90", Launch(8), cache_directory=tmp_path)
    described = cross_compile(kernel, "sm_90", Launch(8, descriptors=True), cache_directory=tmp_path)
    strided = cross_compile(kernel, "sm_90", Launch(8, descriptors=True), contiguous=False, cache_directory=tmp_path)
    assert (plain.tma, strided.tma) == (0, 0) and described.tma >= 3
    assert described.spills == 0 and described.matrix_instructions["wgmma"] == plain.matrix_instructions["wgmma"]
    assert described.registers <= plain.registers
