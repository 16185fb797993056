"""Which values are positive as soon as there is one point: sums of exponentials, and what is made of them.

Law: what divides in a running state is divided by at every prefix of the stream. A sum whose terms are positive is positive from its first visible point on; a
sum of squares or of ``relu`` may still be 0 after any number of tiles, and a sum of terms of both signs may pass through 0.
"""

from __future__ import annotations

from collections.abc import Mapping

from einsum_compiler.ir.cascade import Equation
from einsum_compiler.ir.expression import Binary, Call, Conditional, Constant, Expression, Extent, Read, Reduction
from einsum_compiler.passes.analysis.value_ranges import Ranges

_POSITIVE = (
    "exp",
    "exp2",
    "sigmoid",
    "softplus",
)  # of any number; in real arithmetic, that is: far from 0 they round to it
_KEPT = ("sqrt", "rsqrt")


class Positivity:
    """Positive values of one cascade; ``defined`` has its plain equations by tensor."""

    def __init__(self, defined: Mapping[str, Equation], ranges: Ranges) -> None:
        self._defined, self._ranges = defined, ranges

    def holds(self, node: Expression) -> bool:
        """Whether the value is positive wherever it exists, and as a sum of any part of its points that is not empty."""
        match node:
            case Constant(value=value):
                return value > 0
            case Extent():
                return True
            case Read():
                equation = self._defined.get(node.tensor)
                return equation is not None and self.holds(equation.value)
            case Reduction(operator="sum" | "max" | "min" | "prod" | "mean", body=body):
                return self.holds(body)
            case Binary(operator="*" | "/", left=left, right=right):
                return self.holds(left) and self.holds(right)
            case Binary(operator="+", left=left, right=right):
                return any(
                    self.holds(a) and (self.holds(b) or self._nonnegative(b)) for a, b in ((left, right), (right, left))
                )
            case Binary(operator="**", left=left, right=right):
                # Of integers 2 ** -1 is 0.
                inverse = self._ranges.of(left).integer and not self._nonnegative(right)
                return self.holds(left) and not inverse
            case Conditional(then=then, otherwise=otherwise):
                return self.holds(then) and self.holds(otherwise)
            case Call(function="max", arguments=arguments):
                return any(map(self.holds, arguments))
            case Call(function=function, arguments=arguments):
                return function in _POSITIVE or (function in _KEPT and self.holds(arguments[0]))
        return False

    def _nonnegative(self, node: Expression) -> bool:
        return self._ranges.of(node).nonnegative
