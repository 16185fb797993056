"""One call of an operator, on a back end, against its program: the check that every level of the zoo runs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

import einsum_compiler as ec
from tests.budget import assert_within_budget
from tests.zoo import structured_inputs
from tests.zoo.cases import Case, Operator, Tensors

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
Callee = Callable[..., Any]
AnyOperator = Operator | structured_inputs.Operator
# The C++ of a case takes about a second to compile, so `make test` runs those below and `make test-all` the others too.
ALWAYS = {"more_queries", "nan_behind_the_mask", "more_keys_odd_widths", "bf16", "ragged"}


@functools.cache
def compiled(file: str, name: str | None, backend: str, plan: str | None = None) -> Callee:
    """The cascade of an example for a back end, of a given plan or the chosen ones; ``reference`` is the evaluator."""
    path = EXAMPLES / f"{file}.ein"
    return ec.reference(path, name) if backend == "reference" else ec.compile(path, name, backend=backend, plan=plan)


def in_order(result: Any) -> tuple[Tensor, ...]:
    """One result or several, as several."""
    return result if isinstance(result, tuple) else (result,)


def plain(
    programs: ModuleType,
    operator: AnyOperator,
    tensors: Mapping[str, Tensor],
    scalars: Mapping[str, Any],
    dtype: torch.dtype,
) -> tuple[Tensor, ...]:
    """What the operator's program computes in a type."""
    cast = {name: t.to(dtype) if t.is_floating_point() else t for name, t in tensors.items()}
    return in_order(getattr(programs, operator.program)(**cast, **scalars))


def poisoned(
    programs: ModuleType, program: str, hidden: Collection[str], tensors: Tensors, scalars: Mapping[str, Any]
) -> Tensors:
    """The inputs with NaN in the rows of the tensors ``hidden`` that no result depends on."""
    leaves = {
        name: t.detach().double().requires_grad_(name in hidden) if t.is_floating_point() else t
        for name, t in tensors.items()
    }
    result = in_order(getattr(programs, program)(**leaves, **scalars))
    # Uneven weights: the sums of probabilities depend on nothing.
    sums = [(torch.where(r.isfinite(), r, 0).flatten() * torch.arange(1, r.numel() + 1).sin()).sum() for r in result]
    total = torch.stack(sums).sum()
    wanted = [leaves[name] for name in hidden]
    changed = dict(tensors)
    for name, gradient in zip(hidden, torch.autograd.grad(total, wanted, allow_unused=True), strict=True):
        if gradient is not None:
            changed[name] = tensors[name].masked_fill((gradient == 0).all(-1, keepdim=True), torch.nan)
    return changed


def check(programs: ModuleType, operator: Operator, case: Case, scalars: Mapping[str, Any], backend: str) -> None:
    """Every result of one call is within the budget of the plain program."""
    tensors = operator.inputs(case)
    if case.poison and operator.hidden:
        tensors = poisoned(programs, operator.program, operator.hidden, tensors, scalars)
    check_call(programs, operator, tensors, scalars, backend)


def check_call(
    programs: ModuleType,
    operator: AnyOperator,
    tensors: Mapping[str, Tensor],
    scalars: Mapping[str, Any],
    backend: str,
    plan: str | None = None,
    what: str = "",
) -> None:
    """The results of a call, of a given plan or the chosen one, are within the budget of the plain program in the type of its tensors."""
    actual = in_order(compiled(operator.file, operator.name, backend, plan)(**tensors, **scalars))
    (dtype,) = {t.dtype for t in tensors.values() if t.is_floating_point()}
    near = plain(programs, operator, tensors, scalars, dtype)
    exact = plain(programs, operator, tensors, scalars, torch.float64)
    for i, (a, n, e) in enumerate(zip(actual, near, exact, strict=True)):
        assert_within_budget(a, n, e, f"{what} result {i}".strip())


def calls(operator: Operator) -> list[Mapping[str, Any]]:
    """The scalars of every call worth a test."""
    return [operator.scalars, *({**operator.scalars, **option} for option in operator.options)]


def cases(*chosen: Case, always: Collection[str] = ALWAYS) -> list[Any]:
    """The cases as parameters of a test, slow where they are not needed every time."""
    return [case if case.name in always else pytest.param(case, marks=pytest.mark.slow) for case in chosen]
