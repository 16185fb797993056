"""Where the elements of a tile lie in a tensor: addresses as affine functions of the axes, and conditions as bounds of them."""

from __future__ import annotations

from dataclasses import dataclass

from einsum_compiler.backends.cpu.affine import Known, affine, depends, lower_bound, upper_bound
from einsum_compiler.backends.cpu.expressions import Expressions
from einsum_compiler.backends.cpu.scope import Scope
from einsum_compiler.backends.cpu.view import atom, product, sum_of
from einsum_compiler.ir.build import conjuncts
from einsum_compiler.ir.expression import Comparison, Expression
from einsum_compiler.ir.tile import Axis


@dataclass(frozen=True)
class Access:
    """Where elements lie: a base and a stride for every axis, None where an index is not affine in that axis."""

    base: list[tuple[Expression, str]]
    strides: dict[str, str | None]


def access_of(scope: Scope, tensor: str, indices: tuple[Expression, ...], axes: tuple[Axis, ...]) -> Access:
    """The address ``tensor[indices]`` as an affine function of the axes."""
    known = scope.known()
    # An axis that some index gathers along stands in the base of every index: its part of the address is no stride.
    gathered: set[str] = set()
    while more := {r for index in indices for r in _not_affine(index, {a.rank for a in axes} - gathered, known)}:
        gathered |= more
    found = [affine(index, {a.rank for a in axes} - gathered, known) for index in indices]
    strides: dict[str, str | None] = {a.rank: None if a.rank in gathered else "0" for a in axes}
    base: list[tuple[Expression, str]] = []
    for d, form in enumerate(found):
        assert form is not None
        step = scope.names.of("stride", f"{tensor}.{d}")
        for rank, coefficient in form[0].items():
            factor = str(coefficient) if coefficient >= 0 else f"({coefficient})"
            strides[rank] = sum_of([strides[rank] or "0", product(factor, step)])
        base.append((form[1], step))
    return Access(base, strides)


def _not_affine(index: Expression, ranks: set[str], known: Known) -> set[str]:
    """The ranks to leave out so that the index is affine in the others; none if it is affine already."""
    if affine(index, ranks, known) is not None:
        return set()
    return {r for r in ranks if affine(index, {r}, known) is None} or {r for r in ranks if depends(index, {r}, known)}


def split_conditions(
    scope: Scope, where: Expression | None, axes: tuple[Axis, ...]
) -> tuple[dict[str, list[Expression]], list[Expression]]:
    """Conjuncts that bound one axis from above, by rank; and the others. ``a < b < c`` counts as two."""
    known = scope.known()
    ranks = {a.rank for a in axes}
    bounds: dict[str, list[Expression]] = {}
    others: list[Expression] = []
    for whole in conjuncts(where):
        parts: tuple[Expression, ...] = (whole,)
        if isinstance(whole, Comparison):
            pairs = zip(whole.operators, whole.operands, whole.operands[1:], strict=False)
            parts = tuple(Comparison((o,), (a, b)) for o, a, b in pairs)
        for part in parts:
            used = [a.rank for a in axes if depends(part, {a.rank}, known)]
            bound = upper_bound(part, used[0], known) if len(used) == 1 else None
            if bound is not None and not depends(bound, ranks, known):
                bounds.setdefault(used[0], []).append(bound)
            else:
                others.append(part)
    return bounds, others


def bound_of(condition: Expression, lane: str, known: Known) -> tuple[bool, Expression] | None:
    """The end, or the start, that a condition sets to the lanes of a row: (True, b) for ``lane < b``, (False, b) for ``lane >= b``."""
    for above, found in ((True, upper_bound(condition, lane, known)), (False, lower_bound(condition, lane, known))):
        if found is not None and not depends(found, {lane}, known):
            return above, found
    return None


def base_address(scope: Scope, printer: Expressions, tensor: str, access: Access) -> str:
    """The address of the element where all axes are 0 (C++)."""
    terms = [product(index_code(printer, node), step) for node, step in access.base]
    return sum_of([scope.names.of("tensor", tensor), *terms])


def index_code(printer: Expressions, node: Expression) -> str:
    """An index as a factor (C++)."""
    code = printer.integer(node)
    return code if code.lstrip("-").isdigit() and not code.startswith("-") else atom(code)
