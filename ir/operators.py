"""Operators and functions with their algebra: what passes read in place of testing for names."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReductionOperator:
    """A commutative monoid that reduces a fibre.

    ``combine`` joins two partial results (an infix operator or a function); ``distributes_over`` names the operators ``x`` for which
    ``(a op b) x c == (a x c) op (b x c)``.
    """

    name: str
    identity: bool | int | float
    combine: str
    distributes_over: tuple[str, ...] = ()
    idempotent: bool = False


REDUCTIONS = {
    r.name: r
    for r in (
        ReductionOperator("sum", 0, "+", ("*", "/")),
        ReductionOperator("prod", 1, "*"),
        ReductionOperator("max", -math.inf, "max", ("+", "-"), idempotent=True),
        ReductionOperator("min", math.inf, "min", ("+", "-"), idempotent=True),
        ReductionOperator("any", False, "or", ("and",), idempotent=True),
        ReductionOperator("all", True, "and", ("or",), idempotent=True),
    )
}

# Reductions that normalize rewrites.
DERIVED_REDUCTIONS = ("mean", "argmax")

SELECTIONS = ("topk", "argsort")


@dataclass(frozen=True, slots=True)
class Function:
    """A scalar function of the language: how many arguments, and what type it gives.

    ``kind``: "real" gives a float of its argument's precision (f32 for integers); "same" keeps the promoted type of the arguments.
    """

    name: str
    least: int
    most: int
    kind: str = "real"


FUNCTIONS = {
    f.name: f
    for f in (
        *(
            Function(name, 1, 1)
            for name in (
                "exp", "exp2", "log", "sqrt", "rsqrt", "tanh", "sigmoid", "silu", "gelu", "erf", "softplus", "sin", "cos",
            )
        ),
        *(Function(name, 1, 1, "same") for name in ("relu", "abs", "sign", "floor", "ceil", "round", "stop_gradient")),
        Function("max", 2, 99, "same"),
        Function("min", 2, 99, "same"),
        Function("clamp", 3, 3, "same"),
        Function("default", 2, 2, "same"),
        Function("uniform", 1, 99),
    )
}  # fmt: skip
