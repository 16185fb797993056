"""``def`` functions replaced by their bodies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from einsum_compiler.ir.cascade import Cascade, Definition, Equation, Module, Scalar
from einsum_compiler.ir.errors import SpecError
from einsum_compiler.ir.expression import Call, Expression, Parameter, transform
from einsum_compiler.ir.hints import counted
from einsum_compiler.ir.span import Span


def expand_definitions(expression: Expression, module: Module) -> Expression:
    """The expression with every call of a ``def`` of the module replaced by the body of the ``def``.

    Raises ``SpecError`` for a wrong number of arguments and for a ``def`` that calls itself, directly or through others.
    """
    return _expand(expression, {d.name: d for d in module.definitions}, ())


def expand_cascade(cascade: Cascade, module: Module) -> Cascade:
    """The cascade with the definitions of the module expanded in every expression."""
    if not module.definitions:
        return cascade

    def expand(node: Expression | None) -> Expression | None:
        return None if node is None else expand_definitions(node, module)

    def scalar(s: Scalar) -> Scalar:
        return replace(s, default=expand(s.default))

    def equation(e: Equation) -> Equation:
        return replace(e, value=expand_definitions(e.value, module), where=expand(e.where))

    return replace(
        cascade,
        parameters=tuple(map(scalar, cascade.parameters)),
        equations=tuple(map(equation, cascade.equations)),
    )


def _expand(node: Expression, known: Mapping[str, Definition], active: tuple[str, ...]) -> Expression:
    def change(found: Expression) -> Expression:
        if not isinstance(found, Call) or found.function not in known:
            return found
        definition = known[found.function]
        if definition.name in active:
            chain = " -> ".join((*active[active.index(definition.name) :], definition.name))
            raise SpecError(f"def {definition.name} calls itself: {chain}", definition.span)
        if len(found.arguments) != len(definition.parameters):
            raise SpecError(
                f"{definition.name} takes {counted(len(definition.parameters), 'argument')} "
                f"({', '.join(definition.parameters)}), found {len(found.arguments)}",
                found.span,
            )
        body = called_at(_expand(definition.body, known, (*active, definition.name)), found.span)
        given = dict(zip(definition.parameters, found.arguments, strict=True))
        # All arguments at once: transform does not enter what it has put in.
        return transform(body, lambda n: given.get(n.name, n) if isinstance(n, Parameter) else n)

    return transform(node, change)


def called_at(body: Expression, call: Span | None) -> Expression:
    """The body with the call noted in its places, so that an error in it shows both."""
    if call is None:
        return body
    return transform(body, lambda n: n if n.span is None else replace(n, span=n.span.called_at(call)))
