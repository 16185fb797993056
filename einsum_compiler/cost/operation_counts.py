"""The operations that an expression is made of, by kind and by the axes at every point of which they are done."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from einsum_compiler.cost.steps import Tile
from einsum_compiler.ir.expression import (
    Binary,
    Call,
    Cast,
    Comparison,
    Conditional,
    Constant,
    Expression,
    Membership,
    Rank,
    Read,
    Unary,
    children,
)

# What a function is made of; all others are one simple operation.
PARTS: Mapping[str, tuple[str, ...]] = {
    "exp": ("exp",), "exp2": ("exp",), "exp.nonpositive": ("exp",), "exp2.nonpositive": ("exp",), "log": ("log",), "sqrt": ("sqrt",),
    "rsqrt": ("sqrt", "divide"), "tanh": ("tanh",), "sin": ("sin",), "cos": ("sin",), "sigmoid": ("exp", "divide", "simple", "simple"),
    "softplus": ("exp", "log", "simple", "simple"), "silu": ("exp", "divide", "simple", "simple"), "erf": ("exp", "divide", *("simple",) * 12),
    "gelu": ("exp", "divide", *("simple",) * 14), "uniform": ("simple",) * 60,
}  # fmt: skip
BINARY: Mapping[str, tuple[str, ...]] = {
    "/": ("divide",),
    "//": ("integer",),
    "%": ("integer",),
    "**": ("exp", "log", "simple"),
}


def count_operations(
    node: Expression,
    kinds: Mapping[str, tuple[Tile, str]],
    found: dict[tuple[str, frozenset[str]], int],
    space: Collection[str],
) -> frozenset[str]:
    """Adds the operations of an expression at the points of ``space`` and gives its axes; a rank that is none of them has one value: the program's or a loop's."""
    if isinstance(node, Rank):
        return frozenset({node.name}) if node.name in space else frozenset()
    if isinstance(node, Read):
        return frozenset(kinds[node.tensor][0].axes) if node.tensor in kinds else frozenset()
    axes = frozenset[str]().union(*(count_operations(child, kinds, found, space) for child in children(node)))
    parts: tuple[str, ...] = ()
    match node:
        case Call(function=function):
            parts = PARTS.get(function, ("simple",))
        case Binary(operator="**", right=Constant(value=int() as power)) if 0 < power <= 4:
            parts = ("simple",) * (power - 1)
        case Binary(operator="**", right=Constant(value=float() as power)) if abs(power) <= 4 and 2 * power % 2 == 1:
            parts = ("sqrt", *("simple",) * int(abs(power)), *("divide",) * (power < 0))
        case Binary(operator=operator):
            parts = BINARY.get(operator, ("simple",))
        case Comparison(operators=operators):
            parts = ("simple",) * len(operators)
        case Conditional() | Unary() | Cast():
            parts = ("simple",)
        case Membership():
            parts = ("integer",)
    for part in parts:
        found[part, axes] = found.get((part, axes), 0) + 1
    return axes
