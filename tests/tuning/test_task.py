"""What a worker is told of a call: shapes and strides, values only where they decide which points exist."""

from __future__ import annotations

from pathlib import Path

import torch

import einsum_compiler as ec
from einsum_compiler.ir.binding import bind
from einsum_compiler.tuning.task import task_of

TEXT = """
cascade picked(X[m,e], Y[n,e], B[n], S: i64[m]) -> Z[m] {
  Z[m] = sum[n,e](X[m,e] * Y[n,e] where B[n] > 0 and n <= S[m])
}
"""


def test_a_call_without_its_memory(tmp_path: Path) -> None:
    kernel = ec.compile(TEXT)
    tensors = {
        "X": torch.randn(4, 6).t(),  # columns first
        "Y": torch.randn(1, 4).expand(5, 4),  # one row five times
        "B": torch.randn(10)[::2],  # every other element
        "S": torch.randint(0, 5, (1,)).expand(6),
    }
    binding = bind(kernel.cascade, (), tensors)
    task = task_of(kernel, binding, "cpu", tmp_path)
    found = task.binding(values=True)
    for name, value in tensors.items():
        assert found.tensors[name].shape == value.shape and found.tensors[name].stride() == value.stride()
        assert found.tensors[name].dtype == value.dtype
    assert torch.equal(found.tensors["S"], tensors["S"]) and torch.equal(found.tensors["B"], tensors["B"])
    assert not torch.equal(found.tensors["X"], tensors["X"])
    again = task.binding(values=True)
    assert torch.equal(found.tensors["X"], again.tensors["X"]) and torch.equal(found.tensors["Y"], again.tensors["Y"])
    assert found.extents == binding.extents and found.scalars == binding.scalars
    reserved = task.binding(values=False)
    assert reserved.tensors["X"].stride() == tensors["X"].stride()
