"""Checks of calls of cascades: there is one of that name, its arguments and ranks fit, its results have a place."""

from __future__ import annotations

from dataclasses import replace

from einsum_compiler.ir.cascade import ELLIPSIS, Cascade, Equation, Tensor
from einsum_compiler.ir.errors import SpecError
from einsum_compiler.ir.expression import CascadeCall, Expression, Rank, Read, Reduction, Slice, children, walk
from einsum_compiler.ir.facts import Facts
from einsum_compiler.ir.hints import counted, listed, unknown
from einsum_compiler.ir.implicit_sums import is_whole_tensor, summed_ranks
from einsum_compiler.ir.operators import FUNCTIONS, REDUCTIONS
from einsum_compiler.ir.printer import print_expression


def check_calls(facts: Facts, equation: Equation) -> None:
    """The calls of one equation, and the number of results."""
    calls = [n for n in walk(equation.value) if isinstance(n, CascadeCall)]
    for call in calls:
        callee = _callee(facts, call)
        _check_arguments(facts, call, callee)
        results = _result_ranks(facts, call, callee)
        if call is equation.value:
            _check_results(equation, call, callee, results)
        elif len(callee.outputs) != 1:
            raise SpecError(
                f"{callee.name} has {len(callee.outputs)} results, so its call is the whole right side",
                call.span,
                (f"write {', '.join(t.name + '[...]' for t in callee.outputs)} = {callee.name}(...)",),
            )
    if len(equation.targets) > 1 and not isinstance(equation.value, CascadeCall):
        raise SpecError("several results on the left need the call of a cascade on the right", equation.targets[1].span)


def check_recursion(facts: Facts) -> None:
    """No cascade calls itself, directly or through others."""

    def visit(name: str, active: tuple[str, ...]) -> None:
        cascade = facts.cascades.get(name)
        if cascade is None:
            return
        for equation in cascade.equations:
            for node in walk(equation.value):
                if not isinstance(node, CascadeCall):
                    continue
                if node.cascade in (*active, name):
                    raise SpecError(
                        f"cascade {node.cascade} calls itself: {' -> '.join((*active, name, node.cascade))}", node.span
                    )
                visit(node.cascade, (*active, name))

    visit(facts.cascade.name, ())


def _callee(facts: Facts, call: CascadeCall) -> Cascade:
    callee = facts.cascades.get(call.cascade)
    if callee is not None:
        return callee
    if call.cascade in facts.tensors:
        raise SpecError(
            f"{call.cascade} is a tensor, and this reads as the call of a cascade of that name",
            call.span,
            ("an operator is missing between ']' and '('",),
        )
    if call.cascade in FUNCTIONS:
        raise SpecError(
            f"{call.cascade} is a function, not a reduction",
            call.span,
            (f"write {call.cascade}(...), without brackets",),
        )
    known = [*facts.cascades, *REDUCTIONS, *facts.tensors]
    notes = unknown(call.cascade, known, f"cascade {call.cascade}[n](X[...,n]) -> Y[...] {{ ... }}")
    raise SpecError(f"unknown cascade {call.cascade!r}", call.span, notes)


def _check_arguments(facts: Facts, call: CascadeCall, callee: Cascade) -> None:
    tensors, scalars = len(callee.inputs), len(callee.parameters)
    found = len(call.arguments)
    needed = tensors + sum(p.default is None for p in callee.parameters)
    if callee.ranks and not call.ranks:
        given = [a for a in call.arguments if not isinstance(a, Rank)]
        over = [a.name for a in call.arguments if isinstance(a, Rank)]
        shown = ",".join(over or callee.ranks)
        notes = (f"write {callee.name}[{shown}]({', '.join(map(print_expression, given))})",) if over else ()
        raise SpecError(f"{callee.name} names its ranks: {callee.name}[{shown}](...)", call.span, notes)
    if not needed <= found <= tensors + scalars:
        names = ", ".join([*(t.name for t in callee.inputs), *(p.name for p in callee.parameters)])
        most = tensors + scalars
        expected = counted(needed, "argument") if most == needed else f"{needed} to {most} arguments"
        raise SpecError(f"{callee.name} takes {expected} ({names}), found {found}", call.span)
    if (len(callee.ranks) > 1 and len(callee.ranks) != len(call.ranks)) or (call.ranks and not callee.ranks):
        expected = f"{len(callee.ranks)} ({','.join(callee.ranks)})" if callee.ranks else "none"
        raise SpecError(
            f"{callee.name} has {expected} in brackets, found {len(call.ranks)} ({','.join(call.ranks)})", call.span
        )
    matched: dict[str, str] = {}
    for declared, argument in zip(callee.inputs, call.arguments, strict=False):
        _check_argument(facts, call, callee, declared, argument, matched)
    for parameter, argument in zip(callee.parameters, call.arguments[tensors:], strict=False):
        if summed_ranks(argument) or any(isinstance(n, Read) for n in walk(argument)):
            raise SpecError(f"the parameter {parameter.name} of {callee.name} is a number", argument.span)


