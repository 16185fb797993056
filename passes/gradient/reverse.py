"""The reverse sweep: adjoint equations from the last equation to the first, and for each tensor the sum of what its readers contribute."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from einsum_compiler.ir.build import parameters_of, reads_of
from einsum_compiler.ir.cascade import Cascade, Equation, Scalar, Target
from einsum_compiler.ir.expression import Binary, Call, Constant, Expression, Rank, Read, Reduction
from einsum_compiler.ir.types import is_integer
from einsum_compiler.passes.domains import Conditions, Domains
from einsum_compiler.passes.gradient.adjoints import Adjoints
from einsum_compiler.passes.gradient.scatter import Contribution
from einsum_compiler.passes.scope import all_ranks, fresh, reads_in, tensor_names


class ReverseSweep:
    """The adjoint equations of one cascade along ``wanted``. ``proved``: tensors that nothing depends on.

    Once the equations are made, ``compared``: extrema that points are compared with, and ``scalars``: extents of new ranks.
    """

    def __init__(
        self,
        cascade: Cascade,
        wanted: tuple[str, ...],
        proved: Collection[str],
        types: Mapping[str, str],
        domains: Domains,
        axes: dict[str, tuple[str, ...]],
    ) -> None:
        self._cascade, self._wanted, self._proved = cascade, wanted, proved
        self._types, self._domains, self._axes = types, domains, axes
        self._names = tensor_names(cascade) | all_ranks(cascade)
        self.compared: set[str] = set()
        self.scalars: list[Scalar] = []

    def equations(self) -> tuple[list[Equation], dict[str, str], dict[str, str]]:
        """What computes the gradients of all that is wanted; gradients by input; cotangents by output."""
        reached = self._reached()
        reductions = [e.value.ranks for e in self._cascade.equations if isinstance(e.value, Reduction)]
        declared = {p.name.lower(): p.default for p in self._cascade.parameters if p.default is not None}
        adjoints = Adjoints(self._domains, self._axes, reductions, declared, reached, self._fresh)
        self.compared, self.scalars = adjoints.compared, adjoints.scalars
        pending: dict[str, list[Contribution]] = {}
        conditions: dict[str, Conditions] = {}
        made: list[Equation] = []
        cotangents: dict[str, str] = {}
        read = {r.tensor for e in self._cascade.equations for r in reads_in(e)}
        for output in (t.name for t in self._cascade.outputs):
            if output in reached and self._domains.is_computed(output):
                cotangents[output] = self._fresh(f"{output}.grad" if output not in read else f"{output}.given")
        for equation in reversed(self._cascade.equations):
            name = equation.target.tensor
            given = cotangents.get(name)
            if name not in reached or (given is None and name not in pending):
                continue
            equations, gradient, known = self._gathered(name, pending.pop(name, []), given)
            made += equations
            conditions[name] = known
            at = Read(gradient, tuple(map(Rank, self._axes[name])))
            for found in adjoints.of(equation, at, known):
                pending.setdefault(found.variable, []).append(found)
        gradients: dict[str, str] = {}
        for name in self._wanted:
            if name in pending:
                equations, gradients[name], _ = self._gathered(name, pending.pop(name), None)
                made += equations
        return made, gradients, cotangents

    def _reached(self) -> set[str]:
        """What depends on a wanted input and has a gradient. A filter chooses points, and a choice passes none on; neither do whole numbers and truth values,
        which are constant almost everywhere."""
        found = set(self._wanted)
        for equation in self._cascade.equations:
            name = equation.target.tensor
            value = equation.value.body if isinstance(equation.value, Reduction) else equation.value
            depends = any(r.tensor in found for r in reads_of(value)) or bool(
                found & set(parameters_of(equation.value))
            )
            counts = is_integer(self._types[name]) or self._types[name] == "bool"
            if depends and not counts and name not in self._proved:
                found.add(name)
        return found

    def _gathered(
        self, name: str, parts: list[Contribution], given: str | None
    ) -> tuple[list[Equation], str, Conditions]:
        """The gradient of a tensor from its contributions: equations, its name, and where it exists."""
        ranks = tuple(map(Rank, self._axes.get(name, ())))
        if given is not None and not parts:
            return [], given, ()
        if given is None and len(parts) == 1:
            last = parts[0].equations[-1]
            return list(parts[0].equations), last.target.tensor, parts[0].conditions
        equations = [e for p in parts for e in p.equations]
        own = set(self._domains.of_tensor(name) or ()) if self._domains.is_computed(name) else set()
        terms: list[Expression] = [] if given is None else [Read(given, ranks)]
        for part in parts:
            term: Expression = Read(part.equations[-1].target.tensor, ranks)
            terms.append(term if set(part.conditions) <= own else Call("default", (term, Constant(0))))
        total = terms[0]
        for term in terms[1:]:
            total = Binary("+", total, term)
        target = self._fresh(f"{name}.grad")
        known = tuple(dict.fromkeys(c for p in parts for c in p.conditions if c in own))
        return [*equations, Equation((Target(target, ranks),), total)], target, known

    def _fresh(self, stem: str) -> str:
        name = fresh(stem, self._names)
        self._names.add(name)
        return name
