"""The hard inputs of design.md, section 12, on every operator of levels 2 to 4: one compiled kernel each, of a plan that is the same for all of them (``make test``
has every eighth operator).

Large, equal and repeated keys, NaN where nothing looks, rows without keys, no keys, no queries, one key, lengths beside those of tiles; widths of every
kind and further grids are compiled by ``make test-all``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch

from tests.zoo import programs3, programs4, structured
from tests.zoo.cases import Case, Operator, Tensors
from tests.zoo.checking import AnyOperator, check_call, compiled, poisoned
from tests.zoo.inputs34 import LEVEL3, LEVEL4
from tests.zoo.structured_inputs import OPERATORS, Sizes
from tests.zoo.test_level2 import fits

PROGRAMS: tuple[tuple[ModuleType, AnyOperator], ...] = (
    *((structured, o) for o in OPERATORS),
    *((programs3, o) for o in LEVEL3),
    *((programs4, o) for o in LEVEL4),
)
ALL = pytest.mark.parametrize(("programs", "operator"), [pytest.param(p, o, id=str(o)) for p, o in PROGRAMS])
FEW = {"B": 1, "H": 2, "G": 1, "E": 24, "F": 20}
USUAL, USUAL_SIZES = Case("usual", 70, 70, **FEW), Sizes("usual", M=70, N=70, grid=(9, 11), volume=(3, 5, 6), **FEW)
LENGTHS, LONGER = (1, 3, 129), (37, 127, 277, 1025)
WIDTHS = ((8, 8), (60, 72), (100, 96), (192, 128), (576, 512))
GRIDS = ((1, 1), (1, 37), (17, 3), (12, 15))
KEYS = ("K", "K1", "K2")
# Of pooled keys every row counts, and the means of no keys at all are no numbers.
POOLED = {"pooled_kv", "pooled_grid"}


def inputs(operator: AnyOperator, case: Case) -> Tensors:
    """Inputs of an operator of any level, of the sizes of a case."""
    if isinstance(operator, Operator):
        return operator.inputs(case)
    sizes = replace(USUAL_SIZES, M=case.M, N=case.N, E=case.E, F=case.F, dtype=case.dtype)
    tensors = operator.inputs(sizes)
    factor = min(case.spread, operator.large)
    return {n: t * factor if n in ("Q", "K") else t for n, t in tensors.items()}


def scalars_of(operator: AnyOperator) -> list[Mapping[str, Any]]:
    """The usual scalars, and those with causal order the other way round: the same kernel."""
    turned = [option for option in operator.options if set(option) == {"causal"}]
    return [operator.scalars, *({**operator.scalars, **option} for option in turned)]


def hard(
    programs: ModuleType, operator: AnyOperator, lengths: tuple[int, ...]
) -> Iterator[tuple[str, Tensors, Mapping[str, Any]]]:
    """What is hard about a call, its tensors, and its scalars."""
    usual = inputs(operator, USUAL)
    yield "equal scores", inputs(operator, replace(USUAL, logits=0.0)), operator.scalars
    repeated = {n: t[..., :1, :].expand_as(t) if n in KEYS and t.dim() > 2 else t for n, t in usual.items()}
    yield "repeated keys", repeated, operator.scalars
    strided = {n: t.transpose(0, -1).contiguous().transpose(0, -1) for n, t in usual.items()}
    yield "not contiguous", strided, operator.scalars
    sizes = {
        "one query": (1, 90),
        "no keys": (70, 0),
        "no queries": (0, 70),
        **{f"length {n}": (n, n) for n in lengths},
    }
    for what, (M, N) in sizes.items():
        if allowed(operator, M, N):
            yield what, inputs(operator, replace(USUAL, M=M, N=N)), operator.scalars
    hidden = operator.hidden if isinstance(operator, Operator) else ("K", "V")
    for scalars in scalars_of(operator):
        yield "large scores", inputs(operator, replace(USUAL, logits=1e4)), scalars
        if allowed(operator, 90, 33):
            yield "rows without keys", inputs(operator, replace(USUAL, M=90, N=33)), scalars
        if hidden and operator.program not in POOLED:
            # More keys than queries: a query that sees one key only does not matter, so it would be hidden too.
            tensors = inputs(operator, replace(USUAL, M=63, N=90))
            yield "NaN where nothing looks", poisoned(programs, operator.program, hidden, tensors, scalars), scalars


def allowed(operator: AnyOperator, M: int, N: int) -> bool:
    """Whether an operator has a meaning at these lengths: windows fit, the nodes of a tree are keys, and there is a mean of keys.

    Cosines of single numbers are 1 or -1, which the plain program finds without any rounding; its budget for others is none.
    """
    if isinstance(operator, Operator):
        return operator.program != "xca" or N != 1
    fitting = fits(operator.scalars, replace(USUAL_SIZES, M=M, N=N))
    return fitting and (operator.program != "tree" or M <= N) and (operator.program not in POOLED or N > 0)


def plan_of(operator: AnyOperator, length: int) -> str:
    """The default plan at a length: it serves shorter calls too."""
    kernel = compiled(operator.file, operator.name, "cpu")
    return str(kernel.ir("plan", **inputs(operator, replace(USUAL, M=length, N=length)), **operator.scalars))


SOME = pytest.mark.parametrize(
    ("programs", "operator"),
    [pytest.param(p, o, id=str(o), marks=[pytest.mark.slow] if n % 8 else []) for n, (p, o) in enumerate(PROGRAMS)],
)


@SOME
def test_hard_inputs(programs: ModuleType, operator: AnyOperator) -> None:
    plan = plan_of(operator, 140)
    for what, tensors, scalars in hard(programs, operator, LENGTHS):
        check_call(programs, operator, tensors, scalars, "cpu", plan, f"{what}, {dict(scalars)}:")


@ALL
@pytest.mark.slow
def test_longer(programs: ModuleType, operator: AnyOperator) -> None:
    plan = plan_of(operator, max(LONGER))
    for n in LONGER:
        for scalars in scalars_of(operator):
            check_call(programs, operator, inputs(operator, replace(USUAL, M=n, N=n)), scalars, "cpu", plan)


@ALL
@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("widths", WIDTHS, ids=str)
def test_widths(programs: ModuleType, operator: AnyOperator, widths: tuple[int, int], dtype: torch.dtype) -> None:
    E, F = widths
    tensors = inputs(operator, replace(USUAL, M=33, N=37, E=E, F=F, dtype=dtype))
    check_call(programs, operator, tensors, operator.scalars, "cpu")


@pytest.mark.slow
@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize(
    "operator", [o for o in OPERATORS if "grid" in o.program or o.tokens(USUAL_SIZES)[0] != (70,)], ids=str
)
def test_grids(operator: AnyOperator, grid: tuple[int, int]) -> None:
    assert not isinstance(operator, Operator)
    sizes = replace(USUAL_SIZES, grid=grid, volume=(2, *grid))
    for scalars in operator.calls():
        if fits(scalars, sizes):
            check_call(structured, operator, operator.inputs(sizes), scalars, "cpu")
