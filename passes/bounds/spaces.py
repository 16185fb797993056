"""The iteration spaces of a cascade at given sizes: what each equation reads and writes, at which points, and which of them anybody needs.

Demand flows backwards: a point of an equation counts if its result reaches an output. Conditions that read tensors cannot be counted; what they
leave is taken to be everything that the other conditions leave, and the assumption is recorded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isinf
from typing import Any

import islpy

from einsum_compiler.ir.build import conjunction, conjuncts, ranks_of
from einsum_compiler.ir.cascade import Cascade, Equation
from einsum_compiler.ir.expression import (
    Comparison,
    Conditional,
    Constant,
    Expression,
    Rank,
    Read,
    Reduction,
    Selection,
    Slice,
    Unary,
    children,
)
from einsum_compiler.ir.printer import print_expression
from einsum_compiler.passes.analysis.graph import recurrences
from einsum_compiler.passes.bounds.index_maps import Digits, Projection
from einsum_compiler.passes.bounds.integer_points import IslSet, NotAffine, count, image, index_text, point_set
from einsum_compiler.passes.bounds.point_formulas import count_formula
from einsum_compiler.passes.bounds.symbols import Symbolic, extent
from einsum_compiler.passes.domains import Domains
from einsum_compiler.passes.scope import definitions, free_ranks, opened


@dataclass(frozen=True, slots=True)
class Access:
    """One read or the write of an equation. ``guards``: conditions of branches around it; ``in_filter``: whether it stands in the filter."""

    tensor: str
    indices: tuple[Expression, ...]
    projection: Projection
    guards: tuple[Expression, ...] = ()
    in_filter: bool = False


@dataclass(frozen=True)
class Space:
    """The iteration space of one equation: ``points`` is an isl set over ``ranks``, in order."""

    tensor: str
    ranks: tuple[str, ...]
    reduced: tuple[str, ...]
    reads: tuple[Access, ...]
    write: Access
    conditions: tuple[Expression, ...]
    opaque: tuple[Expression, ...]
    points: IslSet
    demanded: bool  # whether demand took points away
    equation: Equation = field(repr=False)

    @property
    def write_ranks(self) -> tuple[str, ...]:
        """The ranks of what the equation defines."""
        return self.equation.target.ranks


class Spaces:
    """All iteration spaces of a normalized cascade without calls, at concrete sizes.

    ``extents``: of every rank. ``scalars``: the parameters that are no extents.
    """

    def __init__(self, cascade: Cascade, extents: Mapping[str, int], scalars: Mapping[str, Any]) -> None:
        self.cascade, self.extents = cascade, dict(extents)
        self.names: dict[str, Any] = {**scalars, **{r.upper(): n for r, n in extents.items()}}
        self.inputs = {t.name: t for t in cascade.inputs}
        self.outputs = {t.name: t for t in cascade.outputs}
        self.carried = frozenset().union(*recurrences(cascade))
        self._domains = Domains(cascade)
        self._copies = {
            n: e
            for n, e in definitions(cascade).items()
            if isinstance(e.value, Read) and e.where is None and n not in self.outputs
        }
        equations = [e for e in cascade.equations if e.target.tensor not in self._copies]
        found = {e.target.tensor: self._accesses(e) for e in equations}
        indices = [i for reads in found.values() for r, _, _ in reads for i in r.indices]
        self.digits = Digits(indices, self.extents, self.names)
        self._axes = self._axis_extents()
        self._demand: dict[str, IslSet | None] = {}
        self.finite: dict[str, None] = {}  # values that filters ask to be finite
        self.spaces = self._build(equations, found)
        self.by_tensor = {s.tensor: s for s in self.spaces}
        self._counts: dict[Any, int | None] = {}

    # -- what an equation reads

    def _accesses(self, equation: Equation) -> list[tuple[Read, tuple[Expression, ...], bool]]:
        value = equation.value
        found: list[tuple[Read, tuple[Expression, ...], bool]] = []
        if isinstance(value, (Reduction, Selection)):
            _collect(value.body, (), False, found)
            _collect(value.where, (), True, found)
        else:
            _collect(value, (), False, found)
        _collect(equation.where, (), True, found)
        resolved = []
        for read, guards, in_filter in found:
            while read.tensor in self._copies:  # a copy is the tensor it copies
                inner, _ = opened(self._copies[read.tensor], read)
                assert isinstance(inner, Read)
                read = inner
            resolved.append((read, guards, in_filter))
        return resolved

    def _axis_extents(self) -> dict[str, tuple[int, ...]]:
        axes = {t.name: tuple(self.extents[r] for r in t.ranks) for t in self.cascade.inputs}
        more: dict[str, set[int]] = {}  # the axes of carried tensors, which have one position more
        for t in (t for e in self.cascade.equations for t in e.targets):
            more.setdefault(t.tensor, set()).update(k for k, i in enumerate(t.indices) if not isinstance(i, Rank))
        for t in (t for e in self.cascade.equations for t in e.targets):
            if len(t.ranks) == len(t.indices):
                axes[t.tensor] = tuple(self.extents[r] + (k in more[t.tensor]) for k, r in enumerate(t.ranks))
        return axes

    def axes(self, tensor: str) -> tuple[int, ...]:
        """The extents of a tensor's axes."""
        return self._axes.get(tensor, ())

    # -- points

    def _build(self, equations: Sequence[Equation], reads: Mapping[str, Any]) -> tuple[Space, ...]:
        made: list[Space] = []
        for tensor in (*self.outputs, *self.carried):
            self._demand[tensor] = None
        for equation in reversed(equations):
            space = self._space(equation, reads[equation.target.tensor])
            if space is None:
                continue
            made.append(space)
            for read in space.reads:
                if read.tensor not in self.inputs:
                    self._require(space, read)
        return tuple(reversed(made))

    def _space(self, equation: Equation, reads: Any) -> Space | None:
        target, value = equation.target, equation.value
        if target.tensor not in self._demand:
            return None
        reduced = value.ranks if isinstance(value, (Reduction, Selection)) else ()
        ranks = tuple(dict.fromkeys((*target.ranks, *reduced)))
        if isinstance(value, Selection):  # the new rank of a selection is where results stand, not what is looked at
            ranks = tuple(r for r in ranks if r in reduced or r in free_ranks(value.body, value.where))
        inner = (value.where, value.body) if isinstance(value, (Reduction, Selection)) else (None, value)
        strict = self._domains.of(inner[1]) or ()
        conditions = self._binding(ranks, conjuncts(conjunction((equation.where, inner[0], *strict))))
        points, opaque = point_set(ranks, self.extents, conditions, self.names)
        demand, demanded = self._demand[target.tensor], False
        if demand is not None and len(target.ranks) == len(target.indices):
            texts = self._texts(target.indices, ranks)
            if texts is not None:
                before = points
                inside = ", ".join(f"i{k}" for k in range(len(ranks)))
                points = points.intersect(
                    demand.apply(islpy.Map(f"{{ [{inside}] -> [{', '.join(texts)}] }}").reverse())
                )
                demanded = not before.is_subset(points)
        accesses = tuple(Access(r.tensor, r.indices, self.digits.projection(r.indices), g, f) for r, g, f in reads)
        write = Access(target.tensor, target.indices, self.digits.projection(target.indices))
        kept = tuple(c for c in conditions if c not in opaque)
        return Space(target.tensor, ranks, tuple(reduced), accesses, write, kept, opaque, points, demanded, equation)

    def _binding(self, ranks: Sequence[str], conditions: Sequence[Expression]) -> tuple[Expression, ...]:
        """The conditions without those that hold at every point of the box (``h // 4 < G``) or wherever values are finite (``S > -inf``)."""
        kept = []
        for condition in conditions:
            if finite := _finite(condition):
                self.finite[print_expression(finite)] = None
                continue
            own = [r for r in ranks_of(condition) if r in ranks]
            box, _ = point_set(own, self.extents, (), self.names)
            allowed, opaque = point_set(own, self.extents, (condition,), self.names)
            if opaque or not box.is_subset(allowed):
                kept.append(condition)
        return tuple(kept)

    def _texts(self, indices: Sequence[Expression], ranks: Sequence[str]) -> list[str] | None:
        named = {r: f"i{k}" for k, r in enumerate(ranks)}
        try:
            return [index_text(i, named, self.names) for i in indices]
        except (NotAffine, KeyError):
            return None

    def _require(self, space: Space, read: Access) -> None:
        """Note what a read demands of a computed tensor: all of it where that cannot be said exactly."""
        demanded = None if read.tensor in self.carried else self.elements(space, read)
        if read.tensor in self._demand:
            known = self._demand[read.tensor]
            self._demand[read.tensor] = None if known is None or demanded is None else known.union(demanded).coalesce()
        else:
            self._demand[read.tensor] = demanded

    def elements(self, space: Space, read: Access) -> IslSet | None:
        """The elements of a tensor that one access touches; None where an index depends on values or is not affine."""
        axes = self.axes(read.tensor)
        if any(isinstance(i, Slice) for i in read.indices) or len(axes) != len(read.indices):
            return None
        texts = self._texts(read.indices, space.ranks)
        if texts is None:
            return None
        points = space.points
        if read.guards:
            guarded, _ = point_set(space.ranks, self.extents, read.guards, self.names)
            points = points.intersect(guarded)
        inside = " and ".join(f"0 <= j{k} < {n}" for k, n in enumerate(axes)) or "true"
        box = islpy.Set(f"{{ [{', '.join(f'j{k}' for k in range(len(axes)))}] : {inside} }}")
        return image(points, space.ranks, texts).intersect(box)

    # -- counts

    def count_points(self, space: Space, ranks: Sequence[str] | None = None) -> int | None:
        """The points of a space, or of its projection on some of its ranks."""
        kept = space.ranks if ranks is None else tuple(r for r in space.ranks if r in ranks)
        key = (space.tensor, kept)
        if key not in self._counts:
            points = space.points
            for position in reversed(range(len(space.ranks))):
                if space.ranks[position] not in kept:
                    points = points.project_out(islpy.dim_type.set, position, 1)
            self._counts[key] = count(points)
        return self._counts[key]

    def points_formula(self, space: Space, ranks: Sequence[str] | None = None) -> Symbolic:
        """The number of points as a formula, or as a number where no formula is known."""
        import sympy

        kept = space.ranks if ranks is None else tuple(r for r in space.ranks if r in ranks)
        number = self.count_points(space, kept)
        if number is None:
            return None
        coupled = any(set(ranks_of(c)) - set(kept) for c in space.conditions)
        formula = None
        if not coupled and not space.demanded:
            lengths = {r: extent(r) for r in kept}
            formula = count_formula(kept, self.extents, space.conditions, self.names, lengths)
        return formula if formula is not None and self.value(formula) == number else sympy.Integer(number)

    def value(self, formula: Symbolic, capacity: float | None = None) -> float:
        """A formula at the sizes."""
        known = {**self.names, "S_s": self.names.get("S", 0), **({} if capacity is None else {"S": capacity})}
        values = {
            s: known[s.name] if s.name in known else known[s.name.replace("_", ".")] for s in formula.free_symbols
        }
        return float(formula.subs(values))


