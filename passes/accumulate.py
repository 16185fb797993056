"""Outputs that programs add to: sums over a rank that a kernel spreads over programs, accumulated in memory.

    DK[n,e] = sum[m](S[m,n] * Q[m,e])      program n, stream m
    DQ[m,e] = sum[n](S[m,n] * K[n,e])      the same kernel, accumulate DQ over n

Law: addition is associative with identity 0, so a program adds its share of the sum to what the programs before it left. Programs that differ only in the
accumulated ranks run in order, so that results repeat bit for bit. What the sum reads is computed once for all outputs of the kernel, where kernels of their own
would compute it again (products of attention's backward pass: five in place of seven).

Sums are accumulated in the type they are computed in. An output of a narrower type is rounded from a wider sum (``with_wide_sums``).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from einsum_compiler.ir.cascade import Cascade, Equation, Target
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.expression import Read, Reduction
from einsum_compiler.passes.scope import definitions

WIDE = ".sum"


def with_wide_sums(cascade: Cascade, names: Collection[str]) -> Cascade:
    """``Y[..] = sum(..)`` as ``Y.sum[..] = sum(..)`` and ``Y[..] = Y.sum[..]``, for every name ``Y.sum`` that the cascade does not have."""
    known = {e.target.tensor for e in cascade.equations}
    wanted = {n.removesuffix(WIDE): n for n in names if n not in known and n.endswith(WIDE)}
    equations: list[Equation] = []
    for e in cascade.equations:
        if e.target.tensor not in wanted:
            equations.append(e)
            continue
        wide = Target(wanted[e.target.tensor], e.target.indices)
        equations += [replace(e, targets=(wide,)), replace(e, value=Read(wide.tensor, wide.indices), where=None)]
    return replace(cascade, equations=tuple(equations))


def accumulation_obstacle(
    equations: Collection[Equation],
    own: Equation,
    program: Collection[str],
    streams: Collection[str],
    held: Collection[str],
) -> str | None:
    """Why a kernel with these roles of ranks cannot accumulate ``own``, which ``equations`` compute; None if it can."""
    value, name = own.value, own.target.tensor
    if not isinstance(value, Reduction) or value.operator != "sum":
        return f"'{name}' is no sum"
    over = set(value.ranks) & set(program)
    if not over:
        return f"'{name}' is not summed over a program rank"
    if lacking := [r for r in program if r not in over and r not in own.target.ranks]:
        return f"'{name}' has no rank {lacking[0]}, which is spread over programs"
    for e in equations:
        reduced = e.value.ranks if isinstance(e.value, Reduction) else ()
        carried = {*e.target.ranks, *reduced}
        if e is not own and (finished := [r for r in reduced if r in program]):
            return (
                f"'{e.target.tensor}', which '{name}' reads, is finished only when all programs over {finished[0]} are"
            )
        if further := sorted(carried - {*program, *streams, *held}):
            return f"the kernel does not hold rank {further[0]} of '{e.target.tensor}'"
        if len(carried & set(streams)) > 1:
            return f"'{e.target.tensor}' carries two streamed ranks"
    return None


def accumulated_ranks(own: Equation, program: Collection[str]) -> tuple[str, ...]:
    """The program ranks that a sum runs over."""
    return tuple(r for r in program if isinstance(own.value, Reduction) and r in own.value.ranks)


def checked_sum(cascade: Cascade, name: str) -> Equation:
    """The one equation of an accumulated tensor."""
    found = definitions(cascade).get(name)
    if found is None:
        raise PlanError(f"the plan accumulates '{name}', which no one equation of this program defines")
    return found
