"""How large integers of positions become, and whether lanes of 32 bits hold them.

Law: an integer built of positions, extents and constants has a bound on its absolute value that is linear in the extents of the call. Lanes of
32 bits hold it where the bound stays below 2^31. What does so at the largest extents needs no test; of the others the kernel keeps
the bounds (``limits``), and a call whose sizes exceed one runs the kernel with those integers in 64 bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from einsum_compiler.ir.expression import Binary, Call, Constant, Expression, Extent, Rank
from einsum_compiler.ir.tile import Axis, Loop, Range, Reduce, Statement, Store, TileKernel

LARGEST_EXTENT = 2**28  # sums of a few coordinates stay in 32 bits
ONE = ""  # what the constant term stands beside


@dataclass(frozen=True, slots=True)
class Bound:
    """A bound on an absolute value: a sum of extents times factors that are not negative, and a constant."""

    terms: tuple[tuple[str, Fraction], ...] = ()

    def at(self, extents: Mapping[str, int]) -> Fraction:
        """Its value for a call of those extents."""
        return sum((f * (1 if rank == ONE else extents[rank]) for rank, f in self.terms), Fraction(0))

    @property
    def most(self) -> Fraction:
        """Its value for the largest extents that a launch takes."""
        return self.at({rank: LARGEST_EXTENT for rank, _ in self.terms if rank != ONE})

    def __add__(self, other: Bound) -> Bound:
        mine, others = dict(self.terms), dict(other.terms)
        return _bound({r: mine.get(r, Fraction(0)) + others.get(r, Fraction(0)) for r in (*mine, *others)})

    def __or__(self, other: Bound) -> Bound:
        """A bound on both."""
        mine, others = dict(self.terms), dict(other.terms)
        return _bound({r: max(mine.get(r, Fraction(0)), others.get(r, Fraction(0))) for r in (*mine, *others)})

    def times(self, factor: Fraction | int) -> Bound:
        return _bound({r: f * abs(Fraction(factor)) for r, f in self.terms})


def _bound(terms: Mapping[str, Fraction]) -> Bound:
    """Without terms of factor 0, in one order."""
    return Bound(tuple(sorted((r, f) for r, f in terms.items() if f)))


def constant_bound(value: int) -> Bound:
    return _bound({ONE: Fraction(abs(value))})


def extent_bound(rank: str) -> Bound:
    return _bound({rank: Fraction(1)})


def fits(limits: tuple[Bound, ...], extents: Mapping[str, int]) -> bool:
    """Whether integers of 32 bits hold what these bound, in a call of those extents."""
    return all(bound.at(extents) < 2**31 for bound in limits)


@dataclass
class Coordinates:
    """The bounds of one kernel's positions. ``wide``: integers that may exceed 32 bits take 64; else their bounds gather as ``limits``."""

    kernel: TileKernel
    wide: bool = False
    indices: dict[str, Bound] = field(init=False)
    _limits: dict[Bound, None] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.indices = _index_bounds(self.kernel)

    def of(self, rank: str) -> Bound:
        """Of a position on an axis, or of an index of the program or a loop."""
        return self.indices.get(rank, constant_bound(LARGEST_EXTENT))

    def fit(self, bound: Bound | None) -> bool:
        """Whether the kernel takes 32 bits for what this bounds."""
        if bound is None:
            return False
        if bound.most < 2**31:
            return True
        if self.wide or all(rank == ONE for rank, _ in bound.terms):
            return False
        self._limits[bound] = None
        return True

    @property
    def limits(self) -> tuple[Bound, ...]:
        """What a launch tests: without bounds that another one is above of, term by term."""
        return tuple(b for b in self._limits if not any(b | other == other != b for other in self._limits))


def _index_bounds(kernel: TileKernel) -> dict[str, Bound]:
    """Of every axis its size; of every index of the program or a loop how many values it takes, where that is known."""
    found: dict[str, Bound] = {}

    def note(rank: str, bound: Bound | None) -> None:
        bound = bound or constant_bound(LARGEST_EXTENT)
        found[rank] = found[rank] | bound if rank in found else bound

    def visit(body: tuple[Statement, ...]) -> None:
        for statement in body:
            for axis in _axes(statement):
                note(axis.rank, constant_bound(axis.size))
            if isinstance(statement, Loop):
                for part in statement.ranges:
                    last = part.upper if isinstance(part, Range) else streams[part.schedule]
                    note(statement.rank, _bound_of(last, found, True))
                visit(statement.body)

    streams = {s.name: s.stream.count for s in kernel.schedules}
    for index in kernel.program:
        note(index.rank, _bound_of(index.count, found, True))
    visit(kernel.body)
    return found


def _axes(statement: Statement) -> tuple[Axis, ...]:
    if isinstance(statement, Loop):
        return tuple(a for c in statement.carries for a in c.type.axes)
    if isinstance(statement, Store):
        return statement.axes
    over = statement.over if isinstance(statement, Reduce) else ()
    return (*statement.type.axes, *over)  # type: ignore[attr-defined]


def _bound_of(node: Expression, indices: Mapping[str, Bound], above: bool) -> Bound | None:
    """A bound on an absolute value; ``above``: on the value alone, from above. None where nothing is known."""

    def of(inner: Expression, side: bool = above) -> Bound | None:
        return _bound_of(inner, indices, side)

    match node:
        case Constant(value=int() as value):
            return constant_bound(max(value, 0) if above else value)
        case Extent(rank=rank):
            return extent_bound(rank)
        case Rank(name=name):
            return indices.get(name)
        case Binary(operator="-", left=left, right=Constant(value=int() as value)) if above and value >= 0:
            return of(left)
        case Binary(operator="+" | "-" as operator, left=left, right=right):
            first, second = of(left), of(right, above and operator == "+")
            return first + second if first and second else None
        case (
            Binary(operator="*", left=Constant(value=int() as factor), right=inner)
            | Binary(operator="*", left=inner, right=Constant(value=int() as factor))
        ):
            found = of(inner, above and factor >= 0)
            return found and found.times(factor)
        case Binary(operator="//", left=left, right=Constant(value=int() as divisor)) if divisor > 0:
            found = of(left)
            return found and found.times(Fraction(1, divisor)) + constant_bound(0 if above else 1)
        case Call(function="min" | "max" as function, arguments=arguments):
            bounds = [of(a) for a in arguments]
            known = [b for b in bounds if b is not None]
            if function == "min" and above and known:
                return min(known, key=lambda b: b.most)
            if len(known) < len(bounds):
                return None
            largest = Bound()
            for bound in known:
                largest |= bound
            return largest
    return None
