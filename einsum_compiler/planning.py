"""The plan of a program for the sizes of a call, and the kernels of that plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from einsum_compiler.cost.device import Device, device_for, is_present
from einsum_compiler.cost.prediction import Prediction
from einsum_compiler.derivation import Derivation, kernel_cascades, scalar_dtypes
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.extents import all_extents, merged_extents
from einsum_compiler.ir.plan import KernelPlan, Plan, RankSplit
from einsum_compiler.ordering import Ordered, check_values, forms, in_orders
from einsum_compiler.passes.box_order import BoxOrder, box_order
from einsum_compiler.passes.certificate import Certificate
from einsum_compiler.passes.flatten import merged_group
from einsum_compiler.passes.kernel_cascade import KernelCascade, Roles, held_sums
from einsum_compiler.splitting import SplitKernels, split_kernels

if TYPE_CHECKING:
    from einsum_compiler.cost.choice import Choice


@dataclass(frozen=True)
class PlannedKernel:
    """A kernel's part of the cascade and its plan; of a split, also what that made and proved.

    ``extents``: of ranks that passes made, such as chunks. ``dtypes``: of the partial states, and of what reordered contractions made. ``orders``: of
    the contractions of the whole program.
    """

    part: KernelCascade
    plan: KernelPlan
    splits: tuple[RankSplit, ...] = ()
    extents: Mapping[str, int] = field(default_factory=dict)
    dtypes: Mapping[str, str] = field(default_factory=dict)
    certificates: tuple[Certificate, ...] = ()
    orders: tuple[str, ...] = ()


def plan_kernels(
    derivation: Derivation,
    extents: Mapping[str, int],
    backend: str,
    dtypes: Mapping[str, str],
    given: Plan | None = None,
    numbers: Mapping[str, float] | None = None,
    device: Device | None = None,
    compiled: bool | None = None,
) -> tuple[PlannedKernel, ...]:
    """The kernels for these sizes: those of a given plan, else of the one with the least predicted time for their class.

    ``numbers``: values of scalar parameters, which filters compare with; ``device``: the one that kernels of the backend run on, if it is not given.
    ``compiled``: whether plans are passed over whose kernels spill when they are compiled for the device (``fitting``); if not given, where that GPU is there.
    """
    sizes: Mapping[str, int] = all_extents(derivation.normalized, extents)
    refusals: Mapping[tuple[str, ...], tuple[Certificate, ...]] = {}
    if given is None:
        found_on = device or device_for(backend)
        checked = is_present(found_on) if compiled is None else compiled
        choice, form = choices(derivation, sizes, backend, dtypes, numbers or {}, found_on, checked)[0]
        given, sizes, refusals = choice.plan, choice.extents, choice.refusals
    else:
        check_values(given.orders, numbers or {})
        form = in_orders(derivation, given.orders, dtypes)
        sizes = form.extents(sizes)
    merged = merged_extents(form.derivation.normalized, extents)
    extents = {**extents, **merged}
    types = {**dtypes, **form.dtypes}
    parts = parts_of(form.derivation, sizes, given)
    sums = sum_dtypes(parts, types)
    types = {**types, **sums}
    found = _given(form.derivation, parts, extents, types, given)
    proved = [form.certificates, *(() for _ in found[1:])]
    return tuple(
        replace(
            p,
            extents={**merged, **p.extents},
            dtypes={**form.dtypes, **sums, **p.dtypes},
            certificates=(*first, *(p.certificates or refusals.get(p.plan.outputs, ()))),
            orders=form.orders,
        )
        for p, first in zip(found, proved, strict=True)
    )


def choices(
    derivation: Derivation,
    extents: Mapping[str, int],
    backend: str,
    dtypes: Mapping[str, str],
    numbers: Mapping[str, float],
    device: Device,
    compiled: bool,
) -> list[tuple[Choice, Ordered]]:
    """What is chosen for every form of the program (``ordering.forms``) that has a plan; the one with the least predicted time first.

    Raises ``PlanError`` where no form has one, for the first of them.
    """
    from einsum_compiler.cost.choice import choose

    found: list[tuple[Choice, Ordered]] = []
    refused: list[PlanError] = []
    for orders in forms(derivation, extents, numbers):
        form = in_orders(derivation, orders, dtypes)
        types = {**dtypes, **form.dtypes}
        try:
            choice = choose(form.derivation, form.extents(extents), backend, types, numbers, device, compiled)
        except PlanError as reason:
            refused.append(reason)
        else:
            found.append((choice, form))
    if not found:
        raise refused[0]
    return sorted(found, key=lambda c: _rank(c[0].considered[0][1]))


def _rank(prediction: Prediction) -> tuple[float, float]:
    """Seconds decide between plans whose sums are exact enough."""
    from einsum_compiler.cost.rounding import MOST_GROWTH

    return max(MOST_GROWTH, prediction.growth), prediction.seconds


def parts_of(derivation: Derivation, extents: Mapping[str, int], plan: Plan) -> tuple[KernelCascade, ...]:
    """The parts of a program that the kernels of a plan compute: what they write is stored, and besides it only what must be; ranks have the roles it says."""
    outputs = [*(s.outputs for s in plan.splits), *(k.outputs for k in plan.kernels)]
    roles = {
        name: Roles(tuple(s.rank for s in k.streams), frozenset(t.rank for t in k.program))
        for k in plan.kernels
        for name in k.outputs
    }
    split = {name for s in plan.splits for name in s.outputs}  # their kernels write the merged results
    roles = {name: given for name, given in roles.items() if name not in split}
    roles |= {name: Roles((s.rank.rank,)) for s in plan.splits if s.chunks for name in s.outputs}
    return kernel_cascades(derivation, extents, outputs, [a for k in plan.kernels for a in k.accumulated], roles)


def sum_dtypes(parts: Iterable[KernelCascade], dtypes: Mapping[str, str]) -> dict[str, str]:
    """The types of accumulated sums that only the plan names: those of sums."""
    real = "f64" if "f64" in dtypes.values() else "f32"
    return {a.tensor: real for p in parts for a in p.accumulated if a.tensor not in dtypes}


def _in_boxes(part: KernelCascade, plan: KernelPlan, extents: Mapping[str, int]) -> PlannedKernel:
    """A kernel whose streamed rank runs in the order of the plan's boxes, if it has any."""
    ordered, sizes = in_boxes(part, plan, extents)
    return PlannedKernel(ordered, plan, extents=sizes)


