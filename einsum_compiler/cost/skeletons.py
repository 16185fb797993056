"""The steps of a tile program, apart from the sizes of its tiles: made once by lowering one plan, then priced for many.

Statements of a tile program do not change with the sizes of its tiles (only whether a rank is tiled at all changes them), so one skeleton serves all
plans that tile the same ranks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

from einsum_compiler.backends.cpu.affine import Known
from einsum_compiler.backends.cpu.buckets import buckets_of
from einsum_compiler.backends.cpu.running import running_of
from einsum_compiler.backends.cpu.schedule import latest
from einsum_compiler.backends.cpu.simplify import simplify
from einsum_compiler.cost.operation_counts import count_operations
from einsum_compiler.cost.steps import (
    Fetch,
    LoopSkeleton,
    OnePass,
    Operation,
    Packing,
    Product,
    Skeleton,
    Step,
    Sum,
    Sweep,
    Tile,
    Write,
    lane,
)
from einsum_compiler.ir.expression import Binary, Call, Expression, Parameter, Rank, Read, walk
from einsum_compiler.ir.tile import Dot, Load, Loop, Map, Reduce, Select, Statement, Store, TileKernel
from einsum_compiler.ir.tile_ranges import expressions_of, loop_body, reads_in
from einsum_compiler.ir.types import bytes_of, is_float
from einsum_compiler.passes.analysis.range_arithmetic import ValueRange
from einsum_compiler.passes.analysis.value_ranges import expression_range


def skeleton_of(kernel: TileKernel, predicates: Sequence[frozenset[Expression]]) -> Skeleton:
    """The skeleton of a tile program; ``predicates``: of each of its loops."""
    loops = [s for s in kernel.body if isinstance(s, Loop)]
    kept = {n for s in kernel.body if isinstance(s, Loop) for n in reads_in(s)}
    kinds = _types(kernel.body)
    sources = _sources(kernel.body)
    found = []
    outside = [s for s in kernel.body if not isinstance(s, Loop)]
    held = {t for s in outside if (t := getattr(s, "target", None))}
    packings: list[Packing] = []
    for loop, predicate in zip(loops, predicates, strict=True):
        nexts = {c.next for c in loop.carries}
        bodies = [latest(simplify(loop_body(loop, p), nexts)) for p in (False, True)]
        packed = {p for body in bodies for p in _packed_before(body, held, kinds, sources)}
        packings += [p for _, p in sorted(packed, key=str)]
        names = {n for n, _ in packed}
        full, partial = (_steps(body, nexts, kinds, sources, names) for body in bodies)
        carried = tuple(Tile(c.type.ranks, bytes_of(c.type.dtype)) for c in loop.carries)
        found.append(LoopSkeleton(predicate, full, partial, carried, _sums(loop.body, kinds)))
    steps = _steps(latest(simplify(outside, kept)), kept, kinds, sources)
    return Skeleton((*steps, *packings), tuple(found), _sums(outside, kinds))


def _sums(body: Sequence[Statement], kinds: Mapping[str, tuple[Tile, str]]) -> tuple[Sum, ...]:
    found = []
    values: dict[str, ValueRange] = {}
    for s in body:
        if isinstance(s, Map):
            values[s.target] = expression_range(s.value, values)
        if isinstance(s, Reduce) and s.operator == "sum" and s.type.dtype in ("f32", "f64"):
            over = tuple(a.rank for a in s.over)
            reads = [kinds[n][0] for n in reads_in(s) if n in kinds]
            terms = expression_range(s.value, values)
            once = _one_pass(s, kinds)
            along = lane(s.type.ranks, over, reads) in over and (once is None or once.runs)
            found.append(Sum(over, along, terms.low < 0 < terms.high))
    return tuple(dict.fromkeys(found))


def _types(body: Sequence[Statement]) -> dict[str, tuple[Tile, str]]:
    found: dict[str, tuple[Tile, str]] = {}
    for s in body:
        if isinstance(s, Loop):
            found |= {c.name: (Tile(c.type.ranks, bytes_of(c.type.dtype)), c.type.dtype) for c in s.carries}
            found |= _types(s.body)
        elif isinstance(s, (Load, Map, Select, Dot, Reduce)):
            found[s.target] = Tile(s.type.ranks, bytes_of(s.type.dtype)), s.type.dtype
    return found


def _sources(body: Sequence[Statement]) -> dict[str, str]:
    """The tensor that every loaded tile is of."""
    found = {s.target: s.tensor for s in body if isinstance(s, Load)}
    for s in body:
        if isinstance(s, Loop):
            found |= _sources(s.body)
    return found


def _packed_before(
    body: Sequence[Statement],
    held: Collection[str],
    kinds: dict[str, tuple[Tile, str]],
    sources: Mapping[str, str],
) -> Iterator[tuple[str, Packing]]:
    """The right operands of products made outside of a loop that are packed for them, as ``backends.cpu.operands`` does."""
    for s in body:
        if isinstance(s, Dot):
            name, product = _right(s, kinds), _product(s, kinds)
            tile, dtype = kinds[name]
            plain = not product.batch and len(product.rows) == len(product.columns) == len(product.depth) == 1
            always = product.adjacent or dtype in ("bf16", "f16")
            if name in held and plain and (always or name in sources):
                source = sources.get(name, "")
                yield name, Packing(tile, product.rows, product.depth, product.adjacent, source, always)


def _steps(
    body: Sequence[Statement],
    kept: set[str],
    kinds: dict[str, tuple[Tile, str]],
    sources: Mapping[str, str],
    packed: Collection[str] = (),
) -> tuple[Step, ...]:
    """The statements in order, those that share a loop nest as one sweep; right operands of products that are ``packed`` already."""
    found: list[Step] = []
    group: list[Map | Select | Reduce] = []
    operands = {n for s in body if isinstance(s, Dot) for n in (s.left, s.right)}
    held = kinds.keys() - {t for s in body if (t := getattr(s, "target", None))}
    direct = {d.target for d in body if isinstance(d, Dot) and d.accumulator is None and _is_added(d, body, kept)}
    for i, s in enumerate(body):
        if isinstance(s, Map | Select | Reduce):
            if group and not _joins(group, s, kinds):
                found.append(_sweep(group, body[i:], kept, kinds, held))
                group = []
            group.append(s)
            continue
        if group:
            found.append(_sweep(group, body[i:], kept, kinds, held))
            group = []
        match s:
            case Load():
                found.append(_fetch(s, s.target in operands))
            case Dot():
                step, right = _product(s, kinds), _right(s, kinds)
                accumulates = step.accumulates or s.target in direct
                found.append(
                    replace(step, packed=right in packed, accumulates=accumulates, source=sources.get(right, ""))
                )
                if s.accumulator is not None and not _is_scaled(s.accumulator):
                    found.append(_accumulator(s, kinds))
            case Store():
                ranks = tuple(a.rank for a in s.axes)
                value = s.value.tensor if isinstance(s.value, Read) else ""
                outer, apart = _outer(s.indices, ranks), _lies_apart(s.indices, ranks)
                found.append(Write(s.tensor, Tile(ranks, 4), s.adds, outer, value in direct, apart))
    if group:
        found.append(_sweep(group, (), kept, kinds, held))
    return tuple(found)


def _is_added(dot: Dot, body: Sequence[Statement], kept: set[str]) -> bool:
    """Whether a product goes straight into the tensor it is added to, as in ``backends.cpu.sums``."""
    readers = [s for s in body if dot.target in reads_in(s)]
    added = len(readers) == 1 and isinstance(readers[0], Store) and readers[0].adds
    return added and dot.target not in kept and len(dot.type.axes) == 2 and len(dot.over) == 1


def _space(s: Map | Select | Reduce) -> tuple[str, ...]:
    over = tuple(a.rank for a in s.over) if isinstance(s, Reduce) else ()
    return (*s.type.ranks, *over)


def _joins(group: list[Map | Select | Reduce], s: Map | Select | Reduce, kinds: Mapping[str, tuple[Tile, str]]) -> bool:
    return not isinstance(group[-1], Reduce) and _space(group[0]) == _space(s) and not _one_pass(s, kinds)


def _one_pass(s: Statement, kinds: Mapping[str, tuple[Tile, str]]) -> OnePass | None:
    """How a reduction meets every point once, if it does."""
    if not isinstance(s, Reduce):
        return None
    scalars = {n.name for n in walk(s.value) if isinstance(n, Parameter)}  # in bounds they are integers
    whole = {n for n, (_, dtype) in kinds.items() if not is_float(dtype) and dtype != "bool"}
    known = Known({n: tile.axes for n, (tile, _) in kinds.items()}, scalars | whole)
    if running := running_of(s, known):
        return OnePass(running.results.rank, (running.along.rank,), True)
    if buckets := buckets_of(s, known):
        return OnePass(buckets.results.rank, tuple(a.rank for a in buckets.points), False)
    return None


def _sweep(
    group: list[Map | Select | Reduce],
    later: Sequence[Statement],
    kept: set[str],
    kinds: dict[str, tuple[Tile, str]],
    outside: AbstractSet[str],
) -> Sweep:
    made = {s.target for s in group}
    used = kept | {n for s in later for n in reads_in(s)}
    reads = {n for s in group for n in reads_in(s)} - made
    dying = [kinds[n][0] for n in sorted(reads - used - outside) if n in kinds]
    operations: dict[tuple[str, frozenset[str]], int] = {}
    for s in group:
        for node in expressions_of(s):
            count_operations(node, kinds, operations, _space(s))
        if isinstance(s, Reduce):
            key = ("simple", frozenset(_space(s)))
            operations[key] = operations.get(key, 0) + 1
        elif isinstance(s, Select):
            key = ("simple", frozenset(s.type.ranks))
            operations[key] = operations.get(key, 0) + 1
    last = group[-1]
    over = tuple(a.rank for a in last.over) if isinstance(last, Reduce) else ()
    fresh = [kinds[s.target][0] for s in group if s.target in used]
    for tile in dying:
        if tile in fresh:
            fresh.remove(tile)
    return Sweep(
        last.type.ranks,
        over,
        tuple(Operation(kind, axes, n) for (kind, axes), n in operations.items()),
        tuple(kinds[n][0] for n in sorted(reads) if n in kinds),
        tuple(kinds[s.target][0] for s in group if s.target in used),
        tuple(fresh),
        _one_pass(last, kinds),
    )


def _is_scaled(node: Expression) -> bool:
    """``acc`` or ``acc * s``: applied while the product is added."""
    return isinstance(node, Read) or (
        isinstance(node, Binary) and node.operator == "*" and isinstance(node.right, Read)
    )


def _accumulator(s: Dot, kinds: Mapping[str, tuple[Tile, str]]) -> Sweep:
    assert s.accumulator is not None
    operations: dict[tuple[str, frozenset[str]], int] = {}
    tile = kinds[s.target][0]
    count_operations(s.accumulator, kinds, operations, tile.axes)
    counted = tuple(Operation(kind, axes, n) for (kind, axes), n in operations.items())
    return Sweep(tile.axes, (), counted, (tile,), (tile,), ())


def _right(s: Dot, kinds: Mapping[str, tuple[Tile, str]]) -> str:
    """The operand with the columns."""
    last = s.type.ranks[-1] if s.type.axes else ""
    return s.left if last in kinds[s.left][0].axes and last not in kinds[s.right][0].axes else s.right


def _product(s: Dot, kinds: Mapping[str, tuple[Tile, str]]) -> Product:
    """As ``backends.cpu.products`` reads it: columns come from the operand that has the result's last axis."""
    (left, left_type), (right, right_type) = kinds[s.left], kinds[s.right]
    last = s.type.ranks[-1] if s.type.axes else ""
    if last in left.axes and last not in right.axes:
        left, right, left_type, right_type = right, left, right_type, left_type
    columns = tuple(r for r in s.type.ranks if r in right.axes and r not in left.axes)
    rows = tuple(r for r in s.type.ranks if r in left.axes and r not in right.axes)
    batch = tuple(r for r in s.type.ranks if r in left.axes and r in right.axes)
    adjacent = bool(right.axes) and right.axes[-1] in s.over
    rescales = s.accumulator is not None and not isinstance(s.accumulator, Read)
    return Product(
        batch,
        rows,
        columns,
        s.over,
        (left_type, right_type),
        adjacent,
        kinds[s.target][0],
        s.accumulator is not None,
        rescales,
        last not in columns,
    )


