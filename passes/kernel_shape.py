"""The roles of the ranks in the kernel of one stored tensor, and what would have to be stored before it (the laws stand in ``fuse``)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from math import ceil, inf, prod

from einsum_compiler.ir.cascade import Cascade, Equation
from einsum_compiler.ir.expression import Reduction
from einsum_compiler.passes.kernel_cascade import Roles, closure, ranks_carried, reduced_ranks

SHORT = 128  # a rank that is both reduced and stored may be held whole up to this extent
LONG = 1024  # a reduced rank beyond this extent is not held whole beside a streamed one
RESIDENT_OUTPUT = 1024  # an output rank that the streamed work lacks is held whole up to this extent
ROWS = 64  # coordinates of a program rank per tile, for estimates of repeated work
# Stored elements per point of the work that makes them, below which storing costs nothing that counts.
STORED_SHARE = 1 / 16
LARGEST = 4  # times what the caller holds, all inputs and outputs: what is larger is computed again rather than stored


@dataclass(frozen=True)
class Sizes:
    """Extents by rank, which say whether they are the same as others without being gone through again."""

    items: frozenset[tuple[str, int]]
    extents: Mapping[str, int] = field(compare=False)


def sizes_of(extents: Mapping[str, int]) -> Sizes:
    return Sizes(frozenset(extents.items()), extents)


def kernel_shape(
    cascade: Cascade,
    name: str,
    stored: set[str],
    sizes: Sizes,
    chunks: Collection[str],
    partial: set[str],
    share: float,
    roles: Roles | None = None,
) -> KernelShape:
    """The roles of the ranks in the kernel of the tensor ``name`` of a cascade. They are the same wherever the same equations make it: in most of the ways to
    cut a program into kernels, and in most orders of its contractions."""
    extents = sizes.extents
    held = sum(prod(extents.get(r, 1) for r in t.ranks) for t in (*cascade.inputs, *cascade.outputs))
    equations = tuple(closure(cascade, name, stored))
    # A partial state needs those of its contexts, which are stored for the merge: they belong in the same pass over the chunk.
    beside = tuple(closure(cascade, name, stored - partial)) if name in partial else equations
    return _known_shape(name, equations, beside, held, sizes, tuple(chunks), share, roles)


@lru_cache(maxsize=16384)
def _known_shape(
    name: str,
    equations: tuple[Equation, ...],
    beside: tuple[Equation, ...],
    caller_holds: int,
    sizes: Sizes,
    chunks: tuple[str, ...],
    share: float,
    roles: Roles | None,
) -> KernelShape:
    return KernelShape(name, equations, beside, caller_holds, sizes.extents, chunks, share, roles)


class KernelShape:
    """The roles of the ranks in the kernel of one stored tensor, and what would have to be stored before it."""

    def __init__(
        self,
        name: str,
        equations: tuple[Equation, ...],
        beside: tuple[Equation, ...],
        caller_holds: int,
        extents: Mapping[str, int],
        chunks: Collection[str],
        share: float,
        roles: Roles | None = None,
    ) -> None:
        """``equations``: that compute the tensor from what is stored; ``beside``: those that belong in the same pass."""
        self.name, self.extents, self.chunks, self.share = name, extents, chunks, share
        self.caller_holds, self.equations = caller_holds, equations
        self.ranks = self.equations[-1].target.ranks
        self.reductions = [e for e in self.equations if isinstance(e.value, Reduction)]
        self.together = [e for e in beside if isinstance(e.value, Reduction)]
        self.reduced = tuple(dict.fromkeys(r for e in self.reductions for r in reduced_ranks(e)))
        self.given = roles
        own = [r for r in roles.streams if r in self.reduced] if roles is not None else []
        self.stream: str | None
        self.later: tuple[str, ...]
        if own or (roles is not None and roles.program is not None):
            self.stream, self.later = (own[0], tuple(own[1:])) if own else (None, ())
        else:
            self.stream = self._stream()
            self.later = self._later()
        self.streams = () if self.stream is None else (self.stream, *self.later)
        self.resident = self._resident()
        self.program = tuple(r for r in self.ranks if r not in self.streams and r not in self.resident)
        self.cuts = self._cuts()

    @property
    def key(self) -> tuple[frozenset[str], tuple[str, ...]]:
        return frozenset(self.program), self.streams

    def _later(self) -> tuple[str, ...]:
        """Further long ranks that no equation carries together with a streamed one."""
        found: list[str] = [] if self.stream is None else [self.stream]
        for rank in self.reduced:
            if rank in found or self.extents[rank] <= SHORT or rank in self.ranks or rank in self.chunks:
                continue
            if not any(rank in (carried := ranks_carried(e)) and set(found) & set(carried) for e in self.equations):
                found.append(rank)
        return tuple(found[1:])

    def _stream(self) -> str | None:
        """The reduced rank worth a loop: long, then revisited, then outermost in the nest of reductions."""
        loops = [r for r in self.reduced if r not in self.chunks or self.extents[r] > SHORT]
        if not loops:
            return None
        return max(
            loops,
            key=lambda r: (
                self.extents[r] > SHORT and r not in self._conflicts(),
                self.extents[r] > SHORT,
                self._depth(r),
                sum(r in reduced_ranks(e) for e in self.reductions),
                not self._is_nested(r),
                self.extents[r],
            ),
        )

    def _conflicts(self) -> set[str]:
        return set(self.reduced) & set(self.ranks)

    def _depth(self, rank: str) -> int:
        """The longest chain of reductions over a rank that need one another's results."""
        depth: dict[str, int] = {}
        for e in self.equations:
            below = max((depth.get(r.tensor, 0) for r in e.reads), default=0)
            depth[e.target.tensor] = below + (rank in reduced_ranks(e))
        return max(depth.values(), default=0)

    def _is_nested(self, rank: str) -> bool:
        """Whether a reduction over the rank feeds one over another rank that its result carries."""
        feeds: set[str] = set()
        for e in self.equations:
            over = reduced_ranks(e)
            fed = any(r.tensor in feeds for r in e.reads)
            if fed and over and rank not in over:
                return True
            if fed or rank in over:
                feeds.add(e.target.tensor)
        return False

    def _work(self, equation: Equation) -> int:
        return prod(self.extents[r] for r in ranks_carried(equation))

    def _resident(self) -> tuple[str, ...]:
        found = [r for r in self.reduced if r not in self.streams]
        if self.given is not None and self.given.program is not None:
            found += [r for r in self.ranks if r not in (*self.given.program, *self.streams, *found)]
        else:
            found += self._held_outputs(found)
        inner = {r for e in self.equations for r in e.target.ranks}
        found += [r for r in inner if r not in found and r not in self.streams and r not in self.ranks]
        return tuple(dict.fromkeys(found))

    def _held_outputs(self, found: Collection[str]) -> Iterator[str]:
        """The ranks of the result that the repeated work lacks: spreading them over programs would repeat that work."""
        total = sum(map(self._work, self.together)) or 1
        for rank in self.ranks:
            if rank in self.streams or rank in found or rank in self.chunks or self.extents[rank] > RESIDENT_OUTPUT:
                continue
            if self._lacking(rank, self.together) > 0.01 * total and not self._repeated_elsewhere(rank):
                yield rank

    def _lacking(self, rank: str, equations: Iterable[Equation]) -> int:
        """The work of the equations that lack a rank."""
        return sum(self._work(e) for e in equations if rank not in ranks_carried(e))

    def _held_by(self, source: Equation, rank: str) -> bool:
        """Whether a kernel of this result alone would hold one of its ranks whole."""
        made = [e for e in self.reductions if self.equations.index(e) <= self.equations.index(source)]
        total = sum(map(self._work, made))
        return self.extents[rank] <= RESIDENT_OUTPUT and self._lacking(rank, made) > 0.01 * total

    def _repeated_elsewhere(self, rank: str) -> bool:
        """Whether the work that lacks ``rank`` lacks it because its results are shared by all of the rank (then it is stored, if no larger than what the caller holds)."""
        heaviest = max(self.reductions, key=self._work)
        shared = [
            prod(self.extents[r] for r in e.target.ranks)
            for e in self.reductions
            if rank not in ranks_carried(e) and self.stream in e.target.ranks
        ]
        return (
            rank in ranks_carried(heaviest)
            and self.extents[rank] > 2 * SHORT
            and max(shared, default=0) <= self.caller_holds
        )

    def _cuts(self) -> set[str]:
        cuts: set[str] = set()
        for e in self.reductions:
            for rank in reduced_ranks(e):
                if rank in self.streams or e.target.tensor == self.name:
                    continue
                kept = rank in self.ranks and not self._held_by(e, rank)
                if (kept and self.extents[rank] > SHORT) or self.extents[rank] > LONG:
                    cuts.add(e.target.tensor)
        if self.share < inf:
            cuts |= self._summed_afterwards()
        total = sum(map(self._work, self.reductions))
        for e in self.reductions:
            lacking = [r for r in self.program if r not in ranks_carried(e)]
            repeats = prod(self.extents[r] if r in self.chunks else ceil(self.extents[r] / ROWS) for r in lacking)
            small = prod(self.extents[r] for r in e.target.ranks) <= LARGEST * self.caller_holds
            if e.target.tensor != self.name and small and self._work(e) * (repeats - 1) > self.share * total:
                cuts.add(e.target.tensor)
        return self._outermost(cuts)

    def _outermost(self, cuts: set[str]) -> set[str]:
        """The cuts that something reads which is still computed here."""
        needed, found = {self.name}, set[str]()
        for e in reversed(self.equations):
            if e.target.tensor in needed:
                for r in e.reads:
                    (found if r.tensor in cuts else needed).add(r.tensor)
        return found

    def _summed_afterwards(self) -> set[str]:
        """Results of the streamed rank that a reduction over one of their own ranks reads, and that cost little to store."""
        made = {e.target.tensor: e for e in self.equations}
        finished = {e.target.tensor: e for e in self.reductions if set(self.streams) & set(reduced_ranks(e))}
        found: set[str] = set()
        for e in self.reductions:
            if set(self.streams) & set(ranks_carried(e)):
                continue
            work = [r.tensor for r in e.reads]
            while work:
                source = made.get(work.pop())
                if source is None:
                    continue
                name = source.target.tensor
                if name in finished:
                    size = prod(self.extents[r] for r in source.target.ranks)
                    carried = {r for r in reduced_ranks(e) if r in source.target.ranks and not self._held_by(source, r)}
                    if carried and name != self.name and size <= STORED_SHARE * self._work(source):
                        found.add(name)
                else:
                    work += [r.tensor for r in source.reads]
        return found
