"""``partition``: the size of every tile of a kernel.

Law: a rank that some streamed operand lacks gives reuse (each element loaded serves the whole tile), so such ranks get tiles; the others are
spread over programs one coordinate at a time. How large the tiles are is given: ``cost.grids`` asks for many sizes and predicts the time of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, gcd, inf, prod

from einsum_compiler.ir.build import ranks_of, reads_of
from einsum_compiler.ir.errors import SpecError
from einsum_compiler.ir.expression import Binary, Constant, Expression, Rank, Read, Reduction, walk
from einsum_compiler.ir.launch import Launch
from einsum_compiler.ir.plan import KernelPlan, RankTile
from einsum_compiler.ir.scalar import evaluate_scalar
from einsum_compiler.passes.analysis.affine import reopened
from einsum_compiler.passes.boxes import Reach, choose_boxes
from einsum_compiler.passes.kernel_cascade import KernelCascade

_CLASSES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
VECTOR = 16  # lanes of the widest vectors
_POWERS = tuple(c for c in _CLASSES if c & (c - 1) == 0)


@dataclass(frozen=True)
class Partition:
    """Targets for tiles: rows of a product, its columns, coordinates of the streamed rank; where nothing is reused, of the rank that is contiguous in memory."""

    rows: int = 96
    columns: int = 128
    stream: int = 128
    vector: int = 256
    powers_of_two: bool = False
    warps: int = 0
    stages: int = 2
    batches: bool = True  # whether ranks that both operands of a product have may be tiled
    shared_rows: bool = (
        True  # whether a tile of rows may hold several ranks where one has fewer coordinates than asked for
    )
    lanes: int = 0  # of a vector, where boxes are cut to what their rows see
    along: bool = False  # whether the first tile is one of the rank along which most of what is read lies
    # Whether the only tile is one of the rank that is contiguous in memory, whatever is reused along others.
    alone: bool = False


@dataclass(frozen=True)
class Reuse:
    """What decides which ranks of a kernel get tiles: the ranks of every streamed read, and program ranks that streamed reads divide.

    ``batched``: program ranks that no product has in one operand only. A tile of them is as many products, which share nothing; a matrix unit does one at a time.
    ``held``: rows that every program has whatever its tiles, the coordinates of chunks that it computes streamed tiles of.
    ``steps``: program ranks along which a streamed read runs through memory in steps of so many elements.
    ``along``: the program rank along which most of what is read in a streamed read lies side by side.
    ``taps``: streamed ranks that some read adds to a program rank (``X[x + j]``).
    """

    kernel: KernelCascade
    streamed: tuple[tuple[str, ...], ...]
    groups: Mapping[str, int]
    batched: frozenset[str] = frozenset()
    held: int = 1
    steps: Mapping[str, int] = field(default_factory=dict)
    taps: frozenset[str] = frozenset()
    along: str | None = None


def reuse(kernel: KernelCascade, extents: Mapping[str, int]) -> Reuse:
    """The reuse in a kernel; it depends on extents only through divisors such as ``H // G``."""
    return Reuse(
        kernel,
        tuple(ranks_of(*read.indices) for read in _streamed_reads(kernel)),
        _groups(kernel, extents),
        _batched(kernel),
        _held(kernel, extents),
        _steps(kernel),
        _taps(kernel),
        _along(kernel, extents),
    )


def tile_class(extent: int, target: int, powers_of_two: bool = False) -> int:
    """The least tile size that covers ``extent``, or ``target`` if none does: nearby lengths share a kernel."""
    classes = _POWERS if powers_of_two else _CLASSES
    return min((c for c in classes if c >= extent), default=target) if extent < target else target