def _fetch(s: Load, operand: bool) -> Fetch:
    axes = s.type.ranks
    scattered = _lies_apart(s.indices, axes) or any(
        isinstance(n, (Read, Call)) or (isinstance(n, Binary) and n.operator in ("//", "%") and _varies(n, axes))
        for index in s.indices
        for n in walk(index)
    )
    tile = Tile(axes, bytes_of(s.type.dtype))
    return Fetch(s.tensor, tile, s.type.dtype, _outer(s.indices, axes), scattered and bool(axes), operand)


def _lies_apart(indices: tuple[Expression, ...], axes: tuple[str, ...]) -> bool:
    """Whether no two elements of a tile are neighbours in memory: none of its axes is in the last index."""
    return bool(axes) and bool(indices) and not _varies(indices[-1], axes)


def _outer(indices: tuple[Expression, ...], axes: tuple[str, ...]) -> frozenset[str]:
    """The program and loop ranks in indices."""
    names = {n.name for index in indices for n in walk(index) if isinstance(n, Rank)}
    return frozenset(n.removesuffix(".1") for n in names - set(axes) if not n.endswith(".0"))


def _varies(node: Expression, axes: tuple[str, ...]) -> bool:
    return any(isinstance(n, Rank) and n.name in axes for n in walk(node))
