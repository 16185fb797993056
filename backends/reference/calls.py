"""Calls of cascades: the callee evaluated with its ranks matched to those of the caller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from einsum_compiler.backends.reference.named import Named, both, projected
from einsum_compiler.backends.reference.scope import Scope
from einsum_compiler.backends.reference.values import Stored, Value, chosen, scalar_tensor
from einsum_compiler.ir.binding import bind
from einsum_compiler.ir.cascade import ELLIPSIS, Cascade, Equation, Target
from einsum_compiler.ir.cascade import Tensor as Declaration
from einsum_compiler.ir.errors import SpecError
from einsum_compiler.ir.expression import (
    CascadeCall,
    Expression,
    Rank,
    Read,
    Reduction,
    Selection,
    map_children,
)
from einsum_compiler.ir.hints import counted

# Ranks of the caller inside a library cascade: names that no text can have, so that they never meet its own.
RENAMED = "caller {}"


def single_result(node: CascadeCall, scope: Scope) -> Value:
    """A call inside an expression."""
    return results(node, 1, scope)[0]


def results(node: CascadeCall, count: int, scope: Scope) -> tuple[Value, ...]:
    """The results of a call, with the ranks of the caller."""
    callee = scope.cascades.get(node.cascade)
    if callee is None:
        raise SpecError(f"there is no cascade {node.cascade!r}", node.span)
    if len(callee.outputs) != count:
        raise SpecError(f"{callee.name} has {counted(len(callee.outputs), 'result')}, {count} wanted here", node.span)
    used = callee.ranks and node.ranks
    inner = scope.binding(used)
    kept = None if node.where is None else inner.value(node.where).truth()
    inner = inner.within(kept)
    tensors = [inner.value(a) for a in node.arguments[: len(callee.inputs)]]
    if len(tensors) < len(callee.inputs):
        listed = ", ".join(t.name for t in callee.inputs)
        raise SpecError(f"{callee.name} takes the tensors {listed}, found {len(tensors)}", node.span)
    if kept is not None:
        tensors = _filtered(node, tensors, kept)
    if callee.ranks:
        callee, names = _specialized(node, callee, tensors)
    else:
        names = _by_position(node, callee)
    given = {t.name: _stored(node, t, names, v, inner) for t, v in zip(callee.inputs, tensors, strict=True)}
    scalars = _scalars(node, callee, inner)
    return _evaluated(callee, given, scalars, names, inner)


def _filtered(node: CascadeCall, tensors: list[Value], kept: Named) -> list[Value]:
    """The filter laid on the arguments that have all its ranks; of a library call on all that have a rank it names."""
    if node.ranks:
        holds = [bool(set(v.ranks) & set(node.ranks)) for v in tensors]
    else:
        holds = [set(kept.ranks) <= set(v.ranks) for v in tensors]
    if not any(holds):
        raise SpecError(f"no argument of {node.cascade} has all ranks of this filter", node.span)
    return [Value(v.data, both(v.present, kept)) if h else v for v, h in zip(tensors, holds, strict=True)]


def _specialized(node: CascadeCall, callee: Cascade, tensors: Sequence[Value]) -> tuple[Cascade, dict[str, str]]:
    """A library cascade with the caller's ranks (renamed) in place of ``n`` and ``...``, and the names of those ranks."""
    if len(callee.ranks) > 1 and len(callee.ranks) != len(node.ranks):
        raise SpecError(f"{callee.name} names {counted(len(callee.ranks), 'rank')}, found {len(node.ranks)}", node.span)
    named = [(r,) for r in node.ranks] if len(callee.ranks) > 1 else [node.ranks]
    wide = [v for t, v in zip(callee.inputs, tensors, strict=True) if ELLIPSIS in t.ranks]
    others = tuple(r for r in dict.fromkeys(r for v in wide for r in v.ranks) if r not in node.ranks)
    renamed = {r: RENAMED.format(i) for i, r in enumerate((*others, *node.ranks))}
    lists = {ELLIPSIS: tuple(renamed[r] for r in others)}
    lists |= {r: tuple(renamed[c] for c in of) for r, of in zip(callee.ranks, named, strict=True)}
    return _with_ranks(callee, lists), {new: old for old, new in renamed.items()}


