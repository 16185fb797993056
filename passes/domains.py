"""Where a value exists: the conditions under which an expression is not empty, by the rules of emptiness.

Pointwise functions are strict, reductions have a value everywhere, and a read by an index expression exists inside the extents only.
"""

from __future__ import annotations

from collections.abc import Mapping

from einsum_compiler.ir.build import conjunction, conjuncts
from einsum_compiler.ir.cascade import Cascade, Equation
from einsum_compiler.ir.expression import (
    Binary,
    Call,
    Comparison,
    Conditional,
    Constant,
    Expression,
    Extent,
    Membership,
    Rank,
    Read,
    Reduction,
    Unary,
    children,
)
from einsum_compiler.passes.scope import definitions, ranks_of_tensors, substitute

Conditions = tuple[Expression, ...]


class Domains:
    """The conditions of every tensor and expression of one cascade; ``None`` where no conjunction describes them."""

    def __init__(self, cascade: Cascade) -> None:
        self._equations: Mapping[str, Equation] = definitions(cascade)
        self._inputs = {t.name for t in cascade.inputs}
        self._ranks = ranks_of_tensors(cascade)
        self._filtered = {t.tensor for e in cascade.equations if e.where is not None or e.otherwise for t in e.targets}
        self._known: dict[str, Conditions | None] = {}

    def of_tensor(self, name: str) -> Conditions | None:
        """The conditions of ``name`` over its own ranks."""
        if name not in self._known:
            self._known[name] = None  # a tensor that depends on itself stays unknown while it is looked at
            self._known[name] = self._of_equation(name)
        return self._known[name]

    def _of_equation(self, name: str) -> Conditions | None:
        if name in self._inputs:
            return ()
        equation = self._equations.get(name)
        if equation is None:  # cases or a recurrence: total only if nothing restricts any of them
            return None if name in self._filtered else ()
        inner = self.of(equation.value)
        return None if inner is None else _union(conjuncts(equation.where), inner)

    def is_computed(self, name: str) -> bool:
        """Whether an equation defines the tensor; otherwise it is an input."""
        return name not in self._inputs

    def of(self, node: Expression) -> Conditions | None:
        """The conditions of an expression over the ranks free in it."""
        if isinstance(node, Reduction):
            return ()
        if isinstance(node, Read):
            return self._of_read(node)
        if isinstance(node, Conditional):
            return self._of_branches(node)
        if isinstance(node, Membership):
            return () if all(self.of(child) == () for child in children(node)) else None
        if isinstance(node, Binary) and node.operator in ("and", "or"):
            return self._of_choice(node)
        if isinstance(node, Call) and node.function == "default":
            return () if self.of(node.arguments[1]) == () else None
        return self._all(children(node))

    def _of_choice(self, node: Binary) -> Conditions | None:
        """A side that always has a value decides some points alone; at the others the value is the other side's."""
        sides = ((node.left, node.right), (node.right, node.left))
        total = next(((a, b) for a, b in sides if self.of(a) == ()), None)
        needed = None if total is None else self.of(total[1])
        if total is None or needed is None:
            return None
        alone = total[0] if node.operator == "or" else Unary("not", total[0])
        granted = set(conjuncts(total[0])) if node.operator == "and" else set()
        rest = conjunction(c for c in needed if c not in granted)
        return () if rest is None else (Binary("or", alone, rest),)

    def _of_branches(self, node: Conditional) -> Conditions | None:
        """A branch restricts the points that take it, and no others."""
        condition, then, otherwise = (self.of(part) for part in (node.condition, node.then, node.otherwise))
        if condition is None or then is None or otherwise is None:
            return None
        found = _union(condition, tuple(c for c in then if c in otherwise))
        common = found
        for excused, needed in ((Unary("not", node.condition), then), (node.condition, otherwise)):
            if rest := conjunction(c for c in needed if c not in common):
                found = _union(found, (Binary("or", excused, rest),))
        return found

    def _all(self, nodes: tuple[Expression, ...]) -> Conditions | None:
        found: Conditions = ()
        for node in nodes:
            part = self.of(node)
            if part is None:
                return None
            found = _union(found, part)
        return found

    def _of_read(self, read: Read) -> Conditions | None:
        ranks = self._ranks.get(read.tensor)
        own = self.of_tensor(read.tensor)
        if ranks is None or len(ranks) != len(read.indices) or own is None:
            return None
        found = self._all(tuple(i for i in read.indices if not isinstance(i, Rank)))
        if found is None:
            return None
        recurrent = read.tensor not in self._equations and read.tensor not in self._inputs
        for rank, index in zip(ranks, read.indices, strict=True):
            if isinstance(index, (Rank, Constant)) or (recurrent and index == Binary("+", Rank(rank), Constant(1))):
                continue
            found = _union(found, (Comparison(("<=", "<"), (Constant(0), index, Extent(rank))),))
        at = {r: i for r, i in zip(ranks, read.indices, strict=True) if i != Rank(r)}
        return _union(found, tuple(substitute(c, at) for c in own))


def _union(left: Conditions, right: Conditions) -> Conditions:
    return tuple(dict.fromkeys((*left, *right)))
