"""Stages of a compilation as text: cascades after each pass, plan, tile program, generated source."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from einsum_compiler.building import build, emitted
from einsum_compiler.crash import reproducible, step
from einsum_compiler.derivation import Derivation, KernelDerivation
from einsum_compiler.ir.binding import Binding
from einsum_compiler.ir.errors import BackendError
from einsum_compiler.ir.plan import Plan
from einsum_compiler.ir.tile import TileKernel
from einsum_compiler.ordering import in_orders
from einsum_compiler.planning import as_plan
from einsum_compiler.specialise import case_of, derive_planned, lower_planned, plan_of, request
from einsum_compiler.work import Work, work_of

if TYPE_CHECKING:
    from einsum_compiler.passes.traffic import KernelTraffic

P = ParamSpec("P")
T = TypeVar("T")
View = Callable[Concatenate[Derivation, Binding, str, Plan | None, P], T]


def reproducible_view(function: View[P, T]) -> View[P, T]:
    """A view of a program at given sizes, whose crashes are ``InternalError`` with a reproducer."""

    @functools.wraps(function)
    def view(
        derivation: Derivation, binding: Binding, backend: str, plan: Plan | None, /, *more: P.args, **options: P.kwargs
    ) -> T:
        with reproducible(case_of(derivation, binding, backend, plan, None)):
            return function(derivation, binding, backend, plan, *more, **options)

    return view


@reproducible_view
def kernels_of(derivation: Derivation, binding: Binding, backend: str, plan: Plan | None) -> list[KernelDerivation]:
    """Every kernel with its cascade after each pass."""
    wanted = request(derivation, binding, backend)
    return [derive_planned(p, wanted) for p in plan_of(derivation, wanted, plan)]


@reproducible_view
def tile_kernels(derivation: Derivation, binding: Binding, backend: str, plan: Plan | None) -> list[TileKernel]:
    """The tile program of every kernel."""
    wanted = request(derivation, binding, backend)
    return [lower_planned(p, wanted) for p in plan_of(derivation, wanted, plan)]


@reproducible_view
def works(derivation: Derivation, binding: Binding, backend: str, plan: Plan | None) -> list[Work]:
    """What every kernel does at the sizes of a call."""
    wanted = request(derivation, binding, backend)
    planned = plan_of(derivation, wanted, plan)
    return [
        work_of(lower_planned(p, wanted), binding.tensors, binding.scalars, {**binding.extents, **p.extents})
        for p in planned
    ]


@reproducible_view
def traffics(derivation: Derivation, binding: Binding, backend: str, plan: Plan | None) -> list[KernelTraffic]:
    """Elements that every kernel loads and stores at the sizes of a call; None where they depend on values of buffers or of ``meta`` tensors."""
    from einsum_compiler.passes.traffic import traffic_of

    wanted = request(derivation, binding, backend)
    found: list[KernelTraffic] = []
    for planned in plan_of(derivation, wanted, plan):
        kernel, extents = lower_planned(planned, wanted), {**binding.extents, **planned.extents}
        tensors = with_tile_lists(kernel, binding.tensors, binding.scalars, extents)
        found.append(traffic_of(kernel, extents, binding.scalars, tensors))
    return found


def with_tile_lists(
    kernel: TileKernel, tensors: Mapping[str, Any], scalars: Mapping[str, Any], extents: Mapping[str, int]
) -> dict[str, Any]:
    """``tensors`` with the lists of tiles that their values give; without those that depend on tensors that are not there."""
    from einsum_compiler.ir.build import reads_of
    from einsum_compiler.tile_lists import build_tile_list

    found = {name: t for name, t in tensors.items() if t.device.type != "meta"}
    for schedule in kernel.schedules:
        if all(r.tensor in found for r in reads_of(schedule.predicate)):
            offsets, tiles = build_tile_list(schedule, found, scalars, extents)
            found |= {f"{schedule.name}.offsets": offsets, f"{schedule.name}.tiles": tiles}
    return found


@reproducible_view
def stage_names(derivation: Derivation, binding: Binding, backend: str, plan: Plan | None) -> list[str]:
    """What ``stage_text`` shows, in order."""
    names = [name for name, _ in derivation.stages]
    names += ["reassociate"] if plan_orders(derivation, binding, backend, plan) else []
    for kernel in kernels_of(derivation, binding, backend, plan):
        names += [name for name, _ in kernel.stages if name not in names]
    return ["spec", *names, "plan", "tile"]


def plan_orders(derivation: Derivation, binding: Binding, backend: str, plan: Plan | None) -> tuple[str, ...]:
    """The orders of contractions that the plan of a call has, where they are not as written."""
    wanted = request(derivation, binding, backend)
    return next((p.orders for p in plan_of(derivation, wanted, plan)), ())


@reproducible_view
def stage_text(derivation: Derivation, binding: Binding, backend: str, plan: Plan | None, stage: str) -> str:
    """One stage: a cascade for each kernel from ``fuse`` on, the plan, or the tile programs."""
    if stage == "spec":
        return str(derivation.declared)
    early = dict(derivation.stages)
    if stage in early:
        return str(early[stage])
    wanted = request(derivation, binding, backend)
    planned = plan_of(derivation, wanted, plan)
    if stage == "plan":
        return str(as_plan(derivation, planned))
    if stage == "reassociate" and planned and planned[0].orders:
        return str(in_orders(derivation, planned[0].orders, wanted.dtypes).derivation.normalized)
    if stage == "tile":
        return "\n\n".join(str(lower_planned(p, wanted)) for p in planned)
    derived = [dict(derive_planned(p, wanted).stages) for p in planned]
    if not any(stage in stages for stages in derived):
        known = ", ".join(stage_names(derivation, binding, backend, plan))
        raise BackendError(f"no stage '{stage}'; one of {known}")
    return "\n\n".join(str(stages.get(stage, stages["fuse"])) for stages in derived)


@reproducible_view
def generated_source(derivation: Derivation, binding: Binding, backend: str, plan: Plan | None) -> str:
    """The code of every kernel for a backend."""
    if backend not in ("cpu", "triton"):
        raise BackendError(f"no source for backend '{backend}'; one of cpu, triton")
    wanted = request(derivation, binding, backend)
    kernels = [(lower_planned(p, wanted), p.plan.launch) for p in plan_of(derivation, wanted, plan)]
    with step("emit"):
        return "\n".join(emitted(k, backend, launch) for k, launch in kernels)


@reproducible_view
def static_report(derivation: Derivation, binding: Binding, backend: str, plan: Plan | None, target: str) -> str:
    """What the compiled kernels need: registers, spills, shared memory and matrix instructions of a GPU target; operands of the C++."""
    from einsum_compiler import store, tables

    wanted = request(derivation, binding, backend)
    kernels = [(p.plan, lower_planned(p, wanted)) for p in plan_of(derivation, wanted, plan)]
    title = f"{derivation.declared.name} for {target}"
    if backend == "cpu":
        table = tables.table(title, "kernel", "operands")
        for planned, kernel in kernels:
            with step("emit"):
                build(kernel, backend, target, planned.launch, store.key_of(kernel, target))
            table.add_row(kernel.name, ", ".join(t.name for t in (*kernel.inputs, *kernel.outputs)))
    else:
        from einsum_compiler.backends.triton.cross import cross_compile

        table = tables.table(title, "kernel", ">registers", ">spills", ">shared memory", "matrix instructions")
        for planned, kernel in kernels:
            with step("emit"):
                figures = cross_compile(kernel, target, planned.launch)
            counts = (
                ", ".join(f"{name} {count}" for name, count in figures.matrix_instructions.items() if count) or "none"
            )
            table.add_row(kernel.name, str(figures.registers), str(figures.spills), str(figures.shared_memory), counts)
    return f"{tables.text_of(table)}\ncache: {store.directory()}"
