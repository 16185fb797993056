"""One composed program, compiled and compared with the float64 evaluator."""

from __future__ import annotations

import torch

import einsum_compiler as ec
from einsum_compiler.derivation import kernel_cascades
from einsum_compiler.ir.binding import Binding
from einsum_compiler.ir.extents import all_extents
from einsum_compiler.ir.plan import Plan
from einsum_compiler.kernel import Kernel
from einsum_compiler.passes.partition import Partition, partition
from einsum_compiler.validate import validate
from tests.adjoint import compared
from tests.composition.text import Program
from tests.variants.agreement import assert_close, evaluated, interpreted


def _bound(kernel: Kernel, program: Program, dtype: torch.dtype) -> Binding:
    return kernel.binding(**program.inputs({t.name: t.ranks for t in kernel.cascade.inputs}, dtype))


def small_tiles(kernel: Kernel, binding: Binding, backend: str) -> Plan:
    """The usual kernels with tiles smaller than most extents of the tests, without a search for better ones."""
    derivation = kernel.derivation
    extents = all_extents(derivation.normalized, binding.extents)
    options = Partition(rows=16, columns=8, stream=16, vector=32, powers_of_two=backend == "triton")
    parts = kernel_cascades(derivation, extents)
    return Plan(derivation.declared.name, tuple(partition(part, extents, options) for part in parts))


def tile_programs_agree(program: Program, backend: str = "cpu", chosen: bool = False) -> None:
    """The tile programs of a backend, run exactly as they stand in float64, agree with the evaluator; with small tiles or those of the ``chosen`` plan."""
    kernel = ec.compile(program.text)
    binding = _bound(kernel, program, torch.float64)
    if not chosen:
        kernel.plan = small_tiles(kernel, binding, backend)
    assert_close(interpreted(kernel, binding, backend), evaluated(kernel, binding), 1e-8)


def gradients_agree(program: Program) -> None:
    """The backward cascade of every floating-point input agrees with autograd through the evaluator."""
    kernel = ec.compile(program.text)
    binding = _bound(kernel, program, torch.float64)
    cascade = dict(kernel.derivation.stages)["normalize"]
    compared(cascade, binding.tensors, binding.scalars, binding.extents)


def kernels_agree(program: Program, dtype: torch.dtype, backend: str = "cpu") -> None:
    """The compiled kernels are within the error budget of the plain program of the same types; nothing is asked where float64 gives NaN.

    In float64 the evaluator rounds as they do, so there is no budget, and they agree to some digits.
    """
    kernel = ec.compile(program.text, backend=backend)
    binding = _bound(kernel, program, dtype)
    if dtype == torch.float64:
        assert_close(kernel.run(binding), evaluated(kernel, binding), 1e-9)
        return
    validate(kernel, binding)
