"""The anchors of a group: intermediates at whose points elements of several external tensors meet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import prod

import islpy
import sympy

from einsum_compiler.ir.build import ranks_of
from einsum_compiler.ir.expression import Rank, Selection
from einsum_compiler.passes.bounds.fused import Anchor
from einsum_compiler.passes.bounds.hbl import Array
from einsum_compiler.passes.bounds.integer_points import count
from einsum_compiler.passes.bounds.linearity import linear
from einsum_compiler.passes.bounds.provenance import Provenance
from einsum_compiler.passes.bounds.spaces import Access, Space
from einsum_compiler.passes.bounds.symbols import Symbolic

Met = dict[tuple[str, frozenset[str]], Array]


class Anchors:
    """Finds the anchors of one group."""

    def __init__(self, group: Provenance) -> None:
        self._group, self._spaces, self._members = group, group.spaces, group.members

    def found(self) -> Iterable[Anchor]:
        """The intermediates that are no renamed external tensor, and what they have in common pairwise."""
        inner: dict[str, frozenset[str]] = {}
        for space in self._members:
            whole = Access(space.tensor, space.write.indices, space.write.projection)
            bare = all(isinstance(i, Rank) for i in space.write.indices)
            if (
                space.tensor not in self._group.exposed
                and space.tensor not in self._spaces.carried
                and bare
                and self._group.root(whole) is None
            ):
                inner[space.tensor] = frozenset(space.write_ranks)
        candidates: dict[frozenset[str], None] = dict.fromkeys(inner.values())
        sets = list(candidates)
        for i, a in enumerate(sets):
            candidates.update(dict.fromkeys(a & b for b in sets[:i]))
        for ranks in candidates:
            carriers = [t for t, own in inner.items() if ranks <= own]
            while len(ranks) > 1 and carriers:
                orbit = self._orbit(carriers[0], ranks)
                carriers = [t for t in carriers[1:] if t not in {s.tensor for s in orbit}]
                if len(orbit) > 1:
                    found = self._anchor(ranks, orbit, inner)
                    if found is not None:
                        yield found

    def _carries(self, space: Space, ranks: frozenset[str]) -> bool:
        """Whether the tensor of an equation is an intermediate with all of the ranks."""
        return space.tensor not in self._spaces.carried and ranks <= {
            i.name for i in space.write.indices if isinstance(i, Rank)
        }

    def _reads_at_point(self, access: Access, ranks: frozenset[str]) -> bool:
        if access.tensor not in self._group.by_tensor or access.tensor in self._spaces.carried:
            return False
        own = self._group.by_tensor[access.tensor].write.indices
        same = {i.name for i, o in zip(access.indices, own, strict=False) if isinstance(i, Rank) and i == o}
        return ranks <= same

    def _orbit(self, tensor: str, ranks: frozenset[str]) -> list[Space]:
        """The equations that meet at the points: those that make or read intermediates with all of the ranks, from one on."""
        found = {tensor}
        changed = True
        while changed:
            changed = False
            for space in self._members:
                through = [a.tensor for a in space.reads if self._reads_at_point(a, ranks)]
                joined = space.tensor in found or any(t in found for t in through)
                if joined:
                    new = {*through, *([space.tensor] if self._carries(space, ranks) else [])} - found
                    found |= new
                    changed = changed or bool(new)
        return [
            s
            for s in self._members
            if s.tensor in found or any(a.tensor in found and self._reads_at_point(a, ranks) for a in s.reads)
        ]

    def _anchor(self, ranks: frozenset[str], orbit: list[Space], inner: dict[str, frozenset[str]]) -> Anchor | None:
        if any(s.opaque for s in orbit):
            return None
        ordered = [r for r in orbit[0].ranks if r in ranks]
        points, formula = self._common_points(ordered, orbit)
        if not points:
            return None
        digits = tuple(d for r in ordered for d in self._spaces.digits.of(r))
        names = frozenset(d.name for d in digits)
        makers = [s for s in orbit if self._carries(s, ranks) and s.tensor in inner]
        tensors = tuple(s.tensor for s in makers)
        made: Met = {}
        used: Met = {}
        for space in orbit:
            where = made if space in makers else used
            for access in space.reads:
                if not access.guards and not self._reads_at_point(access, ranks):
                    self._note(where, access.tensor, self._width(access.tensor, access, names, space, set()), False)
            stored = self._group.stored(space.tensor)
            if stored is not None and stored not in tensors and not isinstance(space.equation.value, Selection):
                self._note(used, stored, self._extent(space.write, names, space), True)
        for key in used.keys() & made.keys():  # what the point is made of is there already
            extra = used[key].weight - made[key].weight
            rest = used[key].formula - made[key].formula
            used[key] = replace(used[key], weight=extra, formula=rest)
        projections = {a.digits for a in (*made.values(), *used.values())}
        if not any(not (a <= b or b <= a) for a in projections for b in projections):
            return None  # nested arrays say no more than their sizes
        width = min(prod(self._spaces.extents[r] for r in inner[t] - ranks) for t in tensors)
        made_of, used_with = (tuple(a for a in part if a.weight > 0) for part in _shared(made, used))
        return Anchor(
            digits,
            points,
            formula,
            made_of,
            used_with,
            width,
            tensors,
            all(linear(s.equation.value, set(tensors)) for s in orbit if any(a.tensor in tensors for a in s.reads)),
        )

    def _common_points(self, ranks: list[str], orbit: list[Space]) -> tuple[int, Symbolic]:
        """The points at which every equation of the orbit has something to do."""
        common, least, formula = None, None, None
        for space in orbit:
            points = space.points
            for position in reversed(range(len(space.ranks))):
                if space.ranks[position] not in ranks:
                    points = points.project_out(islpy.dim_type.set, position, 1)
            order = [r for r in space.ranks if r in ranks]
            if order != ranks:
                texts = ", ".join(f"i{order.index(r)}" for r in ranks)
                points = points.apply(
                    islpy.Map(f"{{ [{', '.join(f'i{k}' for k in range(len(order)))}] -> [{texts}] }}")
                )
            if common is None:
                common, least = points, space
            elif not common.is_subset(points):
                least = space if points.is_subset(common) else None
                common = common.intersect(points)
        number = None if common is None else count(common)
        if not number:
            return 0, sympy.Integer(0)
        if least is not None:
            formula = self._spaces.points_formula(least, ranks)
        if formula is None or self._spaces.value(formula) != number:
            formula = sympy.Integer(number)
        return number, formula

    def _note(self, where: Met, tensor: str, found: tuple[frozenset[str], float, Symbolic], result: bool) -> None:
        digits, weight, formula = found
        known = where.get((tensor, digits))
        if weight > 0 and (known is None or known.weight < weight):
            names = (
                (tensor,) if result else tuple(sorted(self._group.origins(tensor)))
            )  # a result is paid for by its own stores
            where[tensor, digits] = Array(digits, weight, formula, result, names)

    def _extent(self, access: Access, names: frozenset[str], space: Space) -> tuple[frozenset[str], float, Symbolic]:
        """The coordinates of the anchor that an access depends on, and how many of its elements there are for each."""
        coupled = {r for c in space.conditions if len(ranks_of(c)) > 1 for r in ranks_of(c)}
        own = self._spaces.digits.names(r for r in space.ranks if r not in coupled)
        others = [self._spaces.digits.all[d] for d in access.projection.digits - names if d in own]
        return (
            access.projection.digits & names,
            float(prod(d.length for d in others)),
            sympy.Mul(*(d.formula for d in others)),
        )

    def _width(
        self, tensor: str, access: Access, names: frozenset[str], space: Space, seen: set[str]
    ) -> tuple[frozenset[str], float, Symbolic]:
        """As ``_extent``; an intermediate counts for no more than what it is made of at the same coordinates."""
        digits, weight, formula = self._extent(access, names, space)
        if tensor not in self._group.by_tensor:
            return digits, weight, formula
        if tensor in seen or tensor in self._spaces.carried:
            return digits, 0.0, sympy.Integer(0)
        maker = self._group.by_tensor[tensor]
        below, symbolic = 0.0, sympy.Integer(0)
        if maker.write.projection.digits >= digits:
            for inner in maker.reads:
                part, w, f = self._width(inner.tensor, inner, names, maker, {*seen, tensor})
                if part == digits and not inner.guards:
                    below, symbolic = below + w, symbolic + f
        return (digits, weight, formula) if weight <= below else (digits, below, symbolic)


def _shared(*parts: Met) -> tuple[tuple[Array, ...], ...]:
    """The arrays of each part. Where k arrays may come from the elements of one tensor, each counts 1/k: loading them once may serve all."""
    uses: dict[str, set[tuple[str, frozenset[str]]]] = {}
    for part in parts:
        for key, array in part.items():
            for name in array.names:
                uses.setdefault(name, set()).add(key)

    def share(a: Array) -> Array:
        k = max((len(uses[n]) for n in a.names), default=1)
        return replace(a, weight=a.weight / k, formula=a.formula / k)

    return tuple(tuple(share(a) for a in part.values()) for part in parts)
