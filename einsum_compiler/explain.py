"""What was written, what it forces, what was derived, the plan and its cost: a report for people, as text."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from einsum_compiler import tables
from einsum_compiler.bounding import beside, bounds
from einsum_compiler.compilation import Compilation, CompiledPart, compilation
from einsum_compiler.cost.device import Device, device_for
from einsum_compiler.derivation import Derivation
from einsum_compiler.inspection import reproducible_view
from einsum_compiler.ir.binding import Binding
from einsum_compiler.ir.plan import Plan
from einsum_compiler.ir.printer import print_equation, print_expression
from einsum_compiler.ir.tile import Loop, Range
from einsum_compiler.movement import moved_elements
from einsum_compiler.passes.analysis.levels import PassLevels
from einsum_compiler.passes.traffic import Footprint, footprint_of
from einsum_compiler.proofs import LEGEND, Proof, proofs
from einsum_compiler.quantities import data, scaled
from einsum_compiler.work import Visits

NO_REASON = "every traversal can be shared"
LARGEST = 4  # tiles of a program that are named


@reproducible_view
def explain(derivation: Derivation, binding: Binding, backend: str, plan: Plan | None) -> str:
    """The report of one program at given sizes, as text."""
    compiled = compilation(derivation, binding, backend, plan)
    parts: list[RenderableType] = [
        *_written(compiled, backend),
        "",
        *_forced(compiled),
        *_derived(compiled),
        "",
        *_planned(compiled),
        "",
        *_cost(compiled),
        "",
        *beside(bounds(compiled.ordered, binding, _device(compiled), None), moved_elements(compiled)),
        "",
        *_predicted(compiled, plan),
    ]
    return tables.text_of(*parts)


@reproducible_view
def pass_report(derivation: Derivation, binding: Binding, backend: str, plan: Plan | None) -> str:
    """The passes over every reduced rank, before and after, with what forces each."""
    compiled = compilation(derivation, binding, backend, plan)
    return tables.text_of(Text(compiled.signature, style="bold"), "", *_forced(compiled))


def _written(compiled: Compilation, backend: str) -> list[RenderableType]:
    equations = [print_equation(e) for e in compiled.derivation.declared.equations]
    sizes = ", ".join(f"{r.upper()} = {n}" for r, n in compiled.binding.extents.items())
    scalars = ", ".join(f"{n} = {v}" for n, v in compiled.binding.scalars.items())
    by_type: dict[str, list[str]] = {}
    declared = compiled.derivation.declared
    for name in (t.name for t in (*declared.inputs, *declared.outputs)):
        by_type.setdefault(compiled.request.dtypes[name], []).append(name)
    types = "; ".join(f"{', '.join(names)}: {dtype}" for dtype, names in by_type.items())
    rows = [("sizes", sizes), ("parameters", scalars), ("types", types), ("backend", backend)]
    return [
        Text(compiled.signature, style="bold"),
        "",
        "what you wrote",
        *(Padding(_hanging(line), (0, 0, 0, 2)) for line in equations),
        "",
        tables.fields(*((label, text) for label, text in rows if text)),
    ]


def _hanging(line: str) -> Table:
    """A line of code whose continuation is indented below what it defines."""
    head, _, tail = line.partition(" = ")
    made = Table.grid(padding=0)
    made.add_column(no_wrap=len(head) < tables.width() // 2, overflow="fold")
    made.add_column(overflow="fold")
    made.add_row(f"{head} = ", tail)
    return made


# -- passes -------------------------------------------------------------------------------------------------------------------


def _forced(compiled: Compilation) -> list[RenderableType]:
    table = tables.table(
        "what it forces: passes over each reduced rank", "rank", ">as written", ">compiled", "why as written"
    )
    for rank in compiled.passes:
        table.add_row(rank.rank, str(rank.written.passes), str(rank.compiled), _why(rank.written))
    return [table]


def _why(levels: PassLevels) -> str:
    return "\n".join(map(str, levels.pairs)) or NO_REASON


# -- laws ---------------------------------------------------------------------------------------------------------------------


def _derived(compiled: Compilation) -> list[RenderableType]:
    found = proofs(c for p in compiled.parts for c in p.derived.certificates)
    if not found:
        return []
    parts: list[RenderableType] = ["", "what was derived, and what was refused"]
    for number, proof in enumerate(found):
        parts += [*([""] if number else []), *_proof(proof)]
    if any(p.moves for p in found):
        parts += ["", Padding(LEGEND, (0, 0, 0, 2))]
    return parts


def _proof(proof: Proof) -> Iterable[RenderableType]:
    yield Padding(Text(f"{proof.step}: {proof.meaning}."), (0, 0, 0, 2))
    for line in proof.equations:
        yield Padding(Text(line, overflow="fold"), (0, 0, 0, 6))
    for condition in proof.conditions:
        yield Padding(Text(f"given that {condition}"), (0, 0, 0, 4))
    if proof.reason:
        yield Padding(Text(f"because {proof.reason}"), (0, 0, 0, 4))


# -- kernels ------------------------------------------------------------------------------------------------------------------


def _planned(compiled: Compilation) -> list[RenderableType]:
    parts: list[RenderableType] = ["plan"]
    for number, part in enumerate(compiled.parts, 1):
        title = f"  kernel {number} of {len(compiled.parts)} writes {', '.join(part.planned.plan.outputs)}"
        parts += [*([""] if number > 1 else []), title, _kernel(part)]
    return parts


def _device(compiled: Compilation) -> Device:
    """The device that a program is planned for."""
    backend = compiled.request.backend
    return device_for("cpu" if backend == "meta" else backend)


def _predicted(compiled: Compilation, given: Plan | None) -> list[RenderableType]:
    """The predicted time of every kernel, and the plans that were compared if none was given."""
    from einsum_compiler.cost.considered import compared, compared_table, passed_over, prediction_table, predictions
    from einsum_compiler.cost.fusion import fusion
    from einsum_compiler.cost.gpu_model import DoesNotFit

    wanted = compiled.request
    try:
        found = predictions([p.planned for p in compiled.parts], wanted)
    except DoesNotFit as reason:
        return [f"no prediction: {reason}"]
    device = _device(compiled)
    parts: list[RenderableType] = [prediction_table(found, [p.planned.plan.outputs for p in compiled.parts], device)]
    if given is None:
        choice = compared(compiled.derivation, wanted)
        parts += ["", compared_table(choice), *passed_over(choice), *fusion(compiled.derivation, wanted, choice)]
    return parts


def _kernel(part: CompiledPart) -> Table:
    plan, work = part.planned.plan, part.work
    rows = [("programs", f"{work.programs:,} over {', '.join(map(str, plan.program))}" if plan.program else "1")]
    rows += [("split", str(s)) for s in part.planned.splits]
    if plan.stream:
        rows.append(("streamed", "; then ".join(f"{s.rank}, {s.size} at a time" for s in plan.streams)))
    for a in plan.accumulated:
        rows.append(("added up", f"{a.tensor} over {', '.join(a.ranks)}: these programs follow one another"))
    if plan.resident:
        rows.append(("held whole", ", ".join(plan.resident)))
    rows.append(("holds", held(footprint_of(part.tile))))
    for number, loop in enumerate(s for s in part.tile.body if isinstance(s, Loop)):
        rows += _sweep(number + 1, loop, work.sweeps[number] if work.sweeps is not None else None)
    for schedule in part.tile.schedules:
        rows.append(
            ("tile list", f"{schedule.name}, made at every call: tiles where {print_expression(schedule.predicate)}")
        )
    return tables.fields(*((f"  {label}", text) for label, text in rows))


def held(footprint: Footprint) -> str:
    """What a program holds at its peak, the largest tiles first."""
    tiles = sorted(footprint.tiles.items(), key=lambda tile: -tile[1])
    shown = [f"{name} {data(size)}" for name, size in tiles[:LARGEST]]
    rest = [f"{len(tiles) - LARGEST} more {data(sum(n for _, n in tiles[LARGEST:]))}"] if len(tiles) > LARGEST else []
    return f"{data(footprint.total)} at most in a program: {', '.join(shown + rest)}"


def _sweep(number: int, loop: Loop, visits: Visits | None) -> list[tuple[str, str]]:
    """The ranges of a loop, and how many tiles they are at these sizes."""
    rows = []
    for r in loop.ranges:
        where = "listed at run time"
        if isinstance(r, Range):
            where = f"{loop.rank} in [{print_expression(r.lower)}, {print_expression(r.upper)})"
        rows.append(("  partial" if r.partial else "  full", where))
    return [(f"sweep {number}", visited(visits)), *rows]


def visited(visits: Visits | None) -> str:
    """How many tiles a sweep visits, in words."""
    if visits is None:
        return "depends on the values of tensors: give them to count the tiles"
    share = f" ({(visits.full + visits.partial) / visits.total:.0%})" if visits.total else ""
    seen = f"{visits.full:,} full and {visits.partial:,} partial of {visits.total:,} tiles{share}"
    return f"{seen}; a full tile needs no mask"


# -- cost ---------------------------------------------------------------------------------------------------------------------


def _cost(compiled: Compilation) -> list[RenderableType]:
    table = tables.table("operations", "kernel", ">products", ">others")
    for number, part in enumerate(compiled.parts, 1):
        table.add_row(str(number), _operations(part.work.products), _operations(part.work.others))
    return [table]


def _operations(count: int | None) -> str:
    return "depends on values" if count is None else scaled(count)
