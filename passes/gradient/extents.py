"""Extents that the inputs of a backward cascade have no longer: its gradient is as long as what was summed, so a call gives them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from einsum_compiler.ir.cascade import Cascade, Scalar
from einsum_compiler.ir.expression import Expression, Extent, Read, Reduction, transform, walk
from einsum_compiler.ir.extents import equalities, expressions


def with_extents(cascade: Cascade) -> Cascade:
    """The cascade with a parameter for every extent that no input has any more: the gradient of a sum is as long as what was summed."""
    known = {r for t in cascade.inputs for r in t.ranks} | {p.name.lower() for p in cascade.parameters}
    reads = [(e.rank, e.axis_rank) for e in equalities(cascade)]
    while found := {r for pair in reads if known & set(pair) for r in pair} - known:
        known |= found
    needed = {r for e in cascade.equations for t in e.targets for r in t.ranks}
    values = [n for e in cascade.equations for n in expressions(e)]
    values += [n for p in cascade.parameters if p.default is not None for n in walk(p.default)]
    for node in values:
        needed |= {node.rank} if isinstance(node, Extent) else set(node.ranks) if isinstance(node, Reduction) else set()
    extents = tuple(Scalar(r.upper(), "int") for r in sorted(needed - known))
    return replace(_beside(cascade, {p.name for p in extents}), parameters=(*extents, *cascade.parameters))


def _beside(cascade: Cascade, extents: Collection[str]) -> Cascade:
    """The cascade whose inputs have other names than these parameters, for a call names its arguments: ``K.saved`` in place of ``K``."""
    renamed = {t.name: f"{t.name}.saved" for t in cascade.inputs if t.name in extents}
    if not renamed:
        return cascade

    def read(node: Expression) -> Expression:
        return replace(node, tensor=renamed[node.tensor]) if isinstance(node, Read) and node.tensor in renamed else node

    equations = tuple(
        replace(e, value=transform(e.value, read), where=None if e.where is None else transform(e.where, read))
        for e in cascade.equations
    )
    inputs = tuple(replace(t, name=renamed.get(t.name, t.name)) for t in cascade.inputs)
    return replace(cascade, inputs=inputs, equations=equations)
