"""Where the extents of ranks come from: axes of inputs, axes read by a bare rank, selections, parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from einsum_compiler.ir.cascade import ELLIPSIS, Cascade, Equation
from einsum_compiler.ir.expression import Binary, Call, Constant, Expression, Extent, Rank, Read, Selection, walk
from einsum_compiler.ir.scalar import evaluate_scalar
from einsum_compiler.ir.span import Span


@dataclass(frozen=True, slots=True)
class Equality:
    """``rank`` indexes bare the axis of ``tensor`` that ``axis_rank`` names: their extents are equal."""

    rank: str
    axis_rank: str
    tensor: str
    axis: int
    span: Span | None


@dataclass(frozen=True, slots=True)
class Selected:
    """A new rank of a selection: ``count`` entries of topk, or as many as ``candidates`` has for argsort."""

    rank: str
    candidates: tuple[str, ...]
    count: Expression | None


def axis_ranks(cascade: Cascade) -> dict[str, tuple[str | None, ...]]:
    """For every tensor the rank that names each axis; ``None`` for an axis that only constants index."""
    found: dict[str, list[str | None]] = {t.name: list(t.ranks) for t in cascade.inputs}
    for equation in cascade.equations:
        for target in equation.targets:
            named = [index_rank(i) for i in target.indices]
            known = found.setdefault(target.tensor, list(named))
            for axis, rank in enumerate(named[: len(known)]):
                known[axis] = known[axis] or rank
    return {name: tuple(ranks) for name, ranks in found.items()}


def index_rank(index: Expression) -> str | None:
    """The rank of an index of a left side: ``t`` of ``t`` and of ``t + 1``; none of a constant."""
    return next((n.name for n in walk(index) if isinstance(n, Rank)), None)


def is_step(index: Expression) -> bool:
    """``t + 1``, the index that a recurrence writes."""
    return (
        isinstance(index, Binary)
        and index.operator == "+"
        and isinstance(index.left, Rank)
        and index.right == Constant(1)
    )


def expressions(equation: Equation) -> Iterator[Expression]:
    """Every node on the right side and in the filter."""
    yield from walk(equation.value)
    if equation.where is not None:
        yield from walk(equation.where)


def equalities(cascade: Cascade) -> tuple[Equality, ...]:
    """The equalities of extents that bare ranks assert, the trivial ones left out, each once."""
    axes = axis_ranks(cascade)
    found: dict[tuple[str, str], Equality] = {}

    def note(tensor: str, ranks: list[str | None], span: Span | None) -> None:
        for axis, (rank, named) in enumerate(zip(ranks, axes.get(tensor, ()), strict=False)):
            if rank is None or named is None or rank == named or ELLIPSIS in (rank, named):
                continue
            found.setdefault((rank, named), Equality(rank, named, tensor, axis, span))

    for equation in cascade.equations:
        for target in equation.targets:
            note(target.tensor, [index_rank(i) for i in target.indices], target.span)
        for node in expressions(equation):
            if isinstance(node, Read):
                note(node.tensor, [i.name if isinstance(i, Rank) else None for i in node.indices], node.span)
    return tuple(found.values())


def selections(cascade: Cascade) -> tuple[Selected, ...]:
    """The new ranks that selections give."""
    found: list[Selected] = []
    for equation in cascade.equations:
        value = equation.value
        if isinstance(value, Selection):
            inside = {n.name for n in walk(value.body) if isinstance(n, Rank)}
            new = [r for r in equation.target.ranks if r not in inside]
            found.extend(Selected(r, value.ranks, value.count) for r in new[:1])
    return tuple(found)


def known_extents(cascade: Cascade) -> frozenset[str]:
    """The ranks whose extent a call can know: from inputs, parameters, selections and bare reads."""
    known = {r for t in cascade.inputs for r in t.ranks}
    known |= {p.name.lower() for p in cascade.parameters if p.name != p.name.lower()}
    chosen, equal = selections(cascade), equalities(cascade)
    while True:
        before = len(known)
        known |= {s.rank for s in chosen if s.count is not None or known.issuperset(s.candidates)}
        for e in equal:
            if e.rank in known or e.axis_rank in known:
                known |= {e.rank, e.axis_rank}
        if len(known) == before:
            return frozenset(known)


def declared_equal(cascade: Cascade, rank: str) -> str | None:
    """A rank of an input or of a parameter that has the extent of ``rank``: itself, or one that bare reads make equal; none of a selection."""
    declared = {r for t in cascade.inputs for r in t.ranks}
    declared |= {p.name.lower() for p in cascade.parameters if p.name != p.name.lower()}
    pairs = [(e.rank, e.axis_rank) for e in equalities(cascade)]
    reached = [rank]
    for found in reached:
        if found in declared:
            return found
        reached += [b if a == found else a for a, b in pairs if found in (a, b) and not {a, b} <= set(reached)]
    return None


def all_extents(cascade: Cascade, extents: Mapping[str, int]) -> dict[str, int]:
    """The extents given, and those of the ranks that kernels read as one (``merged_extents``)."""
    return {**extents, **merged_extents(cascade, extents)}


def merged_extents(cascade: Cascade, extents: Mapping[str, int]) -> dict[str, int]:
    """The extents of ranks that a pass made, of those that ``extents`` lacks, from the others: ``V_U = V * U``, ``K2 = I``."""
    found: dict[str, int] = {}
    for parameter in cascade.parameters:
        rank = parameter.name.lower()
        if parameter.name == rank or rank in extents or parameter.default is None:
            continue
        names = {r.upper(): n for r, n in {**extents, **found}.items()}
        if all(
            isinstance(n, (Binary, Call, Constant)) or (isinstance(n, Extent) and n.rank.upper() in names)
            for n in walk(parameter.default)
        ):
            found[rank] = int(evaluate_scalar(parameter.default, names))
    return found


def with_whole(ranks: Iterable[str]) -> frozenset[str]:
    """The ranks, and those that tiles were cut from: ``n`` for ``n.1`` and ``n.0``, which may have no axis left."""
    found = set(ranks)
    for rank in tuple(found):
        while "." in rank:
            rank = rank.rsplit(".", 1)[0]
            found.add(rank)
    return frozenset(found)
