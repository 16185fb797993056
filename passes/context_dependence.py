"""What a reduction over the stream depends on: its body with the maps in between opened, and the sweep in which each tensor is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from einsum_compiler.ir.build import conjuncts, reads_of
from einsum_compiler.ir.cascade import Cascade, Equation
from einsum_compiler.ir.expression import Cast, Expression, Read, Reduction, map_children
from einsum_compiler.passes.lateness import Lateness
from einsum_compiler.passes.scope import definitions, opened, reads_in


@dataclass(frozen=True)
class Opened:
    """A body over contexts and points alone, the conditions under which its points exist, and what stood in the way, if anything."""

    body: Expression
    conditions: tuple[Expression, ...]
    obstacle: str | None = None


@dataclass(frozen=True)
class Decided:
    """A reduction that runs: its equation, its opened body, its sweep."""

    equation: Equation
    opened: Opened
    sweep: int


class Dependences:
    """Answers for one stream. ``states`` grows while the stream is rewritten: the reductions decided so far."""

    def __init__(self, cascade: Cascade, late: Lateness, states: Mapping[str, Decided]) -> None:
        self._cascade = cascade
        self._defined = definitions(cascade)
        self._late = late
        self._states = states

    def sweep(self, tensor: str) -> int:
        """The sweep after which a tensor is known: that of the last reduction over the rank it depends on; 0 if there is none."""
        return self._sweep(tensor, frozenset())

    def _sweep(self, tensor: str, visited: frozenset[str]) -> int:
        if tensor in self._states:
            return self._states[tensor].sweep
        if tensor in visited or not self._late.is_late(tensor):
            return 0
        reads = (r for e in self._cascade.equations_of(tensor) for r in reads_in(e))
        return max((self._sweep(r.tensor, visited | {tensor}) for r in reads), default=0)

    def latest_sweep(self, reduction: Reduction) -> int:
        """The sweep of the latest context of a reduction."""
        return max((self.sweep(r.tensor) for r in reads_of(reduction.body, reduction.where)), default=0)

    def contexts(self, node: Expression) -> tuple[Read, ...]:
        """The reads of contexts in an expression."""
        return tuple(dict.fromkeys(r for r in reads_of(node) if self._late.is_context(r.tensor)))

    def running_contexts(self, tensor: str, sweep: int) -> frozenset[str]:
        """The contexts of a sweep that a tensor along the rank depends on."""
        return self._running(tensor, sweep, frozenset())

    def _running(self, tensor: str, sweep: int, visited: frozenset[str]) -> frozenset[str]:
        if tensor in visited or not self._late.is_late(tensor):
            return frozenset()
        if self._late.is_context(tensor):
            return frozenset({tensor} if self.sweep(tensor) == sweep else ())
        reads = (r.tensor for e in self._cascade.equations_of(tensor) for r in reads_in(e))
        return frozenset().union(*(self._running(t, sweep, visited | {tensor}) for t in reads))

    def moves(self, node: Expression, sweep: int) -> bool:
        """Whether the expression depends on a context that runs in the sweep."""
        return any(self.running_contexts(r.tensor, sweep) for r in reads_of(node))

    def followable(self, tensor: str) -> bool:
        """Whether a context is a reduction over the rank, or a function of such by single equations."""
        if tensor in self._states or not self._late.is_late(tensor):
            return True
        equation = self._defined.get(tensor)
        if equation is None or any(r.tensor == tensor for r in reads_in(equation)):
            return False
        return all(self.followable(r.tensor) for r in reads_in(equation))

    def opened(self, reduction: Reduction, sweep: int) -> Opened:
        """The body of a reduction with every map replaced that depends on a context of the sweep."""
        opening = _Opening(self, self._defined, sweep, dict.fromkeys(conjuncts(reduction.where)))
        body = opening.visit(reduction.body)
        obstacle = opening.obstacle
        moving = next((c for c in opening.conditions if sweep and self.moves(c, sweep)), None)
        if obstacle is None and moving is not None:
            from einsum_compiler.ir.printer import print_expression

            obstacle = f"the filter {print_expression(moving)} depends on the context"
        return Opened(body, tuple(opening.conditions), obstacle)


@dataclass
class _Opening:
    dependences: Dependences
    defined: Mapping[str, Equation]
    sweep: int
    conditions: dict[Expression, None]
    obstacle: str | None = None

    def visit(self, node: Expression) -> Expression:
        if not isinstance(node, Read) or not self._between(node):
            return map_children(node, self.visit)
        equation = self.defined.get(node.tensor)
        if equation is None or isinstance(equation.value, Reduction):
            what = "is defined by cases" if equation is None else f"is a {equation.value.operator}"  # type: ignore[attr-defined]
            self.obstacle = f"{node.tensor}, between the context and this reduction, {what}"
            return node
        value, where = opened(equation, node)
        self.conditions.update(dict.fromkeys(conjuncts(where)))
        inner = self.visit(value)
        # A type written in the text rounds there; algebra does not look through it.
        return inner if equation.target.dtype is None else Cast(inner, equation.target.dtype)

    def _between(self, read: Read) -> bool:
        """Whether the tensor runs along the rank and hands a context of the sweep on."""
        found = self.dependences.running_contexts(read.tensor, self.sweep) if self.sweep else frozenset()
        return bool(found) and read.tensor not in found
