"""Kernels for the types and sizes of one call: plan, lower, generate, build; each step kept for the next process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from einsum_compiler import knobs, store
from einsum_compiler.derivation import (
    Derivation,
    KernelDerivation,
    derive_kernel,
    output_dtypes,
    scalar_dtypes,
)
from einsum_compiler.executable import CompiledKernel, Executable
from einsum_compiler.ir.binding import Binding
from einsum_compiler.ir.plan import Plan
from einsum_compiler.ir.tile import TileKernel
from einsum_compiler.ir.torch_types import dtype_name
from einsum_compiler.planning import PlannedKernel, constants_of, plan_kernels


@dataclass(frozen=True)
class Request:
    """What kernels are generated for, besides the program: types, sizes and constants."""

    backend: str
    dtypes: Mapping[str, str]
    scalars: Mapping[str, str]
    extents: Mapping[str, int]
    parameters: Mapping[str, int | bool]


def request(derivation: Derivation, binding: Binding, backend: str) -> Request:
    """The types of every tensor that is loaded or stored, and the numbers a kernel may hold constant."""
    inputs = {name: dtype_name(t.dtype) or "" for name, t in binding.tensors.items()}
    dtypes = {**inputs, **output_dtypes(derivation, inputs)}
    scalars = scalar_dtypes(derivation)
    for name, value in binding.scalars.items():
        if isinstance(value, bool):
            scalars[name] = "bool"
        elif isinstance(value, int) and scalars.get(name) != "f64":
            scalars[name] = "i64"
    integers = {n: int(v) for n, v in binding.scalars.items() if scalars.get(n) == "i64"}
    return Request(backend, dtypes, scalars, binding.extents, integers)


def plan_of(derivation: Derivation, wanted: Request, given: Plan | None) -> tuple[PlannedKernel, ...]:
    return plan_kernels(derivation, wanted.extents, wanted.backend, wanted.dtypes, given)


def _for_kernel(planned: PlannedKernel, wanted: Request) -> Request:
    """The request with the ranks and buffers that a split of this kernel made."""
    if planned.split is None:
        return wanted
    return replace(wanted, dtypes={**wanted.dtypes, **planned.dtypes}, extents={**wanted.extents, **planned.extents})


def derive_planned(planned: PlannedKernel, wanted: Request) -> KernelDerivation:
    found = derive_kernel(planned.part, planned.plan, _for_kernel(planned, wanted).dtypes)
    return replace(found, certificates=(*planned.certificates, *found.certificates))


def lower_planned(planned: PlannedKernel, wanted: Request) -> TileKernel:
    """The tile program of one planned kernel."""
    from einsum_compiler.passes.lowering.lower import LoweringContext, lower

    wanted = _for_kernel(planned, wanted)
    constants = constants_of(planned.part.cascade, planned.plan, wanted.scalars)
    extents = {r: wanted.extents[r] for r in sorted(constants.extents) if r in wanted.extents}
    parameters = {n: wanted.parameters[n] for n in sorted(constants.parameters) if n in wanted.parameters}
    context = LoweringContext(wanted.dtypes, wanted.scalars, extents, parameters)
    return lower(derive_planned(planned, wanted).final, planned.plan, context)


def kernel_key(derivation: Derivation, planned: PlannedKernel, wanted: Request, target: str | None) -> str:
    """The name of a generated kernel: it depends on sizes only through the plan and the constants."""
    wanted = _for_kernel(planned, wanted)
    constants = constants_of(planned.part.cascade, planned.plan, wanted.scalars)
    fixed = sorted((r, wanted.extents.get(r)) for r in constants.extents)
    numbers = sorted((n, wanted.parameters.get(n)) for n in constants.parameters)
    types = sorted(wanted.dtypes.items()), sorted(wanted.scalars.items())
    return store.key_of("kernel", derivation.text, derivation.declared.name, planned.plan, planned.part.outputs, types, fixed, numbers, wanted.backend, target)


_COMPILED: dict[str, tuple[TileKernel, CompiledKernel]] = {}


def specialise(derivation: Derivation, binding: Binding, backend: str, plan: Plan | None, target: str | None) -> Executable:
    """The kernels for one call, compiled where neither this process nor the cache has them."""
    outputs = tuple(t.name for t in derivation.declared.outputs)
    wanted = request(derivation, binding, backend)
    planned = plan_of(derivation, wanted, plan)
    kernels = tuple(_compiled(derivation, p, wanted, target) for p in planned)
    return Executable(kernels, outputs, tuple(p.extents for p in planned))


def _compiled(
    derivation: Derivation, planned: PlannedKernel, wanted: Request, target: str | None
) -> tuple[TileKernel, CompiledKernel]:
    isa = target or knobs.instruction_set() if wanted.backend == "cpu" else target
    key = kernel_key(derivation, planned, wanted, isa)
    if key in _COMPILED:
        return _COMPILED[key]
    started = time.perf_counter()
    kernel = store.load("kernels", key)
    warm = kernel is not None
    if kernel is None:
        kernel = lower_planned(planned, wanted)
        store.save("kernels", key, kernel)
    compiled = build(kernel, wanted.backend, isa, planned.plan.warps, planned.plan.stages, key)
    if knobs.debug():
        print(f"einsum_compiler: {kernel.name} on {wanted.backend}: {'from the cache' if warm else 'compiled'} in {time.perf_counter() - started:.2f} s")
        if knobs.debug() > 1:
            print(planned.plan)
    _COMPILED[key] = kernel, compiled
    return _COMPILED[key]


def build(kernel: TileKernel, backend: str, target: str | None, warps: int, stages: int, key: str) -> CompiledKernel:
    """A tile program as something that runs."""
    folder = knobs.cache_directory() / backend
    if backend == "cpu":
        from einsum_compiler.backends import cpu

        return cpu.compile_kernel(  # type: ignore[no-any-return]
            kernel, isa=target or "native", cache_directory=folder, compiler=knobs.compiler(), key=key
        )
    from einsum_compiler.backends.triton.launch import compile_kernel

    return compile_kernel(kernel, warps=warps or None, stages=stages, cache_directory=folder)
