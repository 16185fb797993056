"""No kernel reads or writes outside of its tensors: calls in processes of their own, which die if one does."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial

import pytest
import torch

import einsum_compiler as ec
from tests.guard.calls import LENGTHS, OPERATORS, Call
from tests.guard.guarded import PAGE, guarded, guarding
from tests.guard.texts import TEXTS

# Tables that lead outside, rows beside a list of tiles, products of every order, windows over a border.
QUICK = (
    "lookup:3:forward", "pages behind a filter:0:forward", "block_list:4:forward", "transposed:1:forward", "neighbours:1:forward",
)  # fmt: skip


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)


def stay_inside(calls: Sequence[str | Call]) -> None:
    done = run("-m", "tests.guard", *map(str, calls))
    assert done.returncode == 0, (
        f"exit {done.returncode} in the last of these calls:\n{done.stdout[-800:]}\n{done.stderr[-3000:]}"
    )
    assert all(str(call) in done.stdout for call in calls)


def test_calls_stay_inside_their_tensors() -> None:
    stay_inside(QUICK)


def test_an_index_that_overflows_leads_nowhere() -> None:
    """Numbers wrap, as in PyTorch; where overflow had no meaning a condition of the index could hold and its address lie anywhere."""
    text = """cascade f(T[k,e], J[m]) -> X[m,e], Y[m,e], Z[m,e] {
      X[m,e] = default(T[J[m] + 1,e], -1)
      Y[m,e] = default(T[2 * J[m] - 1,e], -1)
      Z[m,e] = default(T[J[m] - 2,e], -1) }"""
    J = torch.tensor([2**63 - 1, -(2**63), 2**62, -(2**62), 2**62 + 1, 0, 1, 3, -1, 9])
    T = torch.randn(9, 5, dtype=torch.float64)
    for found, expected in zip(ec.compile(text, backend="cpu")(T, J), ec.reference(text)(T, J), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize("operator", OPERATORS)
def test_operators_stay_inside_their_tensors(operator: str) -> None:
    first = list(OPERATORS).index(operator)
    stay_inside([Call(operator, first % len(LENGTHS)), Call(operator, (first + 4) % len(LENGTHS))])


@pytest.mark.slow
@pytest.mark.parametrize("text", TEXTS)
def test_indices_that_lead_outside_are_not_read(text: str) -> None:
    stay_inside([Call(text, seed, gradient=seed % 3 == 0) for seed in range(9)])


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_compositions_stay_inside_their_tensors(part: int) -> None:
    """Every fifth with a rank without coordinates."""
    stay_inside([Call(str(10 * part + i), int(i % 5 == 0)) for i in range(10)])


@pytest.mark.slow
@pytest.mark.parametrize("operator", ["gqa", "alibi", "music_rel", "union", "swin", "xca"])
def test_gradients_stay_inside_their_tensors(operator: str) -> None:
    stay_inside([Call(operator, seed, gradient=True) for seed in (3, 4)])


def status_of(action: Callable[[], object]) -> int:
    """The exit status of a process that does this alone; the number of a signal is negative."""
    child = os.fork()
    if child == 0:
        faulthandler.disable()
        action()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("end", [True, False])
def test_who_leaves_a_guarded_tensor_is_killed(end: bool) -> None:
    tensor = guarded(torch.ones(3, 5, dtype=torch.bfloat16).t(), end)
    last = tensor.data_ptr() + 29 if end else tensor.data_ptr()
    beyond = last + (1 if end else -1)
    for action in (lambda at: ctypes.string_at(at, 1), lambda at: ctypes.memset(at, 0, 1)):
        assert status_of(partial(action, last)) == 0
        assert status_of(partial(action, beyond)) == -signal.SIGSEGV


def test_what_is_guarded_is_the_same_tensor() -> None:
    given = torch.arange(60).view(3, 4, 5)
    for tensor in (
        given,
        given.transpose(0, 2),
        given[:, 1:3, ::2],
        given[:1].expand(3, 4, 5),
        given[1, 2, 3],
        given[:0],
    ):
        for end in (True, False):
            found = guarded(tensor, end)
            assert torch.equal(found, tensor) and found.stride() == tensor.stride()
    with guarding():
        made = torch.empty(7, dtype=torch.float16)
    assert (made.data_ptr() + 14) % PAGE == 0
