"""``fuse``: which equations share a kernel, and which tensors are stored between kernels.

A kernel has *program* ranks (spread over programs), *streamed* ranks (a loop over tiles for each, one after the other) and *resident* ranks (held whole).
Laws used:

- A reduction over a program rank cannot be finished inside a kernel, so its result is stored by an earlier one (unless the rank is
  short enough to be resident, or can itself be streamed in several sweeps).
- A tensor read at other coordinates than its own needs values of other programs, so it is stored.
- Work that lacks a program rank is repeated for each of its tiles. Where that costs more than a share of the whole, its result is stored.
- Several long reduced ranks can be streamed one after the other where no equation carries two of them: each loop has states of its own, and what reads
  both stands after both. Of ranks that some equation carries together one can be streamed; the results of reductions over the others are stored.
- What only stored tensors read need not be stored itself: of a chain of results that would be repeated the last one is kept.
- An output that a later equation reads at its own coordinates is read from memory only if another kernel would have to repeat it.
- A sum of finished results over a rank that these carry (heads of a group, a projection) would hold that rank whole beside the loop, which then has
  fewer programs: the results are stored where they are small beside the work that makes them, unless the loop holds that rank whole anyway (a norm of rows).
- A plan says what is stored. What it does not name is computed where it is read (see ``rematerialise``), as often as that is.
- A sum over a rank that a kernel spreads over programs may be accumulated in memory (see ``accumulate``); whether it is, the plan says.
- The chunks of a rank (see ``split``) are there to be spread over programs, so partial states are stored, and a merge that is short holds them whole.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, inf, prod

from einsum_compiler.ir.build import reads_of
from einsum_compiler.ir.cascade import Cascade, Equation, Scalar, Target, Tensor
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.expression import Expression, Extent, Parameter, Rank, Reduction, walk
from einsum_compiler.ir.plan import Accumulation
from einsum_compiler.passes.accumulate import accumulated_ranks, accumulation_obstacle, checked_sum, with_wide_sums
from einsum_compiler.passes.rematerialise import rematerialise
from einsum_compiler.passes.scope import tensor_names
from einsum_compiler.passes.stored_domains import with_stored_domains

SHORT = 128  # a rank that is both reduced and stored may be held whole up to this extent
LONG = 1024  # a reduced rank beyond this extent is not held whole beside a streamed one
RESIDENT_OUTPUT = 1024  # an output rank that the streamed work lacks is held whole up to this extent
ROWS = 64  # coordinates of a program rank per tile, for estimates of repeated work
STORED_SHARE = (
    1 / 16
)  # stored elements per point of the work that makes them, below which storing costs nothing that counts
REPEATED_SHARE = 0.25  # of the whole work: repeated work beyond it is stored instead
LARGEST = 4  # times what the caller holds, all inputs and outputs: what is larger is computed again rather than stored


@dataclass(frozen=True)
class KernelCascade:
    """The part of a cascade that one kernel computes, with the role of every rank; ``later``: ranks streamed after ``stream``;
    ``accumulated``: outputs that its programs add to."""

    cascade: Cascade
    program: tuple[str, ...]
    stream: str | None
    resident: tuple[str, ...]
    later: tuple[str, ...] = ()
    accumulated: tuple[Accumulation, ...] = ()

    @property
    def streams(self) -> tuple[str, ...]:
        """Every streamed rank, in the order of the loops."""
        return () if self.stream is None else (self.stream, *self.later)

    @property
    def outputs(self) -> tuple[str, ...]:
        return tuple(t.name for t in self.cascade.outputs)


@dataclass(frozen=True)
class Roles:
    """What a plan says of the ranks of a kernel: those it streams, and those it spreads over programs (None: by the laws); others are held whole."""

    streams: tuple[str, ...]
    program: frozenset[str] | None = None


def reduced_ranks(equation: Equation) -> tuple[str, ...]:
    """The ranks an equation reduces; none for a map."""
    return equation.value.ranks if isinstance(equation.value, Reduction) else ()


def ranks_carried(equation: Equation) -> tuple[str, ...]:
    """The iteration space of an equation: ranks of the target and reduced ranks."""
    return tuple(dict.fromkeys((*equation.target.ranks, *reduced_ranks(equation))))


def fuse(
    cascade: Cascade,
    extents: Mapping[str, int],
    chunks: Collection[str] = (),
    wanted: Collection[Collection[str]] | None = None,
    accumulated: Collection[Accumulation] = (),
    roles: Mapping[str, Roles] | None = None,
) -> tuple[KernelCascade, ...]:
    """The kernels of a normalized cascade in the order they run, for the given extents. ``chunks``: ranks that ``split`` made.

    ``wanted``: for each kernel what it writes; what must be stored and is not named there gets a kernel of its own. If None, tensors are stored where their
    computation would be repeated too often, and share kernels where they can. ``accumulated``: the sums that a kernel of ``wanted`` accumulates.
    ``roles``: of the ranks in the kernel of a tensor, where they are given. Raises ``PlanError`` where it cannot.
    """
    _check_recurrences(cascade)
    sums = {a.tensor for a in accumulated}
    cascade = with_wide_sums(cascade, sums)
    partial = _partial_states(cascade, chunks)
    outputs = {t.name for t in cascade.outputs}
    again = set[str]()  # computed where they are read
    if wanted is not None:
        known = tensor_names(cascade)
        named = {name for group in wanted for name in group}
        cascade = rematerialise(cascade, named | outputs | partial, extents, LONG)
        again = tensor_names(cascade) - known
    read = _read_elsewhere(cascade) | partial  # from memory; other outputs are only written there
    if wanted is not None:
        read |= ({name for group in wanted for name in group} - outputs) & {e.target.tensor for e in cascade.equations}
        read |= sums
    share = REPEATED_SHARE if wanted is None else inf
    while True:
        stated = with_stored_domains(cascade, read)
        shapes = {
            name: _Shape(stated, name, read, extents, chunks, partial, share, (roles or {}).get(name))
            for name in (outputs | read) - sums
        }
        cuts = {cut for shape in shapes.values() for cut in shape.cuts} | _read_elsewhere(stated)
        if not cuts - read:
            kernels = _accumulating(stated, _grouped(stated, shapes, read, wanted), read, wanted or (), accumulated)
            cuts = _repeated(kernels, outputs)
            if not cuts - read:
                return kernels
        if cuts & again:
            raise PlanError(
                f"'{min(cuts & again)}' would be computed where it is read, and no kernel holds all of what it sums: "
                f"the plan must store '{min(cuts & again).removesuffix('.at')}'"
            )
        read |= cuts


def _repeated(kernels: tuple[KernelCascade, ...], outputs: set[str]) -> set[str]:
    """Outputs that other kernels than their own compute again."""
    computed = [({e.target.tensor for e in k.cascade.equations}, set(k.outputs)) for k in kernels]
    return {name for names, own in computed for name in (names & outputs) - own}


def _check_recurrences(cascade: Cascade) -> None:
    for equation in cascade.equations:
        for target in equation.targets:
            if not all(isinstance(i, Rank) for i in target.indices):
                raise PlanError(
                    f"'{target.tensor}' is a recurrence: its steps follow one another, and no kernel spreads them over programs; "
                    "run it with backend='reference'",
                    target.span,
                )


def _read_elsewhere(cascade: Cascade) -> set[str]:
    """Computed tensors that some equation reads at coordinates other than their own."""
    own = {e.target.tensor: e.target.indices for e in cascade.equations}
    found = set()
    for equation in cascade.equations:
        for read in reads_of(equation.value, equation.where):
            if read.tensor in own and read.indices != own[read.tensor]:
                found.add(read.tensor)
    return found


def _partial_states(cascade: Cascade, chunks: Collection[str]) -> set[str]:
    """Results of reductions that carry a rank of chunks and that a reduction over it reads, directly or through maps."""
    defined = {e.target.tensor: e for e in cascade.equations}
    found: set[str] = set()
    for rank in chunks:
        work = [e for e in cascade.equations if rank in reduced_ranks(e)]
        while work:
            equation = work.pop()
            for read in reads_of(equation.value, equation.where):
                source = defined.get(read.tensor)
                if source is None or rank not in source.target.ranks:
                    continue
                if isinstance(source.value, Reduction):
                    found.add(read.tensor)
                else:
                    work.append(source)
    return found


def _closure(cascade: Cascade, name: str, stored: set[str]) -> list[Equation]:
    """The equations that compute a stored tensor from inputs and other stored tensors, in order."""
    needed, found = {name}, []
    for equation in reversed(cascade.equations):
        if equation.target.tensor in needed:
            found.append(equation)
            needed |= {r.tensor for r in reads_of(equation.value, equation.where) if r.tensor not in stored}
    return found[::-1]


class _Shape:
    """The roles of the ranks in the kernel of one stored tensor, and what would have to be stored before it."""

    def __init__(
        self,
        cascade: Cascade,
        name: str,
        stored: set[str],
        extents: Mapping[str, int],
        chunks: Collection[str],
        partial: set[str],
        share: float,
        roles: Roles | None = None,
    ) -> None:
        self.name, self.extents, self.chunks, self.share = name, extents, chunks, share
        self.caller_holds = sum(prod(extents.get(r, 1) for r in t.ranks) for t in (*cascade.inputs, *cascade.outputs))
        self.equations = _closure(cascade, name, stored)
        self.ranks = self.equations[-1].target.ranks
        self.reductions = [e for e in self.equations if isinstance(e.value, Reduction)]
        # A partial state needs those of its contexts, which are stored for the merge: they belong in the same pass over the chunk.
        beside = _closure(cascade, name, stored - partial) if name in partial else self.equations
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
            below = max((depth.get(r.tensor, 0) for r in reads_of(e.value, e.where)), default=0)
            depth[e.target.tensor] = below + (rank in reduced_ranks(e))
        return max(depth.values(), default=0)

    def _is_nested(self, rank: str) -> bool:
        """Whether a reduction over the rank feeds one over another rank that its result carries."""
        feeds: set[str] = set()
        for e in self.equations:
            over = reduced_ranks(e)
            fed = any(r.tensor in feeds for r in reads_of(e.value, e.where))
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
                for r in reads_of(e.value, e.where):
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
            work = [r.tensor for r in reads_of(e.value, e.where)]
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
                    work += [r.tensor for r in reads_of(source.value, source.where)]
        return found


def _grouped(
    cascade: Cascade, shapes: dict[str, _Shape], read: set[str], wanted: Collection[Collection[str]] | None
) -> tuple[KernelCascade, ...]:
    """Stored tensors with the same roles of ranks in one kernel, unless one needs another kernel's result in between.

    A tensor without a streamed rank of its own joins the kernel that has its program ranks: it is an epilogue there.
    """
    order = list(dict.fromkeys(e.target.tensor for e in cascade.equations if e.target.tensor in shapes))
    elsewhere = _read_elsewhere(cascade)
    depends: dict[str, set[str]] = {}
    for name in dict.fromkeys(e.target.tensor for e in cascade.equations if e.target.tensor in shapes.keys() | read):
        # A sum that a kernel accumulates has no shape of its own.
        own = shapes[name].equations if name in shapes else _closure(cascade, name, read - {name})
        direct = {r.tensor for e in own for r in reads_of(e.value, e.where)} & read - {name}
        depends[name] = direct.union(*(depends.get(d, ()) for d in direct))

    def joins(name: str, group: list[str]) -> bool:
        if wanted is not None and not any(name in given and group[0] in given for given in wanted):
            return False
        program, streams = shapes[group[0]].key
        own_program, own_streams = shapes[name].key
        if own_program != program or not set(own_streams) <= set(streams):
            return False
        if depends[name] & elsewhere.intersection(group):
            return False
        between = depends[name] - set(group)
        return not any(depends[other] & set(group) for other in between)

    groups: list[list[str]] = []
    for name in order:
        # Joining an earlier kernel must not put a tensor before what it needs from a later one.
        last = max((i for i, g in enumerate(groups) if depends[name] & set(g)), default=0)
        group = next((g for g in groups[last:] if joins(name, g)), None)
        if group is None:
            groups.append([name])
        else:
            group.append(name)
    return tuple(_kernel(cascade, group, [shapes[n] for n in group], read) for group in groups)


def _kernel(cascade: Cascade, names: list[str], shapes: list[_Shape], stored: set[str]) -> KernelCascade:
    kept = {e.target.tensor for s in shapes for e in s.equations}
    part = _part(cascade, names, kept, stored)
    program, streams = shapes[0].program, shapes[0].streams
    present = {r for e in part.equations for r in ranks_carried(e)} | {
        n.name for n in (p.default for p in cascade.parameters) if isinstance(n, Rank)
    }
    resident = tuple(sorted(r for r in present if r not in streams and r not in program))
    return KernelCascade(part, program, shapes[0].stream, resident, shapes[0].later)


def _part(cascade: Cascade, names: Sequence[str], kept: set[str], stored: set[str]) -> Cascade:
    """The equations of the tensors ``kept``, with outputs ``names``."""
    equations = tuple(e for e in cascade.equations if e.target.tensor in kept)
    read = {r.tensor for e in equations for r in reads_of(e.value, e.where)} - kept
    inputs = [t for t in cascade.inputs if t.name in read]
    own = {e.target.tensor: e.target for e in cascade.equations}
    declared = {t.name: t for t in (*cascade.inputs, *cascade.outputs)}
    inputs += [_declared(n, declared, own) for n in own if n in read and n in stored]
    outputs = tuple(_declared(n, declared, own) for n in names)
    return Cascade(cascade.name, tuple(inputs), _parameters(cascade, inputs, equations), outputs, equations)


def _accumulating(
    cascade: Cascade,
    kernels: tuple[KernelCascade, ...],
    stored: set[str],
    wanted: Collection[Collection[str]],
    accumulated: Collection[Accumulation],
) -> tuple[KernelCascade, ...]:
    """The kernels with the sums that they accumulate, in an order in which each reads what earlier ones wrote."""
    if not accumulated:
        return kernels
    found = list(kernels)
    for a in accumulated:
        group = next((g for g in wanted if a.tensor in g), ())
        at = next((i for i, k in enumerate(found) if set(k.outputs) & set(group)), None)
        if at is None:
            raise PlanError(f"no kernel of the plan writes '{a.tensor}' and something that is not accumulated")
        host, own = found[at], checked_sum(cascade, a.tensor)
        equations = _closure(cascade, a.tensor, stored - {a.tensor})
        obstacle = accumulation_obstacle(equations, own, host.program, host.streams, host.resident)
        if obstacle is None and set(a.ranks) != set(accumulated_ranks(own, host.program)):
            obstacle = f"this kernel sums it over {', '.join(accumulated_ranks(own, host.program))}"
        if obstacle is not None:
            raise PlanError(f"'{a.tensor}' cannot be accumulated over {', '.join(a.ranks)}: {obstacle}")
        kept = {e.target.tensor for e in (*host.cascade.equations, *equations)}
        part = _part(cascade, (*host.outputs, a.tensor), kept, stored)
        found[at] = replace(host, cascade=part, accumulated=(*host.accumulated, a))
    return _in_order(found)


def _in_order(kernels: list[KernelCascade]) -> tuple[KernelCascade, ...]:
    """Every kernel after those that write what it reads."""
    pending, found = list(kernels), list[KernelCascade]()
    while pending:
        missing = {name for k in pending for name in k.outputs}
        ready = next((k for k in pending if not missing & {t.name for t in k.cascade.inputs}), None)
        if ready is None:
            raise PlanError(f"the kernels of {'; '.join(', '.join(k.outputs) for k in pending)} wait for each other")
        pending.remove(ready)
        found.append(ready)
    return tuple(found)


def _parameters(cascade: Cascade, inputs: list[Tensor], equations: tuple[Equation, ...]) -> tuple[Scalar, ...]:
    """The parameters that a part needs. One that an input of the part binds as an extent is that extent now; a default that names an
    extent which only other parts bind is left out, and an extent of theirs is a parameter: the value comes with the call."""
    bound = {r.upper() for t in inputs for r in t.ranks}
    used = {name for e in equations for root in (e.value, e.where) if root is not None for name in _scalars(root)}
    used |= {r.upper() for e in equations for r in ranks_carried(e)}
    kept: list[Scalar] = []
    for parameter in reversed(cascade.parameters):
        if parameter.name in used and parameter.name not in bound:
            kept.append(parameter)
            used |= _scalars(parameter.default) if parameter.default is not None else set()
    known = bound | {p.name for p in kept}
    missing = sorted(used - known - {p.name for p in cascade.parameters})
    return (
        *(p if p.default is None or _scalars(p.default) <= known else replace(p, default=None) for p in reversed(kept)),
        *(Scalar(name, "int") for name in missing),
    )


def _scalars(root: Expression) -> set[str]:
    """The parameters and extents that an expression names."""
    return {
        n.name if isinstance(n, Parameter) else n.rank.upper() for n in walk(root) if isinstance(n, (Parameter, Extent))
    }


def _declared(name: str, declared: Mapping[str, Tensor], own: Mapping[str, Target]) -> Tensor:
    return declared[name] if name in declared else Tensor(name, own[name].ranks, own[name].dtype)