def _with_ranks(cascade: Cascade, lists: Mapping[str, tuple[str, ...]]) -> Cascade:
    """The cascade with lists of ranks in place of single ones."""

    def names(ranks: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(n for r in ranks for n in lists.get(r, (r,)))

    def indices(nodes: tuple[Expression, ...]) -> tuple[Expression, ...]:
        found: list[Expression] = []
        for node in nodes:
            if isinstance(node, Rank) and node.name in lists:
                found.extend(Rank(n) for n in lists[node.name])
            else:
                found.append(change(node))
        return tuple(found)

    def change(node: Expression) -> Expression:
        match node:
            case Read():
                return replace(node, indices=indices(node.indices))
            case Reduction() | Selection() | CascadeCall():
                return replace(map_children(node, change), ranks=names(node.ranks))  # type: ignore[call-arg]
            case Rank(name=name) if name in lists:
                if len(lists[name]) != 1:
                    raise SpecError(
                        f"{name} stands for {len(lists[name])} ranks here, and is used as a number", node.span
                    )
                return Rank(lists[name][0])
        return map_children(node, change)

    def declaration(t: Declaration) -> Declaration:
        return replace(t, ranks=names(t.ranks))

    def target(t: Target) -> Target:
        return replace(t, indices=indices(t.indices))

    def equation(e: Equation) -> Equation:
        where = None if e.where is None else change(e.where)
        return replace(e, targets=tuple(map(target, e.targets)), value=change(e.value), where=where)

    return replace(
        cascade,
        inputs=tuple(map(declaration, cascade.inputs)),
        outputs=tuple(map(declaration, cascade.outputs)),
        equations=tuple(map(equation, cascade.equations)),
        ranks=(),
    )


def _by_position(node: CascadeCall, callee: Cascade) -> dict[str, str]:
    """The caller's rank for each rank of the callee's inputs: arguments are tensors with bare ranks."""
    found: dict[str, str] = {}
    for declared, argument in zip(callee.inputs, node.arguments, strict=False):
        bare = isinstance(argument, Read) and all(isinstance(i, Rank) for i in argument.indices)
        if not bare:
            raise SpecError(f"arguments of {callee.name} are tensors with bare ranks", argument.span)
        assert isinstance(argument, Read)
        ranks = [i.name for i in argument.indices if isinstance(i, Rank)]
        if len(ranks) != len(declared.ranks):
            raise SpecError(
                f"{declared.name} of {callee.name} has {counted(len(declared.ranks), 'rank')}", argument.span
            )
        for inner, outer in zip(declared.ranks, ranks, strict=True):
            if found.setdefault(inner, outer) != outer:
                raise SpecError(
                    f"rank {inner} of {callee.name} is both {found[inner]} and {outer} in this call", argument.span
                )
    return found


def _stored(node: CascadeCall, declared: Declaration, names: Mapping[str, str], value: Value, scope: Scope) -> Stored:
    """An argument with an axis per declared rank; what the caller does not look at is empty."""
    ranks = tuple(names[r] for r in declared.ranks)
    extra = [r for r in value.ranks if r not in ranks]
    if extra:
        raise SpecError(f"{declared.name} of {node.cascade} has no place for rank {extra[0]}", node.span)
    mask = value.present
    if scope.domain is not None:
        mask = both(mask, projected(scope.domain, ranks))
    data = value.data if mask is None else chosen(mask, value.data, 1)
    present = None if mask is None else mask.expanded(ranks, scope.extents)
    return Stored(data.expanded(ranks, scope.extents), present)


def _scalars(node: CascadeCall, callee: Cascade, scope: Scope) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    extra = node.arguments[len(callee.inputs) :]
    if len(extra) > len(callee.parameters):
        raise SpecError(
            f"{callee.name} takes {counted(len(callee.parameters), 'parameter')}, found {len(extra)}", node.span
        )
    for parameter, argument in zip(callee.parameters, extra, strict=False):
        value = scope.value(argument)
        if value.ranks:
            raise SpecError(f"{parameter.name} of {callee.name} is a number", argument.span)
        found[parameter.name] = value.data.data
    return found


def _evaluated(
    callee: Cascade, given: dict[str, Stored], scalars: dict[str, Tensor], names: Mapping[str, str], scope: Scope
) -> tuple[Value, ...]:
    # The evaluation of cascades imports the expressions, which import this.
    from einsum_compiler.backends.reference.cascades import evaluate_cascade

    # Floats are evaluated in one type, which need not be the declared one.
    untyped = replace(callee, inputs=tuple(replace(t, dtype=None) for t in callee.inputs))
    binding = bind(untyped, tuple(s.data for s in given.values()), scalars)
    numbers = {**{k: scalar_tensor(v, scope.real, scope.device) for k, v in binding.scalars.items()}, **scalars}
    computed = evaluate_cascade(callee, given, numbers, binding.extents, scope)
    found = []
    for output in callee.outputs:
        ranks = tuple(names.get(r, r) for r in output.ranks)
        store = computed[output.name]
        present = None if store.present is None else Named(ranks, store.present)
        found.append(Value(Named(ranks, store.data), present))
    return tuple(found)
