"""A whole cascade: its tensors in the order of their dependence, recurrences as one step of that order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from torch import Tensor

from einsum_compiler.backends.reference.equations import assemble, evaluate_cases
from einsum_compiler.backends.reference.recurrences import is_iterative, plan_recurrence, run_recurrence
from einsum_compiler.backends.reference.scope import Growing, Scope
from einsum_compiler.backends.reference.values import Stored
from einsum_compiler.ir.cascade import Cascade
from einsum_compiler.ir.dependences import components, dependences
from einsum_compiler.ir.errors import SpecError
from einsum_compiler.ir.implicit_sums import explicit_sums


def evaluate_cascade(
    cascade: Cascade,
    inputs: Mapping[str, Stored],
    scalars: Mapping[str, Tensor],
    extents: Mapping[str, int],
    around: Scope,
    wanted: Iterable[str] | None = None,
) -> dict[str, Stored]:
    """Every tensor that the outputs (or ``wanted``) need, by name. ``around`` gives types, device and callable cascades."""
    cascade = explicit_sums(cascade)
    tensors: dict[str, Stored | Growing] = dict(inputs)
    scope = replace(around, tensors=tensors, scalars=scalars, extents=extents, fixed={}, domain=None)
    types = {t.name: t.dtype for t in cascade.outputs}
    types.update({t.tensor: t.dtype for e in cascade.equations for t in e.targets if t.dtype is not None})
    graph = dependences(cascade)
    demanded = _reachable(graph, [t.name for t in cascade.outputs] if wanted is None else wanted)
    for names in components(graph):
        if not demanded & set(names) or all(n in tensors for n in names):
            continue
        equations = list(dict.fromkeys(e for n in names for e in cascade.equations_of(n)))
        recursive = len(names) > 1 or names[0] in graph[names[0]]
        types_here = {t.tensor: types.get(t.tensor) for e in equations for t in e.targets}
        if is_iterative(equations, recursive):
            tensors.update(run_recurrence(plan_recurrence(names, equations), types_here, scope))
            continue
        cases = evaluate_cases(equations, scope)
        for i, target in enumerate(equations[0].targets):
            tensors[target.tensor] = assemble(cases, i, target.ranks, types_here[target.tensor], scope)
    return {name: t for name, t in tensors.items() if isinstance(t, Stored)}


def _reachable(graph: Mapping[str, Iterable[str]], outputs: Iterable[str]) -> set[str]:
    found: set[str] = set()
    waiting = list(outputs)
    while waiting:
        name = waiting.pop()
        if name in graph and name not in found:
            found.add(name)
            waiting.extend(graph[name])
    return found


def output(name: str, tensors: Mapping[str, Stored]) -> Stored:
    """A tensor of the results; ``SpecError`` if nothing defines it."""
    if name not in tensors:
        raise SpecError(f"no equation defines the output {name}")
    return tensors[name]
