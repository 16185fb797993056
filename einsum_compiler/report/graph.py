"""A cascade as a graph: a node per tensor with what it computes and in which pass, an edge per read with the ranks read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from einsum_compiler.ir.build import conjunction
from einsum_compiler.ir.cascade import Cascade, Equation
from einsum_compiler.ir.dependences import components, dependences
from einsum_compiler.ir.expression import Expression, Parameter, Rank, Read, Reduction, transform, walk
from einsum_compiler.ir.printer import print_equation, print_expression
from einsum_compiler.passes.analysis.levels import PassLevels
from einsum_compiler.passes.scope import free_ranks, ranks_of_tensors, reads_in


@dataclass(frozen=True)
class Node:
    """A tensor. ``role``: input, output, or inner. ``level``: the pass over ``rank`` that it belongs to, 0 for none; ``traverses``: it is computed during
    that pass, else after it. ``colour``: the number of that pass among those over all ranks. ``kernels``: the numbers of those that compute it. ``carried``: it is updated from tile to tile."""

    name: str
    ranks: tuple[str, ...]
    role: str
    lines: tuple[str, ...] = ()
    equations: tuple[str, ...] = ()
    level: int = 0
    rank: str = ""
    colour: int = 0
    traverses: bool = False
    kernels: tuple[int, ...] = ()
    carried: bool = False


@dataclass(frozen=True)
class Edge:
    """``target`` reads ``source`` at ``ranks``, of which it reduces ``reduced``. ``before``: it reads what an earlier step left, against the order."""

    source: str
    target: str
    ranks: tuple[str, ...]
    reduced: tuple[str, ...]
    before: bool = False


@dataclass(frozen=True)
class CascadeGraph:
    """The tensors of a cascade in order and the reads between them; ``ranks`` are what passes are counted over."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    ranks: tuple[str, ...]


def cascade_graph(
    cascade: Cascade, levels: Sequence[PassLevels] = (), kernels: Mapping[str, tuple[int, ...]] | None = None
) -> CascadeGraph:
    """The graph of a cascade without calls. ``levels``: the passes over each rank that loops run over; ``kernels``: those that compute a tensor."""
    computed = {t.tensor: e for e in reversed(cascade.equations) for t in e.targets}
    outputs = {t.name for t in cascade.outputs}
    axes = ranks_of_tensors(cascade)
    read = {r.tensor for e in cascade.equations for r in reads_in(e)}
    nodes = [Node(t.name, t.ranks, "input") for t in cascade.inputs if t.name in read]
    for name in dict.fromkeys(t.tensor for e in cascade.equations for t in e.targets):
        equations = cascade.equations_of(name)
        nodes.append(
            Node(
                name,
                axes.get(name, ()),
                "output" if name in outputs else "inner",
                tuple(line for e in equations for line in _lines(e)),
                tuple(print_equation(e) for e in equations),
                *_pass(cascade, name, levels),
                (kernels or {}).get(name, ()),
                any(r.tensor == name for e in equations for r in reads_in(e)),
            )
        )
    known = {n.name for n in nodes}
    return CascadeGraph(
        tuple(nodes),
        tuple(e for e in _edges(cascade, set(computed)) if e.source in known),
        tuple(found.rank for found in levels if found.passes),
    )


def _pass(cascade: Cascade, name: str, levels: Sequence[PassLevels]) -> tuple[int, str, int, bool]:
    """Level, rank, colour and whether it traverses: of the last rank that a tensor traverses, else of the last that it waits for."""
    found, before = (0, "", 0, False), 0
    for over in levels:
        level = _level(cascade, name, over)
        traverses = any(over.rank in free_ranks(r) for e in cascade.equations_of(name) for r in reads_in(e))
        if level and (traverses or not found[3]):
            found = (level, over.rank, before + level, traverses)
        before += over.passes
    return found


def _level(cascade: Cascade, name: str, levels: PassLevels) -> int:
    """The pass of a tensor; a copy, which the pass analysis has seen through, belongs to that of its source."""
    while name not in levels.levels:
        equations = cascade.equations_of(name)
        if len(equations) != 1 or not isinstance(equations[0].value, Read):
            return 0
        name = equations[0].value.tensor
    return levels.levels[name]


def _lines(equation: Equation) -> list[str]:
    """What an equation computes, tensors by name alone, and its filter: ``exp(S - MX)``, ``where n <= m``."""

    def short(node: Expression) -> Expression:
        return Parameter(node.tensor) if isinstance(node, Read) else node

    value, filters = equation.value, [equation.where]
    if isinstance(value, Reduction):
        value, filters = replace(value, where=None), [value.where, equation.where]
    body = print_expression(transform(value, short))
    if not reads_in(equation) and any(not free_ranks(i) for i in equation.target.indices):
        return [f"from {body}"]
    where = conjunction([f for f in filters if f is not None])
    return [body, *([f"where {print_expression(transform(where, short))}"] if where is not None else [])]


def _edges(cascade: Cascade, computed: set[str]) -> list[Edge]:
    """One edge per pair of tensors; reads inside a cycle that would close it are marked."""
    order = {name: i for i, part in enumerate(components(dependences(cascade))) for name in part}
    place = {t.tensor: i for i, e in enumerate(cascade.equations) for t in e.targets}
    found: dict[tuple[str, str], Edge] = {}
    for equation in cascade.equations:
        target = equation.target.tensor
        for read in reads_in(equation):
            if read.tensor == target:
                continue
            ranks, reduced = free_ranks(*read.indices), _reduced(equation, read)
            together = read.tensor in computed and order[read.tensor] == order[target]
            before = together and place[read.tensor] >= place[target]
            known = found.get((read.tensor, target))
            if known is not None:
                ranks = tuple(dict.fromkeys((*known.ranks, *ranks)))
                reduced = tuple(dict.fromkeys((*known.reduced, *reduced)))
            for t in equation.targets:
                found[read.tensor, t.tensor] = Edge(read.tensor, t.tensor, ranks, reduced, before)
    return list(found.values())


def _reduced(equation: Equation, read: Read) -> tuple[str, ...]:
    """The ranks of a read that a reduction around it uses up."""
    inside = [n for n in walk(equation.value) if isinstance(n, Reduction) and read in set(walk(n))]
    ranks = {n.name for i in read.indices for n in walk(i) if isinstance(n, Rank)}
    return tuple(dict.fromkeys(r for n in inside for r in n.ranks if r in ranks))
