"""Tile programs as text, a statement a line: ``parse_kernel(print_kernel(k)) == k`` (ir.tile_parser)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from einsum_compiler.ir.expression import Expression, Parameter, Read, transform
from einsum_compiler.ir.printer import print_expression
from einsum_compiler.ir.tile import (
    Axis,
    Carry,
    Dot,
    Load,
    Loop,
    Map,
    ProgramRank,
    Range,
    Reduce,
    Schedule,
    Select,
    Statement,
    Store,
    TensorOperand,
    TileKernel,
    TileList,
    TileType,
)

INDENT = "  "


def print_kernel(kernel: TileKernel) -> str:
    """The kernel; a tile named like a rank, scalar or extent is read as ``name[]``, any other by its bare name."""
    return "\n".join(_Printer(kernel).kernel())


def tiles_of(body: Iterable[Statement]) -> set[str]:
    """The names of all tiles that statements define, inside loops too."""
    found: set[str] = set()
    for statement in body:
        if isinstance(statement, Loop):
            found.update(c.name for c in statement.carries)
            found |= tiles_of(statement.body)
        elif isinstance(statement, Load | Map | Select | Dot | Reduce):
            found.add(statement.target)
    return found


def ranks_of_kernel(kernel: TileKernel) -> set[str]:
    """Every name that is an index or an axis somewhere in the kernel."""
    found = {p.rank for p in kernel.program} | set(_ranks(kernel.body))
    for schedule in kernel.schedules:
        found.update(p.rank for p in (*schedule.program, schedule.stream))
        found.update(name for rank, index, _ in schedule.ranks for name in (rank, index))
    return found


def _ranks(body: Iterable[Statement]) -> Iterator[str]:
    for statement in body:
        match statement:
            case Load() | Map() | Select() | Dot():
                yield from statement.type.ranks
            case Reduce():
                yield from (*statement.type.ranks, *(a.rank for a in statement.over))
            case Store():
                yield from (a.rank for a in statement.axes)
            case Loop():
                yield statement.rank
                yield from (r for c in statement.carries for r in c.type.ranks)
                yield from _ranks(statement.body)


def marked_tiles(tiles: set[str], ranks: set[str], scalars: Iterable[str], extents: Iterable[str]) -> set[str]:
    """The tiles whose bare name would mean something else: they are read as ``name[]``."""
    return tiles & (ranks | set(scalars) | {e.upper() for e in extents} | {r.upper() for r in ranks})


class _Printer:
    def __init__(self, kernel: TileKernel) -> None:
        self._kernel = kernel
        scalars = (s.name for s in kernel.scalars)
        self._marked = marked_tiles(tiles_of(kernel.body), ranks_of_kernel(kernel), scalars, kernel.extents)

    def kernel(self) -> Iterator[str]:
        kernel = self._kernel
        scalars = "; " + ", ".join(f"{s.name}: {s.dtype}" for s in kernel.scalars) if kernel.scalars else ""
        extents = f"; extents {', '.join(kernel.extents)}" if kernel.extents else ""
        inputs, outputs = self._operands(kernel.inputs), self._operands(kernel.outputs)
        yield f"kernel {kernel.name}({inputs}{scalars}{extents}) -> {outputs} {{"
        if kernel.program:
            yield f"{INDENT}program {self._program(kernel.program)}"
        yield from (f"{INDENT}{a}" for a in kernel.accumulated)
        for schedule in kernel.schedules:
            yield INDENT + self._schedule(schedule)
        yield from self._body(kernel.body)
        yield "}"

    def _body(self, body: tuple[Statement, ...]) -> Iterator[str]:
        for statement in body:
            if isinstance(statement, Loop):
                carries = f" carry {', '.join(map(self._carry, statement.carries))}" if statement.carries else ""
                ranges = ", ".join(map(self._range, statement.ranges))
                yield f"{INDENT}loop {statement.rank} in {ranges}{self._where(statement.where)}{carries} {{"
                yield from (INDENT + line for line in self._body(statement.body))
                yield INDENT + "}"
            else:
                yield INDENT + self._statement(statement)

    def _statement(self, statement: Statement) -> str:
        match statement:
            case Load(target, kind, tensor, indices, where, partial_where, fill):
                source = f"{tensor}[{self._all(indices)}]{self._where(where)}{self._where(partial_where, ' partial')}"
                return f"{target}: {_type(kind)} = load {source} fill {self._show(fill)}"
            case Map(target, kind, value):
                return f"{target}: {_type(kind)} = map {self._show(value)}"
            case Select(target, kind, condition, value, fill, partial):
                parts = self._all((condition, value, fill))
                return f"{target}: {_type(kind)} = select{' partial' if partial else ''} ({parts})"
            case Dot(target, kind, left, right, over, accumulator):
                ranks = f" over {', '.join(over)}" if over else ""
                return f"{target}: {_type(kind)} = dot({left}, {right}){ranks}{self._accumulate(accumulator)}"
            case Reduce(target, kind, operator, over, value, accumulator):
                body = f"{operator}{_over(over)} ({self._show(value)}){self._accumulate(accumulator)}"
                return f"{target}: {_type(kind)} = reduce {body}"
            case Store(tensor, axes, indices, value, where, adds):
                place = f"{tensor}[{self._all(indices)}]{_over(axes)}"
                return f"{'add' if adds else 'store'} {place} = {self._show(value)}{self._where(where)}"
        raise TypeError(f"no statement of a tile program: {statement!r}")

    def _show(self, node: Expression) -> str:
        def bare(found: Expression) -> Expression:
            is_tile = isinstance(found, Read) and not found.indices
            return Parameter(found.tensor) if is_tile and found.tensor not in self._marked else found  # type: ignore[attr-defined]

        return print_expression(transform(node, bare))

    def _all(self, nodes: tuple[Expression, ...]) -> str:
        return ", ".join(map(self._show, nodes))

    def _where(self, predicate: Expression | None, mark: str = "") -> str:
        return "" if predicate is None else f"{mark} where {self._show(predicate)}"

    def _accumulate(self, accumulator: Expression | None) -> str:
        return "" if accumulator is None else f" accumulate {self._show(accumulator)}"

    def _operands(self, operands: tuple[TensorOperand, ...]) -> str:
        return ", ".join(f"{o.name}: {o.dtype}[{self._all(o.extents)}]" for o in operands)

    def _program(self, program: tuple[ProgramRank, ...]) -> str:
        return ", ".join(f"{p.rank} in {self._show(p.count)}" for p in program)

    def _schedule(self, schedule: Schedule) -> str:
        splits = ", ".join(f"{rank} by {index}:{size}" for rank, index, size in schedule.ranks)
        program = f" program {self._program(schedule.program)}" if schedule.program else ""
        stream = self._program((schedule.stream,))
        return f"schedule {schedule.name} of {self._show(schedule.predicate)} split {splits}{program} stream {stream}"

    def _range(self, part: Range | TileList) -> str:
        coverage = "partial" if part.partial else "full"
        if isinstance(part, Range):
            return f"{coverage} [{self._show(part.lower)}, {self._show(part.upper)})"
        return f"{coverage} list {part.schedule} at {self._show(part.position)}"

    def _carry(self, carry: Carry) -> str:
        return f"{carry.name}: {_type(carry.type)} = {self._show(carry.initial)} next {carry.next}"


def _type(kind: TileType) -> str:
    return f"{kind.dtype}[{_axes(kind.axes)}]"


def _axes(axes: tuple[Axis, ...]) -> str:
    return ", ".join(f"{a.rank}:{a.size}" for a in axes)


def _over(axes: tuple[Axis, ...]) -> str:
    return f" over {_axes(axes)}" if axes else ""
