"""precision: both operands of a contraction take the type of its lowest-precision input, and the text shows the rounding.

    O.acc.n[m,f,n.1] = sum[n.0](P.n[m,n.1,n.0] * V[n.1*N.0 + n.0,f])
 -> O.acc.n[m,f,n.1] = sum[n.0](cast(P.n[m,n.1,n.0], bf16) * V[n.1*N.0 + n.0,f])        for bf16 V

    DK[n,e] = sum[m](DS[m,n] * TQ[m,e])        with TQ[m,e] = T[m] * Q[m,e]
 -> DK[n,e] = sum[m](cast(DS[m,n] * T[m], bf16) * Q[m,e])                              for bf16 Q

A product of two computed operands has no narrow one, and no matrix unit takes it in f32. If one is a narrow input times factors whose ranks the other has,
these factors go to the other (multiplication is associative), and the input is an operand as it was loaded.

Matrix units multiply two operands of one narrow type. Nothing is rounded that the printed cascade does not show. Runs last: algebra never looks through
a cast. A tensor whose type the text gives is pinned and keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from einsum_compiler.ir.build import conjunction
from einsum_compiler.ir.cascade import Cascade, Equation
from einsum_compiler.ir.expression import Binary, Cast, Expression, Read, Reduction, Unary
from einsum_compiler.ir.types import PRECISION, is_float
from einsum_compiler.passes.products import Factor, factors, product
from einsum_compiler.passes.scope import definitions, free_ranks


@dataclass(frozen=True, slots=True)
class Precision:
    """No options; the types of the inputs are part of the context."""


def precision(cascade: Cascade, dtypes: Mapping[str, str], options: Precision = Precision()) -> Cascade:
    """The cascade with a cast on the computed operands of contractions with narrow inputs; ``dtypes`` are those of the inputs."""
    known = {t.name: t.dtype or dtypes.get(t.name) for t in cascade.inputs}
    pinned = {t.tensor: t.dtype for e in cascade.equations for t in e.targets if t.dtype is not None}
    types = {name: dtype for name, dtype in {**known, **pinned}.items() if dtype is not None}
    origin = _Origins(cascade, types)
    return replace(
        cascade, equations=tuple(_rounded(_rebracketed(e, origin), types, origin) for e in cascade.equations)
    )


class _Origins:
    """Computed tensors that only copy an input keep its type."""

    def __init__(self, cascade: Cascade, types: Mapping[str, str]) -> None:
        self._defined = definitions(cascade)
        self._inputs = {t.name for t in cascade.inputs}
        self._types = types

    def dtype(self, name: str) -> str | None:
        """The type of an input, a pinned tensor or a copy of one; None for a computed value."""
        if name in self._types:
            return self._types[name]
        equation = self._defined.get(name)
        value = None if equation is None else equation.value
        return self.dtype(value.tensor) if isinstance(value, Read) else None

    def scaled(self, read: Read) -> tuple[Read, tuple[Factor, ...], Expression | None] | None:
        """A computed operand as a narrow input with all its ranks, times other factors; and the filter under which it was computed."""
        equation = self._defined.get(read.tensor)
        if equation is None or read.tensor in self._types or equation.target.indices != read.indices:
            return None
        parts = factors(equation.value)
        whole = [
            p
            for p in parts
            if not p.inverse and _lowest((p,), self) and set(free_ranks(p.value)) == set(free_ranks(read))
        ]
        if len(parts) < 2 or len(whole) != 1 or not isinstance(whole[0].value, Read):
            return None
        return whole[0].value, tuple(p for p in parts if p is not whole[0]), equation.where

    def is_input(self, name: str) -> bool:
        """Whether the tensor is an input or a copy of one."""
        value = self._defined[name].value if name in self._defined else None
        return name in self._inputs or (isinstance(value, Read) and self.is_input(value.tensor))


def _rounded(equation: Equation, types: Mapping[str, str], origin: _Origins) -> Equation:
    reduction = equation.value
    if not isinstance(reduction, Reduction) or reduction.operator != "sum":
        return equation
    parts = factors(reduction.body)
    if not is_contraction(parts, reduction.ranks):
        return equation
    narrow = _lowest(parts, origin)
    if narrow is None:
        return equation
    changed = tuple(replace(p, value=_as(p.value, narrow, origin)) for p in parts)
    return equation if changed == parts else replace(equation, value=replace(reduction, body=product(changed)))


def _rebracketed(equation: Equation, origin: _Origins) -> Equation:
    """A contraction of two computed operands with a narrow input as one of them, where the other one can take the rest."""
    reduction = equation.value
    if not isinstance(reduction, Reduction) or reduction.operator != "sum":
        return equation
    parts = factors(reduction.body)
    if not is_contraction(parts, reduction.ranks) or _lowest(parts, origin) is not None:
        return equation
    for operand, other in (parts, parts[::-1]):
        found = origin.scaled(operand.value) if isinstance(operand.value, Read) else None
        if found is None or isinstance(other.value, Cast):
            continue
        loaded, rest, where = found
        dtype = _lowest((Factor(loaded),), origin)
        if dtype is None or not set(free_ranks(*(f.value for f in rest))) <= set(free_ranks(other.value)):
            continue
        moved = Factor(Cast(product((other, *rest)), dtype))
        body = product((moved, Factor(loaded)) if other is parts[0] else (Factor(loaded), moved))
        return replace(equation, value=replace(reduction, body=body, where=conjunction((reduction.where, where))))
    return equation


def is_contraction(parts: tuple[Factor, ...], ranks: tuple[str, ...]) -> bool:
    """Whether the product of two factors is a matrix product over ``ranks``: both have them, each has a rank the other lacks or lacks one."""
    if len(parts) != 2 or any(p.inverse for p in parts):
        return False
    left, right = (set(free_ranks(p.value)) for p in parts)
    return left != right and bool(left & right & set(ranks))


def _lowest(parts: tuple[Factor, ...], origin: _Origins) -> str | None:
    """The floating type of least precision among the operands that are inputs, if it is narrower than f32."""
    inputs = [p.value for p in parts if isinstance(p.value, Read) and origin.is_input(p.value.tensor)]
    found = [d for read in inputs if (d := _operand_type(read, origin)) is not None and is_float(d)]
    narrow = [d for d in found if PRECISION[d] < PRECISION["f32"]]
    return min(narrow, key=PRECISION.__getitem__, default=None)


def _operand_type(node: Expression, origin: _Origins) -> str | None:
    if isinstance(node, Cast):
        return node.dtype
    return origin.dtype(node.tensor) if isinstance(node, Read) else None


def _as(node: Expression, dtype: str, origin: _Origins) -> Expression:
    known = _operand_type(node, origin)
    if known == dtype or isinstance(node, Cast) or (known is not None and not is_float(known)):
        return node
    return Cast(node, dtype) if isinstance(node, (Read, Binary, Unary)) or node is not None else node
