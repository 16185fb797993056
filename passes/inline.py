"""inline: calls of cascades and of ``def`` functions replaced by what they stand for.

    A[b,m,n] = softmax[n](S[b,m,n])  ->  A.mx[b,m] = max[n](S[b,m,n]) ... A[b,m,n] = A.p[b,m,n] / A.d[b,m]

Ranks match by position, ``...`` becomes the ranks the argument has besides, tensors inside get names below the caller's. A filter on an argument
is carried along: the argument becomes a tensor with that filter, so every form in between prints and parses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from einsum_compiler.ir.build import conjunction, conjuncts
from einsum_compiler.ir.cascade import ELLIPSIS, Cascade, Equation, Module, Scalar, Target
from einsum_compiler.ir.definitions import called_at, expand_cascade
from einsum_compiler.ir.errors import PlanError, SpecError
from einsum_compiler.ir.expression import (
    Binary,
    CascadeCall,
    Expression,
    Extent,
    Parameter,
    Rank,
    Read,
    Reduction,
    Selection,
    map_children,
    walk,
)
from einsum_compiler.ir.extents import declared_equal
from einsum_compiler.ir.implicit_sums import explicit_sums
from einsum_compiler.ir.span import Span
from einsum_compiler.passes.order import in_order
from einsum_compiler.passes.scope import BINDERS, all_ranks, free_ranks, fresh, tensor_names


@dataclass(frozen=True, slots=True)
class Inline:
    """No options."""


def inline(cascade: Cascade, module: Module | None = None, options: Inline = Inline()) -> Cascade:
    """The cascade without calls of cascades and definitions of ``module`` and of the library.

    Raises ``SpecError`` for an unknown cascade. Sums are explicit afterwards.
    """
    if not module and not any(isinstance(n, CascadeCall) for e in cascade.equations for n in walk(e.value)):
        return explicit_sums(cascade)
    return _Inliner(module or Module((), ())).inline(cascade)


class _Inliner:
    def __init__(self, module: Module) -> None:
        self._module = module

    def callee(self, call: CascadeCall) -> Cascade:
        """The called cascade, itself without calls."""
        from einsum_compiler.ir.library import library

        for module in (self._module, library()):
            for cascade in module.cascades:
                if cascade.name == call.cascade:
                    return _Inliner(module).inline(cascade)
        raise SpecError(f"unknown cascade {call.cascade!r}", call.span)

    def inline(self, cascade: Cascade) -> Cascade:
        cascade = explicit_sums(expand_cascade(cascade, self._module))
        caller = _Caller(cascade, self)
        equations = [made for e in cascade.equations for made in caller.equation(e)]
        parameters = (*cascade.parameters, *caller.extents)
        return in_order(replace(cascade, parameters=parameters, equations=tuple(equations)))


class _Caller:
    """The names of one calling cascade, and the equations that its calls become."""

    def __init__(self, cascade: Cascade, inliner: _Inliner) -> None:
        self._inliner = inliner
        self._names = tensor_names(cascade)
        self._ranks = all_ranks(cascade) | {p.name.lower() for p in cascade.parameters}
        self._made: list[Equation] = []
        self.extents: list[Scalar] = []  # of the ranks that only callees have

    def equation(self, equation: Equation) -> list[Equation]:
        """The equation with its calls replaced, after the equations of the callees."""
        self._made = []
        equation = _with_filter_in_calls(equation)
        stem = equation.target.tensor
        if isinstance(equation.value, CascadeCall):
            reads = self._call(equation.value, stem, equation.target.ranks)
            copies = [
                replace(equation, targets=(target,), value=_aligned(read, target, equation.value))
                for target, read in zip(equation.targets, reads, strict=True)
            ]
            return [*self._made, *copies]
        value = self._replaced(equation.value, stem, equation.target.ranks)
        where = None if equation.where is None else self._replaced(equation.where, stem, equation.target.ranks)
        return [*self._made, replace(equation, value=value, where=where)]

    def _replaced(self, node: Expression, stem: str, scope: tuple[str, ...]) -> Expression:
        if isinstance(node, CascadeCall):
            return self._call(node, stem, scope)[0]
        inner = (*scope, *node.ranks) if isinstance(node, (Reduction, Selection)) else scope
        return map_children(node, lambda child: self._replaced(child, stem, inner))

    def _call(self, call: CascadeCall, stem: str, scope: tuple[str, ...]) -> tuple[Read, ...]:
        """The equations of one call, and the read of each result."""
        callee = self._inliner.callee(call)
        reads = [self._argument(a, call, stem, (*scope, *call.ranks)) for a in call.arguments[: len(callee.inputs)]]
        binding = self._bound(call, callee, reads, stem)
        for equation in callee.equations:
            self._made.append(binding.equation(equation))
        return tuple(binding.read(output.name, output.ranks) for output in callee.outputs)

    def _argument(self, node: Expression, call: CascadeCall, stem: str, scope: tuple[str, ...]) -> Read:
        """The argument as a tensor with bare, different ranks and no filter outside its own equation."""
        node = self._replaced(node, stem, scope)
        bare = isinstance(node, Read) and all(isinstance(i, Rank) for i in node.indices)
        if isinstance(node, Read) and bare and call.where is None and len(set(node.indices)) == len(node.indices):
            return node
        used = set(free_ranks(node, call.where))
        indices = tuple(Rank(r) for r in dict.fromkeys(scope) if r in used)
        name = fresh(f"{stem}.argument", self._names)
        self._names.add(name)
        self._made.append(Equation((Target(name, indices),), node, call.where))
        return Read(name, indices)

    def _bound(self, call: CascadeCall, callee: Cascade, reads: list[Read], stem: str) -> _Binding:
        ranks: dict[str, tuple[str, ...]] = {}
        if len(callee.ranks) == 1:
            ranks[callee.ranks[0]] = call.ranks
        else:
            ranks.update({theirs: (ours,) for theirs, ours in zip(callee.ranks, call.ranks, strict=True)})
        others: dict[str, None] = {}
        for declared, read in zip(callee.inputs, reads, strict=True):
            names = [i.name for i in read.indices if isinstance(i, Rank)]
            if ELLIPSIS in declared.ranks:
                others.update(dict.fromkeys(n for n in names if n not in call.ranks))
            else:
                ranks.update({theirs: (ours,) for theirs, ours in zip(declared.ranks, names, strict=True)})
        ranks[ELLIPSIS] = tuple(others)
        own = sorted(all_ranks(callee) - set(ranks))
        for rank in own:
            # A rank of the callee's own; the digit keeps its extent a name that prints and parses.
            ranks[rank] = (fresh(rank, self._ranks),)
            self._ranks.add(ranks[rank][0])
        tensors: dict[str, tuple[str, tuple[Expression, ...]]] = {}
        arguments = {declared.name: read for declared, read in zip(callee.inputs, reads, strict=True)}
        for name in dict.fromkeys(t.tensor for e in callee.equations for t in e.targets):
            tensors[name] = (fresh(f"{stem}.{name.lower().replace('.', '_')}", self._names), ())
            self._names.add(tensors[name][0])
        given = dict(zip((p.name for p in callee.parameters), call.arguments[len(callee.inputs) :], strict=False))
        binding = _Binding(ranks, {n: t for n, (t, _) in tensors.items()}, arguments, callee, {}, call.span)
        for parameter in callee.parameters:
            value = given.get(parameter.name, parameter.default)
            if value is None:
                raise SpecError(f"{callee.name} needs the parameter {parameter.name}", call.span)
            binding.scalars[parameter.name] = value if parameter.name in given else binding.expression(value)
        for rank in own:
            source = declared_equal(callee, rank)  # none of a selection, which says its extent itself
            if source is not None:
                extent = binding.scalars.get(source.upper()) or binding.expression(Extent(source))
                if any(isinstance(n, Parameter) for n in walk(extent)):
                    raise PlanError(
                        f"the extent of rank {rank} of {callee.name} depends on a parameter of the caller",
                        call.span,
                        (f"give {callee.name} a number, an extent, or a tensor with this rank",),
                    )
                self.extents.append(Scalar(ranks[rank][0].upper(), None, extent))
        return binding


@dataclass(frozen=True)
class _Binding:
    """What the names of a callee stand for in the caller."""

    ranks: Mapping[str, tuple[str, ...]]
    tensors: Mapping[str, str]
    arguments: Mapping[str, Read]
    callee: Cascade
    scalars: dict[str, Expression]
    call: Span | None

    def equation(self, equation: Equation) -> Equation:
        where = None if equation.where is None else self.expression(called_at(equation.where, self.call))
        value = self.expression(called_at(equation.value, self.call))
        targets = tuple(
            replace(t, tensor=self.tensors[t.tensor], indices=self._indices(t.indices), span=None)
            for t in equation.targets
        )
        place = None if equation.span is None else equation.span.called_at(self.call)
        return replace(equation, targets=targets, value=value, where=where, span=place)

    def read(self, tensor: str, ranks: tuple[str, ...]) -> Read:
        """The read of a result, at the caller's ranks."""
        if tensor in self.arguments:
            return self.arguments[tensor]
        return Read(self.tensors[tensor], self._indices(tuple(Rank(r) for r in ranks)))

    def expression(self, node: Expression) -> Expression:
        if isinstance(node, Read):
            return self._read(node)
        if isinstance(node, Parameter) and node.name in self.scalars:
            return self.scalars[node.name]
        if isinstance(node, Rank):
            return self._coordinate(self.ranks.get(node.name, (node.name,)))
        if isinstance(node, Extent):
            return self._extent(self.ranks.get(node.rank, (node.rank,)))
        changed = map_children(node, self.expression)
        if isinstance(changed, BINDERS):
            return replace(changed, ranks=tuple(ours for r in changed.ranks for ours in self.ranks.get(r, (r,))))
        return changed

    def _read(self, node: Read) -> Expression:
        indices = self._indices(node.indices)
        if node.tensor not in self.arguments:
            return replace(node, tensor=self.tensors[node.tensor], indices=indices)
        # The argument's axes may stand in another order than the callee declares.
        argument = self.arguments[node.tensor]
        declared = next(t for t in self.callee.inputs if t.name == node.tensor)
        theirs = [ours for r in declared.ranks for ours in self.ranks.get(r, (r,))]
        at = dict(zip(theirs, indices, strict=True))
        return replace(argument, indices=tuple(at[i.name] for i in argument.indices if isinstance(i, Rank)))

    def _indices(self, indices: tuple[Expression, ...]) -> tuple[Expression, ...]:
        found: list[Expression] = []
        for index in indices:
            if isinstance(index, Rank):
                found.extend(Rank(r) for r in self.ranks.get(index.name, (index.name,)))
            else:
                found.append(self.expression(index))
        return tuple(found)

    def _coordinate(self, ranks: tuple[str, ...]) -> Expression:
        """Several ranks in place of one count in row-major order."""
        result: Expression = Rank(ranks[0])
        for rank in ranks[1:]:
            result = Binary("+", Binary("*", result, Extent(rank)), Rank(rank))
        return result

    def _extent(self, ranks: tuple[str, ...]) -> Expression:
        result: Expression = Extent(ranks[0])
        for rank in ranks[1:]:
            result = Binary("*", result, Extent(rank))
        return result


