"""Writing sums out and moving filters into reductions changes no value, emptiness included."""

from __future__ import annotations

from dataclasses import replace

import torch
from hypothesis import given

from einsum_compiler.backends.reference.evaluate import evaluate
from einsum_compiler.ir.binding import bind
from einsum_compiler.ir.filters import distribute_filter
from einsum_compiler.ir.implicit_sums import explicit_sums
from einsum_compiler.ir.verify import verify
from tests.strategies import CallCase, calls


@given(calls(least=0))
def test_explicit_sums_and_distributed_filters(case: CallCase) -> None:
    binding = bind(case.cascade, (), case.tensors)
    explicit = explicit_sums(case.cascade)
    distributed = replace(explicit, equations=tuple(map(distribute_filter, explicit.equations)))
    verify(distributed)
    expected = evaluate(case.cascade, case.tensors, binding.scalars, binding.extents)
    for cascade in (explicit, distributed):
        found = evaluate(cascade, case.tensors, binding.scalars, binding.extents)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, equal_nan=True, rtol=1e-9, atol=1e-9)
