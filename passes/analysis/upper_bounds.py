"""Proofs of ``a >= b`` from the structure of equations: a maximum is at least every value it was taken over."""

from __future__ import annotations

import math
from collections.abc import Mapping

from einsum_compiler.ir.build import conjuncts, reads_of
from einsum_compiler.ir.cascade import Equation
from einsum_compiler.ir.expression import (
    Binary,
    Call,
    Comparison,
    Conditional,
    Constant,
    Expression,
    Rank,
    Read,
    Reduction,
)
from einsum_compiler.passes.scope import opened, plain, substitute


def at_least(
    greater: Expression, smaller: Expression, equations: Mapping[str, tuple[Equation, ...]], depth: int = 8
) -> bool:
    """Whether ``greater >= smaller`` at every point where both exist, by the definitions of what ``greater`` reads.

    False says only that this was not proved.
    """
    if greater == smaller:
        return True
    if depth == 0:
        return False
    match greater:
        case Call("max", arguments):
            return any(at_least(a, smaller, equations, depth - 1) for a in arguments)
        case Conditional(Comparison(("==",), (tested, Constant(value))), _, otherwise) if tested == otherwise:
            # if(x == -inf, c, x): where x is -inf the smaller one is too, so any c will do
            return value == -math.inf and at_least(otherwise, smaller, equations, depth - 1)
        case Reduction("max", _, body, where):
            held = _conditions(smaller, equations)
            return set(conjuncts(where)) <= held and at_least(body, smaller, equations, depth - 1)
        case Read():
            definition = _value_at(greater, equations)
            return definition is not None and at_least(definition, smaller, equations, depth - 1)
    return False


def _conditions(node: Expression, equations: Mapping[str, tuple[Equation, ...]]) -> set[Expression]:
    """Conditions that hold wherever the read exists: the filter of the equation behind it."""
    if not isinstance(node, Read):
        return set()
    found = equations.get(node.tensor, ())
    if len(found) != 1 or not plain(found[0]) or len(found[0].target.indices) != len(node.indices):
        return set()
    value, where = opened(found[0], node)
    return set(conjuncts(where)) | {c for read in reads_of(value) for c in _conditions(read, equations)}


def _value_at(read: Read, equations: Mapping[str, tuple[Equation, ...]]) -> Expression | None:
    """What the read stands for, where one equation defines the element: by bare ranks, or by the step that writes ``t + 1``."""
    found: list[Expression] = []
    for equation in equations.get(read.tensor, ()):
        if equation.otherwise or len(equation.targets) > 1 or len(equation.target.indices) != len(read.indices):
            return None
        at: dict[str, Expression] = {}
        for left, index in zip(equation.target.indices, read.indices, strict=True):
            if isinstance(left, Rank):
                at[left.name] = index
            elif isinstance(left, Binary) and isinstance(left.left, Rank) and left == index:
                at[left.left.name] = left.left
            else:
                break
        else:
            found.append(substitute(equation.value, {r: i for r, i in at.items() if i != Rank(r)}))
    return found[0] if len(found) == 1 else None
