"""The kernels of a plan: what becomes of every rank, what each reads and writes, its tile program and its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from einsum_compiler.building import emitted
from einsum_compiler.compilation import Compilation, CompiledPart
from einsum_compiler.explain import held, visited
from einsum_compiler.ir.scalar import evaluate_scalar
from einsum_compiler.ir.tile import Loop, TensorOperand
from einsum_compiler.ir.types import bytes_of
from einsum_compiler.passes.traffic import footprint_of
from einsum_compiler.quantities import data, scaled
from einsum_compiler.report.syntax import code_lines

ROLES = {
    "program": "spread over programs",
    "stream": "streamed: a loop inside every program",
    "resident": "held whole inside every program",
}


@dataclass(frozen=True)
class RankRow:
    """One rank of a kernel: its extent, its role, the coordinates of a tile and the number of tiles."""

    rank: str
    extent: str
    role: str
    tile: str
    tiles: str


@dataclass(frozen=True)
class TensorRow:
    """A tensor that a kernel reads or writes; ``origin``: an input, an output, or the kernels between which it is kept."""

    name: str
    dtype: str
    shape: str
    size: str
    origin: str


@dataclass(frozen=True)
class KernelView:
    """One kernel, in words and numbers."""

    number: int
    outputs: str
    plan: str
    programs: str
    split: str
    ranks: tuple[RankRow, ...]
    reads: tuple[TensorRow, ...]
    writes: tuple[TensorRow, ...]
    sweeps: tuple[str, ...]
    held: str
    products: str
    others: str
    tile_lines: tuple[str, ...]
    source_lines: tuple[str, ...]


def kernel_views(compiled: Compilation, backend: str) -> list[KernelView]:
    """Every kernel in the order they run."""
    writers = {o.name: n for n, part in enumerate(compiled.parts, 1) for o in part.tile.outputs}
    return [_view(compiled, part, number, backend, writers) for number, part in enumerate(compiled.parts, 1)]


def _view(
    compiled: Compilation, part: CompiledPart, number: int, backend: str, writers: Mapping[str, int]
) -> KernelView:
    work, plan = part.work, part.planned.plan
    extents = {**compiled.binding.extents, **part.planned.extents}
    loops = sum(isinstance(s, Loop) for s in part.tile.body)
    outputs = {t.name for t in compiled.derivation.declared.outputs}
    language = "cpp" if backend == "cpu" else "python"
    return KernelView(
        number,
        ", ".join(plan.outputs),
        str(plan),
        f"{work.programs:,}",
        "; ".join(map(str, part.planned.splits)),
        tuple(_ranks(part, extents)),
        tuple(_tensor(compiled, o, extents, _from(writers.get(o.name))) for o in part.tile.inputs),
        tuple(_tensor(compiled, o, extents, _to(compiled, o.name, o.name in outputs)) for o in part.tile.outputs),
        tuple(visited(v) for v in work.sweeps or (None,) * loops),
        held(footprint_of(part.tile)),
        "depends on values" if work.products is None else scaled(work.products, "op"),
        "depends on values" if work.others is None else scaled(work.others, "op"),
        tuple(code_lines(str(part.tile), "tile")),
        tuple(code_lines(emitted(part.tile, backend), language)),
    )


def _ranks(part: CompiledPart, extents: Mapping[str, int]) -> list[RankRow]:
    plan = part.planned.plan
    roles = [("program", r.rank, r.size) for r in plan.program]
    roles += [("stream", s.rank, s.size) for s in plan.streams]
    roles += [("resident", r, extents.get(r, 0)) for r in plan.resident]
    rows = []
    for role, rank, size in roles:
        extent = extents.get(rank)
        tiles = f"{-(-extent // size):,}" if extent and size else "–"
        rows.append(RankRow(rank, f"{extent:,}" if extent is not None else "–", ROLES[role], f"{size:,}", tiles))
    return rows


def _tensor(compiled: Compilation, operand: TensorOperand, extents: Mapping[str, int], origin: str) -> TensorRow:
    names = {**compiled.binding.scalars, **{r.upper(): n for r, n in extents.items()}}
    shape = [int(evaluate_scalar(e, names)) for e in operand.extents]
    size = data(prod(shape) * bytes_of(operand.dtype))
    return TensorRow(operand.name, operand.dtype, " × ".join(map(str, shape)) or "scalar", size, origin)


def _from(writer: int | None) -> str:
    return "an input of the program" if writer is None else f"written by kernel {writer}"


def _to(compiled: Compilation, name: str, output: bool) -> str:
    readers = [n for n, p in enumerate(compiled.parts, 1) if any(o.name == name for o in p.tile.inputs)]
    parts = ["an output of the program"] if output else []
    parts += [f"read by kernel {', '.join(map(str, readers))}"] if readers else []
    return "; ".join(parts) or "kept for nobody"
