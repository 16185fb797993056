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

from collections.abc import Collection, Mapping
from dataclasses import replace
from math import inf

from einsum_compiler.ir.cascade import Cascade
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.expression import Rank, Reduction
from einsum_compiler.ir.plan import Accumulation
from einsum_compiler.passes.accumulate import accumulated_ranks, accumulation_obstacle, checked_sum, with_wide_sums
from einsum_compiler.passes.domains import Domains
from einsum_compiler.passes.kernel_cascade import KernelCascade, Roles, closure, part_of, ranks_carried, reduced_ranks
from einsum_compiler.passes.kernel_shape import LONG, KernelShape, kernel_shape, sizes_of
from einsum_compiler.passes.rematerialise import rematerialise
from einsum_compiler.passes.scope import tensor_names
from einsum_compiler.passes.stored_domains import with_stored_domains

REPEATED_SHARE = 0.25  # of the whole work: repeated work beyond it is stored instead


def fuse(
    cascade: Cascade,
    extents: Mapping[str, int],
    chunks: Collection[str] = (),
    wanted: Collection[Collection[str]] | None = None,
    accumulated: Collection[Accumulation] = (),
    roles: Mapping[str, Roles] | None = None,
    counted: Mapping[str, str] | None = None,
) -> tuple[KernelCascade, ...]:
    """The kernels of a normalized cascade in the order they run, for the given extents. ``chunks``: ranks that ``split`` made, of which a plan says how many;
    ``counted``: those that there are as many of as it takes, which a merge therefore does not hold whole, with the rank inside of the chunk.

    ``wanted``: for each kernel what it writes; what must be stored and is not named there gets a kernel of its own. If None, tensors are stored where their
    computation would be repeated too often, and share kernels where they can. ``accumulated``: the sums that a kernel of ``wanted`` accumulates.
    ``roles``: of the ranks in the kernel of a tensor, where they are given. Raises ``PlanError`` where it cannot.
    """
    _check_recurrences(cascade)
    sums = {a.tensor for a in accumulated}
    cascade = with_wide_sums(cascade, sums)
    counted = counted or {}
    partial = _partial_states(cascade, (*chunks, *counted))
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
    sizes, domains = sizes_of(dict(extents)), Domains(cascade)
    while True:
        stated = with_stored_domains(cascade, read, domains)
        shapes = {
            name: kernel_shape(stated, name, read, sizes, chunks, partial, share, (roles or {}).get(name))
            for name in (outputs | read) - sums
        }
        cuts = {cut for shape in shapes.values() for cut in shape.cuts} | _read_elsewhere(stated)
        if not cuts - read:
            kernels = _accumulating(stated, _grouped(stated, shapes, read, wanted), read, wanted or (), accumulated)
            cuts = _repeated(kernels, outputs)
            if not cuts - read:
                return tuple(_with_chunks(k, counted) for k in kernels)
        if cuts & again:
            raise PlanError(
                f"'{min(cuts & again)}' would be computed where it is read, and no kernel holds all of what it sums: "
                f"the plan must store '{min(cuts & again).removesuffix('.at')}'"
            )
        read |= cuts


def _with_chunks(kernel: KernelCascade, counted: Mapping[str, str]) -> KernelCascade:
    """The kernel, with the chunks that each of its programs holds whole."""
    held = tuple((r, counted[r]) for r in kernel.program if r in counted and counted[r] in kernel.resident)
    return replace(kernel, chunks=held) if held else kernel


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
        for read in equation.reads:
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
            for read in equation.reads:
                source = defined.get(read.tensor)
                if source is None or rank not in source.target.ranks:
                    continue
                if isinstance(source.value, Reduction):
                    found.add(read.tensor)
                else:
                    work.append(source)
    return found


def _grouped(
    cascade: Cascade, shapes: dict[str, KernelShape], read: set[str], wanted: Collection[Collection[str]] | None
) -> tuple[KernelCascade, ...]:
    """Stored tensors with the same roles of ranks in one kernel, unless one needs another kernel's result in between.

    A tensor without a streamed rank of its own joins the kernel that has its program ranks: it is an epilogue there.
    """
    order = list(dict.fromkeys(e.target.tensor for e in cascade.equations if e.target.tensor in shapes))
    elsewhere = _read_elsewhere(cascade)
    depends: dict[str, set[str]] = {}
    for name in dict.fromkeys(e.target.tensor for e in cascade.equations if e.target.tensor in shapes.keys() | read):
        # A sum that a kernel accumulates has no shape of its own.
        own = shapes[name].equations if name in shapes else closure(cascade, name, read - {name})
        direct = {r.tensor for e in own for r in e.reads} & read - {name}
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


def _kernel(cascade: Cascade, names: list[str], shapes: list[KernelShape], stored: set[str]) -> KernelCascade:
    kept = {e.target.tensor for s in shapes for e in s.equations}
    part = part_of(cascade, names, kept, stored)
    program, streams = shapes[0].program, shapes[0].streams
    present = {r for e in part.equations for r in ranks_carried(e)} | {
        n.name for n in (p.default for p in cascade.parameters) if isinstance(n, Rank)
    }
    resident = tuple(sorted(r for r in present if r not in streams and r not in program))
    return KernelCascade(part, program, shapes[0].stream, resident, shapes[0].later)


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
        equations = closure(cascade, a.tensor, stored - {a.tensor})
        obstacle = accumulation_obstacle(equations, own, host.program, host.streams, host.resident)
        if obstacle is None and set(a.ranks) != set(accumulated_ranks(own, host.program)):
            obstacle = f"this kernel sums it over {', '.join(accumulated_ranks(own, host.program))}"
        if obstacle is not None:
            raise PlanError(f"'{a.tensor}' cannot be accumulated over {', '.join(a.ranks)}: {obstacle}")
        kept = {e.target.tensor for e in (*host.cascade.equations, *equations)}
        part = part_of(cascade, (*host.outputs, a.tensor), kept, stored)
        found[at] = replace(host, cascade=part, accumulated=(*host.accumulated, a))
    for kernel in found:
        _check_unfinished(kernel)
    return _in_order(found)


def _check_unfinished(kernel: KernelCascade) -> None:
    """A sum that programs add up is finished after the last of them: nothing in their kernel can read it."""
    sums = {a.tensor for a in kernel.accumulated}
    for equation in kernel.cascade.equations:
        for read in equation.reads:
            if read.tensor in sums:
                raise PlanError(
                    f"'{read.tensor}' cannot be accumulated: '{equation.target.tensor}' reads it in the same kernel, before all programs have added to it"
                )


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
