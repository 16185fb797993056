"""Predicates at single points, by brute force: what tile ranges and tile lists are compared with."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st

from einsum_compiler.ir.expression import (
    Binary,
    Call,
    Comparison,
    Conditional,
    Constant,
    Expression,
    Extent,
    Membership,
    Parameter,
    Rank,
    Read,
    Unary,
    map_children,
)
from einsum_compiler.ir.parser import parse_expression
from einsum_compiler.ir.scalar import evaluate_scalar
from einsum_compiler.passes.analysis.tile_box import Split


class Empty(Exception):
    """A read outside its tensor."""


def predicate(text: str, parameters: tuple[str, ...] = ()) -> Expression:
    """The expression of a text over the ranks b, h, m, n, y, x."""
    return parse_expression(text, parameters=parameters, ranks=("b", "h", "m", "n"))


def holds(node: Expression, names: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> bool | None:
    """Kleene's value of a predicate at one point; None where it is empty."""
    match node:
        case Binary(operator="and" | "or" as operator, left=left, right=right):
            values = {holds(left, names, tensors), holds(right, names, tensors)}
            decisive = operator == "or"
            return decisive if decisive in values else None if None in values else not decisive
        case Unary(operator="not", operand=operand):
            value = holds(operand, names, tensors)
            return None if value is None else not value
        case Conditional(condition=condition, then=then, otherwise=otherwise):
            value = holds(condition, names, tensors)
            return None if value is None else holds(then if value else otherwise, names, tensors)
        case Comparison(operators=operators, operands=operands) if len(operators) > 1:
            pairs = zip(operators, itertools.pairwise(operands), strict=True)
            values = {holds(Comparison((op,), pair), names, tensors) for op, pair in pairs}
            return False if False in values else None if None in values else True
    try:
        return bool(_value(node, names, tensors))
    except Empty:
        return None


def _value(node: Expression, names: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> Any:
    """The value of an expression whose reads are data; the branch of ``if`` that is not taken is not read."""

    def resolved(n: Expression) -> Expression:
        match n:
            case Conditional(condition=condition, then=then, otherwise=otherwise):
                value = holds(condition, names, tensors)
                if value is None:
                    raise Empty
                return resolved(then if value else otherwise)
            case Membership(item=item, collection=collection, negated=negated):
                fibre = tensors[collection.tensor]
                for index in collection.indices[:-1]:
                    fibre = _entry(fibre, _value(index, names, tensors))
                return Constant(bool(_value(item, names, tensors) in fibre) != negated)
            case Read(tensor=tensor, indices=indices):
                entry = tensors[tensor]
                for index in indices:
                    entry = _entry(entry, _value(index, names, tensors))
                return Constant(entry.item())
        return map_children(n, resolved)

    return evaluate_scalar(resolved(node), names)


def _entry(table: Any, index: int) -> Any:
    if not 0 <= index < table.shape[0]:
        raise Empty
    return table[index]


def classes(
    node: Expression,
    stream: Split,
    others: tuple[Split, ...],
    names: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray] | None = None,
) -> dict[tuple[int, ...], list[str]]:
    """For each tuple of outer indices of ``others``, the true class of each tile of the stream: empty, full or partial.

    ``names`` gives parameters and extents. Points beyond the extents of the other ranks do not exist; a tile with
    coordinates of the stream beyond its extent is not full.
    """
    tensors = tensors or {}
    count = {s.rank: -(-names[s.rank.upper()] // s.size) for s in (*others, stream)}
    found: dict[tuple[int, ...], list[str]] = {}
    for outer in itertools.product(*(range(count[s.rank]) for s in others)):
        row = []
        for tile in range(count[stream.rank]):
            corners = [(s, i) for s, i in zip((*others, stream), (*outer, tile), strict=True)]
            spans = [range(i * s.size, min((i + 1) * s.size, names[s.rank.upper()])) for s, i in corners]
            values = {
                holds(node, {**names, **dict(zip((s.rank for s, _ in corners), point, strict=True))}, tensors) is True
                for point in itertools.product(*spans)
            }
            whole = (tile + 1) * stream.size <= names[stream.rank.upper()]
            row.append("empty" if True not in values else "full" if values == {True} and whole else "partial")
        found[outer] = row
    return found


def predicates(data: bool) -> st.SearchStrategy[Expression]:
    """Random predicates over h, m and n, a parameter W and a tensor w[h]; with ``data``, over tensors along m and n too."""
    leaves = [*(Rank(r) for r in ("m", "n", "n", "h")), Parameter("W"), Extent("n"), Read("w", (Rank("h"),))]
    if data:
        leaves += [Read("SQ", (Rank("m"),)), Read("SK", (Rank("n"),))]

    def grow(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
        divisor = st.sampled_from([2, 3, 4]).map(Constant)
        shapes: list[st.SearchStrategy[Expression]] = [
            st.builds(Binary, st.sampled_from("+-"), inner, inner),
            st.builds(Binary, st.just("*"), st.sampled_from([-1, 2, 3]).map(Constant), inner),
            st.builds(Binary, st.sampled_from(["//", "//", "%"]), inner, divisor),
            st.builds(Call, st.sampled_from(["max", "min"]), st.tuples(inner, inner)),
            st.builds(Call, st.just("abs"), st.tuples(inner)),
            st.builds(Call, st.just("clamp"), st.tuples(inner, st.just(Constant(0)), inner)),
            st.builds(Conditional, compared(inner), inner, inner),
        ]
        if data:
            shapes += [
                st.builds(Binary, st.sampled_from("*&|"), inner, inner),
                st.builds(Read, st.just("SK"), st.tuples(inner)),
            ]
        return st.one_of(shapes)

    def compared(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
        operator = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])
        return st.builds(Comparison, st.tuples(operator), st.tuples(inner, inner))

    numbers = st.recursive(st.sampled_from(leaves) | st.integers(-6, 6).map(Constant), grow, max_leaves=5)
    chain = st.builds(Comparison, st.just(("<=", "<")), st.tuples(numbers, numbers, numbers))
    atoms = compared(numbers) | chain
    if data:
        atoms |= st.builds(Read, st.just("AL"), st.tuples(numbers, numbers))
    return st.recursive(
        atoms,
        lambda inner: st.one_of(
            st.builds(Binary, st.sampled_from(["and", "or"]), inner, inner),
            st.builds(Unary, st.just("not"), inner),
            st.builds(Conditional, inner, inner, inner),
        ),
        max_leaves=4,
    )
