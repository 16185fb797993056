"""Common subexpressions: equations with the same right side are computed once."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from einsum_compiler.ir.cascade import Cascade, Equation
from einsum_compiler.ir.expression import Expression, Rank, Read, transform
from einsum_compiler.passes.order import in_order
from einsum_compiler.passes.scope import definitions


def shared(cascade: Cascade, kept: Collection[str] = ()) -> Cascade:
    """The cascade where readers of a tensor that equals an earlier one read the earlier one.

    Two tensors are equal if one equation each defines them, over the same ranks (in any order), by the same value, filter and
    type. A duplicate that is an output, or one of ``kept``, stays, as a copy of the first.
    """
    cascade = in_order(cascade)
    defined = definitions(cascade)
    outputs = {t.name for t in cascade.outputs} | set(kept)
    inputs = {t.name for t in cascade.inputs}
    first: dict[tuple[object, ...], Equation] = {}
    copies: dict[str, tuple[tuple[str, ...], Read]] = {}  # duplicate -> its ranks, the read that equals it

    def change(node: Expression) -> Expression:
        if isinstance(node, Read) and node.tensor in copies:
            ranks, original = copies[node.tensor]
            at = dict(zip(ranks, node.indices, strict=True))
            return replace(original, indices=tuple(at[i.name] for i in original.indices if isinstance(i, Rank)))
        return node

    equations: list[Equation] = []
    for equation in cascade.equations:
        equation = replace(
            equation,
            value=transform(equation.value, change),
            where=None if equation.where is None else transform(equation.where, change),
        )
        target = equation.target
        if (source := _copied(equation, defined, inputs)) is not None:
            copies[target.tensor] = (target.ranks, source)
            if target.tensor in outputs:
                equations.append(equation)
            continue
        if target.tensor in defined and (equation.where is not None or not isinstance(equation.value, Read)):
            key = (equation.value, equation.where, frozenset(target.ranks), target.dtype)
            earlier = first.setdefault(key, equation)
            if earlier is not equation:
                original = Read(earlier.target.tensor, earlier.target.indices)
                copies[target.tensor] = (target.ranks, original)
                if target.tensor in outputs:
                    equations.append(replace(equation, value=original, where=equation.where))
                continue
        equations.append(equation)
    return replace(cascade, equations=tuple(equations))


def _copied(equation: Equation, defined: dict[str, Equation], inputs: set[str]) -> Read | None:
    """The read that a plain copy consists of: all axes bare and different, no filter, no type."""
    value = equation.value
    if equation.target.tensor not in defined or equation.where is not None or equation.target.dtype is not None:
        return None
    if not isinstance(value, Read) or (value.tensor not in defined and value.tensor not in inputs):
        return None
    bare = [i.name for i in value.indices if isinstance(i, Rank)]
    return value if len(bare) == len(value.indices) and sorted(bare) == sorted(equation.target.ranks) else None
