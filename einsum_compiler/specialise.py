"""Kernels for the types and sizes of one call: plan, lower, generate, build; each step kept for the next process."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from einsum_compiler import knobs, store
from einsum_compiler.building import BUILT, Built, Entry, build, emitted, load_entry, nothing
from einsum_compiler.constants import constants_of, filter_parameters
from einsum_compiler.cost.device import device_for
from einsum_compiler.crash import Case, reproducible, step
from einsum_compiler.derivation import (
    Derivation,
    KernelDerivation,
    derive_kernel,
    output_dtypes,
)
from einsum_compiler.element_types import check_cpu_types
from einsum_compiler.executable import Executable
from einsum_compiler.ir.binding import Binding
from einsum_compiler.ir.errors import BackendError, PlanError
from einsum_compiler.ir.expression import Reduction, Selection, walk
from einsum_compiler.ir.extents import all_extents
from einsum_compiler.ir.hints import listed
from einsum_compiler.ir.operators import REDUCTIONS
from einsum_compiler.ir.plan import Plan
from einsum_compiler.ir.tile import TileKernel
from einsum_compiler.ir.torch_types import dtype_name
from einsum_compiler.ordering import values_in
from einsum_compiler.planning import PlannedKernel, plan_kernels, scalar_types

if TYPE_CHECKING:
    from concurrent.futures import Executor


@dataclass(frozen=True)
class Request:
    """What kernels are generated for, besides the program: types, sizes and constants. ``numbers``: the values of all scalar parameters."""

    backend: str
    dtypes: Mapping[str, str]
    scalars: Mapping[str, str]
    extents: Mapping[str, int]
    parameters: Mapping[str, int | bool]
    numbers: Mapping[str, float] = field(default_factory=dict)


def request(derivation: Derivation, binding: Binding, backend: str) -> Request:
    """The types of every tensor that is loaded or stored, and the numbers a kernel may hold constant."""
    inputs = {name: dtype_name(t.dtype) or "" for name, t in binding.tensors.items()}
    dtypes = {**inputs, **output_dtypes(derivation, inputs)}
    scalars = scalar_types(derivation, binding.scalars)
    integers = {n: int(v) for n, v in binding.scalars.items() if scalars.get(n) == "i64"}
    return Request(backend, dtypes, scalars, binding.extents, integers, binding.scalars)


def plan_of(derivation: Derivation, wanted: Request, given: Plan | None) -> tuple[PlannedKernel, ...]:
    """The kernels for a request. Raises ``PlanError`` for what only the evaluator computes and for a plan that does not fit."""
    _refuse_selections(derivation)
    if wanted.backend == "cpu":
        check_cpu_types(derivation, wanted.dtypes)
    with step("plan"):
        # Tensors without values may stand for any device: their shapes do not depend on the plan.
        backend = "cpu" if wanted.backend == "meta" else wanted.backend
        return plan_kernels(derivation, wanted.extents, backend, wanted.dtypes, given, wanted.numbers)


def _refuse_selections(derivation: Derivation) -> None:
    for equation in derivation.normalized.equations:
        for node in walk(equation.value):
            if isinstance(node, Selection) or (isinstance(node, Reduction) and node.operator not in REDUCTIONS):
                name = node.operator
                notes = ('backend="reference" evaluates it',)
                raise PlanError(
                    f"{name} has no compiled form: no backend generates code for it", node.span or equation.span, notes
                )


def _for_kernel(planned: PlannedKernel, wanted: Request) -> Request:
    """The request with the ranks and buffers that passes made for this kernel."""
    return replace(wanted, dtypes={**wanted.dtypes, **planned.dtypes}, extents={**wanted.extents, **planned.extents})


def derive_planned(planned: PlannedKernel, wanted: Request) -> KernelDerivation:
    with step("derive"):
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
    derived = derive_planned(planned, wanted)
    _show_cascades(derived)
    with step("lower"):
        return lower(derived.final, planned.plan, context)


def kernel_key(derivation: Derivation, planned: PlannedKernel, wanted: Request, target: str) -> str:
    """The name of a generated kernel: it depends on sizes only through its part of the program, the plan and the constants.

    What a kernel computes does not follow from the plan of that kernel: a tensor that it reads may be stored by another one or be computed here.
    """
    wanted = _for_kernel(planned, wanted)
    constants = constants_of(planned.part.cascade, planned.plan, wanted.scalars)
    fixed = sorted((r, wanted.extents.get(r)) for r in constants.extents)
    numbers = sorted((n, wanted.parameters.get(n)) for n in constants.parameters)
    types = sorted(wanted.dtypes.items()), sorted(wanted.scalars.items())
    program = derivation.text, derivation.declared.name, planned.orders, planned.plan, planned.part.cascade
    return store.key_of("kernel", *program, types, fixed, numbers, wanted.backend, target)


def case_of(derivation: Derivation, binding: Binding, backend: str, plan: Plan | None, target: str | None) -> Case:
    """What a reproducer of a crash needs."""
    extents = {
        p.name: binding.extents[p.name.lower()]
        for p in derivation.declared.parameters
        if p.name.lower() in binding.extents
    }
    return Case(
        derivation.text,
        derivation.source,
        derivation.declared.name,
        backend,
        target,
        str(plan) if plan else None,
        {name: dtype_name(t.dtype) or "" for name, t in binding.tensors.items()},
        {name: list(t.shape) for name, t in binding.tensors.items()},
        {**extents, **binding.scalars},
    )


def specialise(
    load_derivation: Callable[[], Derivation],
    program: tuple[object, ...],
    binding: Binding,
    backend: str,
    plan: Plan | None,
    target: str | None,
    first: bool = True,
) -> Executable:
    """The kernels for one call, compiled where neither this process nor the cache has them.

    ``program`` identifies the text. The ``first`` call of a process is looked up whole, by its sizes; later ones are planned, which finds the
    kernels that are known, so that growing lengths do not fill the disk.
    """
    isa = target or (knobs.instruction_set() if backend == "cpu" else "")
    machine = isa, knobs.compiler(), device_for("cpu" if backend == "meta" else backend).digest
    key = store.key_of("executable", *program, backend, machine, plan, *_call_key(binding))
    if first and knobs.debug() < 2:
        entry = store.load("executables", key, Entry)
        if entry is not None and (found := load_entry(entry, backend)) is not None:
            return found
    derivation = load_derivation()
    with reproducible(case_of(derivation, binding, backend, plan, target)):
        wanted = request(derivation, binding, backend)
        check_call(derivation, binding)
        planned = plan_of(derivation, wanted, plan)
        built = _compiled(derivation, planned, wanted, isa)
        fixed = frozenset(values_in(planned[0].orders if planned else ())).union(
            *(constants_of(p.part.cascade, p.plan, wanted.scalars).parameters for p in planned)
        )
        compared = filter_parameters((p.part.cascade for p in planned), wanted.scalars) - fixed
    outputs, introduced = tuple(t.name for t in derivation.declared.outputs), tuple(p.extents for p in planned)
    if first and all(b.run is not nothing for b in built):
        store.save("executables", key, Entry(tuple(b.portable() for b in built), outputs, introduced, fixed, compared))
    return Executable(tuple((b.header, b.run) for b in built), outputs, introduced, fixed, compared)


def _call_key(binding: Binding) -> tuple[object, ...]:
    """What the kernels of a call depend on: types, sizes, and whole numbers."""
    dtypes = [(name, dtype_name(t.dtype)) for name, t in binding.tensors.items()]
    numbers = [(n, type(v).__name__, None if isinstance(v, float) else v) for n, v in binding.scalars.items()]
    return dtypes, numbers, sorted(binding.extents.items())


def check_call(derivation: Derivation, binding: Binding) -> None:
    """Raises ``SpecError`` for what the types and sizes of a call make wrong: a float tensor used as an index, cases that meet."""
    from einsum_compiler.ir.check_types import check_types
    from einsum_compiler.ir.inference import infer_types
    from einsum_compiler.passes.disjoint import check_disjoint

    def kind(name: str) -> str:
        value = binding.scalars.get(name, 0)
        return "bool" if isinstance(value, bool) else "i64" if isinstance(value, int) else "f64"

    given = {name: dtype_name(t.dtype) or "" for name, t in binding.tensors.items()}
    given |= {p.name: kind(p.name) for p in derivation.declared.parameters}
    inlined = derivation.inlined
    check_disjoint(inlined, all_extents(inlined, binding.extents))
    plain = derivation.expanded
    check_types(plain, infer_types(plain, given, derivation.module), derivation.module)


def _compiled(derivation: Derivation, planned: Sequence[PlannedKernel], wanted: Request, isa: str) -> tuple[Built, ...]:
    """Kernels that run. The C++ compiler works on one while the next is lowered, and on several at once."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        begun = [_begun(derivation, p, wanted, isa, pool) for p in planned]
        return tuple([finish() for finish in begun])


