"""Time: what the cost model predicts for every kernel, resource by resource, and the roofline with what was predicted and measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from einsum_compiler.compilation import Compilation
from einsum_compiler.cost.considered import compared, plan_summary, predictions
from einsum_compiler.cost.device import Device, device_for
from einsum_compiler.cost.gpu_model import DoesNotFit
from einsum_compiler.cost.prediction import Prediction, together
from einsum_compiler.ir.plan import Plan
from einsum_compiler.ir.types import is_float
from einsum_compiler.quantities import duration, ratio, rounded, scaled
from einsum_compiler.report.plot import Axis, Curve, Mark, plot, spanning

LEAST_SHARE = 0.005  # of the time: resources below it are not shown
# The resources of the cost model in words; levels of memory keep their names.
WORDS = {
    "matrix": "products",
    "vector": "vector code",
    "functions": "exp, log and other functions",
    "special": "exp, log and other functions",
    "packing": "packing of operands",
    "copies": "copies of tiles",
    "launch": "launch",
}


@dataclass(frozen=True)
class ResourceTime:
    """What one resource takes of the predicted time of a kernel: its name, the time, its share as text and in per cent."""

    name: str
    time: str
    share: str
    percent: float


@dataclass(frozen=True)
class KernelTime:
    """The prediction for one kernel."""

    number: int
    outputs: str
    time: str
    resources: tuple[ResourceTime, ...]


@dataclass(frozen=True)
class ComparedPlan:
    """A plan that was compared: what it does, its predicted time, how many times that of the chosen one, and what limits it."""

    summary: tuple[str, ...]
    time: str
    ratio: str
    limit: str


@dataclass(frozen=True)
class Times:
    """The section of a report. ``note``: why there is no prediction, or no picture."""

    device: str
    origin: str
    predicted: str
    measured: str
    agreement: str
    kernels: tuple[KernelTime, ...]
    compared: tuple[ComparedPlan, ...]
    roofline: str
    sources: tuple[str, ...]
    note: str = ""
    chosen_for: str = ""  # the device that the plan was chosen for, where it is another one


def times(
    compiled: Compilation, device: Device, given: Plan | None, moved: Sequence[int | None], measured: float | None
) -> Times:
    """The predicted times on a device. ``moved``: bytes that every kernel moves from and to the device's memory; ``measured``: seconds of one call."""
    origin = (
        "measured on this machine"
        if device.measured
        else "estimated from its description"
        if device.name == "cpu"
        else "from the sources below"
    )
    shown = duration(measured) if measured is not None else ""
    try:
        found = predictions([p.planned for p in compiled.parts], compiled.request, device)
    except DoesNotFit as reason:
        return Times(device.title, origin, "", shown, "", (), (), "", device.sources, f"no prediction: {reason}")
    whole = together(found)
    planned_for = device_for("cpu" if compiled.request.backend == "meta" else compiled.request.backend)
    picture, note = _roofline(compiled, device, found, moved, measured)
    return Times(
        device.title,
        origin,
        duration(whole.seconds),
        shown,
        f"{ratio(measured / whole.seconds)} × the prediction" if measured else "",
        tuple(_kernel(number, part.planned.plan.outputs, p) for number, (part, p) in enumerate(zip(compiled.parts, found, strict=True), 1)),
        () if given is not None else tuple(_compared(compiled)),
        picture,
        device.sources,
        note,
        "" if given is not None or planned_for.name == device.name else planned_for.title,
    )  # fmt: skip


def _kernel(number: int, outputs: Sequence[str], found: Prediction) -> KernelTime:
    rows = []
    for name, seconds in sorted(found.resources.items(), key=lambda item: -item[1]):
        share = seconds / found.seconds if found.seconds else 0.0
        if share >= LEAST_SHARE:
            rows.append(ResourceTime(WORDS.get(name, name), duration(seconds), f"{share:.0%}", min(100.0, 100 * share)))
    return KernelTime(number, ", ".join(outputs), duration(found.seconds), tuple(rows))


def _compared(compiled: Compilation) -> list[ComparedPlan]:
    considered = compared(compiled.derivation, compiled.request).considered
    least = considered[0][1].seconds if considered else 1.0
    return [
        ComparedPlan(
            tuple(plan_summary(plan).splitlines()),
            duration(p.seconds),
            f"{ratio(p.seconds / least)} ×",
            WORDS.get(p.limiting, p.limiting),
        )
        for plan, p in considered
    ]


# -- the roofline -------------------------------------------------------------------------------------------------------------


def _roofline(
    compiled: Compilation,
    device: Device,
    found: Sequence[Prediction],
    moved: Sequence[int | None],
    measured: float | None,
) -> tuple[str, str]:
    """Operations per second against operations per byte of memory, with the roofs of the device; the picture, and why there is none."""
    operations = [p.work.operations for p in compiled.parts]
    known = [(o, b) for o, b in zip(operations, moved, strict=True) if o and b]
    if len(known) < len(operations):
        return "", "how many operations run, or how many bytes move, depends on the values of tensors"
    several = len(known) > 1
    marks = []
    for number, ((o, b), p) in enumerate(zip(known, found, strict=True), 1):
        name = f"kernel {number} predicted" if several else "predicted"
        marks.append(Mark(o / b, o / p.seconds, f"{name}: {scaled(o / p.seconds, 'op/s')}", "predicted", hollow=True))
    if measured:
        total, traffic = sum(o for o, _ in known), sum(b for _, b in known)
        name = "measured, all kernels" if several else "measured"
        marks.append(Mark(total / traffic, total / measured, f"{name}: {scaled(total / measured, 'op/s')}", "measured"))
    roofs = _roofs(compiled, device)
    bandwidth = device.memory.bandwidth
    ridge = max(roofs.values()) / bandwidth
    least, most = spanning([*(m.x for m in marks), ridge, ridge / 30], 4.0)
    curves = []
    for i, (name, rate) in enumerate(sorted(roofs.items(), key=lambda item: -item[1])):
        label = f"{name}: {scaled(rate, 'op/s')}"
        curves.append(
            Curve(((max(least, rate / bandwidth), rate), (most, rate)), "roof" if i == 0 else "lower roof", label)
        )
    top = max(roofs.values())
    slopes = [(device.memory, "roof")]
    if len(device.levels) > 1:
        slopes.append((device.levels[-2], "lower roof"))
    for level, kind in slopes:
        reach = min(most, top / level.bandwidth)
        if reach > least:
            label = f"{level.name}: {scaled(level.bandwidth, 'B/s')}"
            curves.append(Curve(((least, least * level.bandwidth), (reach, reach * level.bandwidth)), kind, label))
    heights = [*(m.y for m in marks), top, least * bandwidth]
    show: Callable[[float], str] = lambda v: rounded(v, "op/B")
    x = Axis("operations per byte moved from and to memory", show, least, most)
    y = Axis("operations per second", lambda v: rounded(v, "op/s"), *spanning(heights, 1.8))
    return plot("roofline of the device with the kernels on it", x, y, curves, marks), ""


def _roofs(compiled: Compilation, device: Device) -> dict[str, float]:
    """Operations per second of products of the operands' type, and of vector code."""
    inputs = [compiled.request.dtypes[t.name] for t in compiled.derivation.declared.inputs]
    dtype = next((d for d in inputs if is_float(d)), "f32")
    roofs = {f"products of {dtype}": device.product_rate(dtype)}
    vector = device.vector.get("f64" if dtype == "f64" else "f32")
    if vector and vector < 0.9 * roofs[f"products of {dtype}"]:
        roofs["vector code"] = vector
    return roofs
