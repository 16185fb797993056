"""How a call finds a tuned plan. Every call that is new to its process runs this file, so it imports little."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from einsum_compiler import knobs
from einsum_compiler.ir.binding import Binding
from einsum_compiler.ir.torch_types import dtype_name
from einsum_compiler.tuning import records

if TYPE_CHECKING:
    from einsum_compiler.described import Described


def tuned_plan(kernel: Described, binding: Binding, backend: str) -> records.Found | None:
    """What tuning found for a call of these sizes, in any process; None where it was not tuned for sizes near these."""
    return records.find(place_of(kernel, dtypes_of(binding), backend), binding)


def place_of(kernel: Described, dtypes: Mapping[str, str], backend: str) -> records.Place:
    """Where records of a kernel's calls with inputs of these types are."""
    isa = kernel.target or (knobs.instruction_set() if backend == "cpu" else "")
    return records.place_of(kernel.text, kernel.cascade.name, dtypes, backend, isa, knobs.compiler())


def dtypes_of(binding: Binding) -> dict[str, str]:
    return {n: dtype_name(t.dtype) or "" for n, t in binding.tensors.items()}
