"""Expressions of the cascade as expressions over tiles, with the filter under which they have a value.

Domains are kept in the coordinates of the cascade (``n <= m``), as sets of conjuncts, so that sets can be compared and given to
the analysis of index sets; ``Translator.place`` rewrites them in the coordinates of a tile when code needs them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from einsum_compiler.ir.build import add, conjunction, conjuncts, disjunction, multiply
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
        self.stream = tiling.plan.stream.rank if tiling.plan.stream else None

    def prepare(self, node: Expression) -> Expression:
        """The expression with ``n.1*N.0 + n.0`` as ``n`` again, known extents as constants, and all folded."""
        if self.stream:
            outer, inner = f"{self.stream}.1", f"{self.stream}.0"
            split = add(multiply(Rank(outer), Extent(inner)), Rank(inner))
            node = transform(node, lambda n: Rank(self.stream or "") if n == split else n)
        return substitute(node, self.tiling.extents, self.parameters)

    def coordinate(self, rank: str) -> Expression:
        if rank == self.stream:
            found = self.tiling.stream_coordinate
            assert found is not None
            return found
        return self.tiling.coordinate(rank)

    # -- values -----------------------------------------------------------------------------------------------------------

    def value(self, node: Expression) -> tuple[Expression, Domain]:
        """The prepared expression over tiles, and the domain that its strict operands leave it."""
        match node:
            case Rank(name=name):
                return self.coordinate(name), EVERYWHERE
            case Read():
                return self._read(node)
            case Call(function="default", arguments=(inner, fallback)):
                value, domain = self.value(inner)
                other, outer = self.value(fallback)
                if not domain:
                    return value, outer
                return Conditional(self.place(conjunction(domain)), value, other), outer
            case Conditional():
                return self._conditional(node)
            case Membership():
                return self.member(node), self.value(node.item)[1]
            case Selection() | CascadeCall() | Reduction():
                raise PlanError(f"no tile code for {type(node).__name__.lower()} here", node.span)
        restricting: set[Expression] = set()

        def child(operand: Expression) -> Expression:
            value, its_domain = self.value(operand)
            restricting.update(its_domain)
            return value

        return self._divided(map_children(node, child)), frozenset(restricting)

    def _conditional(self, node: Conditional) -> tuple[Expression, Domain]:
        condition, domain = self.value(node.condition)
        then, then_domain = self.value(node.then)
        otherwise, otherwise_domain = self.value(node.otherwise)
        if then_domain == otherwise_domain:
            domain |= then_domain
        else:  # a branch restricts the points that take it, and no others
            taken = conjunction([node.condition, *then_domain]) or Constant(True)
            untaken = conjunction([Unary("not", node.condition), *otherwise_domain]) or Constant(True)
            domain |= {disjunction([taken, untaken])}
        return Conditional(condition, then, otherwise), domain

    def _read(self, node: Read) -> tuple[Expression, Domain]:
        computed = self.tile_of(node)
        if computed is not None:
            return computed
        checks = self.checks(node)
        inner: set[Expression] = set(checks)
        for index in node.indices:  # an index that is itself empty makes the read empty
            inner |= self.value(index)[1]
        return self.load(node, frozenset(inner)), frozenset(inner)

    def checks(self, read: Read) -> tuple[Expression, ...]:
        """What keeps the index expressions of a read of an input inside its extents, where that is not known."""
        declared = self.inputs[read.tensor].ranks
        known = {**{r: n for r, n in self.tiling.extents.items()}, **self.tiling.known_ranks}
        found: list[Expression] = []
        for index, rank in zip(read.indices, declared, strict=True):
            if isinstance(index, (Rank, Slice)):
                continue  # a bare rank has the extent of the axis it reads: the binding checks it
            extent = self.tiling.extent(rank)
            interval = bounds(index, known)
            if _is_clamped(index, extent) or (isinstance(index, Binary) and index.operator == "%" and index.right == extent):
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
        return frozenset(found)

    def _certain(self, node: Expression, positive: bool) -> Expression:
        """A predicate that holds where ``node`` is certainly true (or certainly false, if not ``positive``)."""
        match node:
            case Unary(operator="not", operand=inner):
                return self._certain(inner, not positive)
            case Binary(operator="and" | "or" as op, left=left, right=right):
                flipped = op if positive else {"and": "or", "or": "and"}[op]
                return Binary(flipped, self._certain(left, positive), self._certain(right, positive))
            case Comparison(operators=operators, operands=operands) if len(operators) > 1:
                links = [
                    Comparison((op,), (a, b)) for op, a, b in zip(operators, operands, operands[1:], strict=False)
                ]
                joined = conjunction(links)
                assert joined is not None
                return self._certain(joined, positive)
        checks = [c for read in _outer_reads(node) for c in self._existence(read)]
        plain = node if positive else Unary("not", node)
        if not positive and isinstance(node, Constant):
            plain = Constant(not node.value)
        return conjunction([*checks, plain]) or Constant(True)

    def _existence(self, read: Read) -> Domain:
        """Where a read has a value: inside the extents of an input, in the domain of a computed tensor."""
        computed = self.tile_of(read)
        return frozenset(self.checks(read)) if computed is None else computed[1]

    def place(self, predicate: Expression | None) -> Expression:
        """A domain's predicate over tiles; reads in it are known to be in range where they count."""
        if predicate is None:
            return Constant(True)
        match predicate:
            case Rank(name=name):
                return self.coordinate(name)
            case Read():
                computed = self.tile_of(predicate)
                return computed[0] if computed else self.load(predicate, frozenset(self.checks(predicate)))
            case Membership():
                return self.member(predicate)
        return self._divided(map_children(predicate, self.place))

    def _divided(self, node: Expression) -> Expression:
        return divide_tile(node, self.tiling.axis_sizes) if isinstance(node, Binary) and node.operator in ("//", "%") else node


def _is_clamped(index: Expression, extent: Expression) -> bool:
    if not (isinstance(index, Call) and index.function == "clamp" and index.arguments[1] == Constant(0)):
        return False
    last = index.arguments[2]
    if isinstance(extent, Constant) and isinstance(last, Constant):
        return bool(last.value < extent.value)
    return last == Binary("-", extent, Constant(1))


def _outer_reads(node: Expression) -> list[Read]:
    """The reads whose emptiness is that of the node: an entry that a membership does not find is no member."""
    if isinstance(node, Membership):
        return _outer_reads(node.item)
    found = [node] if isinstance(node, Read) else []
    return [*found, *(read for child in children(node) for read in _outer_reads(child))]
