"""Which ranks are streamed: those with reductions that depend on others over the same rank, where nothing stands in the way."""

from __future__ import annotations

from einsum_compiler.ir.cascade import Cascade
from einsum_compiler.ir.expression import Constant, Rank, Reduction
from einsum_compiler.ir.operators import REDUCTIONS
from einsum_compiler.passes.analysis.graph import recurrences
from einsum_compiler.passes.lateness import Lateness
from einsum_compiler.passes.scope import free_ranks, plain


def dependent_ranks(cascade: Cascade) -> tuple[str, ...]:
    """The ranks with a reduction that depends on a finished reduction over the same rank.

    Of ranks that are reduced together the first one stands for all: the others stay inside its tiles.
    """
    found: dict[str, None] = {}
    together = [set(e.value.ranks) for e in cascade.equations if isinstance(e.value, Reduction)]
    for equation in cascade.equations:
        if isinstance(equation.value, Reduction):
            for rank in equation.value.ranks:
                streamed = any(rank in group and group & found.keys() for group in together)
                if (
                    not streamed
                    and streaming_obstacle(cascade, rank) is None
                    and Lateness(cascade, (rank,)).is_late(equation.value)
                ):
                    found[rank] = None
    return tuple(found)


def streaming_obstacle(cascade: Cascade, rank: str) -> str | None:
    """Why a rank cannot be streamed; None if it can."""
    circular = {tensor for group in recurrences(cascade) for tensor in group}
    for equation in cascade.equations:
        name = equation.target.tensor
        if any(i != Rank(rank) and rank in free_ranks(i) for i in equation.target.indices):
            return f"the recurrence of {name} runs along it"
        if isinstance(equation.value, Reduction) and rank in equation.value.ranks and name in circular:
            return f"the reduction of {name} is part of a recurrence"
    return None


def foreign_extrema(cascade: Cascade, rank: str, ranks: tuple[str, ...]) -> dict[str, Constant]:
    """The maxima and minima that only other streams compute, with their identities: running contexts of this one do without."""
    mine = Lateness(cascade, (rank,))
    others = {r for r in ranks if r != rank}
    return {
        e.target.tensor: Constant(REDUCTIONS[e.value.operator].identity)
        for e in cascade.equations
        if isinstance(e.value, Reduction)
        and e.value.operator in ("max", "min")
        and plain(e)
        and others & set(e.value.ranks)
        and not mine.is_late(e.target.tensor)
    }