def in_boxes(part: KernelCascade, plan: KernelPlan, extents: Mapping[str, int]) -> tuple[KernelCascade, dict[str, int]]:
    """A kernel's part with its streamed rank in the order of the plan's boxes, and the extent that rank then has; the part itself without boxes."""
    if not plan.box or plan.stream is None:
        return part, {}
    stream, group = plan.stream.rank, merged_group(part.cascade, plan.stream.rank)
    if tuple(t.rank for t in plan.box) != group:
        raise PlanError(
            f"the plan streams boxes of {', '.join(t.rank for t in plan.box)}; '{stream}' is merged from {', '.join(group) or 'nothing'}"
        )
    sizes, starts = tuple(t.size for t in plan.box), tuple(t.start for t in plan.box)
    cascade = box_order(part.cascade, BoxOrder(stream, sizes, starts))
    known = {r: n for r, n in extents.items() if r != stream}
    return replace(part, cascade=cascade), {stream: merged_extents(cascade, known)[stream]}


def _of_split(choices: tuple[RankSplit, ...], made: SplitKernels, plans: list[KernelPlan]) -> list[PlannedKernel]:
    proved = [made.certificates, *(() for _ in plans[1:])]
    return [
        PlannedKernel(part, plan, choices, made.extents, made.dtypes, certificates)
        for part, plan, certificates in zip(made.parts, plans, proved, strict=True)
    ]


