"""Checks of expressions in their scope: names, indices, calls of functions, places where a form may stand."""

from __future__ import annotations

from collections.abc import Collection

from einsum_compiler.ir.cascade import ELLIPSIS, Equation
from einsum_compiler.ir.errors import SpecError
from einsum_compiler.ir.expression import (
    Call,
    CascadeCall,
    Expression,
    Extent,
    Membership,
    Parameter,
    Rank,
    Read,
    Reduction,
    Selection,
    Slice,
    children,
    walk,
)
from einsum_compiler.ir.facts import Facts
from einsum_compiler.ir.hints import counted, did_you_mean, listed, unknown
from einsum_compiler.ir.implicit_sums import summed_ranks
from einsum_compiler.ir.operators import DERIVED_REDUCTIONS, FUNCTIONS, REDUCTIONS, SELECTIONS
from einsum_compiler.ir.printer import print_expression


def check_parameters(facts: Facts) -> None:
    """Defaults use extents and earlier parameters only."""
    names = [p.name for p in facts.cascade.parameters]
    for position, parameter in enumerate(facts.cascade.parameters):
        if parameter.default is None:
            continue
        for node in walk(parameter.default):
            if isinstance(node, Read | Reduction | Selection | CascadeCall):
                raise SpecError("a default is a number: it cannot read a tensor", node.span)
            if isinstance(node, Rank):
                if node.name in facts.ranks:
                    notes = (f"its extent is {node.name.upper()}",)
                    raise SpecError(f"rank {node.name} has no value in a default", node.span, notes)
                raise _unknown(facts, node.name, node)
            if isinstance(node, Parameter) and node.name in names[position:]:
                raise SpecError(f"the default of {parameter.name} uses {node.name}, which stands no earlier", node.span)
            _check_node(facts, node)


def check_equation(facts: Facts, equation: Equation) -> None:
    """The right side and the filter of one equation, its sums as written."""
    if isinstance(equation.value, Selection):
        _check_selection(facts, equation, equation.value)
    for root in (equation.value, equation.where):
        if root is None:
            continue
        _check_places(facts, root, root is equation.value)
        for node in walk(root):
            if isinstance(node, Selection) and node is not equation.value:
                raise SpecError(
                    f"{node.operator} is the whole right side of an equation or nothing",
                    node.span,
                    (f"give it an equation of its own: I[...] = {node.operator}[{','.join(node.ranks)}](...)",),
                )
            if isinstance(node, Call):
                _check_ranks_named(facts, node, {r for t in equation.targets for r in t.ranks})
            _check_node(facts, node)
    if equation.where is not None:
        for node in walk(equation.where):
            if isinstance(node, CascadeCall):
                raise SpecError("a filter cannot call a cascade: compute it first, as a tensor", node.span)
    _check_reduced(equation)


def _check_reduced(equation: Equation) -> None:
    """A rank that a reduction used up cannot stand on the left, unless the right side has it elsewhere."""
    value = equation.value
    if not isinstance(value, Reduction):
        return
    for target in equation.targets:
        for rank in target.ranks:
            if rank in value.ranks and rank not in summed_ranks(value):
                raise SpecError(
                    f"rank {rank} is reduced by {value.operator} and stands on the left: the result does not have it",
                    value.span,
                    (f"take {rank} out of {target.tensor}[...], or out of {value.operator}[...]",),
                )


def _check_places(facts: Facts, root: Expression, is_value: bool) -> None:
    """A slice stands in the collection of ``in`` only."""

    def visit(node: Expression, allowed: bool, call: Call | None) -> None:
        call = node if isinstance(node, Call) else call
        if isinstance(node, Membership):
            slices = sum(isinstance(i, Slice) for i in node.collection.indices)
            if slices != 1:
                raise SpecError(
                    f"the collection of 'in' has one ':', found {slices}",
                    node.collection.span,
                    ("for example: n // T in I[m, :]",),
                )
            visit(node.item, False, call)
            visit(node.collection, True, call)
            return
        for child in children(node):
            if isinstance(child, Slice) and not allowed:
                notes = _with_ranks(facts, node, call) if isinstance(node, Read) else ()
                raise SpecError("':' stands only in the collection of 'in'", child.span, notes)
            visit(child, False, call)

    if isinstance(root, Slice):
        raise SpecError("':' stands only in the collection of 'in'", root.span)
    visit(root, False, None)


def _with_ranks(facts: Facts, node: Read, call: Call | None) -> tuple[str, ...]:
    """A note: the read with the rank of every axis in place of ``:``, and what reduces it."""
    axes = facts.axes.get(node.tensor, ())
    if len(axes) != len(node.indices) or None in axes:
        return ()
    over = [r or "" for r, i in zip(axes, node.indices, strict=True) if isinstance(i, Slice)]
    ranks = (r if isinstance(i, Slice) else print_expression(i) for r, i in zip(axes, node.indices, strict=True))
    whole = f"{node.tensor}[{','.join(map(str, ranks))}]"
    if (
        call is not None
        and node in call.arguments
        and (call.function in REDUCTIONS or call.function in DERIVED_REDUCTIONS)
    ):
        whole = f"{call.function}[{','.join(over)}]({whole})"
    return (f"every axis is named by a rank: write {whole}",)


