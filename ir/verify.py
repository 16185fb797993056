"""The rules of the language that a text can break, checked before anything else runs and after every pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from einsum_compiler.ir.cascade import Cascade, Equation, Module
from einsum_compiler.ir.check_calls import check_calls, check_recursion
from einsum_compiler.ir.check_expressions import check_equation, check_parameters
from einsum_compiler.ir.check_left import check_cases, check_left
from einsum_compiler.ir.check_names import check_axes, check_declarations, check_extents, check_module
from einsum_compiler.ir.check_recurrences import check_recurrences
from einsum_compiler.ir.check_types import check_types, declared_types
from einsum_compiler.ir.definitions import expand_cascade
from einsum_compiler.ir.errors import SpecError, VerifyError
from einsum_compiler.ir.facts import Facts
from einsum_compiler.ir.filters import distribute_filter
from einsum_compiler.ir.implicit_sums import explicit_equation
from einsum_compiler.ir.printer import print_equation

T = TypeVar("T")


def verify(cascade: Cascade, module: Module | None = None) -> None:
    """Check every static rule of the language; ``module`` holds the definitions and cascades that the cascade uses.

    Raises ``SpecError`` with the place in the text. A cascade without spans comes from a pass: it raises ``VerifyError``.
    """
    try:
        if module is not None:
            check_module(module)
        _check(Facts(cascade, module or Module((), (cascade,))))
    except SpecError as error:
        if error.span is not None:
            raise
        raise VerifyError(error.message, None, (*error.notes, f"in cascade {cascade.name}")) from error


def verify_module(module: Module) -> None:
    """``verify`` for every cascade of a text, in the order written."""
    for cascade in module.cascades:
        verify(cascade, module)


def _check(facts: Facts) -> None:
    cascade = facts.cascade
    check_declarations(facts)
    check_parameters(facts)
    check_axes(facts)
    for equation in cascade.equations:
        _in(equation, lambda e: check_left(facts, e))
    for equation in cascade.equations:
        _in(equation, lambda e: check_equation(facts, e))
        _in(equation, lambda e: check_calls(facts, e))
    check_recursion(facts)
    plain = expand_cascade(cascade, facts.module)
    explicit = tuple(_in(e, explicit_equation) for e in plain.equations)
    for equation in explicit:
        _in(equation, distribute_filter)
    check_cases(facts, explicit)
    check_recurrences(facts, explicit)
    check_extents(facts)
    plain = replace(plain, equations=explicit)
    check_types(plain, declared_types(plain, facts.module), facts.module)


def _in(equation: Equation, check: Callable[[Equation], T]) -> T:
    """``check``, with the equation named where no place in a text can be."""
    try:
        return check(equation)
    except SpecError as error:
        if error.span is not None:
            raise
        raise SpecError(error.message, None, (*error.notes, f"in {print_equation(equation)}")) from error