def _given(
    derivation: Derivation,
    parts: tuple[KernelCascade, ...],
    extents: Mapping[str, int],
    dtypes: Mapping[str, str],
    given: Plan,
) -> tuple[PlannedKernel, ...]:
    """The kernels with the splits and the tiles of a plan, which must fit them."""
    splits: dict[frozenset[str], tuple[RankSplit, ...]] = {}
    for split in given.splits:
        splits[frozenset(split.outputs)] = (*splits.get(frozenset(split.outputs), ()), split)
    groups: list[tuple[tuple[RankSplit, ...], SplitKernels | None, tuple[KernelCascade, ...]]] = []
    for part in parts:
        choices = splits.pop(frozenset(part.outputs), ())
        if not choices:
            groups.append(((), None, (part,)))
            continue
        _check_splits(part, choices)
        made = split_kernels(derivation, part, choices, extents, dtypes)
        if not made.parts:
            reasons = "; ".join(f"{c.tensor}: {c.reason}" for c in made.certificates if c.form == "refused")
            ranks = ", ".join(c.rank.rank for c in choices)
            raise PlanError(f"{ranks} cannot be split for {', '.join(part.outputs)}: {reasons}")
        groups.append((choices, made, made.parts))
    plans: dict[frozenset[str], list[KernelPlan]] = {}
    for kernel in given.kernels:
        plans.setdefault(frozenset(kernel.outputs), []).append(kernel)
    if splits:
        raise PlanError(
            f"the plan splits {'; '.join(', '.join(s[0].outputs) for s in splits.values())}, which no kernel of this program writes"
        )
    needed = [part for _, _, group in groups for part in group]
    if sorted(map(sorted, (p.outputs for p in needed))) != sorted(map(sorted, (k.outputs for k in given.kernels))):
        wanted = "; ".join(", ".join(part.outputs) for part in needed)
        raise PlanError(
            f"the plan has kernels for {'; '.join(', '.join(k.outputs) for k in given.kernels)}; this program needs {wanted}"
        )
    found: list[PlannedKernel] = []
    for origin, made_of, group in groups:
        checked = [_checked(part, plans[frozenset(part.outputs)].pop(0)) for part in group]
        if made_of is None:
            kernels = [_in_boxes(part, plan, extents) for part, plan in zip(group, checked, strict=True)]
        else:
            kernels = _of_split(origin, made_of, checked)
        for planned in kernels:
            _check_whole(planned, extents)
        found += kernels
    return tuple(found)


def _check_whole(kernel: PlannedKernel, extents: Mapping[str, int]) -> None:
    """Raises ``PlanError`` for a stream that a plan says is one tile, and that is longer or not alone."""
    plan, sizes = kernel.plan, {**extents, **kernel.extents}
    if not plan.whole:
        return
    outputs = ", ".join(plan.outputs)
    if len(plan.streams) != 1:
        raise PlanError(f"contexts are whole where one rank is streamed; kernel {outputs} streams {len(plan.streams)}")
    (stream,) = plan.streams
    if sizes[stream.rank] > stream.size:
        raise PlanError(
            f"contexts are whole where one tile holds the stream; kernel {outputs} has tiles of {stream.size}, and {stream.rank} is {sizes[stream.rank]}"
        )


def _check_splits(part: KernelCascade, choices: tuple[RankSplit, ...]) -> None:
    """A number of chunks is one of the streamed rank; a rank held whole, which the kernel sums, has as many as it takes."""
    for choice in choices:
        rank = choice.rank.rank
        if choice.chunks and rank != part.stream:
            raise PlanError(
                f"the plan splits {rank} for {', '.join(part.outputs)}, which streams {part.stream or 'nothing'}"
            )
        if not choice.chunks and rank not in held_sums(part):
            raise PlanError(
                f"the plan splits {rank} for {', '.join(part.outputs)}, which sums {', '.join(held_sums(part)) or 'nothing'} beside its stream"
            )


def _checked(part: KernelCascade, plan: KernelPlan) -> KernelPlan:
    streams = tuple(s.rank for s in plan.streams)
    if {r.rank for r in plan.program} != set(part.program) or streams != part.streams:
        raise PlanError(
            f"kernel {', '.join(part.outputs)} spreads {', '.join(part.program) or 'nothing'} over programs and streams {', '.join(part.streams) or 'nothing'}; "
            f"the plan spreads {', '.join(r.rank for r in plan.program) or 'nothing'} and streams {', '.join(streams) or 'nothing'}"
        )
    return replace(plan, outputs=part.outputs, resident=part.resident, accumulated=part.accumulated)


def as_plan(derivation: Derivation, kernels: Iterable[PlannedKernel]) -> Plan:
    kernels = tuple(kernels)
    splits = dict.fromkeys(s for k in kernels for s in k.splits)
    orders = kernels[0].orders if kernels else ()
    return Plan(derivation.declared.name, tuple(k.plan for k in kernels), tuple(splits), orders)


def scalar_types(derivation: Derivation, numbers: Mapping[str, object]) -> dict[str, str]:
    """The types of scalar parameters at a call: as declared, or those of the numbers given."""
    found = scalar_dtypes(derivation)
    for name, value in numbers.items():
        if isinstance(value, bool):
            found[name] = "bool"
        elif isinstance(value, int) and found.get(name) != "f64":
            found[name] = "i64"
    return found
