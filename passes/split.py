"""split: a rank is cut into chunks, every reduction over it into partial states that are merged.

    MX   = max[n](S[n])                       MX.n[n.3] = max[n.2](S.n[n.3,n.2])                MX = max[n.3](MX.n[n.3])
    P[n] = exp(S[n] - MX)               ->    P.n[n.3,n.2] = exp(S.n[n.3,n.2] - MX.cur[n.3])
    D    = sum[n](P[n])                       D.n[n.3] = sum[n.2](P.n[n.3,n.2])                 D  = sum[n.3](D.n[n.3] * D.fix[n.3])

Law (third homomorphism theorem; theory.md 6.2): a reduction that can be computed by steps from either end can be computed by merging. The
chunk's own contexts stand for the finished ones, and the merge moves each partial state from them to the finished contexts, by
the correction that ``online`` applies at every step. If one reduction has no such correction the rank is not split at all:
its chunks would have to wait for the finished context, in one more pass over the data.

``defer`` runs first, so that contexts which are sums have left the reductions, and what remains to be corrected are extrema.

Chunk n.3 holds the coordinates n.3*N.2 + n.2 with N.2 = ceil(N / (N.3 * tile)) * tile; those beyond N are filtered from every equation, so the
last chunks may be short or empty. Without a number of chunks N.2 = tile and N.3 = ceil(N / N.2): so a rank that a kernel would hold whole is cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from einsum_compiler.ir.cascade import Cascade
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.expression import (
    Constant,
    Read,
    Reduction,
    Selection,
    walk,
)
from einsum_compiler.passes.certificate import Certificate, Transformed
from einsum_compiler.passes.chunks import ChunkedRank
from einsum_compiler.passes.defer import defer
from einsum_compiler.passes.online import Stream
from einsum_compiler.passes.partial_states import Merges, PartialContexts
from einsum_compiler.passes.scope import all_ranks
from einsum_compiler.passes.streamed_ranks import dependent_ranks, foreign_extrema, streaming_obstacle


@dataclass(frozen=True, slots=True)
class Split:
    """``rank`` is cut into ``chunks`` whose length is a multiple of ``tile``, or with 0 into as many as it takes of that length.

    Without a rank: the first one with dependent reductions, or reduced at all.
    """

    rank: str = ""
    chunks: int = 2
    tile: int = 1


def split(cascade: Cascade, options: Split = Split()) -> Transformed:
    """The normalized cascade with the rank in chunks; the cascade as it was if the certificates hold a refusal.

    Raises ``PlanError`` for a rank that no chunks can be cut from: nothing reduces it, or a recurrence runs along it.
    """
    rank = options.rank or _first_reduced(cascade)
    if options.chunks < 0 or options.tile < 1:
        raise PlanError(f"rank {rank} cannot be split into {options.chunks} chunks of tiles of {options.tile}")
    if rank not in all_ranks(cascade):
        raise PlanError(f"rank {rank} cannot be split: the cascade has no such rank")
    if (reason := streaming_obstacle(cascade, rank)) is not None:
        raise PlanError(f"rank {rank} cannot be split: {reason}")
    deferred = defer(cascade)
    found = _selected(deferred.cascade, rank)
    if found is not None:
        refusal = Certificate("split", found, (rank,), "refused", reason="a selection needs all candidates at once")
        return Transformed(cascade, (*deferred.certificates, refusal))
    foreign = foreign_extrema(deferred.cascade, rank, dependent_ranks(deferred.cascade))
    chunks = _Chunks(deferred.cascade, ChunkedRank(rank, options.tile, not options.chunks), foreign)
    result = chunks.streamed(options.chunks)
    certificates = (*deferred.certificates, *chunks.certificates)
    refused = any(c.form == "refused" for c in chunks.certificates)
    return Transformed(cascade if refused else result, certificates)


class _Chunks(Stream):
    """The rewriting of one cascade along a rank in chunks: the decisions are those of a stream."""

    step = "split"

    def _contexts_over(self, foreign: Mapping[str, Constant]) -> PartialContexts:
        self._partials: dict[str, Read] = {}
        return PartialContexts(self._tiler, self._defined.__getitem__, foreign, self._partials)

    def _writer_of_states(self) -> Merges:
        return Merges(self._tiler, self._running, self._partials)


def _first_reduced(cascade: Cascade) -> str:
    reduced = [r for e in cascade.equations if isinstance(e.value, Reduction) for r in e.value.ranks]
    ranks = (*dependent_ranks(cascade), *reduced)
    if not ranks:
        raise PlanError("nothing is reduced, so there is no rank to split")
    return ranks[0]


def _selected(cascade: Cascade, rank: str) -> str | None:
    """The tensor of a selection among the coordinates of the rank."""
    for equation in cascade.equations:
        if any(isinstance(n, Selection) and rank in n.ranks for n in walk(equation.value)):
            return equation.target.tensor
    return None
