"""Runs tile programs in PyTorch, one program index after the other, and counts what they do.

The interpreter is the meaning of ``ir.tile``: both code generators are compared with it, and the byte counts of
the cost model equal its counts. It is written for clarity; sizes in tests are small.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
from torch import Tensor

from einsum_compiler.backends.reference.functions import TORCH_TYPES
from einsum_compiler.backends.reference.tile_expressions import TileScope
from einsum_compiler.backends.reference.tile_statements import Counts, Run
from einsum_compiler.ir.tile import TensorOperand, TileKernel, TileProgram
from einsum_compiler.ir.types import is_float


def run_program(
    program: TileProgram,
    tensors: Mapping[str, Tensor],
    scalars: Mapping[str, bool | int | float],
    extents: Mapping[str, int],
    *,
    exact: bool = False,
) -> tuple[dict[str, Tensor], Counts]:
    """Every tensor that the kernels write, buffers included, and the counts of all kernels together.

    ``exact`` computes all floats in float64 and rounds nowhere: it tells a wrong program from a rounding one.
    """
    known = dict(tensors)
    written: dict[str, Tensor] = {}
    counts = Counts()
    for kernel in program.kernels:
        added = {a.tensor for a in kernel.accumulated}
        for operand in kernel.outputs:
            made = _allocate(operand, scalars, extents, exact)
            known[operand.name] = written[operand.name] = made.zero_() if operand.name in added else made
        counts.add(run_kernel(kernel, known, scalars, extents, exact=exact))
    return written, counts


def run_kernel(
    kernel: TileKernel,
    tensors: Mapping[str, Tensor],
    scalars: Mapping[str, bool | int | float],
    extents: Mapping[str, int],
    *,
    exact: bool = False,
) -> Counts:
    """Run every program of one launch, writing into the output tensors in place. Those that are accumulated must be 0."""
    run = Run(kernel, tensors, TileScope(scalars, extents, exact))
    for p in kernel.program:
        run.ranges.append(range(run.scope.integer(p.count)))
    for point in itertools.product(*run.ranges):
        run.scope.tiles = {}
        run.scope.indices = {p.rank: i for p, i in zip(kernel.program, point, strict=True)}
        run.statements(kernel.body)
    return run.counts


def _allocate(
    operand: TensorOperand, scalars: Mapping[str, bool | int | float], extents: Mapping[str, int], exact: bool
) -> Tensor:
    """A tensor for an output, poisoned: a kernel must write all of it."""
    scope = TileScope(scalars, extents)
    shape = [scope.integer(e) for e in operand.extents]
    if is_float(operand.dtype):
        return torch.full(shape, torch.nan, dtype=torch.float64 if exact else TORCH_TYPES[operand.dtype])
    if operand.dtype == "bool":
        return torch.zeros(shape, dtype=torch.bool)
    return torch.full(shape, torch.iinfo(TORCH_TYPES[operand.dtype]).max, dtype=TORCH_TYPES[operand.dtype])
