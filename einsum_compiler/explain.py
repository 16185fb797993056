"""What the mathematics forces, what was proved, and what the kernels do: a report for people."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from einsum_compiler import tables
from einsum_compiler.derivation import Derivation, KernelDerivation
from einsum_compiler.inspection import reproducible_view
from einsum_compiler.ir.binding import Binding
from einsum_compiler.ir.expression import Reduction, walk
from einsum_compiler.ir.plan import Plan
from einsum_compiler.ir.printer import print_expression
from einsum_compiler.ir.tile import Loop, Range, TileKernel
from einsum_compiler.passes.analysis.levels import PassLevels, pass_levels
from einsum_compiler.planning import PlannedKernel
from einsum_compiler.specialise import derive_planned, lower_planned, plan_of, request
from einsum_compiler.work import Visits, Work, work_of

# What each form of a certificate means; the identity that was proved stands below it.
MEANINGS = {
    "deferred": "a factor that does not change along {ranks} is applied once, to the finished {tensor}",
    "split": "{tensor} is summed term by term",
    "running": "{tensor} is kept up to date while {ranks} streams by: when the running value it depends on moves, one factor corrects it",
    "finite rank": "{tensor} is kept up to date while {ranks} streams by, with a few sums beside it that one small matrix corrects",
    "refused": "{tensor} waits until what it depends on is finished, which costs a pass over {ranks}",
}
LEGEND = "In identities, d.. are values that move along the way, d.._new what they move to, and x.. everything else."


@reproducible_view
def explain(derivation: Derivation, binding: Binding, backend: str, plan: Plan | None) -> str:
    """The report of one program at given sizes, as text."""
    wanted = request(derivation, binding, backend)
    planned = plan_of(derivation, wanted, plan)
    kernels = [derive_planned(p, wanted) for p in planned]
    tiles = [lower_planned(p, wanted) for p in planned]
    parts: list[RenderableType] = [
        Text(_signature(derivation), style="bold"),
        _sizes(binding, wanted.dtypes, derivation, backend),
        "",
        _pass_table(derivation, kernels),
        *_certificates(kernels),
    ]
    for number, (chosen, tile) in enumerate(zip(planned, tiles, strict=True), 1):
        work = work_of(tile, binding.tensors, binding.scalars, {**binding.extents, **chosen.extents})
        parts += [
            "",
            f"kernel {number} of {len(tiles)} writes {', '.join(chosen.plan.outputs)}",
            _kernel(chosen, tile, work),
        ]
    return tables.text_of(*parts)


@reproducible_view
def pass_report(derivation: Derivation, binding: Binding, backend: str, plan: Plan | None) -> str:
    """The passes over every reduced rank, before and after, with what forces each."""
    wanted = request(derivation, binding, backend)
    kernels = [derive_planned(p, wanted) for p in plan_of(derivation, wanted, plan)]
    return tables.text_of(Text(_signature(derivation), style="bold"), "", _pass_table(derivation, kernels))


def _signature(derivation: Derivation) -> str:
    c = derivation.declared
    inputs = ", ".join(f"{t.name}[{','.join(t.ranks)}]" for t in c.inputs)
    outputs = ", ".join(f"{t.name}[{','.join(t.ranks)}]" for t in c.outputs)
    return f"{c.name}({inputs}) -> {outputs}"


def _sizes(binding: Binding, dtypes: Mapping[str, str], derivation: Derivation, backend: str) -> str:
    sizes = ", ".join(f"{r.upper()} = {n}" for r, n in binding.extents.items())
    by_type: dict[str, list[str]] = {}
    for name in (t.name for t in (*derivation.declared.inputs, *derivation.declared.outputs)):
        by_type.setdefault(dtypes[name], []).append(name)
    types = "; ".join(f"{', '.join(names)}: {dtype}" for dtype, names in by_type.items())
    return f"at {sizes}\nwith {types}; for the backend {backend}"


# -- passes -------------------------------------------------------------------------------------------------------------------


def reduced_ranks(derivation: Derivation) -> list[str]:
    """The ranks that some equation of the inlined cascade reduces, in order."""
    cascade = derivation.normalized
    found = (r for e in cascade.equations for n in walk(e.value) if isinstance(n, Reduction) for r in n.ranks)
    return list(dict.fromkeys(found))


def _pass_table(derivation: Derivation, kernels: list[KernelDerivation]) -> Table:
    table = tables.table("passes over each reduced rank", "rank", ">as written", ">compiled", "why")
    inlined = dict(derivation.stages)["inline"]
    for rank in reduced_ranks(derivation):
        before = pass_levels(inlined, rank)
        after = _passes_after(kernels, rank)
        table.add_row(rank, str(before.passes), str(after), _why(before))
    return table


def _why(levels: PassLevels) -> str:
    return "\n".join(map(str, levels.pairs)) or "every traversal can be shared"


def _passes_after(kernels: list[KernelDerivation], rank: str) -> int:
    """The passes that remain: of the loops of every kernel that streams the rank, or of its cascade where it does not."""
    total = 0
    for kernel in kernels:
        cascade = kernel.final
        stream = kernel.plan.stream
        if stream and stream.rank.split(".")[0] == rank:  # the rank, or what is inside its chunks
            total += pass_levels(cascade, f"{stream.rank}.1").passes
        elif any(isinstance(n, Reduction) and rank in n.ranks for e in cascade.equations for n in walk(e.value)):
            total = max(total, 1)
    return total


# -- laws ---------------------------------------------------------------------------------------------------------------------


def _certificates(kernels: list[KernelDerivation]) -> list[RenderableType]:
    found = [c for k in kernels for c in k.certificates if c.form in MEANINGS]
    if not found:
        return []
    table = tables.table("what was proved, and what was refused", "pass", "reduction", "meaning and proof", lines=True)
    for c in found:
        meaning = MEANINGS[c.form].format(tensor=c.tensor, ranks=", ".join(c.ranks))
        proof = [
            c.identity,
            *(f"given that {condition}" for condition in c.conditions),
            *([f"because {c.reason}"] if c.reason else []),
        ]
        table.add_row(c.step, f"{c.tensor} over {', '.join(c.ranks)}", "\n".join([f"{meaning}.", *filter(None, proof)]))
    return ["", table, *([LEGEND] if any("d0" in c.identity for c in found) else [])]


# -- kernels ------------------------------------------------------------------------------------------------------------------


def _kernel(chosen: PlannedKernel, tile: TileKernel, work: Work) -> Table:
    plan = chosen.plan
    rows = [("programs", f"{work.programs:,} over {', '.join(map(str, plan.program))}" if plan.program else "1")]
    if chosen.split:
        rows.append(("split", str(chosen.split)))
    if plan.stream:
        rows.append(("streamed", f"{plan.stream.rank}, {plan.stream.size} at a time"))
    if plan.resident:
        rows.append(("held whole", ", ".join(plan.resident)))
    loops = [s for s in tile.body if isinstance(s, Loop)]
    for number, loop in enumerate(loops):
        rows += _sweep(number + 1, loop, work.sweeps[number] if work.sweeps is not None else None)
    for schedule in tile.schedules:
        rows.append(
            ("tile list", f"{schedule.name}, made at every call: tiles where {print_expression(schedule.predicate)}")
        )
    if work.products is not None and work.others is not None:
        rows.append(("operations", f"{_scaled(work.products)} in products of tiles, {_scaled(work.others)} in others"))
    rows.append(("bytes", f"{work.read:,} to read and {work.written:,} to write, each tensor once"))
    return tables.fields(*rows)


def _sweep(number: int, loop: Loop, visits: Visits | None) -> list[tuple[str, str]]:
    """The ranges of a loop, and how many tiles they are at these sizes."""
    rows = []
    for r in loop.ranges:
        where = (
            f"[{print_expression(r.lower)}, {print_expression(r.upper)})"
            if isinstance(r, Range)
            else "listed at run time"
        )
        rows.append(("partial" if r.partial else "full", f"{loop.rank} in {where}" if isinstance(r, Range) else where))
    if visits is None:
        seen = "depends on the values of tensors: give them to count the tiles"
    else:
        share = f" ({(visits.full + visits.partial) / visits.total:.0%})" if visits.total else ""
        seen = f"{visits.full:,} full and {visits.partial:,} partial of {visits.total:,} tiles{share}; a full tile needs no mask"
    return [(f"sweep {number}", seen), *((f"  {kind}", where) for kind, where in rows)]


def _scaled(count: int) -> str:
    """``1.23 G``."""
    for factor, unit in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return str(count)
