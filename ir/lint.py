"""Warnings: legal texts that probably do not say what was meant. The driver asks once for a user's text, not after every pass."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

from einsum_compiler.ir.build import conjuncts, ranks_of, reads_of
from einsum_compiler.ir.cascade import Cascade, Equation, Module
from einsum_compiler.ir.definitions import expand_cascade
from einsum_compiler.ir.errors import EinsumError, EinsumWarning
from einsum_compiler.ir.expression import (
    Binary,
    Comparison,
    Conditional,
    Constant,
    Expression,
    Extent,
    Rank,
    Read,
    Reduction,
    children,
    walk,
)
from einsum_compiler.ir.extents import equalities, expressions
from einsum_compiler.ir.facts import Facts
from einsum_compiler.ir.filters import free_ranks, left_conjuncts
from einsum_compiler.ir.implicit_sums import explicit_sums
from einsum_compiler.ir.printer import print_expression


def lint(cascade: Cascade, module: Module | None = None) -> None:
    """Issue an ``EinsumWarning`` for each finding of ``findings``, with its place; the cascade has been verified."""
    for finding in findings(cascade, module):
        text = str(finding).replace("error: ", "warning: ", 1)
        warnings.warn(text, EinsumWarning, stacklevel=2)


def findings(cascade: Cascade, module: Module | None = None) -> tuple[EinsumError, ...]:
    """What is suspicious, in the order of the text."""
    module = module or Module((), (cascade,))
    plain = explicit_sums(expand_cascade(cascade, module))
    found = [
        f
        for e in plain.equations
        for f in (*_extents(Facts(cascade, module), e), *_twofold(e), *_never(plain, e), *_empty_sums(plain, e))
    ]
    return (*found, *(f for e in plain.equations for f in _quotients(plain, e)))


def _extents(facts: Facts, equation: Equation) -> Iterator[EinsumError]:
    """A bare upper-case name is an extent, also where a tensor has that name."""
    for node in expressions(equation):
        if isinstance(node, Extent) and node.rank.upper() in facts.tensors:
            name = node.rank.upper()
            yield EinsumError(
                f"{name} is the extent of rank {node.rank} here, and there is a tensor {name}",
                node.span,
                (f"a read of the tensor has brackets: {name}[...]",),
            )


def _twofold(equation: Equation) -> Iterator[EinsumError]:
    """A conjunct over a rank that a reduction binds and the left side has too: it acts in the reduction alone."""
    left = {r for t in equation.targets for r in t.ranks}
    bound = {r for n in walk(equation.value) if isinstance(n, Reduction) for r in n.ranks}
    for conjunct in conjuncts(equation.where):
        for rank in sorted(left & bound & free_ranks(conjunct)):
            yield EinsumError(
                f"this condition acts inside the reduction over {rank} alone: {equation.target.tensor} is defined at every {rank}",
                conjunct.span,
                (
                    "to restrict both, write the condition in an equation that the reduction reads, or use an equation for the reduction",
                ),
            )
            break


def _never(cascade: Cascade, equation: Equation) -> Iterator[EinsumError]:
    """``k >= N`` where a read with a bare ``k`` says that the extent of k is N."""
    for conjunct in conjuncts(equation.where):
        if not isinstance(conjunct, Comparison) or len(conjunct.operators) > 1:
            continue
        (operator,), (low, high) = conjunct.operators, conjunct.operands
        if operator in (">=", ">"):
            low, high, operator = high, low, operator.replace(">", "<")
        if operator not in ("<", "<=") or not isinstance(low, Extent) or not isinstance(high, Rank):
            continue
        for equal in equalities(cascade):
            if (equal.rank, equal.axis_rank) == (high.name, low.rank):
                yield EinsumError(
                    f"this never holds: {high.name} runs over axis {equal.axis} of {equal.tensor}, which it reads as a bare rank",
                    conjunct.span,
                    (
                        f"an index {high.name} + 0 is empty beyond the axis and leaves the extent to a parameter, {high.name.upper()} = ...",
                    ),
                )
                break


def _empty_sums(cascade: Cascade, equation: Equation) -> Iterator[EinsumError]:
    """A read that can leave its tensor for every point of a sum: the sum is then 0, and not empty."""
    filters = conjuncts(equation.where)
    for node in walk(equation.value):
        if not isinstance(node, Reduction):
            continue
        inside = (*filters, *conjuncts(node.where))
        for read in _bare_reads(node.body):
            for index in read.indices:
                shifted = isinstance(index, Binary) and index.operator in ("+", "-") and _is_affine(index)
                ranks = set(ranks_of(index))
                if not shifted or not ranks or ranks & set(node.ranks):
                    continue
                if any(ranks & set(ranks_of(c)) for c in inside) or _covers_step(cascade, read, index):
                    continue
                yield EinsumError(
                    f"{print_expression(index)} may lie outside {read.tensor} for every point of this {node.operator}: "
                    f"the result is then the {node.operator} of nothing, and not empty",
                    read.span,
                    (f"if such points do not exist, filter the result: where 0 <= {print_expression(index)} < ...",),
                )


def _bare_reads(node: Expression) -> Iterator[Read]:
    """Reads whose emptiness reaches the reduction: none below a ``default`` or a conditional."""
    if isinstance(node, Conditional) or getattr(node, "function", None) == "default":
        return
    if isinstance(node, Read):
        yield node
    if isinstance(node, Reduction):
        return  # it has a value everywhere
    for child in children(node):
        yield from _bare_reads(child)


def _is_affine(index: Expression) -> bool:
    return all(
        isinstance(n, Rank | Constant | Extent) or getattr(n, "operator", "") in ("+", "-", "*") for n in walk(index)
    )


def _covers_step(cascade: Cascade, read: Read, index: Expression) -> bool:
    """``H[t + 1]`` of a carried tensor lies inside it."""
    written = [t for e in cascade.equations_of(read.tensor) for t in e.targets if t.tensor == read.tensor]
    return any(index in t.indices for t in written) or any(isinstance(i, Extent) for t in written for i in t.indices)


def _quotients(cascade: Cascade, equation: Equation) -> Iterator[EinsumError]:
    """A quotient of two sums over one rank: 0/0 where no point is left, unless a filter on the left side tests what the divisor is computed from."""

    def summed(node: Expression) -> set[str]:
        if isinstance(node, Reduction) and node.operator == "sum":
            return set(node.ranks)
        if isinstance(node, Read):
            defined = cascade.equations_of(node.tensor)
            if len(defined) == 1 and isinstance(defined[0].value, Reduction):
                return summed(defined[0].value)
        if isinstance(node, Binary) and node.operator == "*":
            return summed(node.left) | summed(node.right)
        return set()

    def visit(node: Expression) -> Iterator[EinsumError]:
        if isinstance(node, Conditional):
            return  # guarded
        if isinstance(node, Binary) and node.operator == "/":
            both = summed(node.left) & summed(node.right)
            if both and not _depends_on(cascade, node.right, tested):
                yield EinsumError(
                    f"a quotient of two sums over {','.join(sorted(both))} is 0/0 where nothing is summed",
                    node.span,
                    ("divide the weights before the second sum: A = P / D, then sum A * V",),
                )
        for child in children(node):
            yield from visit(child)

    tested = {r.tensor for r in reads_of(*left_conjuncts(equation))}
    yield from visit(equation.value)


def _depends_on(cascade: Cascade, node: Expression, tensors: set[str]) -> bool:
    """Whether one of the tensors is read by an expression, or by what its reads are computed from."""
    seen, waiting = set[str](), [r.tensor for r in reads_of(node)]
    while waiting and tensors:
        name = waiting.pop()
        if name in tensors:
            return True
        if name not in seen:
            seen.add(name)
            waiting += [r.tensor for e in cascade.equations_of(name) for r in reads_of(e.value, e.where)]
    return False
