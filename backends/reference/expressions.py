"""The meaning of every expression but reads, reductions, selections and calls of cascades, which have files of their own."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from einsum_compiler.backends.reference import calls, reads, reductions
from einsum_compiler.backends.reference.functions import COMPARISONS, FUNCTIONS, OPERATORS, cast
from einsum_compiler.backends.reference.named import Named
from einsum_compiler.backends.reference.scope import Scope
from einsum_compiler.backends.reference.values import (
    Value,
    conditional,
    conjunction,
    default,
    disjunction,
    negation,
    scalar_tensor,
    strict,
)
from einsum_compiler.ir.errors import SpecError
from einsum_compiler.ir.expression import (
    Binary,
    Call,
    CascadeCall,
    Cast,
    Comparison,
    Conditional,
    Constant,
    Expression,
    Extent,
    Membership,
    Parameter,
    Rank,
    Read,
    Reduction,
    Selection,
    Unary,
)

# Operators with constant derivatives: a NaN in a point that no one looks at cannot reach another one through them.
LINEAR = ("+", "-")
BITWISE = ("&", "|", "^")


def visit(node: Expression, scope: Scope) -> Value:
    """The value of ``node`` at every point of the ranks it depends on."""
    match node:
        case Constant(value=value):
            return scalar(value, scope)
        case Parameter(name=name):
            return Value(Named((), scope.scalars[name]))
        case Extent(rank=rank):
            return scalar(scope.extents[rank], scope)
        case Rank(name=name):
            return Value(scope.coordinate(name))
        case Read():
            return reads.read(node, scope)
        case Membership():
            return reads.member(node, scope)
        case Unary(operator="not", operand=operand):
            return negation(scope.value(operand))
        case Unary(operand=operand):
            return strict(torch.neg, (number(scope.value(operand)),), scope.domain, linear=True)
        case Binary(operator="and", left=left, right=right):
            return conjunction(scope.value(left), scope.value(right))
        case Binary(operator="or", left=left, right=right):
            return disjunction(scope.value(left), scope.value(right))
        case Binary(operator=operator, left=left, right=right):
            return binary(operator, scope.value(left), scope.value(right), scope)
        case Comparison(operators=operators, operands=operands):
            values = [scope.value(o) for o in operands]
            links = [strict(COMPARISONS[o], (values[i], values[i + 1]), None, True) for i, o in enumerate(operators)]
            return functools.reduce(conjunction, links)
        case Conditional(condition=condition, then=then, otherwise=otherwise):
            test = scope.value(condition)
            taken = scope.within(test.truth()).value(then)
            other = scope.within(negation(test).truth()).value(otherwise)
            return conditional(test, taken, other)
        case Cast(operand=operand, dtype=dtype):
            return strict(lambda data: cast(data, dtype, scope.real), (scope.value(operand),), scope.domain)
        case Call(function="default", arguments=(value, fill)):
            return default(scope.value(value), scope.value(fill))
        case Call(function=function, arguments=arguments) if function in FUNCTIONS:
            given = tuple(number(scope.value(a)) for a in arguments)
            return strict(_in_type(FUNCTIONS[function], scope.real), given, scope.domain)
        case Reduction():
            return reductions.reduction(node, scope)
        case CascadeCall():
            return calls.single_result(node, scope)
        case Selection():
            raise SpecError(f"{node.operator} is a whole right side, not part of one", node.span)
        case Call(function=function):
            raise SpecError(f"unknown function {function!r}", node.span)
    raise SpecError(f"{type(node).__name__} cannot stand here", node.span)


def scalar(value: bool | float, scope: Scope) -> Value:
    """A literal or extent."""
    return Value(Named((), scalar_tensor(value, scope.real, scope.device)))


def number(value: Value) -> Value:
    """An operand of arithmetic: integers of any width and booleans become int64 (laws.md, D12)."""
    data = value.data.data
    if data.is_floating_point() or data.dtype == torch.int64:
        return value
    return Value(Named(value.data.ranks, data.to(torch.int64)), value.present)


def binary(operator: str, left: Value, right: Value, scope: Scope) -> Value:
    """A strict infix operator. Bit operators of booleans stay booleans."""
    boolean = left.data.data.dtype == right.data.data.dtype == torch.bool
    if not (operator in BITWISE and boolean):
        left, right = number(left), number(right)
    return strict(_in_type(OPERATORS[operator], scope.real), (left, right), scope.domain, operator in LINEAR)


def _in_type(function: Callable[..., Tensor], real: torch.dtype) -> Callable[..., Tensor]:
    """Real functions of integers give f64 of their own accord; all floats here have one type."""

    def apply(*operands: Tensor) -> Tensor:
        result = function(*operands)
        return result.to(real) if result.is_floating_point() else result

    return apply
