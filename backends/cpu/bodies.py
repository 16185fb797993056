"""Statements in order: grouped into sweeps, with scratch that is freed after its last reader."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from einsum_compiler.backends.cpu.ahead import products_that_ask
from einsum_compiler.backends.cpu.buckets import Buckets, buckets_of, emit_buckets
from einsum_compiler.backends.cpu.loads import emit_load
from einsum_compiler.backends.cpu.products import emit_dot
from einsum_compiler.backends.cpu.rows import emit_hidden, tables_of
from einsum_compiler.backends.cpu.running import Running, emit_running, running_of
from einsum_compiler.backends.cpu.schedule import latest
from einsum_compiler.backends.cpu.scope import Scope
from einsum_compiler.backends.cpu.simplify import simplify
from einsum_compiler.backends.cpu.spaces import joins
from einsum_compiler.backends.cpu.spans import Bounds, emit_spans, trim_of
from einsum_compiler.backends.cpu.stores import emit_store
from einsum_compiler.backends.cpu.sums import addition_of, emit_addition
from einsum_compiler.backends.cpu.sweeps import emit_sweep
from einsum_compiler.ir.build import reads_of
from einsum_compiler.ir.errors import BackendError
from einsum_compiler.ir.tile import Carry, Dot, Load, Loop, Map, Reduce, Select, Statement, Store
from einsum_compiler.ir.tile_printer import print_kernel
from einsum_compiler.ir.tile_ranges import reads_in

EmitLoop = Callable[[Scope, Loop], None]


@dataclass(frozen=True)
class Unit:
    """What is emitted together: one statement, or the maps, selects and the reduction of a sweep."""

    statements: tuple[Statement, ...]

    @property
    def targets(self) -> tuple[str, ...]:
        return tuple(t for s in self.statements for t in _targets(s))

    @property
    def reads(self) -> set[str]:
        return {n for s in self.statements for n in reads_in(s)}


def _targets(statement: Statement) -> tuple[str, ...]:
    if isinstance(statement, Loop):
        return tuple(c.name for c in statement.carries)
    return () if isinstance(statement, Store) else (statement.target,)  # type: ignore[attr-defined]


def emit_body(
    scope: Scope,
    statements: Sequence[Statement],
    carries: Sequence[Carry],
    emit_loop: EmitLoop,
    bounds: Bounds | None = None,
) -> None:
    """Emit the statements of a body. ``carries`` of the loop around may be updated in place where they die.

    ``bounds``: those of columns that rows see; what lies outside of them is left out where all statements can.
    """
    kept = {c.next for c in carries} | {n for s in statements if isinstance(s, Loop) for n in reads_in(s)}
    body = latest(simplify(statements, kept))
    own = {t for s in body for t in _targets(s)}
    kept |= {c.next for c in carries}
    trim = trim_of(scope, bounds, body, kept) if bounds else None
    if bounds and trim:
        scope.trim = emit_spans(scope, bounds, trim)
        if not any(isinstance(s, Store) for s in body):
            # No row sees a column: the tile adds nothing to the states, which are all that leaves it.
            scope.writer.line(f"if ({scope.trim.name}.all.end == 0) return;")
    tables = tables_of(scope, body)
    if scope.ahead is not None:
        rows, products = products_that_ask(scope, body, tables)
        scope.ahead = replace(scope.ahead, tables=rows, products=products) if rows else None
    pending = list(body)
    while pending:
        unit = _next_unit(scope, pending, kept, tables)
        pending = [s for s in pending if all(s is not u for u in unit.statements)]
        later = {n for s in pending for n in reads_in(s)} | kept
        _reuse(scope, unit, own, later, carries)
        for statement in unit.statements:
            scope.writer.line(f"// {_text(scope, statement)}")
        _emit_unit(scope, unit, later, emit_loop, tables)
        scope.in_place.clear()
        for name in [n for n in scope.tiles if n in own and n not in later]:
            scope.forget(name)
    scope.trim = None


def _next_unit(scope: Scope, pending: list[Statement], kept: set[str], tables: Collection[str]) -> Unit:
    """The first statement with all later ones that fit into its sweep, or with the one that adds a product to a tensor.

    A later statement may move up to here if the tiles it reads are there already or made by the sweep's maps; tiles are
    assigned once, so nothing in between can change them. Of the reductions only one fits, and it stands last.
    """
    first = pending[0]
    if isinstance(first, Dot) and (addition := addition_of(scope, first, pending[1:], kept)):
        return Unit((first, addition))
    if not isinstance(first, Map | Select | Reduce) or first.target in tables or _in_one_pass(scope, first):
        return Unit((first,))
    group: list[Map | Select | Reduce] = [] if isinstance(first, Reduce) else [first]
    fold = first if isinstance(first, Reduce) else None
    kinds = {s.target: s.type.axes for s in group}
    for i, statement in enumerate(pending[1:], 1):
        if not isinstance(statement, Map | Select | Reduce) or (isinstance(statement, Reduce) and fold is not None):
            continue
        if statement.target in tables or _in_one_pass(scope, statement):
            continue
        reads = reads_in(statement)
        related = i == 1 + len(group) - (fold is None) or bool(reads & kinds.keys())
        whole = all(kinds[n] == group[0].type.axes for n in reads & kinds.keys())
        if not (reads <= scope.tiles.keys() | kinds.keys()) or not related or not whole:
            continue
        if not joins(scope, [*group, *([fold] if fold else [])][:1], statement, kinds):
            continue
        if isinstance(statement, Reduce):
            fold = statement
        else:
            group.append(statement)
            kinds[statement.target] = statement.type.axes
    return Unit((*group, *([fold] if fold else [])))


def _emit_unit(scope: Scope, unit: Unit, later: set[str], emit_loop: EmitLoop, tables: Collection[str]) -> None:
    first = unit.statements[0]
    match first:
        case Load():
            emit_load(scope, first, first.target in tables)
        case Select() if first.target in tables and scope.tiles[reads_of(first.value)[0].tensor].rows:
            emit_hidden(scope, first)
        case Store():
            emit_store(scope, first)
        case Dot():
            match unit.statements[1:]:
                case (Store() as addition,):
                    emit_addition(scope, first, addition)
                case _:
                    emit_dot(scope, first)
        case Loop():
            emit_loop(scope, first)
        case Reduce() if found := _in_one_pass(scope, first):
            if isinstance(found, Running):
                emit_running(scope, first, found)
            else:
                emit_buckets(scope, first, found)
        case Map() | Select() | Reduce():
            emit_sweep(scope, [s for s in unit.statements if isinstance(s, Map | Select | Reduce)], later)
        case _:
            raise BackendError(f"the CPU backend has no code for the statement {type(first).__name__}")


def _in_one_pass(scope: Scope, statement: Statement) -> Running | Buckets | None:
    """How a reduction meets every point once, if it does; not over columns of a partial tile that is cut down, which are not all there."""
    if not isinstance(statement, Reduce) or (scope.trim and scope.trim.columns in statement.over):
        return None
    return running_of(statement, scope.known()) or buckets_of(statement, scope.known())


def _reuse(scope: Scope, unit: Unit, own: set[str], later: set[str], carries: Sequence[Carry]) -> None:
    """Which results take over a buffer: a carried one that is read no more, or an operand that dies at the same place.

    A tile made outside of the body (``own``: those made in it) is read again in the next iteration, so it never dies here.
    """
    nexts = [c.next for c in carries]
    for carry in carries:
        dies = carry.name not in later and carry.name not in nexts and nexts.count(carry.next) == 1
        made = next((s for s in unit.statements if carry.next in _targets(s)), None)
        if not dies or made is None or isinstance(made, Load | Loop):
            continue
        if isinstance(made, Dot) and carry.name in (made.left, made.right):
            continue
        if getattr(made, "type", None) == carry.type and not scope.tiles[carry.name].aliased:
            scope.in_place[carry.next] = scope.tiles[carry.name]
    carried = {c.name for c in carries} | {v.offset for v in scope.in_place.values()}
    loaded: list[str] = []  # by statements before, and by none after
    for i, statement in enumerate(unit.statements):
        after = {n for s in unit.statements[i + 1 :] for n in reads_in(s)}
        operands = sorted(reads_in(statement))
        loaded = [*operands, *(n for n in loaded if n not in after and n not in operands)]
        if (
            not isinstance(statement, Map | Select)
            or statement.target in scope.in_place
            or statement.target not in later
        ):
            continue
        for name in loaded:
            view = scope.tiles.get(name)
            if (
                view is None
                or name not in own
                or name in later
                or name in carried
                or view.aliased
                or view.rounds
                or view.offset in carried
            ):
                continue
            shared = sum(other.offset == view.offset for other in scope.tiles.values())
            widens = statement.target in scope.widened and statement.type.dtype in ("f16", "bf16")
            if shared == 1 and not widens and (view.axes, view.dtype) == (statement.type.axes, statement.type.dtype):
                scope.in_place[statement.target] = view
                carried.add(view.offset)
                break


def _text(scope: Scope, statement: Statement) -> str:
    """The statement as the tile program prints it; of a loop its first line."""
    if isinstance(statement, Loop):
        statement = replace(statement, body=())
        return print_kernel(replace(scope.kernel, body=(statement,))).splitlines()[-3].strip()
    return print_kernel(replace(scope.kernel, body=(statement,))).splitlines()[-2].strip()
