"""The partition problems of single equations: with their projections, or with all of their operands as integer maps."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import sympy

from einsum_compiler.ir.expression import Read, Selection, walk
from einsum_compiler.passes.bounds.exponents import Exponents, general
from einsum_compiler.passes.bounds.found import Found, remembering
from einsum_compiler.passes.bounds.hbl import Array, Partition, merged
from einsum_compiler.passes.bounds.index_maps import Digit
from einsum_compiler.passes.bounds.provenance import Provenance
from einsum_compiler.passes.bounds.spaces import Access, Space
from einsum_compiler.passes.bounds.symbols import CAPACITY, Symbolic, exact_or_rounded, rational


@dataclass(frozen=True)
class Einsum:
    """One equation whose operands and result are all external, or stand for external ones: a partition bound applies as it is.

    ``maps``: integer maps of operands with mixed indices, for the general linear program; empty where all are projections.
    """

    tensor: str
    digits: tuple[Digit, ...]
    points: int
    formula: Symbolic
    arrays: tuple[Array, ...]
    maps: tuple[tuple[float, tuple[tuple[int, ...], ...]], ...]

    @property
    def roots(self) -> frozenset[str]:
        """The external tensors whose traffic the bound counts."""
        return frozenset(n for a in self.arrays for n in a.names)

    @cached_property
    def partition(self) -> Partition:
        """The problem with the operands that are projections."""
        return Partition(self.points, self.formula, self.digits, self.arrays)

    @cached_property
    def general_exponents(self) -> Exponents | None:
        """The exponents of the general linear program, for all operands."""
        if not self.maps:
            return None
        s = general(len(self.maps[0][1][0]), [m for _, m in self.maps], [w for w, _ in self.maps])
        return None if s is None or sum(s) < 1 else s

    @remembering
    def at(self, capacity: float) -> Found | None:
        """The partition bound: with the projections, or with all operands as integer maps."""
        found, s = self.partition.at(capacity), self.general_exponents
        if s is None:
            return found
        sigma = float(sum(s))
        constant = (sigma - 1) ** (sigma - 1) if sigma > 1 else 1.0
        for x, (weight, _) in zip(s, self.maps, strict=True):
            constant *= (weight / float(x)) ** float(x) if x else 1.0
        value = self.points * constant / capacity ** (sigma - 1)
        if found is not None and found.value >= value:
            return found
        return Found(
            value, lambda: exact_or_rounded(constant) * self.formula / CAPACITY ** rational(sum(s, Fraction(0)) - 1)
        )


def einsums(group: Provenance) -> tuple[tuple[Einsum, ...], tuple[str, ...]]:
    """The partition problems of single equations of a group, and why other equations have none."""
    problems: list[Einsum] = []
    unknown: dict[str, None] = {}
    for space in group.members:
        if space.opaque:
            read = next((n.tensor for c in space.opaque for n in walk(c) if isinstance(n, Read)), "a condition")
            unknown[f"{space.tensor} is computed where the values of {read} say"] = None
            continue
        points = group.spaces.count_points(space)
        if points is None:
            unknown[f"the points of {space.tensor} are too many to count one by one"] = None
        elif points:
            found = _einsum(group, space, points)
            if found is not None:
                problems.append(found)
    return tuple(problems), tuple(unknown)


def _einsum(group: Provenance, space: Space, points: int) -> Einsum | None:
    inside = group.spaces.digits.names(space.ranks)
    projections: dict[str, dict[frozenset[str], bool]] = {}
    mixed: list[tuple[str, Access]] = []
    for access in space.reads:
        root = group.root(access)
        if root is None or access.guards:
            continue
        projections.setdefault(root, {})[access.projection.digits & inside] = False
        if access.projection.rows:
            mixed.append((root, access))
    stored = group.stored(space.tensor)
    if stored is not None and not isinstance(space.equation.value, Selection):
        projections.setdefault(stored, {})[space.write.projection.digits & inside] = True
    arrays = [
        # A tensor read in k ways has at least 1/k of the elements of all of them together.
        Array(digits, 1 / len(ways), sympy.Rational(1, len(ways)), result, (root,))
        for root, ways in projections.items()
        for digits, result in ways.items()
    ]
    kept = merged(arrays)
    if not kept:
        return None
    digits = tuple(d for r in space.ranks for d in group.spaces.digits.of(r))
    maps = _maps(group, space, projections, mixed) if mixed else ()
    return Einsum(space.tensor, digits, points, group.spaces.points_formula(space), kept, maps)


def _maps(
    group: Provenance, space: Space, projections: dict[str, dict[frozenset[str], bool]], mixed: list[tuple[str, Access]]
) -> tuple[tuple[float, tuple[tuple[int, ...], ...]], ...]:
    """All operands as integer maps on the ranks; none if some rank has several digits."""
    if any(len(group.spaces.digits.of(r)) > 1 for r in space.ranks) or len(space.ranks) > 7:
        return ()
    rows_of = {root: access for root, access in mixed}
    found = []
    for root, ways in projections.items():
        for digits in ways:
            rows = [tuple(int(r == d) for r in space.ranks) for d in sorted(digits)]
            if root in rows_of:
                rows += [tuple(dict(row).get(r, 0) for r in space.ranks) for row in rows_of[root].projection.rows]
            if rows:
                found.append((1 / len(ways), tuple(rows)))
    return tuple(found)
