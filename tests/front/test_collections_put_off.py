"""The collector's thresholds while kernels are made, and after."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import torch

import einsum_compiler as ec
from einsum_compiler.collections_put_off import ALLOCATIONS, collections_put_off


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


def test_thresholds_are_restored_by_the_last_to_leave() -> None:
    gc.set_threshold(500, 7, 8)
    with pytest.raises(KeyError), collections_put_off():
        with collections_put_off():
            assert gc.get_threshold() == (ALLOCATIONS, 7, 8)
        assert gc.get_threshold() == (ALLOCATIONS, 7, 8)
        raise KeyError
    assert gc.get_threshold() == (500, 7, 8)


@pytest.mark.parametrize("own", [0, 10 * ALLOCATIONS])
def test_a_collector_that_is_off_or_rarer_stays_so(own: int) -> None:
    gc.set_threshold(own, 7, 8)
    with collections_put_off():
        assert gc.get_threshold() == (own, 7, 8)


def test_a_first_call_leaves_no_trace() -> None:
    gc.set_threshold(500, 7, 8)
    x = torch.randn(8, 8)
    kernel = ec.compile("cascade rows(X[m,n]) -> Y[m] { Y[m] = sum[n](X[m,n]) }")
    torch.testing.assert_close(kernel(x), x.sum(1))
    assert gc.get_threshold() == (500, 7, 8)
