"""The predicted time of the kernels of a call, resource by resource, and of the other plans that were compared with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rich.table import Table

from einsum_compiler import tables
from einsum_compiler.cost.choice import Choice
from einsum_compiler.cost.device import Device, device_for, is_present
from einsum_compiler.cost.prediction import Prediction
from einsum_compiler.cost.pricing import Pricing, Setting
from einsum_compiler.derivation import Derivation
from einsum_compiler.ir.extents import all_extents
from einsum_compiler.ir.plan import KernelPlan, Plan
from einsum_compiler.planning import PlannedKernel, choices
from einsum_compiler.specialise import Request


def predictions(planned: Sequence[PlannedKernel], wanted: Request, device: Device | None = None) -> list[Prediction]:
    """The time of every kernel at the sizes of a request, on the device of its backend if none is named.

    Raises ``DoesNotFit`` for tiles that exceed what a program of a GPU may take.
    """
    device = device or device_for("cpu" if wanted.backend == "meta" else wanted.backend)
    found = []
    for kernel in planned:
        extents = {**wanted.extents, **kernel.extents}
        setting = Setting(extents, {**wanted.dtypes, **kernel.dtypes}, wanted.scalars, wanted.numbers, device)
        found.append(Pricing(kernel.part, setting).predict(kernel.plan))
    return found


def compared(derivation: Derivation, wanted: Request) -> Choice:
    """The plans that were compared for a request, the one with the least predicted time first: of the order of contractions that was chosen, then of the other."""
    backend = "cpu" if wanted.backend == "meta" else wanted.backend
    device = device_for(backend)
    extents = all_extents(derivation.normalized, wanted.extents)
    first, *others = choices(derivation, extents, backend, wanted.dtypes, wanted.numbers, device, is_present(device))
    return replace(first[0], considered=(*first[0].considered, *(c.considered[0] for c, _ in others)))


def prediction_table(found: Sequence[Prediction], outputs: Sequence[Sequence[str]], device: Device) -> Table:
    """One row for every kernel: its predicted time and what the resources take of it."""
    names = list(dict.fromkeys(name for p in found for name, seconds in p.resources.items() if seconds > 0))
    names.sort(key=lambda name: -sum(p.resources.get(name, 0.0) for p in found))
    kind = "measured here" if device.measured else device.title if device.name != "cpu" else "estimated"
    table = tables.table(f"predicted milliseconds ({device.name}, {kind})", "kernel", ">all", *(f">{n}" for n in names))
    for p, written in zip(found, outputs, strict=True):
        table.add_row(
            ", ".join(written), _milliseconds(p.seconds), *(_milliseconds(p.resources.get(n, 0.0)) for n in names)
        )
    return table


def compared_table(choice: Choice) -> Table:
    """The best plans by predicted time, the chosen one first."""
    table = tables.table("plans compared by predicted time", "plan", ">ms", "limited by")
    for plan, predicted in choice.considered:
        table.add_row(plan_summary(plan), _milliseconds(predicted.seconds), predicted.limiting)
    return table


def passed_over(choice: Choice) -> list[str]:
    """A line for every plan of a kernel that has less predicted time than the chosen one and does not fit the device."""
    return [f"passed over: {_kernel_summary(plan)}: {reason}" for plan, reason in choice.passed_over]


def plan_summary(plan: Plan) -> str:
    """A plan in a few words: for every kernel what it writes, its tiles, and how the stream is split."""
    lines = [*plan.orders, *map(str, plan.splits)]
    return "\n".join([*lines, *map(_kernel_summary, plan.kernels)])


def _kernel_summary(kernel: KernelPlan) -> str:
    tiles = [str(t) for t in kernel.program if t.size > 1]
    stream = [f"stream {kernel.stream}"] if kernel.stream else []
    finished = [f"contexts {kernel.contexts}"] if kernel.contexts != "running" else []
    return f"{', '.join(kernel.outputs)}: {', '.join([*(tiles or ['single coordinates']), *stream, *finished])}"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3f}"