def _finite(condition: Expression) -> Expression | None:
    """The value that a comparison with an infinity asks to be finite: ``x`` of ``x > -inf``."""
    if not isinstance(condition, Comparison) or len(condition.operators) != 1:
        return None
    left, right = condition.operands
    operator = condition.operators[0]
    if _infinity(left):
        left, right, operator = right, left, {"<": ">", ">": "<"}.get(operator, operator)
    sign = _infinity(right)
    return left if sign and operator in ("!=", ">" if sign < 0 else "<") else None


def _infinity(node: Expression) -> int:
    """1 and -1 for the infinities, else 0."""
    if isinstance(node, Unary) and node.operator == "-":
        return -_infinity(node.operand)
    if isinstance(node, Constant) and isinstance(node.value, float) and isinf(node.value):
        return 1 if node.value > 0 else -1
    return 0


def _collect(
    node: Expression | None,
    guards: tuple[Expression, ...],
    in_filter: bool,
    found: list[tuple[Read, tuple[Expression, ...], bool]],
) -> None:
    """Every read below a node, with the conditions under which it happens."""
    if node is None:
        return
    if isinstance(node, Read):
        found.append((node, guards, in_filter))
    if isinstance(node, Conditional):
        _collect(node.condition, guards, in_filter, found)
        _collect(node.then, (*guards, node.condition), in_filter, found)
        _collect(node.otherwise, (*guards, Unary("not", node.condition)), in_filter, found)
        return
    for child in children(node):
        _collect(child, guards, in_filter, found)
