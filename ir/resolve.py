"""What a bare name stands for: a parameter, a rank, an extent; and which calls are calls of cascades."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from einsum_compiler.ir.cascade import Cascade, Definition, Equation, Module, Scalar, Target
from einsum_compiler.ir.expression import (
    Call,
    CascadeCall,
    Expression,
    Extent,
    Parameter,
    Rank,
    Read,
    Reduction,
    Selection,
    transform,
    walk,
)
from einsum_compiler.ir.extents import with_whole
from einsum_compiler.ir.operators import FUNCTIONS


def resolve_module(module: Module) -> Module:
    """The module with every bare name and call resolved; definitions may stand after their use."""
    definitions = tuple(resolve_definition(d) for d in module.definitions)
    known = {d.name for d in definitions} | FUNCTIONS.keys()
    called = {
        n.function for c in module.cascades for e in c.equations for n in walk(e.value) if isinstance(n, Call)
    } - known
    return Module(definitions, tuple(resolve_cascade(c, _cascades(called, module)) for c in module.cascades))


def _cascades(called: Collection[str], module: Module) -> frozenset[str]:
    """Those of the called names that are cascades of the text or of the library."""
    here = {c.name for c in module.cascades}
    if here.issuperset(called):
        return frozenset(called)
    from einsum_compiler.ir.library import library

    return frozenset(called) & (here | {c.name for c in library().cascades})


def resolve_definition(definition: Definition) -> Definition:
    """Arguments stand as parameters; any other lower-case name is a rank, which the verifier refuses."""
    body = resolve_expression(definition.body, definition.parameters, ())
    return replace(definition, body=body)


def resolve_cascade(cascade: Cascade, cascades: Collection[str] = ()) -> Cascade:
    """The cascade with every bare name resolved; ``cascades`` are the names that plain calls may mean."""
    parameters = {p.name for p in cascade.parameters}
    ranks = ranks_named(cascade, parameters)

    def change(node: Expression) -> Expression:
        return resolve_expression(node, parameters, ranks, cascades)

    def scalar(s: Scalar) -> Scalar:
        return s if s.default is None else replace(s, default=change(s.default))

    def target(t: Target) -> Target:
        return replace(t, indices=tuple(map(change, t.indices)))

    def equation(e: Equation) -> Equation:
        where = None if e.where is None else change(e.where)
        return replace(e, targets=tuple(map(target, e.targets)), value=change(e.value), where=where)

    return replace(
        cascade, parameters=tuple(map(scalar, cascade.parameters)), equations=tuple(map(equation, cascade.equations))
    )


def resolve_expression(
    node: Expression,
    parameters: Collection[str],
    ranks: Collection[str],
    cascades: Collection[str] = (),
    tiles: Collection[str] = (),
) -> Expression:
    """``Parameter`` as the parser left it becomes what the name stands for.

    ``N`` is the extent of a rank ``n``, also when it is declared as a parameter (that is how an extent is given). A name
    of ``tiles`` (of a tile program) is a read without indices.
    """

    def change(found: Expression) -> Expression:
        if isinstance(found, Parameter):
            name = found.name
            if name in tiles:
                return Read(name, span=found.span)
            if name != name.lower():
                # A dotted upper-case name, N.0, is always an extent: the compiler makes no such parameter.
                known = name.lower() in ranks or "." in name
                return Extent(name.lower(), span=found.span) if name == name.upper() and known else found
            return found if name in parameters else Rank(name, span=found.span)
        if isinstance(found, Call) and found.function in cascades:
            return CascadeCall(found.function, (), found.arguments, span=found.span)
        return found

    return transform(node, change)


def ranks_named(cascade: Cascade, parameters: Collection[str]) -> frozenset[str]:
    """Every name that the cascade uses as a rank, from a cascade whose names are not resolved yet."""
    found = {*cascade.ranks}
    for tensor in (*cascade.inputs, *cascade.outputs):
        found.update(tensor.ranks)
    for equation in cascade.equations:
        parts = [equation.value, *(i for t in equation.targets for i in t.indices)]
        if equation.where is not None:
            parts.append(equation.where)
        for node in (n for part in parts for n in walk(part)):
            if isinstance(node, Reduction | Selection | CascadeCall):
                found.update(node.ranks)
            elif isinstance(node, Parameter | Rank) and node.name == node.name.lower():
                found.add(node.name)
    return with_whole(found - set(parameters))
