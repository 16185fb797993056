"""What the mathematics forces, what was proved, and what the kernels do: tables for people."""

from __future__ import annotations

from io import StringIO

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from einsum_compiler.derivation import Derivation, KernelDerivation
from einsum_compiler.ir.binding import Binding
from einsum_compiler.ir.expression import Reduction, walk
from einsum_compiler.ir.plan import Plan
from einsum_compiler.ir.scalar import evaluate_scalar
from einsum_compiler.ir.tile import Loop, Range, Statement, TileKernel
from einsum_compiler.ir.types import bytes_of
from einsum_compiler.passes.analysis.levels import PassLevels, pass_levels
from einsum_compiler.planning import PlannedKernel
from einsum_compiler.specialise import derive_planned, lower_planned, plan_of, request

WIDTH = 110


def explain(derivation: Derivation, binding: Binding, backend: str, plan: Plan | None) -> str:
    """The report of one program at given sizes, as text."""
    wanted = request(derivation, binding, backend)
    planned = plan_of(derivation, wanted, plan)
    kernels = [derive_planned(p, wanted) for p in planned]
    tiles = [lower_planned(p, wanted) for p in planned]
    return _text(
        Text(_signature(derivation), style="bold"),
        _sizes(binding),
        _pass_table(derivation, kernels),
        *_certificates(kernels),
        _kernel_table(kernels, tiles, planned, binding),
    )


def pass_report(derivation: Derivation, binding: Binding, backend: str, plan: Plan | None) -> str:
    """The passes over every reduced rank, before and after, with what forces each."""
    wanted = request(derivation, binding, backend)
    kernels = [derive_planned(p, wanted) for p in plan_of(derivation, wanted, plan)]
    return _text(Text(_signature(derivation), style="bold"), _pass_table(derivation, kernels))


def _text(*parts: RenderableType) -> str:
    console = Console(file=StringIO(), width=WIDTH, color_system=None, markup=False, highlight=False)
    console.print(Group(*parts))
    assert isinstance(console.file, StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def _signature(derivation: Derivation) -> str:
    c = derivation.declared
    inputs = ", ".join(f"{t.name}[{','.join(t.ranks)}]" for t in c.inputs)
    outputs = ", ".join(f"{t.name}[{','.join(t.ranks)}]" for t in c.outputs)
    return f"{c.name}({inputs}) -> {outputs}"


def _sizes(binding: Binding) -> Text:
    return Text("at " + ", ".join(f"{r.upper()} = {n}" for r, n in binding.extents.items()))


def reduced_ranks(derivation: Derivation) -> list[str]:
    """The ranks that some equation of the inlined cascade reduces, in order."""
    cascade = derivation.normalized
    found = (r for e in cascade.equations for n in walk(e.value) if isinstance(n, Reduction) for r in n.ranks)
    return list(dict.fromkeys(found))


def _pass_table(derivation: Derivation, kernels: list[KernelDerivation]) -> Table:
    table = Table(title="passes over each reduced rank", title_justify="left", show_lines=False)
    for heading in ("rank", "as written", "compiled", "why"):
        table.add_column(heading, justify="right" if heading in ("as written", "compiled") else "left")
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
        if (
            kernel.plan.stream and kernel.plan.stream.rank.split(".")[0] == rank
        ):  # the rank, or what is inside its chunks
            total += pass_levels(cascade, f"{kernel.plan.stream.rank}.1").passes
        elif any(isinstance(n, Reduction) and rank in n.ranks for e in cascade.equations for n in walk(e.value)):
            total = max(total, 1)
    return total


def _certificates(kernels: list[KernelDerivation]) -> list[RenderableType]:
    found = [c for k in kernels for c in k.certificates if c.form != "plain"]
    if not found:
        return []
    table = Table(title="what was proved, and what was refused", title_justify="left", show_lines=True)
    for heading in ("pass", "reduction", "form", "identity and conditions"):
        table.add_column(heading)
    for c in found:
        detail = [
            c.identity,
            *(f"given {condition}" for condition in c.conditions),
            *([f"because {c.reason}"] if c.reason else []),
        ]
        table.add_row(c.step, f"{c.tensor} over {', '.join(c.ranks)}", c.form, "\n".join(d for d in detail if d))
    return [table]


def _kernel_table(
    kernels: list[KernelDerivation], tiles: list[TileKernel], planned: tuple[PlannedKernel, ...], binding: Binding
) -> Table:
    table = Table(title="kernels", title_justify="left", show_lines=True)
    for heading in ("writes", "plan", "loops", "compulsory bytes"):
        table.add_column(heading)
    for kernel, tile, chosen in zip(kernels, tiles, planned, strict=True):
        plan = kernel.plan
        roles = [f"program {', '.join(map(str, plan.program)) or 'one'}"]
        roles += [f"stream {plan.stream}"] if plan.stream else []
        roles += [f"resident {', '.join(plan.resident)}"] if plan.resident else []
        names = {**binding.names(), **{rank.upper(): extent for rank, extent in chosen.extents.items()}}
        moved = sum(
            bytes_of(t.dtype) * _elements([int(evaluate_scalar(e, names)) for e in t.extents])
            for t in (*tile.inputs, *tile.outputs)
        )
        table.add_row(", ".join(plan.outputs), "\n".join(roles), "\n".join(_loops(tile.body)) or "none", f"{moved:,}")
    return table


def _loops(body: tuple[Statement, ...]) -> list[str]:
    from einsum_compiler.ir.printer import print_expression

    found = []
    for number, loop in enumerate((s for s in body if isinstance(s, Loop)), 1):
        parts = []
        for r in loop.ranges:
            kind = "partial" if r.partial else "full"
            where = (
                f"[{print_expression(r.lower)}, {print_expression(r.upper)})"
                if isinstance(r, Range)
                else "tiles listed at run time"
            )
            parts.append(f"  {kind} {where}")
        found.append(f"sweep {number} over {loop.rank}:\n" + "\n".join(parts))
    return found


def _elements(shape: list[int]) -> int:
    count = 1
    for n in shape:
        count *= n
    return count
