"""Rank variables in their scopes: free ranks, substitution without capture, names nobody uses yet."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from einsum_compiler.ir.build import conjunction
from einsum_compiler.ir.cascade import Cascade, Equation
from einsum_compiler.ir.expression import (
    CascadeCall,
    Constant,
    Expression,
    Rank,
    Read,
    Reduction,
    Selection,
    children,
    map_children,
    walk,
)

BINDERS = (Reduction, Selection, CascadeCall)


def free_ranks(*nodes: Expression | None) -> tuple[str, ...]:
    """The rank variables that occur and are not bound inside, in order of first occurrence."""
    found: dict[str, None] = {}
    for node in nodes:
        if node is not None:
            _collect(node, frozenset(), found)
    return tuple(found)


def _collect(node: Expression, bound: frozenset[str], found: dict[str, None]) -> None:
    if isinstance(node, Rank):
        if node.name not in bound:
            found[node.name] = None
        return
    if isinstance(node, BINDERS):
        bound = bound | frozenset(node.ranks)
    for child in children(node):
        _collect(child, bound, found)


def substitute(node: Expression, values: Mapping[str, Expression]) -> Expression:
    """The expression with free rank variables replaced.

    A binder whose rank occurs in a replacement is renamed first, so nothing is captured.
    """
    if not values:
        return node
    if isinstance(node, Rank):
        return values.get(node.name, node)
    if isinstance(node, BINDERS):
        inner = {r: v for r, v in values.items() if r not in node.ranks}
        occurring = set(free_ranks(*children(node)))
        inserted = {r for name, v in inner.items() if name in occurring for r in free_ranks(v)}
        clashes = [r for r in node.ranks if r in inserted]
        if clashes:
            taken = inserted | occurring | set(node.ranks) | {r for n in walk(node) for r in _bound_by(n)}
            renamed = {r: fresh(f"{r}.2", taken) for r in clashes}
            inner.update({r: Rank(name) for r, name in renamed.items()})
            changed = map_children(node, lambda child: substitute(child, inner))
            assert isinstance(changed, BINDERS)
            return replace(changed, ranks=tuple(renamed.get(r, r) for r in node.ranks))
        return map_children(node, lambda child: substitute(child, inner))
    return map_children(node, lambda child: substitute(child, values))


def _bound_by(node: Expression) -> tuple[str, ...]:
    return node.ranks if isinstance(node, BINDERS) else ()


def replace_reads(node: Expression, values: Mapping[Read, Expression]) -> Expression:
    """The expression with whole reads replaced, wherever their ranks are not rebound."""
    if isinstance(node, Read) and node in values:
        return values[node]
    if isinstance(node, BINDERS):
        values = {r: v for r, v in values.items() if not set(free_ranks(r)) & set(node.ranks)}
    return map_children(node, lambda child: replace_reads(child, values)) if values else node


def opened(equation: Equation, read: Read) -> tuple[Expression, Expression | None]:
    """What a read of the tensor stands for: the value and the filter at the indices of the read."""
    at = {r.name: i for r, i in zip(equation.target.indices, read.indices, strict=True) if isinstance(r, Rank)}
    at = {r: i for r, i in at.items() if i != Rank(r)}
    where = None if equation.where is None else substitute(equation.where, at)
    return substitute(equation.value, at), where


def fresh(stem: str, taken: Collection[str]) -> str:
    """``stem``, or ``stem2``, ``stem3``, ... when taken."""
    name, number = stem, 1
    while name in taken:
        number += 1
        name = f"{stem}{number}"
    return name


def tensor_names(cascade: Cascade) -> set[str]:
    """Every name of the cascade's one name space: tensors and parameters."""
    names = {t.name for t in (*cascade.inputs, *cascade.outputs)} | {p.name for p in cascade.parameters}
    return names | {t.tensor for e in cascade.equations for t in e.targets}


def plain(equation: Equation) -> bool:
    """Whether the equation defines every point of one tensor's domain: bare ranks on the left, no ``else``."""
    return (
        len(equation.targets) == 1
        and not equation.otherwise
        and all(isinstance(i, Rank) for i in equation.target.indices)
    )


def definitions(cascade: Cascade) -> dict[str, Equation]:
    """The tensors that one plain equation defines; tensors with cases or a recurrence are left out."""
    found: dict[str, Equation | None] = {}
    for equation in cascade.equations:
        for target in equation.targets:
            found[target.tensor] = None if target.tensor in found or not plain(equation) else equation
    return {name: e for name, e in found.items() if e is not None}


def ranks_of_tensors(cascade: Cascade) -> dict[str, tuple[str, ...]]:
    """The ranks of every tensor's axes, in order; an iterative axis counts by the rank that runs along it."""
    found = {t.name: t.ranks for t in cascade.inputs}
    for equation in cascade.equations:
        for target in equation.targets:
            ranks = target.ranks
            if any(isinstance(i, Constant) for i in target.indices):
                found.setdefault(target.tensor, ranks)
            elif len(ranks) == len(target.indices):
                found[target.tensor] = ranks
    return found


def all_ranks(cascade: Cascade) -> set[str]:
    """Every rank name in use, bound ones included."""
    names = {r for t in (*cascade.inputs, *cascade.outputs) for r in t.ranks}
    for equation in cascade.equations:
        names.update(r for t in equation.targets for r in t.ranks)
        for root in (equation.value, *(() if equation.where is None else (equation.where,))):
            for node in walk(root):
                names.update((node.name,) if isinstance(node, Rank) else _bound_by(node))
    return names


def both(*parts: Expression | None) -> Expression | None:
    """The conjunction of filters, each conjunct once."""
    return conjunction(parts)


def reads_in(equation: Equation) -> tuple[Read, ...]:
    """Every read of the equation: value, filter and, for gathers, index expressions."""
    roots: Iterable[Expression] = (equation.value, *(() if equation.where is None else (equation.where,)))
    return tuple(n for root in roots for n in walk(root) if isinstance(n, Read))