def _check_argument(
    facts: Facts,
    call: CascadeCall,
    callee: Cascade,
    declared: Tensor,
    argument: Expression,
    matched: dict[str, str],
) -> None:
    """One tensor argument; ``matched`` maps the callee's ranks to ours, by position, over all arguments."""
    inside = _carried(facts, argument)
    for rank in call.ranks:
        if any(r in callee.ranks for r in declared.ranks) and rank not in inside:
            raise SpecError(f"{callee.name} is over rank {rank}, which this argument lacks", argument.span)
    if ELLIPSIS in declared.ranks:
        return
    if not isinstance(argument, Read) or not all(isinstance(i, Rank | Slice) for i in argument.indices):
        raise SpecError(
            f"an argument of {callee.name} is a tensor with bare ranks",
            argument.span,
            ("compute it first, as a tensor",),
        )
    if len(argument.indices) != len(declared.ranks):
        raise SpecError(
            f"{declared.name} of {callee.name} has {counted(len(declared.ranks), 'rank')} ({','.join(declared.ranks)}), "
            f"found {len(argument.indices)}",
            argument.span,
        )
    for index, rank in zip(argument.indices, declared.ranks, strict=True):
        ours = index.name if isinstance(index, Rank) else ":"
        if matched.setdefault(rank, ours) != ours:
            raise SpecError(
                f"rank {rank} of {callee.name} is {matched[rank]} in an earlier argument and {ours} here", index.span
            )


def _carried(facts: Facts, node: Expression) -> set[str]:
    """The ranks of a value: those that occur and no reduction binds, and of a call inside those of its result."""
    if isinstance(node, Rank):
        return {node.name}
    if isinstance(node, CascadeCall):
        return set().union(*_result_ranks(facts, node, _callee(facts, node)))
    found = set[str]().union(*(_carried(facts, child) for child in children(node)))
    return found - set(node.ranks) if isinstance(node, Reduction) else found


def _result_ranks(facts: Facts, call: CascadeCall, callee: Cascade) -> list[set[str]]:
    """Our ranks of each result."""
    ours: dict[str, str] = {}
    others: set[str] = set()
    for declared, argument in zip(callee.inputs, call.arguments, strict=False):
        if ELLIPSIS in declared.ranks:
            # An argument that a filter acts on has the filter's ranks too.
            filtered = () if call.where is None else summed_ranks(call.where)
            others |= {*_carried(facts, argument), *filtered} - set(call.ranks)
        elif isinstance(argument, Read):
            ours |= {r: i.name for r, i in zip(declared.ranks, argument.indices, strict=True) if isinstance(i, Rank)}
    found = []
    for output in callee.outputs:
        ranks: set[str] = set()
        for rank in output.ranks:
            if rank == ELLIPSIS:
                ranks |= others
            elif rank in callee.ranks:
                ranks |= set(call.ranks)
            else:
                ranks.add(ours.get(rank, rank))
        found.append(ranks)
    return found


def _check_results(equation: Equation, call: CascadeCall, callee: Cascade, results: list[set[str]]) -> None:
    if len(equation.targets) != len(results):
        raise SpecError(
            f"{callee.name} has {counted(len(results), 'result')} ({', '.join(t.name for t in callee.outputs)}), "
            f"found {counted(len(equation.targets), 'left side')}",
            call.span,
        )
    for target, ranks in zip(equation.targets, results, strict=True):
        lost, extra = sorted(ranks - set(target.ranks)), sorted(set(target.ranks) - ranks)
        if lost:
            raise SpecError(
                f"the result of {callee.name} has rank {listed(lost)}, which {target.tensor} lacks",
                target.span,
                (f"a sum does not enter a call; {_sum_written(call, tuple(lost))}",),
            )
        if extra:
            raise SpecError(
                f"the result of {callee.name} does not have rank {listed(extra)} of {target.tensor}", target.span
            )


def _sum_written(call: CascadeCall, ranks: tuple[str, ...]) -> str:
    """What may be written for the call of an expression with ranks that nothing on the left has."""
    summed = ",".join(ranks)
    later = f"compute it first, then write sum[{summed}](...)"
    holders = [a for a in call.arguments if set(ranks) & set(summed_ranks(a))]
    if len(holders) != 1 or is_whole_tensor(holders[0]):
        return later
    inner = replace(call, arguments=tuple(Reduction("sum", ranks, a) if a in holders else a for a in call.arguments))
    return f"write {print_expression(inner)}, or {later}"
