"""Level 1 of the operators, every back end against an independent PyTorch program, with an error budget."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import einsum_compiler as ec
from tests.zoo import programs
from tests.zoo.cases import CASES, NARROW, ODD_WIDTHS, OPTIONS, SMALL, Case, Operator, Tensors
from tests.zoo.checking import EXAMPLES, calls, cases, check, compiled
from tests.zoo.inputs import OPERATORS

ALL = pytest.mark.parametrize("operator", OPERATORS, ids=str)


def every_second(first: int) -> pytest.MarkDecorator:
    """All operators, every second one only in ``make test-all``."""
    slow = pytest.mark.slow
    marked = [pytest.param(o, marks=[] if n % 2 == first else slow, id=str(o)) for n, o in enumerate(OPERATORS)]
    return pytest.mark.parametrize("operator", marked)


@ALL
@pytest.mark.parametrize("case", CASES, ids=str)
def test_evaluator(operator: Operator, case: Case) -> None:
    for scalars in calls(operator):
        check(programs, operator, case, scalars, "reference")


@ALL
@pytest.mark.parametrize("case", cases(*CASES), ids=str)
def test_cpu(operator: Operator, case: Case) -> None:
    check(programs, operator, case, operator.scalars, "cpu")


@every_second(0)
@pytest.mark.parametrize("case", cases(*OPTIONS), ids=str)
def test_cpu_with_every_option(operator: Operator, case: Case) -> None:
    for scalars in calls(operator):
        check(programs, operator, case, scalars, "cpu")


@ALL
@pytest.mark.parametrize("case", cases(*ODD_WIDTHS), ids=str)
def test_widths_that_are_no_powers_of_two(operator: Operator, case: Case) -> None:
    check(programs, operator, case, operator.scalars, "cpu")


@every_second(1)
@pytest.mark.parametrize("case", cases(*NARROW), ids=str)
def test_bf16(operator: Operator, case: Case) -> None:
    check(programs, operator, case, operator.scalars, "cpu")


@ALL
@pytest.mark.parametrize("case", cases(*SMALL), ids=str)
def test_triton_interpreter(operator: Operator, case: Case) -> None:
    check(programs, operator, case, operator.scalars, "triton")


@ALL
def test_gradients_of_the_evaluator(operator: Operator) -> None:
    """Every floating input has the gradient that autograd finds through the plain program; empty rows have zeros."""
    for scalars in calls(operator):
        tensors = operator.inputs(Case("small", 11, 13, B=1, E=5, F=3, dtype=torch.float64))
        wanted = [name for name, t in tensors.items() if t.is_floating_point()]
        found, expected = (
            _gradients(callee, tensors, wanted)
            for callee in (
                functools.partial(compiled(operator.file, operator.name, "reference"), **scalars),
                functools.partial(getattr(programs, operator.program), **scalars),
            )
        )
        for name, a, b in zip(wanted, found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12, msg=lambda m, n=name: f"d{n}: {m}")


def _gradients(callee: Callable[..., tuple[Tensor, Tensor]], tensors: Tensors, wanted: list[str]) -> tuple[Tensor, ...]:
    leaves = {n: t.detach().clone().requires_grad_() if n in wanted else t for n, t in tensors.items()}
    O, LSE = callee(**leaves)
    weights = torch.linspace(-1, 1, O.numel(), dtype=O.dtype).reshape(O.shape)
    # Rows without a key have a log-sum-exp of -inf and no say in the gradient.
    visible = LSE.isfinite()
    total = (O * weights).sum() + (torch.where(visible, LSE, 0) * weights[..., 0]).sum()
    return torch.autograd.grad(total, [leaves[n] for n in wanted])


# What each example is and what it is not -----------------------------------------------------------------------------


def test_every_example_of_the_level_is_here() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.ein")} >= {operator.file for operator in OPERATORS}


@ALL
def test_a_text_takes_what_its_program_takes(operator: Operator) -> None:
    declared = ec.compile(EXAMPLES / f"{operator.file}.ein", operator.name).cascade
    names = [t.name for t in declared.inputs] + [p.name for p in declared.parameters if p.name not in ("scale", "R")]
    assert names == list(inspect.signature(getattr(programs, operator.program)).parameters)


def test_empty_rows_are_zero_and_minus_infinity() -> None:
    """The program itself, against the rule of the specification."""
    O, LSE = programs.causal(torch.randn(1, 2, 5, 4), torch.randn(1, 2, 3, 4), torch.randn(1, 2, 3, 4))
    assert (O[:, :, :2] == 0).all()
    assert (LSE[:, :, :2] == -math.inf).all()
    assert LSE[:, :, 2:].isfinite().all()


def test_buckets_of_the_specification() -> None:
    offsets = (0, -1, 1, -7, -8, -127, -128, 200)
    assert [programs.t5_bucket(d, 32, 128, True) for d in offsets] == [0, 1, 17, 7, 8, 15, 15, 31]


def test_soft_cap_of_a_huge_score_is_the_cap() -> None:
    Q = torch.full((1, 1, 1, 1), 1e4)
    _, L = compiled("soft_cap", None, "cpu")(Q, torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1, 1), c=5.0)
    assert L.item() == 5.0


def test_a_sink_of_zero_is_softmax_off_by_one() -> None:
    """Which is the plain result times the sigmoid of its log-sum-exp (operators.md, `sink-logit`)."""
    tensors = OPERATORS[2].inputs(Case("small", 17, 19, dtype=torch.float64))
    O, L = compiled("gqa", None, "cpu")(**tensors)
    found, _ = compiled("sink_logit", None, "cpu")(**tensors, SG=torch.zeros(4, dtype=torch.float64))
    torch.testing.assert_close(found, torch.sigmoid(L)[..., None] * O, rtol=1e-13, atol=1e-14)


def test_a_window_of_everything_is_causal() -> None:
    tensors = OPERATORS[2].inputs(Case("small", 70, 70))
    wide = compiled("window", None, "cpu")(**tensors, left=10**6)
    for found, expected in zip(wide, compiled("causal", None, "cpu")(**tensors), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
