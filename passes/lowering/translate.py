"""Expressions of the cascade as expressions over tiles, with the filter under which they have a value.

Domains are kept in the coordinates of the cascade (``n <= m``), as sets of conjuncts, so that sets can be compared and given to
the analysis of index sets; ``Translator.place`` rewrites them in the coordinates of a tile when code needs them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from einsum_compiler.ir.build import TRUE, add, conjunction, conjuncts, disjunction, multiply, reads_of
from einsum_compiler.ir.cascade import Cascade
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.expression import (
    Binary,
    Call,
    CascadeCall,
    Comparison,
    Conditional,
    Constant,
    Expression,
    Extent,
    Membership,
    Rank,
    Read,
    Reduction,
    Selection,
    Slice,
    Unary,
    children,
    map_children,
    transform,
)
from einsum_compiler.ir.fold import bounds, divide_tile, is_nonnegative, substitute
from einsum_compiler.passes.lowering.tiling import Tiling

Domain = frozenset[Expression]
EVERYWHERE: Domain = frozenset()


class Translator:
    """Rewrites expressions of one kernel's cascade; ``tile_of`` gives the tile of a computed tensor, ``load`` that of an input, ``member`` that of ``in``."""

    def __init__(
        self,
        cascade: Cascade,
        tiling: Tiling,
        parameters: Mapping[str, int | bool],
        tile_of: Callable[[Read], tuple[Expression, Domain] | None],
        load: Callable[[Read, Domain], Expression],
        member: Callable[[Membership], Expression],
    ) -> None:
        self.tiling = tiling
        self.parameters = parameters
        self.tile_of = tile_of
        self.load = load
        self.member = member
        self.inputs = {t.name: t for t in cascade.inputs}
        self.streams = tuple(s.rank for s in tiling.plan.streams)
        self._split = {add(multiply(Rank(f"{r}.1"), Extent(f"{r}.0")), Rank(f"{r}.0")): Rank(r) for r in self.streams}
        reads = (n for e in cascade.equations for n in reads_of(e.value, e.where))
        self._bare = {(r.tensor, i, self._joined(index)) for r in reads for i, index in enumerate(r.indices)}

    def prepare(self, node: Expression) -> Expression:
        """The expression with ``n.1*N.0 + n.0`` as ``n`` again, known extents as constants, and all folded."""
        return substitute(self._joined(node), self.tiling.extents, self.parameters)

    def _joined(self, node: Expression) -> Expression:
        return transform(node, lambda n: self._split.get(n, n)) if self._split else node

    # -- values -----------------------------------------------------------------------------------------------------------

    def value(self, node: Expression) -> tuple[Expression, Domain]:
        """The prepared expression over tiles, and the domain that its strict operands leave it."""
        return self.place(node), self.existence(node)

    def existence(self, node: Expression) -> Domain:
        """Where a prepared expression has a value: functions are strict, ``default`` and the branch not taken are not."""
        match node:
            case Read():
                computed = self.tile_of(node)
                if computed is not None:
                    return computed[1]
                return frozenset(self.checks(node)).union(*map(self.existence, node.indices))
            case Call(function="default", arguments=(_, fallback)):
                return self.existence(fallback)
            case Membership(item=item):  # an entry that is not found is no member
                return self.existence(item)
            case Conditional(condition=condition):
                domain = self.existence(condition)
                then, otherwise = self.existence(node.then), self.existence(node.otherwise)
                if then == otherwise:
                    return domain | then
                # A branch restricts the points that take it, and no others; what the condition needs holds at all of them.
                common = domain | (then & otherwise)
                if then - common:
                    domain |= {_implied(Unary("not", condition), then - common)}
                if otherwise - common:
                    domain |= {_implied(condition, otherwise - common)}
                return domain | common
        strict = EVERYWHERE.union(*map(self.existence, children(node)))
        decides_early = isinstance(node, Binary) and node.operator in ("and", "or")
        if strict and (decides_early or (isinstance(node, Comparison) and len(node.operators) > 1)):
            return frozenset({disjunction([self._certain(node, True), self._certain(node, False)])})
        return strict

    def checks(self, read: Read) -> tuple[Expression, ...]:
        """What keeps the index expressions of a read of an input inside its extents, where that is not known."""
        declared = self.inputs[read.tensor].ranks
        known = {**{r: n for r, n in self.tiling.extents.items()}, **self.tiling.known_ranks}
        found: list[Expression] = []
        for axis, (index, rank) in enumerate(zip(read.indices, declared, strict=True)):
            extent = self.tiling.extent(rank)
            # A bare rank has the extent of the axis it reads: the binding checks it. ``n // T`` with T = 1 was not written bare.
            if isinstance(index, Slice) or (isinstance(index, Rank) and (read.tensor, axis, index) in self._bare):
                continue
            interval = bounds(index, known)
            if _is_clamped(index, extent) or (
                isinstance(index, Binary) and index.operator == "%" and index.right == extent
            ):
                continue
            if (interval is None or interval[0] < 0) and not is_nonnegative(index):
                found.append(Comparison(("<=",), (Constant(0), index)))
            if interval is None or not isinstance(extent, Constant) or interval[1] >= extent.value:
                found.append(Comparison(("<",), (index, extent)))
        return tuple(found)

    # -- predicates -------------------------------------------------------------------------------------------------------

    def domain(self, predicate: Expression | None) -> Domain:
        """The conjuncts of a prepared filter, each true only where it is certainly true (three-valued logic)."""
        found: set[Expression] = set()
        for part in conjuncts(predicate):
            found.update(conjuncts(self._certain(part, True)))
        return frozenset(c for c in found if not self._always(c))

    def _always(self, conjunct: Expression) -> bool:
        """Whether a conjunct holds at every point: ``a < 15`` by the bounds of ``a``, and ``n < N`` where N is a number of whole boxes."""
        match conjunct:
            case Comparison(operators=("<",), operands=(value, Constant(value=int() as limit))):
                interval = bounds(value, self.tiling.held_ranks)
                return interval is not None and interval[1] < limit
            case Comparison(operators=("<=",), operands=(Constant(value=int() as limit), value)):
                interval = bounds(value, self.tiling.held_ranks)
                return interval is not None and limit <= interval[0]
            case Comparison(operators=("<",), operands=(Rank(name=rank), Extent(rank=other))):
                return rank == other and self.tiling.is_boxed(rank)
        return False

    def _certain(self, node: Expression, positive: bool) -> Expression:
        """A predicate that holds where ``node`` is certainly true (or certainly false, if not ``positive``)."""
        match node:
            case Unary(operator="not", operand=inner):
                return self._certain(inner, not positive)
            case Binary(operator="and" | "or" as op, left=left, right=right):
                flipped = op if positive else {"and": "or", "or": "and"}[op]
                return Binary(flipped, self._certain(left, positive), self._certain(right, positive))
            case Comparison(operators=operators, operands=operands) if len(operators) > 1:
                links = [Comparison((op,), (a, b)) for op, a, b in zip(operators, operands, operands[1:], strict=False)]
                joined = conjunction(links)
                assert joined is not None
                return self._certain(joined, positive)
            case Call(function="default", arguments=(inner, Constant(value=False))):
                certain = self._certain(inner, True)
                return certain if positive else Unary("not", certain)
            case Constant(value=value):
                return Constant(bool(value) == positive)
        plain = node if positive else Unary("not", node)
        return conjunction([*sorted(self.existence(node), key=str), plain]) or TRUE

    # -- code ---------------------------------------------------------------------------------------------------------------

    def place(self, node: Expression | None) -> Expression:
        """A prepared expression over tiles, or the predicate of a domain; a read is in range where its value counts."""
        match node:
            case None:
                return TRUE
            case Rank(name=name):
                return self.tiling.coordinate(name)
            case Read():
                computed = self.tile_of(node)
                return computed[0] if computed else self.load(node, self.existence(node))
            case Membership():
                return self.member(node)
            case Call(function="default", arguments=(inner, fallback)):
                domain = self.existence(inner)
                value = self.place(inner)
                if not domain:
                    return value
                return Conditional(self.place(conjunction(sorted(domain, key=str))), value, self.place(fallback))
            case Selection() | CascadeCall() | Reduction():
                raise PlanError(f"no tile code for {type(node).__name__.lower()} here", node.span)
        return self._divided(map_children(node, self.place))

    def _divided(self, node: Expression) -> Expression:
        return (
            divide_tile(node, self.tiling.axis_sizes)
            if isinstance(node, Binary) and node.operator in ("//", "%")
            else node
        )


def absorbed(domain: Domain) -> Domain:
    """The domain without what the rest of it implies: ``(p or q) and q`` is ``q``."""
    return frozenset(c for c in domain if not any(set(conjuncts(d)) <= domain for d in _disjuncts(c)[1:]))


def _disjuncts(node: Expression) -> tuple[Expression, ...]:
    """The node, and if it is a disjunction also what it joins."""
    if isinstance(node, Binary) and node.operator == "or":
        return (node, *_disjuncts(node.left), *_disjuncts(node.right))
    return (node,)


def _implied(excused: Expression, needed: Domain) -> Expression:
    """What holds where ``excused`` does or all that is needed."""
    return disjunction([excused, conjunction(sorted(needed, key=str)) or TRUE])


def _is_clamped(index: Expression, extent: Expression) -> bool:
    if not (isinstance(index, Call) and index.function == "clamp" and index.arguments[1] == Constant(0)):
        return False
    last = index.arguments[2]
    if isinstance(extent, Constant) and isinstance(last, Constant):
        return bool(last.value < extent.value)
    return last == Binary("-", extent, Constant(1))
