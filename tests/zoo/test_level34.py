"""Levels 3 and 4 of the operators, every back end against an independent PyTorch program, with an error budget."""

from __future__ import annotations

from types import ModuleType

import pytest

from tests.zoo import programs3, programs4
from tests.zoo.cases import CASES, NARROW, ODD_WIDTHS, OPTIONS, SMALL, Case, Operator
from tests.zoo.checking import calls, cases, check
from tests.zoo.inputs34 import LEVEL3, LEVEL4

SOME = ("ragged",)  # of the cases that compile; hard inputs of one kernel: ``test_adversarial``
EVALUATED = ("17", "more_queries", "no_keys", "no_queries", "large_scores", "equal_scores", "nan_behind_the_mask")

ALL = pytest.mark.parametrize(
    ("programs", "operator"),
    [pytest.param(p, o, id=str(o)) for p, level in ((programs3, LEVEL3), (programs4, LEVEL4)) for o in level],
)


@ALL
@pytest.mark.parametrize("case", cases(*CASES, always=EVALUATED), ids=str)
def test_evaluator(programs: ModuleType, operator: Operator, case: Case) -> None:
    for scalars in calls(operator):
        check(programs, operator, case, scalars, "reference")


@ALL
@pytest.mark.parametrize("case", cases(*CASES, always=SOME), ids=str)
def test_cpu(programs: ModuleType, operator: Operator, case: Case) -> None:
    check(programs, operator, case, operator.scalars, "cpu")


@ALL
@pytest.mark.parametrize("case", cases(*OPTIONS, always=SOME), ids=str)
def test_cpu_with_every_option(programs: ModuleType, operator: Operator, case: Case) -> None:
    for scalars in calls(operator):
        check(programs, operator, case, scalars, "cpu")


@ALL
@pytest.mark.parametrize("case", cases(*ODD_WIDTHS, *NARROW, always=SOME), ids=str)
def test_widths_and_types(programs: ModuleType, operator: Operator, case: Case) -> None:
    check(programs, operator, case, operator.scalars, "cpu")


@ALL
@pytest.mark.parametrize("case", cases(*SMALL, always=SOME), ids=str)
def test_triton_interpreter(programs: ModuleType, operator: Operator, case: Case) -> None:
    check(programs, operator, case, operator.scalars, "triton")