def _begun(
    derivation: Derivation, planned: PlannedKernel, wanted: Request, isa: str, pool: Executor
) -> Callable[[], Built]:
    """One kernel, lowered now; what is returned waits for its code."""
    key = kernel_key(derivation, planned, wanted, f"{isa} {knobs.compiler()}")
    known = BUILT.get(key)
    if known is not None:
        return lambda: known
    started = time.perf_counter()
    loaded = store.load("kernels", key, TileKernel) if knobs.debug() < 3 else None
    kernel = loaded or lower_planned(planned, wanted)
    if loaded is None:
        store.save("kernels", key, kernel)
    empty = {r for r in planned.plan.resident if wanted.extents.get(r) == 0}
    backend, launch = wanted.backend, planned.plan.launch
    if empty and all(empty.intersection(t.ranks) for t in planned.part.cascade.outputs):
        backend = "meta"  # nothing to write
    elif empty and backend == "triton":
        raise BackendError(
            f"{listed(sorted(empty))} has no coordinates, and the Triton backend holds tiles of at least one"
        )

    def built() -> Built:
        with step("emit"):
            run = build(kernel, backend, isa, launch, key)
        return Built(replace(kernel, body=()), run, key, launch)

    running = pool.submit(built) if backend == "cpu" else None

    def finish() -> Built:
        BUILT[key] = running.result() if running is not None else built()
        if knobs.debug():
            seconds = time.perf_counter() - started
            origin = "compiled" if loaded is None else "from the cache"
            _say(f"{kernel.name} on {wanted.backend}: {origin} in {seconds:.2f} s")
        if knobs.debug() > 1:
            _say(str(planned.plan))
        if knobs.debug() > 3 and wanted.backend != "meta":
            _say(emitted(kernel, wanted.backend, launch))
        return BUILT[key]

    return finish


def _show_cascades(derived: KernelDerivation) -> None:
    if knobs.debug() < 3:
        return
    previous = None
    for name, cascade in derived.stages:
        if str(cascade) != previous:
            _say(f"after {name}\n{cascade}")
        previous = str(cascade)


def _say(text: str) -> None:
    print(f"einsum_compiler: {text}", file=sys.stderr)