def partition(
    kernel: KernelCascade | Reuse,
    extents: Mapping[str, int],
    options: Partition = Partition(),
    reach: Mapping[str, Reach] | None = None,
) -> KernelPlan:
    """The plan of one kernel with tiles of at most the given sizes. ``reach``: see ``passes.boxes``."""
    found = kernel if isinstance(kernel, Reuse) else reuse(kernel, extents)
    kernel, streamed = found.kernel, found.streamed
    tiles = dict.fromkeys(kernel.program, 1)
    chunks = dict(kernel.chunks)
    reused = [r for r in kernel.program if r not in chunks and any(r not in ranks for ranks in streamed)]
    if options.alone:
        reused = []
    elif not options.batches:
        reused = [r for r in reused if r not in found.batched] or ([] if chunks else reused)
    reused.sort(key=lambda r: (options.along and r != found.along, -extents[r], found.steps.get(r, inf)))
    rows = max(1, options.rows // found.held)
    if options.powers_of_two:
        rows = 1 << (rows.bit_length() - 1)
    boxes = None
    # The ranks of a box are one axis, summed only as a whole.
    if len(kernel.streams) == 1 and not kernel.accumulated and not options.alone:
        boxes = choose_boxes(
            kernel.cascade, kernel.stream, reused, extents, rows, options.stream, options.powers_of_two, reach,
            options.lanes,
        )  # fmt: skip
    if boxes is not None and kernel.stream is not None:
        tiles |= boxes.rows
        box = tuple(RankTile(r, n, boxes.starts[r]) for r, n in boxes.columns.items())
        program = tuple(RankTile(r, tiles[r], boxes.starts.get(r, 0)) for r in kernel.program)
        merged = RankTile(kernel.stream, prod(boxes.columns.values()))
        shared = tuple(t.rank for t in program if t.size > 1)
        rows_of_box = shared if len(shared) > 1 else ()
        return KernelPlan(
            kernel.outputs, program, merged, kernel.resident, Launch(options.warps, options.stages),
            rows=rows_of_box, box=box, accumulated=kernel.accumulated,
        )  # fmt: skip
    if reused:
        first = reused[0]
        tiles[first] = tile_class(extents[first], rows, options.powers_of_two)
        near = [r for r in reused[1:] if r in found.steps]
        if options.along:
            tiles |= _along_and_across(found, reused, tiles[first], extents, replace(options, rows=rows))
        elif near and not any(first in ranks for ranks in streamed):
            # Only filters have the first rank: points are put into it, side by side along the rank that is contiguous in memory.
            beside = min(near, key=lambda r: found.steps[r])
            tiles[beside] = tile_class(extents[beside], options.columns, options.powers_of_two)
        for other in () if options.along else reused[1:]:
            if any(other in ranks and first not in ranks for ranks in streamed):
                # Columns of a product: some operand has these and lacks the rows, another the other way round.
                crossed = any(first in ranks and other not in ranks for ranks in streamed)
                if crossed and not any(tiles[r] > 1 for r in reused[1:]):
                    tiles[other] = tile_class(extents[other], options.columns, options.powers_of_two)
            elif options.shared_rows and tiles[first] * 2 <= rows and extents[other] > 1:
                tiles[other] = tile_class(extents[other], rows // tiles[first], options.powers_of_two)
                break
    # A rank read as r // c by what is streamed: tiles of c coordinates share it (grouped heads become rows).
    taken = prod(tiles.values())
    for rank, group in found.groups.items():
        if tiles[rank] == 1 and taken * 2 <= rows:
            tiles[rank] = max(t for t in range(1, group + 1) if group % t == 0 and t * taken <= rows)
            break
    if not reused and taken == 1 and not chunks and kernel.program:
        # No reuse: vectors along the rank whose coordinates lie next to each other in memory.
        nearest = min(
            found.steps, key=lambda r: found.steps[r], default=kernel.program[-1] if kernel.stream is None else None
        )
        if nearest is not None:
            tiles[nearest] = tile_class(extents[nearest], options.vector, options.powers_of_two)
    streams = [RankTile(r, _streamed_tile(r, found, extents[r], options)) for r in kernel.streams]
    program = tuple(RankTile(r, tiles[r]) for r in kernel.program)
    stream = streams[0] if streams else None
    return KernelPlan(
        kernel.outputs, program, stream, kernel.resident, Launch(options.warps, options.stages), tuple(streams[1:]),
        accumulated=kernel.accumulated,
    )  # fmt: skip


def _along_and_across(
    found: Reuse, reused: Sequence[str], rows: int, extents: Mapping[str, int], options: Partition
) -> dict[str, int]:
    """Tiles around the one of ``reused[0]``, ``rows`` of it: of ranks that are nowhere without it until there are rows enough, and of ranks of an operand without it.

    Of those the nearest in memory come first: ``A[s,i,c] * B[s,j,d]`` has rows (i, c) and columns (j, d), with c and d whole before i and j.
    """
    first, streamed = reused[0], found.streamed
    tiles: dict[str, int] = {}
    across: list[str] = []
    columns = 1
    for other in sorted(reused[1:], key=lambda r: (found.steps.get(r, inf), -extents[r])):
        if not any(other in ranks and first not in ranks for ranks in streamed):
            if rows * 2 <= options.rows:
                tiles[other] = tile_class(extents[other], options.rows // rows, options.powers_of_two)
                rows *= tiles[other]
        elif any(first in ranks and other not in ranks for ranks in streamed):
            together = any({*across, other} <= {*ranks} and first not in ranks for ranks in streamed)
            if together and columns * 2 <= options.columns:
                tiles[other] = tile_class(extents[other], options.columns // columns, options.powers_of_two)
                columns *= tiles[other]
                across.append(other)
    return tiles


def _streamed_tile(rank: str, found: Reuse, extent: int, options: Partition) -> int:
    """The coordinates of a streamed rank in a tile. Few taps are one tile of all of them, without a mask; other lengths below a vector's share a kernel, unless fewer are asked for."""
    if rank in found.taps and 0 < extent < VECTOR and not options.powers_of_two:
        return extent
    return max(min(VECTOR, options.stream), tile_class(extent, options.stream, options.powers_of_two))


def _held(kernel: KernelCascade, extents: Mapping[str, int]) -> int:
    """The coordinates of the chunks that tiles along the stream have."""
    streamed = [set(e.target.ranks) for e in kernel.cascade.equations if set(kernel.streams) & set(e.target.ranks)]
    return prod(extents[inner] for _, inner in kernel.chunks if any(inner in ranks for ranks in streamed))


def _batched(kernel: KernelCascade) -> frozenset[str]:
    """The program ranks that, in every contracted product that has them, all factors have."""
    batched: set[str] = set()
    others: set[str] = set()
    for equation in kernel.cascade.equations:
        for node in walk(equation.value):
            if isinstance(node, Reduction) and node.operator == "sum" and len(factors := _factors(node.body)) > 1:
                ranks = [{r for read in reads_of(f) for r in ranks_of(*read.indices)} for f in factors]
                carried = [r for r in ranks if r.intersection(node.ranks)]
                if len(carried) > 1:
                    common = set.intersection(*carried)
                    batched |= common
                    others |= set.union(*carried) - common
    return frozenset((batched - others) & set(kernel.program))


def _factors(node: Expression) -> list[Expression]:
    if isinstance(node, Binary) and node.operator == "*":
        return [*_factors(node.left), *_factors(node.right)]
    return [node]


def _groups(kernel: KernelCascade, extents: Mapping[str, int]) -> dict[str, int]:
    """Program ranks that streamed reads take only as ``r // c``, with the number c; the greatest common divisor of several."""
    inputs = {t.name for t in kernel.cascade.inputs}
    names = {r.upper(): n for r, n in extents.items()}
    found: dict[str, int] = {}
    barred: set[str] = set()
    for equation in kernel.cascade.equations:
        for read in reads_of(equation.value, equation.where):
            if read.tensor not in inputs or (kernel.streams and not set(kernel.streams) & set(ranks_of(*read.indices))):
                continue
            for index in read.indices:
                match index:
                    case Binary(operator="//", left=Rank(name=name), right=divisor) if (
                        name in kernel.program and not ranks_of(divisor)
                    ):
                        try:
                            found[name] = gcd(found.get(name, 0), int(evaluate_scalar(divisor, names)))
                        except SpecError:  # a parameter decides it, or a division of no coordinates
                            barred.add(name)
                    case _:
                        barred.update(ranks_of(index))
    return {r: n for r, n in found.items() if n > 1 and r not in barred}


def _streamed_reads(kernel: KernelCascade) -> list[Read]:
    """Every read of memory inside the loop (every read, if there is no loop)."""
    inputs = {t.name for t in kernel.cascade.inputs}
    reads = [r for e in kernel.cascade.equations for r in reads_of(e.value, e.where) if r.tensor in inputs]
    return [r for r in reads if not kernel.streams or set(kernel.streams) & set(ranks_of(*r.indices))]


def _steps(kernel: KernelCascade) -> dict[str, int]:
    """The least coefficients that program ranks have in the last index of a streamed read."""
    found: dict[str, int] = {}
    for read in _streamed_reads(kernel):
        for name, step in _coefficients(read.indices[-1]) if read.indices else ():
            if name in kernel.program:
                found[name] = min(found.get(name, step), step)
    return found


def _along(kernel: KernelCascade, extents: Mapping[str, int]) -> str | None:
    """The program rank that is the last index of the most elements that streamed reads reach; None where a streamed rank, or no rank, is that."""
    reached: dict[str, int] = {}
    for read in dict.fromkeys(_streamed_reads(kernel)):
        for name, step in _coefficients(read.indices[-1]) if read.indices else ():
            if step == 1:
                reached[name] = reached.get(name, 0) + prod(extents.get(r, 1) for r in set(ranks_of(*read.indices)))
    found = max(reached, key=lambda r: reached[r], default=None)
    return found if found in kernel.program else None


def _coefficients(index: Expression) -> Iterator[tuple[str, int]]:
    """The ranks that an index is linear in, with what one coordinate adds to it at most: ``m`` adds 2 to ``2 * m + k``, and 1 to ``(m - k) // 2``."""
    for node, coefficient in reopened(index).terms:
        match node:
            case Rank(name=name):
                yield name, abs(coefficient)
            case Binary(operator="//", left=left, right=Constant(value=int() as divisor)) if divisor > 0:
                yield from ((name, abs(coefficient) * ceil(step / divisor)) for name, step in _coefficients(left))


def _taps(kernel: KernelCascade) -> frozenset[str]:
    """The streamed ranks that an index adds to a program rank, or takes from it."""
    found: set[str] = set()
    for read in _streamed_reads(kernel):
        for index in read.indices:
            names = {name for name, _ in _coefficients(index)}
            if names & set(kernel.program):
                found |= names & set(kernel.streams)
    return frozenset(found)
