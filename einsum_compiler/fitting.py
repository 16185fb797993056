"""Plans whose kernels fit a GPU: compiled for it, they keep their tiles in registers and their operands in shared memory.

The cost model estimates registers from the live tiles; what the compiler makes of them is known only from the binary, and that needs no GPU. So the options of
each part of a program are compiled in the order of their predicted times until one fits: the same tiles with more warps first, whose threads hold less each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from einsum_compiler.cost.candidates import plan_of_options
from einsum_compiler.cost.device import Device
from einsum_compiler.cost.gpu_model import WARPS
from einsum_compiler.cost.options import Option
from einsum_compiler.cost.prediction import Prediction, together
from einsum_compiler.derivation import Derivation
from einsum_compiler.ir.errors import PlanError, ToolchainError
from einsum_compiler.ir.plan import KernelPlan, Plan

MOST = 8  # options of one part that are compiled


@dataclass(frozen=True)
class Sizes:
    """What kernels are compiled for: extents by rank, element types by tensor, values of scalar parameters."""

    extents: Mapping[str, int]
    dtypes: Mapping[str, str]
    numbers: Mapping[str, float]


@dataclass(frozen=True)
class Fitted:
    """A plan that fits, or the one that lacks least; the plans of kernels that were passed over, with the reason."""

    plan: Plan
    prediction: Prediction
    passed_over: tuple[tuple[KernelPlan, str], ...]


@dataclass(frozen=True)
class Excess:
    """What a kernel takes beyond a program's share: bytes of shared memory, spilled registers or bytes. ``failed``: it does not compile."""

    shared: int = 0
    spills: int = 0
    failed: str = ""

    @property
    def order(self) -> tuple[bool, int, int]:
        return bool(self.failed), self.shared, self.spills

    def __bool__(self) -> bool:
        return any(self.order)

    def __str__(self) -> str:
        if self.failed:
            return self.failed
        return (
            f"{self.shared} bytes more shared memory than there is"
            if self.shared
            else f"spills {self.spills} in every thread"
        )


def fitted(derivation: Derivation, options: Sequence[Sequence[Option]], sizes: Sizes, device: Device) -> Fitted:
    """For every part of a program the first option whose kernels fit ``device``; if none of the first does, the one that lacks least.

    ``options``: of each part, by predicted time (``cost.candidates.Search``).
    """
    chosen = [found[0] for found in options]
    passed: list[tuple[KernelPlan, str]] = []
    for i, found in enumerate(options):
        tried: list[tuple[Excess, Option]] = []
        for option in _with_more_warps(found):
            if any(_holds_more(option, less) for excess, less in tried if excess):
                continue
            others = chosen[:i], chosen[i + 1 :]
            excess = _excess(derivation, others, option, sizes, device)
            tried.append((max(excess.values(), key=lambda e: e.order), option))
            if not tried[-1][0]:
                break
            passed += [(plan, str(e)) for plan, e in excess.items() if e]
            if len(tried) == MOST:
                break
        chosen[i] = min(tried, key=lambda t: t[0].order)[1]
    taken = {k for o in chosen for k in o.plans}
    plan = plan_of_options(derivation, chosen)
    return Fitted(plan, together(o.prediction for o in chosen), tuple(p for p in passed if p[0] not in taken))


def _with_more_warps(options: Sequence[Option]) -> Iterator[Option]:
    for option in options:
        yield option
        if any(k.launch.warps < max(WARPS) for k in option.plans):
            yield replace(
                option, plans=tuple(replace(k, launch=replace(k.launch, warps=max(WARPS))) for k in option.plans)
            )


def _holds_more(option: Option, other: Option) -> bool:
    """Whether every tile of an option is as large as that of another one of the same kernel, with no more warps: where that spills, this does."""
    if len(option.plans) > 1 or len(other.plans) > 1:
        return False
    (more,), (less,) = option.plans, other.plans
    if (more.contexts, more.rows, len(more.box)) != (less.contexts, less.rows, len(less.box)):
        return False
    ranks = [t.rank for t in (*more.program, *more.streams)]
    return all(more.tile(r) >= less.tile(r) for r in ranks) and more.launch.warps <= less.launch.warps


def _excess(
    derivation: Derivation, others: tuple[list[Option], list[Option]], option: Option, sizes: Sizes, device: Device
) -> dict[KernelPlan, Excess]:
    """What each kernel of an option takes too much, among the other parts of the program."""
    from einsum_compiler.planning import plan_kernels, scalar_types
    from einsum_compiler.specialise import Request, lower_planned

    before, after = others
    plan = plan_of_options(derivation, [*before, option, *after])
    scalars = scalar_types(derivation, sizes.numbers)
    integers = {n: int(v) for n, v in sizes.numbers.items() if scalars.get(n) == "i64"}
    wanted = Request("triton", sizes.dtypes, scalars, sizes.extents, integers, sizes.numbers)
    first = sum(len(o.plans) for o in before)
    try:
        planned = plan_kernels(
            derivation, sizes.extents, "triton", sizes.dtypes, replace(plan, orders=()), sizes.numbers
        )
        kernels = planned[first : first + len(option.plans)]
        return {k.plan: _beyond(lower_planned(k, wanted), k.plan, device) for k in kernels}
    except PlanError as error:  # cannot be lowered
        return {option.plans[0]: Excess(failed=error.message)}


def _beyond(kernel: object, plan: KernelPlan, device: Device) -> Excess:
    from einsum_compiler.backends.triton.cross import cross_compile
    from einsum_compiler.ir.tile import TileKernel

    assert isinstance(kernel, TileKernel) and device.limits is not None
    try:
        figures = cross_compile(kernel, device.target, plan.launch)
    except ToolchainError as error:
        return Excess(failed=error.message.splitlines()[0])
    return Excess(max(0, figures.shared_memory - device.limits.shared), figures.spills)
