"""The partition problem of one equation: with its projections, or with all of its operands as integer maps."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from einsum_compiler.passes.bounds.exponents import Exponents, general
from einsum_compiler.passes.bounds.hbl import Array, Found, Partition, exact_or_rounded, rational, remembering
from einsum_compiler.passes.bounds.index_maps import Digit
from einsum_compiler.passes.bounds.symbols import CAPACITY, Symbolic


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
