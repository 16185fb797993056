"""The implicit sums of a text, written out.

A rank on the right that is not on the left is summed, term by term: the sum spans the largest product or quotient, below any
``+`` or ``-``, that contains the rank, also inside parentheses that multiply. It never enters a function.
Where a text has two readings (``(X[e] - A) * (X[e] - B)``, ``(X[e] - A)**2``, ``(X[e] * Y[e])**2``) it is refused, and the sum must be written.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from einsum_compiler.ir.cascade import Cascade, Equation
from einsum_compiler.ir.errors import SpecError
from einsum_compiler.ir.expression import (
    Binary,
    Call,
    CascadeCall,
    Cast,
    Comparison,
    Conditional,
    Expression,
    Membership,
    Rank,
    Read,
    Reduction,
    Selection,
    Unary,
    children,
    map_children,
)
from einsum_compiler.ir.hints import listed
from einsum_compiler.ir.printer import print_expression


def explicit_sums(cascade: Cascade) -> Cascade:
    """The cascade with every implicit sum written as ``sum[ranks](...)``; filters stay where they are.

    Raises ``SpecError`` where a rank occurs only inside arguments, or where the reach of the sum has two readings.
    """
    return replace(cascade, equations=tuple(map(explicit_equation, cascade.equations)))


def explicit_equation(equation: Equation) -> Equation:
    """One equation of ``explicit_sums``."""
    if isinstance(equation.value, Selection):
        return equation  # its ranks are named, and its new rank is on the left only
    kept = {rank for target in equation.targets for rank in target.ranks}
    value = explicit_expression(equation.value, kept)
    return equation if value is equation.value else replace(equation, value=value)


def explicit_expression(value: Expression, kept: Collection[str]) -> Expression:
    """A right side with its sums written, where ``kept`` are the ranks of the left side."""
    return _place(value, tuple(r for r in summed_ranks(value) if r not in kept))


def summed_ranks(node: Expression) -> tuple[str, ...]:
    """The ranks that a value carries and that a sum could bind, in the order they occur.

    Ranks bound by a reduction are not among them, nor those of tensors handed whole to a cascade, which uses them up.
    """
    match node:
        case Rank(name):
            return (name,)
        case Reduction():
            return tuple(r for r in _of_all(children(node)) if r not in node.ranks)
        case CascadeCall():
            found = [r for a in node.arguments if not is_whole_tensor(a) for r in summed_ranks(a)]
            if node.where is not None:
                found.extend(summed_ranks(node.where))
            whole = {r for a in node.arguments if is_whole_tensor(a) for r in summed_ranks(a)}
            return tuple(dict.fromkeys(r for r in found if r not in whole and r not in node.ranks))
        case _:
            return _of_all(children(node))


def is_whole_tensor(node: Expression) -> bool:
    """A tensor with bare ranks, as the arguments of a cascade are."""
    return isinstance(node, Read) and all(isinstance(i, Rank) for i in node.indices)


def _of_all(nodes: tuple[Expression, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(r for n in nodes for r in summed_ranks(n)))


def _place(node: Expression, ranks: tuple[str, ...]) -> Expression:
    """The node with a sum over each of ``ranks``, none of which is on the left."""
    here = summed_ranks(node)
    ranks = tuple(r for r in ranks if r in here)
    if not ranks:
        return node
    match node:
        case Binary("+" | "-"):
            return map_children(node, lambda child: _place(child, ranks))
        case Unary("-"):
            return map_children(node, lambda child: _place(child, ranks))
        case Reduction("sum", bound) if node.where is None or not set(ranks) & set(summed_ranks(node.where)):
            return replace(node, body=_place(node.body, tuple(r for r in ranks if r not in bound)))
    for rank in ranks:
        _check_powers(node, rank)
    spanned = tuple(r for r in ranks if _multiplies(node, r))
    rest = tuple(r for r in ranks if r not in spanned)
    body = _descend(node, rest) if rest else node
    return Reduction("sum", spanned, body, span=node.span) if spanned else body


def _multiplies(node: Expression, rank: str) -> bool:
    """Whether the rank occurs in the product itself: not below ``+`` or ``-``, and not inside a function."""
    match node:
        case Rank(name):
            return name == rank
        case Read():
            return rank in summed_ranks(node)
        case Binary("*" | "/" | "**", left, right):
            return _multiplies(left, rank) or _multiplies(right, rank)
        case Unary("-", operand):
            return _multiplies(operand, rank)
        case Reduction("sum"):
            return rank not in node.ranks and _multiplies(node.body, rank)
    return False


def _check_powers(node: Expression, rank: str) -> None:
    """A contraction inside of a power reads as the power of a sum just as well."""
    match node:
        case Binary("**", left, _) if len([f for f in _factors(left) if _multiplies(f, rank)]) > 1:
            inner = replace(node, left=Reduction("sum", (rank,), left))
            raise SpecError(
                f"the sum over {rank} has two readings here: of the power, or of the product that is raised",
                node.span,
                (f"write sum[{rank}]({print_expression(node)}), or {print_expression(inner)}",),
            )
        case Binary("*" | "/" | "**", left, right):
            _check_powers(left, rank)
            _check_powers(right, rank)
        case Unary("-", operand):
            _check_powers(operand, rank)


def _check_calls(node: Expression, ranks: tuple[str, ...]) -> None:
    """A rank that a called cascade is given in brackets may be one of its result: then a sum of the whole product is meant."""
    for factor in _factors(node):
        for rank in ranks:
            if isinstance(factor, CascadeCall) and rank in factor.ranks:
                raise SpecError(
                    f"the sum over {rank} must be written here: besides {factor.cascade}[{rank}] it is only inside of functions",
                    node.span,
                    (f"write sum[{rank}]({print_expression(node)})",),
                )


def _factors(node: Expression) -> tuple[Expression, ...]:
    match node:
        case Binary("*" | "/", left, right):
            return (*_factors(left), *_factors(right))
        case Unary("-", operand):
            return _factors(operand)
    return (node,)


def _descend(node: Expression, ranks: tuple[str, ...]) -> Expression:
    """Sums for ranks that occur only below ``+`` or ``-`` inside the factors of a product."""
    match node:
        case Binary("*" | "/", left, right):
            _check_calls(node, ranks)
            twice = [r for r in ranks if r in summed_ranks(left) and r in summed_ranks(right)]
            if twice:
                raise _ambiguous(node, (left, right), twice[0])
            return map_children(node, lambda child: _place(child, ranks))
        case Binary("**", left, right):
            raise _ambiguous(node, (left, right), ranks[0])
        case Unary("-"):
            return map_children(node, lambda child: _place(child, ranks))
    raise _inside(node, ranks)


def _ambiguous(node: Expression, parts: tuple[Expression, ...], rank: str) -> SpecError:
    """A rank below ``+`` or ``-`` inside of both factors or of a power; one inside a function has no reading at all, which is said first."""
    for part in parts:
        try:
            _place(part, (rank,))
        except SpecError as error:
            if getattr(node, "operator", "") == "**":
                raise
            note = f"write sum[{rank}]({print_expression(node)}), or each sum where it is meant"
            return SpecError(error.message, error.span, (note,))
    return SpecError(
        f"the sum over {rank} has two readings here: of the whole product, or of the terms inside the parentheses",
        node.span,
        (f"write the sum that is meant, for example sum[{rank}]({print_expression(node)})",),
    )


def _inside(node: Expression, ranks: tuple[str, ...]) -> SpecError:
    """A rank that occurs only inside the arguments of a function, a reduction or an operator that sums do not enter."""
    names = ",".join(ranks)
    shown = print_expression(node)
    rank = f"rank {names} is" if len(ranks) == 1 else f"ranks {listed(ranks)} are"
    match node:
        case Call():
            what, argument = f"the arguments of {node.function}", _argument(node.arguments, ranks)
        case Cast():
            what, argument = "the argument of cast", node.operand
        case Conditional():
            what, argument = "the arguments of if", _argument(children(node), ranks)
        case Reduction() | CascadeCall():
            name = node.operator if isinstance(node, Reduction) else node.cascade
            arguments = (node.body,) if isinstance(node, Reduction) else node.arguments
            what, argument = f"the arguments of {name}", _argument(arguments, ranks)
        case Comparison() | Membership() | Unary("not") | Binary("and" | "or"):
            what, argument = "a condition", None
        case _:
            operator = node.operator if isinstance(node, Binary) else "an operator"
            what, argument = f"an operand of {operator}", None
    offers = [f"sum[{names}]({shown})"]
    if argument is not None:
        inner = Reduction("sum", ranks, argument)
        offers.insert(0, print_expression(map_children(node, lambda child: inner if child is argument else child)))
    if what == "a condition":
        offers = [f"any[{names}]({shown})", f"all[{names}]({shown})"]
    return SpecError(
        f"{rank} not on the left and only inside {what}, which a sum does not enter",
        node.span,
        (f"write {listed(offers, 'or')}", *(("a power is written **",) if what.endswith(" ^") else ())),
    )


def _argument(arguments: tuple[Expression, ...], ranks: tuple[str, ...]) -> Expression | None:
    """The one argument that holds the ranks; none if there are several."""
    holders = [a for a in arguments if set(ranks) & set(summed_ranks(a))]
    return holders[0] if len(holders) == 1 else None