def _check_node(facts: Facts, node: Expression) -> None:
    match node:
        case Parameter(name) if name not in facts.parameters:
            raise _unknown(facts, name, node)
        case Rank(name) if name == ELLIPSIS:
            if not facts.is_library:
                raise SpecError("'...' stands for ranks of a caller: only cascades that are called have it", node.span)
        case Rank(name) if name not in facts.ranks:
            raise _unknown(facts, name, node)
        case Extent(rank) if rank not in facts.ranks and rank.upper() not in facts.parameters:
            raise _unknown(facts, rank.upper(), node)
        case Read():
            _check_read(facts, node)
        case Call():
            _check_call(facts, node)
        case Reduction(operator, ranks) | Selection(operator, ranks):
            repeated = [r for i, r in enumerate(ranks) if r in ranks[:i]]
            if repeated:
                raise SpecError(f"{operator} names rank {repeated[0]} twice", node.span)
            for rank in ranks:
                if rank in facts.parameters:
                    raise SpecError(f"{operator} reduces over ranks, and {rank!r} is a parameter", node.span)


def _unknown(facts: Facts, name: str, node: Expression) -> SpecError:
    """An undeclared name, with what was probably meant."""
    if name in facts.tensors:
        shape = ",".join(r or "0" for r in facts.axes.get(name, ()))
        return SpecError(f"{name} is a tensor: a read names its indices", node.span, (f"write {name}[{shape}]",))
    known = [*facts.parameters, *facts.tensors, *sorted(facts.ranks), *(r.upper() for r in sorted(facts.ranks))]
    notes = did_you_mean(name, [*known, *(c for c in ("true", "false", "inf", "pi") if c == name.lower())])
    if not notes:
        notes = (f"a scalar parameter is declared after ';': ({'...; ' + name})",)
    return SpecError(f"unknown name {name!r}: no parameter, rank or extent", node.span, notes)


def _check_read(facts: Facts, node: Read) -> None:
    if node.tensor in facts.parameters and node.tensor not in facts.tensors:
        raise SpecError(f"{node.tensor} is a scalar parameter and has no indices", node.span, (f"write {node.tensor}",))
    if node.tensor not in facts.tensors:
        raise SpecError(f"unknown tensor {node.tensor!r}", node.span, did_you_mean(node.tensor, facts.tensors))
    axes = facts.axes.get(node.tensor, ())
    if len(node.indices) != len(axes):
        shown = ",".join(r or "0" for r in axes)
        raise SpecError(
            f"{node.tensor} has {counted(len(axes), 'rank')} ({shown}), found {counted(len(node.indices), 'index')}",
            node.span,
        )
    for index in node.indices:
        for inner in walk(index):
            if isinstance(inner, Reduction | CascadeCall | Selection):
                raise SpecError("an index cannot reduce: compute it first, as an integer tensor", inner.span)


def _check_call(facts: Facts, node: Call) -> None:
    name, found = node.function, len(node.arguments)
    if name in facts.definitions:
        expected = facts.definitions[name].parameters
        if len(expected) != found:
            raise SpecError(
                f"{name} takes {counted(len(expected), 'argument')} ({', '.join(expected)}), found {found}", node.span
            )
        return
    _check_ranks_named(facts, node, ())
    if name in FUNCTIONS:
        function = FUNCTIONS[name]
        if not function.least <= found <= function.most:
            expects = counted(function.least, "argument") + (" or more" if function.most > function.least else "")
            raise SpecError(f"{name} takes {expects}, found {found}", node.span)
        return
    if name in facts.tensors:
        raise SpecError(f"{name} is a tensor: its indices stand in brackets", node.span, (f"write {name}[...]",))
    if name in facts.parameters:
        raise SpecError(
            f"{name} is a scalar parameter, not a function", node.span, (f"to multiply, write {name} * (...)",)
        )
    known = [*FUNCTIONS, *facts.definitions, *facts.cascades, *REDUCTIONS, *DERIVED_REDUCTIONS]
    raise SpecError(f"unknown function {name!r}", node.span, unknown(name, known, f"def {name}(x) = ..."))


def _check_ranks_named(facts: Facts, node: Call, left: Collection[str]) -> None:
    """A reduction or a selection names its ranks: those that the left side lacks, or else the last."""
    name = node.function
    reduces = name in REDUCTIONS or name in DERIVED_REDUCTIONS
    if name in facts.definitions or not (reduces or name in SELECTIONS):
        return
    if name in FUNCTIONS and len(node.arguments) > 1:
        return
    ranks = summed_ranks(node)
    named = [a.name for a in node.arguments[1:] if isinstance(a, Rank)]
    over = named or [r for r in ranks if r not in left] or ranks[-1:]
    given = node.arguments[: len(node.arguments) - len(named)]
    shown = ", ".join(map(print_expression, given))
    notes = (f"write {name}[{','.join(over)}]({shown})",) if over else ()
    raise SpecError(f"{name} names the ranks it is over: {name}[ranks](...)", node.span, notes)


def _check_selection(facts: Facts, equation: Equation, node: Selection) -> None:
    target = equation.target
    inside = summed_ranks(node.body)
    for rank in node.ranks:
        if rank in target.ranks:
            raise SpecError(
                f"{node.operator} selects along {rank}, so {rank} cannot stand on the left",
                target.span,
                ("name the entries by a new rank",),
            )
        if rank not in inside:
            raise SpecError(f"{node.operator} selects along {rank}, which its argument lacks", node.span)
    new = [r for r in target.ranks if r not in inside]
    lost = [r for r in inside if r not in target.ranks and r not in node.ranks]
    if lost:
        raise SpecError(
            f"rank {lost[0]} of the argument of {node.operator} is neither selected along nor on the left",
            node.span,
            (f"write the sum: {node.operator}[{','.join(node.ranks)}](sum[{','.join(lost)}](...))",),
        )
    if len(new) != 1:
        found = listed(new) if new else "none"
        raise SpecError(
            f"{node.operator} gives one new rank, on the left and not in its argument; found {found}", target.span
        )
    if node.count is not None:
        for inner in walk(node.count):
            if isinstance(inner, Rank | Read | Reduction):
                raise SpecError("the count of topk is a number: parameters, extents and constants", inner.span)
