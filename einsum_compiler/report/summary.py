"""The first things a reader wants to know: figures, operands, settings."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from einsum_compiler.compilation import Compilation
from einsum_compiler.ir.types import bytes_of
from einsum_compiler.movement import Movement
from einsum_compiler.quantities import data, scaled
from einsum_compiler.report.times import Times


@dataclass(frozen=True)
class Figure:
    """A number with its unit, what it is, and a remark."""

    value: str
    label: str
    remark: str = ""


@dataclass(frozen=True)
class Operand:
    """An input or output of the program at these sizes."""

    role: str
    name: str
    ranks: str
    dtype: str
    shape: str
    size: str


def figures(compiled: Compilation, moved: Movement, spent: Times) -> list[Figure]:
    """Passes before and after, kernels, work, data moved, time."""
    found = []
    worst = max(compiled.passes, key=lambda p: p.written.passes, default=None)
    if worst is not None:
        change = (
            f"{worst.written.passes} → {worst.compiled}"
            if worst.written.passes != worst.compiled
            else str(worst.compiled)
        )
        found.append(
            Figure(
                change,
                f"passes over {worst.rank}",
                "as written → compiled" if "→" in change else "as written and compiled",
            )
        )
    programs = sum(p.work.programs for p in compiled.parts)
    count = len(compiled.parts)
    found.append(Figure(str(count), "kernel" if count == 1 else "kernels", f"{programs:,} programs"))
    sweeps = [s for p in compiled.parts for s in p.work.sweeps or ()]
    if sweeps and all(p.work.sweeps is not None for p in compiled.parts) and sum(s.total for s in sweeps):
        seen, total = sum(s.full + s.partial for s in sweeps), sum(s.total for s in sweeps)
        found.append(Figure(f"{seen / total:.0%}", "of tiles visited", f"{seen:,} of {total:,}"))
    operations = [p.work.operations for p in compiled.parts]
    known = [o for o in operations if o is not None]
    if len(known) == len(operations):
        found.append(Figure(scaled(sum(known), "op"), "operations", "of all tiles visited"))
    whole = moved.tensors[-1]
    if whole.memory_ratio:
        unit = "" if moved.unit == "bytes" else " elements"
        found.append(
            Figure(whole.memory + unit, f"moved behind {moved.last_level}", f"{whole.memory_ratio} × each element once")
        )
    if spent.measured:
        found.append(Figure(spent.measured, "measured", spent.agreement))
    elif spent.predicted:
        found.append(Figure(spent.predicted, "predicted", spent.device))
    return found


def operands(compiled: Compilation) -> list[Operand]:
    """The inputs and outputs of the program."""
    declared = compiled.derivation.declared
    found = []
    for role, tensors in (("input", declared.inputs), ("output", declared.outputs)):
        for tensor in tensors:
            shape = [compiled.binding.extents.get(r) for r in tensor.ranks]
            dtype = compiled.request.dtypes[tensor.name]
            known = [n for n in shape if n is not None]
            size = data(prod(known) * bytes_of(dtype)) if len(known) == len(shape) else "–"
            shown = " × ".join("?" if n is None else f"{n}" for n in shape) or "scalar"
            found.append(Operand(role, tensor.name, ", ".join(tensor.ranks), dtype, shown, size))
    return found


def settings(compiled: Compilation, backend: str) -> list[tuple[str, str]]:
    """Sizes, parameters and backend of this compilation."""
    extents = {**compiled.binding.extents}
    for part in compiled.parts:
        extents |= part.planned.extents
    found = [("extents", ", ".join(f"{r.upper()} = {n:,}" for r, n in extents.items()))]
    if compiled.binding.scalars:
        found.append(("parameters", ", ".join(f"{n} = {v}" for n, v in compiled.binding.scalars.items())))
    return [*found, ("backend", backend)]
