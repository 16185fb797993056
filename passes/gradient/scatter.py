"""The transpose of a read: a term over points summed into the elements that the points read.

A read by an index expression becomes a sum with an equality filter: left sides hold ranks only. Ranks that no index names are summed first, so that the
equality meets a tensor that is as small as it can be; last, where that tensor would have two ranks that no axis has (queries and keys): it is computed tile by
tile, so its points are what the sum costs, and a rank that is summed last is one that programs are spread over. An index ``i // c`` has its inverse in closed form: the sum is over the c coordinates ``c*j + r``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from einsum_compiler.ir.build import conjunction, conjuncts
from einsum_compiler.ir.cascade import Equation, Scalar, Target
from einsum_compiler.ir.expression import Comparison, Expression, Extent, Parameter, Rank, Read, Reduction, walk
from einsum_compiler.passes.domains import Conditions
from einsum_compiler.passes.gradient.inverses import inverses
from einsum_compiler.passes.gradient.meeting import Opened, opened_index
from einsum_compiler.passes.scope import free_ranks, substitute

Names = Callable[[str], str]


@dataclass(frozen=True)
class Contribution:
    """One term of the gradient of ``variable``: the last of ``equations`` computes it, over ``ranks``; it exists where ``conditions`` hold."""

    variable: str
    equations: tuple[Equation, ...]
    conditions: Conditions


class Scatter:
    """The sums for one cascade. ``axes`` gives the ranks of every tensor, ``reductions`` those that are reduced together, ``declared`` extents by rank that the
    cascade gives, ``name`` makes names that nobody has."""

    def __init__(
        self,
        axes: dict[str, tuple[str, ...]],
        reductions: Collection[tuple[str, ...]],
        declared: Mapping[str, Expression],
        name: Names,
    ) -> None:
        self._axes, self._reductions, self._declared, self._name = axes, reductions, declared, name
        self.scalars: list[Scalar] = []  # the extents of ranks that index expressions are inverted over
        self._parts: dict[tuple[str, Expression], str] = {}

    def of(
        self,
        variable: Read | Parameter,
        left: tuple[str, ...],
        points: tuple[str, ...],
        term: Expression,
        filters: Conditions,
        conditions: Conditions,
    ) -> Contribution:
        """The term summed over all points at which the variable has one value."""
        name = variable.tensor if isinstance(variable, Read) else variable.name
        indices = variable.indices if isinstance(variable, Read) else ()
        axes = self._axes[name] if isinstance(variable, Read) else ()
        if opened := self._opened(axes, indices, points):
            return self._through(opened, name, axes, indices, left, points, term, filters)
        return self._summed(name, f"{name}.grad", axes, indices, left, points, term, filters, conditions)

    def _opened(
        self, axes: tuple[str, ...], indices: tuple[Expression, ...], points: tuple[str, ...]
    ) -> dict[str, Opened]:
        """Axes whose index is a function of one place."""
        found = {a: opened_index(i, points, self._axes) for a, i in zip(axes, indices, strict=True)}
        return {a: o for a, o in found.items() if o}

    def _summed(
        self,
        name: str,
        stem: str,
        axes: tuple[str, ...],
        indices: tuple[Expression, ...],
        left: tuple[str, ...],
        points: tuple[str, ...],
        term: Expression,
        filters: Conditions,
        conditions: Conditions,
    ) -> Contribution:
        """The term summed over all points at which the indices are what the axes say."""
        bare: dict[str, str] = {}  # rank of a point -> the axis it runs along
        for axis, index in zip(axes, indices, strict=True):
            if isinstance(index, Rank) and index.name in points and index.name not in bare:
                bare[index.name] = axis
        named = {r for axis, i in zip(axes, indices, strict=True) if bare.get(_rank(i)) != axis for r in free_ranks(i)}
        # In the order of the axes, which is the order in memory; those that share an axis in the order of the points.
        along = dict.fromkeys(r for i in indices for r in sorted({*free_ranks(i)} & {*points}, key=points.index))
        kept = tuple(r for r in along if r in bare or r in named)
        summed = tuple(r for r in points if r not in kept)
        # The points' ranks by the names that the axes have; others get out of their way.
        renamed: dict[str, str] = {}
        for rank in points:
            if rank in bare:
                renamed[rank] = bare[rank]
            elif rank in axes:
                renamed[rank] = self._name(f"{rank}_at")
                self.scalars.append(Scalar(renamed[rank].upper(), "int", Extent(rank)))
        at: dict[str, Expression] = {r: Rank(new) for r, new in renamed.items() if r != new}
        term = substitute(term, at)
        where = conjunction(substitute(c, at) for c in filters)
        kept, summed = (tuple(renamed.get(r, r) for r in ranks) for ranks in (kept, summed))
        made: list[Equation] = []
        # The innermost first: its sums are as many as the other points. Of two ranks too, where one tensor has all points: its sum over one stands in the loop of
        # whatever else is summed over that rank there, and products of two tensors, which are better summed at once, have none. A box is summed at once.
        together = any(set(free_ranks(r)) >= {*kept, *summed} for r in walk(term) if isinstance(r, Read))
        boxes = self._boxes(summed, {new: r for r, new in renamed.items()}, together)
        while len(boxes) > 1 and (len(summed) > 2 or (together and not made)):
            *boxes, box = boxes
            summed = tuple(r for b in boxes for r in b)
            made.append(self._equation(f"{name}.grad.part", (*kept, *summed), box, term, where))
            term, where = _whole(made[-1]), None
        equal: list[Expression] = [
            Comparison(("==",), (substitute(i, at), Rank(axis)))
            for axis, i in zip(axes, indices, strict=True)
            if bare.get(_rank(i)) != axis
        ]
        if not equal:
            made.append(self._equation(stem, axes, summed, term, where))
            # A sum exists everywhere; a map where its operands do.
            found = () if summed or len(made) > 1 else tuple(substitute(c, at) for c in conditions)
            return Contribution(name, tuple(made), found)
        # What the equation sums stays a sum; its left side has the ranks that are solved for.
        order = [renamed.get(r, r) for r in (*(r for r in points if r not in left), *left)]
        solved = [r for r in order if r in kept and r not in axes]
        rows = {renamed.get(r, r) for r in left}
        alike = {r: new for r, new in renamed.items() if r != new}
        reduced = {renamed.get(r, r) for ranks in self._reductions for r in ranks}
        found_at = inverses(equal, solved, rows, reduced, self._declared, self._part, alike)
        paired = len([r for r in kept if r not in axes]) - sum(bool(i.part) for i in found_at) > 1
        pointwise = any(set(free_ranks(r)) >= {*kept, *summed} for r in walk(term) if isinstance(r, Read))
        after = summed if paired and pointwise else ()
        # A rank that is solved for along the last axis lies last: neighbours along the axis are neighbours in memory. Of windows and places in them it is the windows.
        innermost = [i for i in found_at if i.axis == axes[-1:]]
        behind = [i.rank for i in innermost if i.part] or [i.rank for i in innermost]
        kept = tuple(sorted((*after, *kept), key=behind.count))
        summed = tuple(r for r in summed if r not in after)
        made.append(self._equation(f"{name}.grad.at", kept, summed, term, where))
        places = {i.rank: i.place for i in found_at}
        gathered = tuple(
            r
            for r in (*kept, *(i.part for i in found_at if i.part))
            if r not in axes and r not in places and r not in after
        )
        whole = substitute(_whole(made[-1]), places)
        equal = [c for c in equal if all(c is not i.condition for i in found_at)]
        for inverse in found_at:
            equal = [inverse.solved(c) for c in equal]
        equal += [i.within for i in found_at if not i.part and not i.within_rank]
        equal += [i.exists for i in found_at if i.exists is not None]
        last = Reduction("sum", gathered, whole, conjunction(equal)) if gathered else whole
        outside = None if gathered else conjunction(equal)
        if after:
            part = Target(self._name(f"{name}.grad.part"), tuple(map(Rank, (*after, *axes))))
            made.append(Equation((part,), last, outside))
            last, outside = Reduction("sum", after, _whole(made[-1])), None
        made.append(Equation((Target(self._name(stem), tuple(map(Rank, axes))),), last, outside))
        return Contribution(name, tuple(made), () if gathered else tuple(equal))

    def _through(
        self,
        opened: dict[str, Opened],
        name: str,
        axes: tuple[str, ...],
        indices: tuple[Expression, ...],
        left: tuple[str, ...],
        points: tuple[str, ...],
        term: Expression,
        filters: Conditions,
    ) -> Contribution:
        """The gradient at the places, of which there are few, then the sums over those with one value."""
        meeting: dict[str, str] = {}
        for axis, found in opened.items():
            meeting[axis] = self._name(f"{found.along}_of")
            self.scalars.append(Scalar(meeting[axis].upper(), "int", found.extent))
        places = tuple(opened[a].place if a in opened else i for a, i in zip(axes, indices, strict=True))
        ranks = tuple(meeting.get(a, a) for a in axes)
        before = self._summed(name, f"{name}.grad.places", ranks, places, left, points, term, filters, ())
        equal = [Comparison(("==",), (opened[a].index(Rank(r)), Rank(a))) for a, r in meeting.items()]
        value = Reduction("sum", tuple(meeting.values()), _whole(before.equations[-1]), conjunction(equal))
        target = Target(self._name(f"{name}.grad"), tuple(map(Rank, axes)))
        return Contribution(name, (*before.equations, Equation((target,), value)), ())

    def _boxes(self, ranks: tuple[str, ...], was: dict[str, str], reduced: bool) -> list[tuple[str, ...]]:
        """Ranks that the same tensors have, together: no sum over one of them serves anything else. ``reduced``: only those that the cascade reduces together."""
        boxes: dict[tuple[object, ...], list[str]] = {}
        for rank in ranks:
            old = was.get(rank, rank)
            having = frozenset(t for t, axes in self._axes.items() if old in axes)
            by = frozenset(r for r in self._reductions if old in r)
            boxes.setdefault((having, (by or rank) if reduced else ()), []).append(rank)
        return [tuple(b) for b in boxes.values()]

    def _part(self, name: str, number: Expression) -> str:
        """The rank of the coordinates of ``name`` that one value leaves, ``number`` of them."""
        rank = self._parts.get((name, number))
        if rank is None:
            rank = self._parts[name, number] = self._name(f"{name}_part")
            self.scalars.append(Scalar(rank.upper(), "int", number))
        return rank

    def _equation(
        self, stem: str, left: tuple[str, ...], summed: tuple[str, ...], term: Expression, where: Expression | None
    ) -> Equation:
        target = Target(self._name(stem), tuple(map(Rank, left)))
        if not summed:
            return Equation((target,), term, where)
        inside = [c for c in conjuncts(where) if set(free_ranks(c)) & set(summed)]
        outside = [c for c in conjuncts(where) if c not in inside]
        # Where the left side is not defined nothing is summed: the sum exists everywhere, and is 0 there.
        return Equation((target,), Reduction("sum", summed, term, conjunction((*inside, *outside))))


def _rank(index: Expression) -> str:
    return index.name if isinstance(index, Rank) else ""


def _whole(equation: Equation) -> Read:
    return Read(equation.target.tensor, equation.target.indices)
