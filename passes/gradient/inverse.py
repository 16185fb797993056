"""One coordinate solved for: where along a rank an index has a given value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from einsum_compiler.ir.expression import Binary, Comparison, Constant, Expression, Extent, Rank, transform
from einsum_compiler.passes.scope import substitute

Parts = Callable[[str, Expression], str]  # names the rank of the coordinates that one value leaves, of an extent


@dataclass(frozen=True)
class Inverse:
    """The coordinate of ``rank`` at which ``condition`` holds; one for each coordinate of ``part``, if that is named. ``within_rank``: it is always one of the rank's.

    ``exists``: when there is one: a quotient must be a whole number, a remainder less than the divisor. ``quotient``: what ``part`` is in other equations.
    """

    condition: Comparison
    rank: str
    place: Expression
    part: str = ""
    within_rank: bool = False
    exists: Comparison | None = None
    quotient: Expression | None = None

    def solved(self, equation: Expression) -> Expression:
        """Another equation at that coordinate."""
        # A bare rank as an index would say that both extents are one.
        part = Binary("+", Rank(self.part), Constant(0))
        parted = transform(equation, lambda node: part if node == self.quotient else node)
        return substitute(parted, {self.rank: self.place})

    @property
    def within(self) -> Expression:
        """Whether the coordinate is one that the rank has."""
        return Comparison(("<=", "<"), (Constant(0), self.place, Extent(self.rank)))

    @property
    def axis(self) -> tuple[str, ...]:
        """The axis along which the index has the value."""
        value = self.condition.operands[1]
        return (value.name,) if isinstance(value, Rank) else ()
