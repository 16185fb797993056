"""The counts of the tile interpreter beside those of the analysis, kernel by kernel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from einsum_compiler.backends.reference.tile_interpreter import run_kernel
from einsum_compiler.backends.reference.tile_statements import Counts
from einsum_compiler.executable import Executable
from einsum_compiler.inspection import with_tile_lists
from einsum_compiler.ir.binding import Binding
from einsum_compiler.ir.plan import Plan
from einsum_compiler.ir.tile import TileKernel
from einsum_compiler.kernel import Kernel
from einsum_compiler.passes.traffic import KernelTraffic, traffic_of
from einsum_compiler.specialise import lower_planned, plan_of, request


@dataclass(frozen=True)
class Compared:
    """One kernel: its tile program, what the interpreter counted, and what the analysis says."""

    kernel: TileKernel
    counts: Counts
    traffic: KernelTraffic
    sizes: Mapping[str, int]
    tensors: Mapping[str, Any]


def compared(kernel: Kernel, binding: Binding, backend: str = "cpu", plan: Plan | None = None) -> list[Compared]:
    """Every kernel of a call, run by the interpreter and analysed with the values of its inputs and buffers."""
    wanted = request(kernel.derivation, binding, backend)
    planned = plan_of(kernel.derivation, wanted, plan or kernel.plan)
    found: list[Compared] = []

    def runner(program: TileKernel) -> tuple[TileKernel, Any]:
        def run(tensors: Mapping[str, Any], scalars: Mapping[str, Any], extents: Mapping[str, int]) -> None:
            for operand in program.outputs:
                if not tensors[operand.name].is_floating_point():
                    tensors[operand.name].zero_()
            counts = run_kernel(program, tensors, scalars, extents)
            known = with_tile_lists(
                program, {n: t for n, t in tensors.items() if not n.startswith("tiles")}, scalars, extents
            )
            found.append(Compared(program, counts, traffic_of(program, extents, scalars, known), extents, known))

        return program, run

    programs = tuple(runner(lower_planned(p, wanted)) for p in planned)
    outputs = tuple(t.name for t in kernel.cascade.outputs)
    Executable(programs, outputs, tuple(p.extents for p in planned)).run(
        binding.tensors, binding.scalars, binding.extents
    )
    return found


def assert_equal_counts(found: list[Compared]) -> None:
    """Loads and stores of every tensor agree; the analysis may know less only where it says why."""
    for one in found:
        counted: tuple[tuple[str, Counter[str]], ...] = (("loaded", one.counts.loads), ("stored", one.counts.stores))
        for tensor in one.traffic.tensors:
            for what, counts in counted:
                number = getattr(tensor, what)
                if number is None:
                    assert tensor.reason
                else:
                    assert number == counts[tensor.tensor], (
                        f"{one.kernel.name}: {tensor.tensor} {what}: {number}, run: {counts[tensor.tensor]}"
                    )
        assert set(one.counts.loads) | set(one.counts.stores) <= {t.tensor for t in one.traffic.tensors}


def random_plan(plan: Plan, sizes: list[int]) -> Plan:
    """The plan with other tiles: ``sizes`` in turn for every tiled rank, and for the stream."""
    drawn = iter(sizes)
    kernels = []
    for kernel in plan.kernels:
        program = tuple(replace(t, size=next(drawn)) if t.size > 1 else t for t in kernel.program)
        stream = kernel.stream and replace(kernel.stream, size=next(drawn))
        contexts = "finished" if kernel.whole else kernel.contexts  # a smaller tile does not hold the stream
        kernels.append(replace(kernel, program=program, stream=stream, contexts=contexts))
    return replace(plan, kernels=tuple(kernels))


def normal(sizes: Mapping[str, int], kernel: Kernel, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        t.name: torch.randn([sizes[r] for r in t.ranks], generator=generator, dtype=torch.float64)
        for t in kernel.cascade.inputs
    }
