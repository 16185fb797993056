"""Checks of element types: indices are integers, filters and conditions are true or false, bits belong to integers."""

from __future__ import annotations

from collections.abc import Mapping

from einsum_compiler.ir.cascade import Cascade, Module
from einsum_compiler.ir.definitions import expand_cascade
from einsum_compiler.ir.errors import SpecError
from einsum_compiler.ir.expression import (
    Binary,
    CascadeCall,
    Conditional,
    Constant,
    Expression,
    Membership,
    Parameter,
    Read,
    Reduction,
    Slice,
    Unary,
)
from einsum_compiler.ir.extents import expressions
from einsum_compiler.ir.implicit_sums import explicit_sums
from einsum_compiler.ir.inference import UNKNOWN, argument_types, callee_of, expression_dtype, infer_types
from einsum_compiler.ir.types import is_float, is_integer

BITS = ("^", "&", "|", "<<", ">>")


def declared_types(cascade: Cascade, module: Module | None = None) -> dict[str, str]:
    """The types as far as the text alone tells; ``?`` where a call decides."""
    given = {t.name: t.dtype or UNKNOWN for t in cascade.inputs}
    given |= {p.name: UNKNOWN for p in cascade.parameters if p.dtype is None and p.default is None}
    return infer_types(cascade, given, module)


def check_types(cascade: Cascade, types: Mapping[str, str], module: Module | None = None) -> None:
    """Raises ``SpecError`` for a float used as an index, a number used as a condition, bits of a float.

    ``types`` are those of ``infer_types`` for a call, or ``declared_types`` for what is wrong at any call. Definitions are
    expanded before.
    """

    def kind(node: Expression) -> str:
        return expression_dtype(node, types.__getitem__, module)

    def want_condition(node: Expression, where: str) -> None:
        found = kind(node)
        if found not in ("bool", UNKNOWN):
            raise SpecError(
                f"{where} is true or false, found a value of type {found}", node.span, ("compare it: ... != 0",)
            )

    def want_index(node: Expression, where: str) -> None:
        found = kind(node)
        if not (is_integer(found) or found in ("bool", UNKNOWN)):
            raise SpecError(
                f"{where} is an integer, found a value of type {found}",
                node.span,
                _integer_notes(node),
            )

    for equation in cascade.equations:
        if equation.where is not None:
            want_condition(equation.where, "a filter")
        for node in expressions(equation):
            match node:
                case Read(tensor, indices):
                    for index in indices:
                        if not isinstance(index, Slice):
                            want_index(index, f"an index of {tensor}")
                case Conditional(condition):
                    want_condition(condition, "the condition of if")
                case Unary("not", operand):
                    want_condition(operand, "the operand of not")
                case Binary("and" | "or" as operator, left, right):
                    want_condition(left, f"an operand of {operator}")
                    want_condition(right, f"an operand of {operator}")
                case Reduction("any" | "all" as operator, _, body):
                    want_condition(body, f"the argument of {operator}")
                case Membership(item):
                    want_index(item, "what 'in' looks for")
                case CascadeCall():
                    _check_callee(node, types, module)
                case Binary(operator, left, right) if operator in BITS:
                    for operand in (left, right):
                        if is_float(kind(operand)):
                            raise SpecError(
                                f"{operator} works on the bits of integers, found a value of type {kind(operand)}",
                                operand.span,
                                ("a power is written **",) if operator == "^" else (),
                            )
            where = getattr(node, "where", None)
            if isinstance(where, Expression):
                want_condition(where, "a filter")


def _check_callee(call: CascadeCall, types: Mapping[str, str], module: Module | None) -> None:
    """The called cascade with the types of the arguments of this call."""
    callee = callee_of(call, module)
    given = argument_types(call, callee, types.__getitem__, module)
    plain = explicit_sums(expand_cascade(callee, module or Module((), ())))
    try:
        check_types(plain, infer_types(plain, given, module), module)
    except SpecError as error:
        place = call.span if error.span is None else error.span.called_at(call.span)
        raise SpecError(error.message, place, error.notes) from None


def _integer_notes(node: Expression) -> tuple[str, ...]:
    """How an integer is written in place of what was found."""
    match node:
        case Binary("/"):
            return ("'/' is real; the integer quotient is written //",)
        case Parameter(name):
            return (f"declare the parameter {name}: int",)
        case Constant(value):
            return (f"write {int(value)}",) if float(value).is_integer() else ()
    return ("give it an integer tensor of its own: I[...] = cast(floor(...), i32)",)