def _aligned(read: Read, target: Target, call: CascadeCall) -> Expression:
    if {i.name for i in read.indices if isinstance(i, Rank)} != set(target.ranks):
        raise SpecError(f"the result of {call.cascade} does not have the ranks of {target.tensor}", call.span)
    return read


def _with_filter_in_calls(equation: Equation) -> Equation:
    """Conjuncts that mention a rank of a call act inside the call."""
    calls = [n for n in walk(equation.value) if isinstance(n, CascadeCall)]
    left = {r for t in equation.targets for r in t.ranks}
    if not calls or equation.where is None:
        return equation
    value, staying = equation.value, []
    for part in conjuncts(equation.where):
        ranks = set(free_ranks(part))
        before = value
        value = _placed(value, part, frozenset(left), left)
        if value is before or ranks <= left:
            staying.append(part)
    return replace(equation, value=value, where=conjunction(staying))


def _placed(node: Expression, part: Expression, scope: frozenset[str], left: set[str]) -> Expression:
    if isinstance(node, CascadeCall):
        bound = set(node.ranks) | (set(free_ranks(*node.arguments)) - left)
        ranks = set(free_ranks(part))
        if ranks & bound and ranks <= scope | bound:
            return replace(node, where=conjunction((node.where, part)))
        return node
    if isinstance(node, (Reduction, Selection)):
        scope = scope | frozenset(node.ranks)
    return map_children(node, lambda child: _placed(child, part, scope, left))
