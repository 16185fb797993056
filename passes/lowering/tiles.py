"""Writing statements over tiles: maps, products and reductions."""

from __future__ import annotations

from dataclasses import replace
from math import inf

from einsum_compiler.ir.build import add, less, multiply, ranks_of
from einsum_compiler.ir.cascade import Equation
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.expression import (
    Binary,
    Cast,
    Comparison,
    Conditional,
    Constant,
    Expression,
    Rank,
    Read,
    Reduction,
    walk,
)
from einsum_compiler.ir.operators import REDUCTIONS
from einsum_compiler.ir.tile import Axis, Dot, Map, Reduce, TileType
from einsum_compiler.ir.types import PRECISION, is_float
from einsum_compiler.passes.lowering.contraction import Product, as_product
from einsum_compiler.passes.lowering.filters import Filters
from einsum_compiler.passes.lowering.tile_facts import TileFacts
from einsum_compiler.passes.lowering.translate import EVERYWHERE, Domain, absorbed
from einsum_compiler.passes.lowering.unbounded import separated


class TileWriter(Filters):
    """Appends the statements of equations to ``scope``."""

    def filter(self, where: Expression | None) -> Domain:
        """The conjuncts of a filter of the cascade."""
        return EVERYWHERE if where is None else self.translator.domain(self.translator.prepare(where))

    def map(self, name: str, equation: Equation) -> None:
        """A map equation; a bare read of a tile is that tile."""
        translator = self.translator
        self.assumed = self.filter(equation.where)
        value, domain = translator.value(translator.prepare(equation.value))
        domain |= self.assumed
        self.assumed = EVERYWHERE
        value = self._without_filled(self._with_typed_limits(value))
        if equation.target.dtype is not None:
            value = Cast(value, equation.target.dtype)
        written = self.tiling.axes(equation.target.ranks)
        kept = name.endswith(".next") or equation.target.tensor.removesuffix(".tile") in self.outputs
        axes = self._ordered(self.axes_of(value), written if kept else self._order_of(value, written))
        ranks = tuple(r for r in equation.target.ranks if r not in self.tiling.loops)
        inside = self.scope.loop is not None
        if isinstance(value, Read) and not name.endswith(".next"):
            facts = self.facts[value.tensor]
            self.facts[name] = replace(facts, ranks=ranks, domain=domain)
            self.scope.current[name] = value.tensor
            return
        type = TileType(self.dtype_of(value), axes)
        self.scope.statements.append(Map(name, type, value))
        fill, finite, empty = self._fill_of(value, domain), self.stays_finite(value), self.empty_of(value)
        lost = self.lost_rows(value, domain)
        self.facts[name] = TileFacts(
            type, ranks, domain, fill, inside=inside, finite=finite, lost=lost, empty=empty, value=value
        )

    def reduction(self, name: str, equation: Equation, reduction: Reduction, accumulator: Expression | None) -> None:
        """A reduction equation, as a product of tiles where it is one; ``accumulator`` is combined with the result."""
        translator, tiling = self.translator, self.tiling
        accumulated = [r for r in reduction.ranks if tiling.is_program(r)]
        if not tiling.plan.ordered.issuperset(accumulated):
            lost = next(r for r in accumulated if r not in tiling.plan.ordered)
            raise PlanError(f"rank '{lost}' is reduced in a kernel that spreads it over programs", equation.span)
        if boxed := [r for r in accumulated if r in tiling.plan.rows]:
            raise PlanError(f"rank '{boxed[0]}' is accumulated over, and cannot share an axis in a box", equation.span)
        streamed = any(f"{r}.0" in reduction.ranks for r in self.streamed)
        self.assumed = self.filter(reduction.where)
        if streamed or accumulated:
            # The share of one program: its own coordinates. All sums of a tile say so, for then whole tiles need no test of it.
            shared = tiling.plan.ordered & {*ranks_of(reduction.body)}
            self.assumed |= {less(Rank(r), tiling.extent(r)) for r in shared if tiling.axis(r) is not None}
        body, domain = translator.value(translator.prepare(reduction.body))
        body = self._without_filled(body)
        domain = absorbed(domain | self.assumed)
        self.assumed = EVERYWHERE
        over = tiling.axes(reduction.ranks)
        if streamed or (accumulated and self.streamed):
            self.scope.reduced.append(domain)
        carried = None if accumulator is None else translator.value(translator.prepare(accumulator))[0]
        target = tiling.axes(equation.target.ranks)
        over_axes = frozenset(a.rank for a in over)
        product = None
        if over and reduction.operator == "sum" and self.kind(body) == "real":
            sizes = tiling.axis_sizes
            product = as_product(body, over_axes, self.axes_of, lambda r: sizes[r])
        own_domain = self.filter(equation.where)
        lost_rows = self.lost_rows(body, own_domain) & own_domain
        ranks = tuple(r for r in equation.target.ranks if r not in tiling.loops)
        if not over and carried is None:
            value = self._neutral(reduction.operator, body, domain, ())
            type = TileType(self.dtype_of(value), self._ordered(self.axes_of(value), target))
            self.scope.statements.append(Map(name, type, value))
            finite = self.stays_finite(value)
        elif product and product.right:
            type, finite = self._dot(name, product, domain, own_domain, over, target, carried)
        else:
            body = self._neutral(reduction.operator, body, domain, over)
            axes = self._ordered(self.axes_of(body) - over_axes, target)
            if carried is not None:
                axes = self._ordered(frozenset(a.rank for a in axes) | self.axes_of(carried), target)
            type = TileType({"real": self.real, "int": "i64", "bool": "bool"}[self.kind(body)], axes)
            self.scope.statements.append(Reduce(name, type, reduction.operator, over, body, carried))
            finite = self.stays_finite(body)
        # A tile is visited for its first coordinate at least.
        holds_some = set(reduction.ranks) == {f"{r}.0" for r in self.streamed} and domain <= self.stream_bounds(
            self.streamed
        )
        empty = None if holds_some and not self.may_be_infinite else {"max": -inf, "min": inf}.get(reduction.operator)
        inside = self.scope.loop is not None
        self.facts[name] = TileFacts(type, ranks, own_domain, inside=inside, finite=finite, lost=lost_rows, empty=empty)
        if equation.target.dtype is not None and not name.endswith(".next"):
            rounded = self._temporary(f"{name}.rounded", Cast(Read(self.scope.named(name)), equation.target.dtype))
            self.scope.current[name] = rounded

    def _dot(
        self,
        name: str,
        product: Product,
        domain: Domain,
        own: Domain,
        over: tuple[Axis, ...],
        target: tuple[Axis, ...],
        carried: Expression | None,
    ) -> tuple[TileType, bool]:
        """The type of the product, and whether it is finite wherever its inputs are. Where ``own`` fails the result may be anything."""
        assert product.right is not None
        left = self._temporary(f"{name}.left", product.left.value, first=self._order_of(product.left.value, target))
        right = self._temporary(f"{name}.right", product.right.value, first=self._order_of(product.right.value, target))
        left, right = self._unbounded_moved(left, right, domain)
        right, left = self._unbounded_moved(right, left, domain)
        left, right = self._same_dtype(left, right)
        scaled, guarded = self._beyond(product.scale, domain - own, over)
        apart = self._apart(domain, over, left, right) - scaled
        domain = domain - apart - scaled
        if domain:
            filled = self._neutral("sum", multiply(Read(left), Read(right)), domain, over, product=True)
            assert isinstance(filled, Binary) and isinstance(filled.left, Read) and isinstance(filled.right, Read)
            left, right = filled.left.tensor, filled.right.tensor
            left, right = self._unseen(left, right, domain), self._unseen(right, left, domain)
        axes = (set(self.facts[left].type.ranks) | set(self.facts[right].type.ranks)) - {a.rank for a in over}
        type = TileType(self.real, self._ordered(frozenset(axes), target))
        finite = self.facts[left].finite and self.facts[right].finite
        names = tuple(a.rank for a in over)
        if product.scale is None and not apart:
            self.scope.statements.append(Dot(name, type, left, right, names, carried))
            return type, finite
        inner = self._name(f"{name}.sum")
        self.scope.statements.append(Dot(inner, type, left, right, names))
        self.facts[inner] = TileFacts(type, inside=self.scope.loop is not None, finite=finite)
        summed = Read(self._select(inner, apart, 0.0) if apart else inner)
        value: Expression = summed if product.scale is None else multiply(summed, product.scale)
        if guarded:
            value = Conditional(Comparison(("==",), (summed, Constant(0))), Constant(0), value)
        if scaled:
            value = Read(self._select(self._temporary(f"{name}.scaled", value, first=target), scaled, 0.0))
        if scaled and isinstance(value, Read) and carried is None and not name.endswith(".next"):
            self.scope.current[name] = value.tensor
            return self.facts[value.tensor].type, self.stays_finite(value)
        value = value if carried is None else add(carried, value)
        type = TileType(self.real, self._ordered(self.axes_of(value), target))
        self.scope.statements.append(Map(name, type, value))
        return type, self.stays_finite(value)

    def _order_of(self, value: Expression, otherwise: tuple[Axis, ...]) -> tuple[Axis, ...]:
        """The order of axes in which a map reads tiles of all of them, so that lanes run along what lies together."""
        axes = self.axes_of(value)
        types = (self.facts[n.tensor].type for n in walk(value) if isinstance(n, Read))
        found = [t.axes for t in types if {*t.ranks} == axes]
        return otherwise if not found or self._ordered(axes, otherwise) in found else found[0]

    def _unbounded_moved(self, operand: str, other: str, domain: Domain) -> tuple[str, str]:
        """Both operands of a product, with factors of the first that may be infinite multiplied into the second.

        ``a[m,f] / d[m] * s[m,n]`` under a filter of m and n: the quotient may be infinite at a point that the filter removes, so zeros in s do
        not remove it, and a test of it would have all three axes. ``a * (s / d)`` is filled with 0 at (m, n).
        """
        facts, room = self.facts[operand], frozenset(self.facts[other].type.ranks)
        own = frozenset(facts.type.ranks)
        tested_by_other = {
            c
            for c in domain - facts.finite_at
            if not (axes := self.domain_axes(frozenset({c}))) <= own and axes <= room
        }
        if facts.finite or facts.value is None or not tested_by_other:
            return operand, other
        found = separated(facts.value, self.stays_finite, lambda node: self.axes_of(node) <= room)
        if found is None or self.axes_of(found.bounded) != own:
            return operand, other
        narrow = self.facts[other].type.dtype
        value = found.applied(Read(other))
        value = Cast(value, narrow) if is_float(narrow) and narrow != self.dtype_of(value) else value
        return self._temporary(f"{operand}.bounded", found.bounded), self._temporary(f"{other}.scaled", value)

    def _apart(self, domain: Domain, over: tuple[Axis, ...], left: str, right: str) -> Domain:
        """The conjuncts without a summed axis that have axes of both operands. A sum is 0 where they fail, whatever it sums: they are tested once for every sum.

        Those with axes of one operand only fill that operand, which is less.
        """
        summed = frozenset(a.rank for a in over)
        own = [frozenset(self.facts[n].type.ranks) for n in (left, right)]
        about = {c: self.domain_axes(frozenset({c})) for c in domain}
        return frozenset(c for c, axes in about.items() if not axes & summed and not any(axes <= o for o in own))

    def _beyond(self, scale: Expression | None, domain: Domain, over: tuple[Axis, ...]) -> tuple[Domain, bool]:
        """What of a sum's filter must be said after its scale, which may be infinite where the filter removed all points: 0 times it is no 0.

        The conjuncts without a summed axis after which the sum is filled; and whether others may leave it without points, for then a sum
        of 0 stays 0 whatever the scale (``defer`` has the same guard).
        """
        if scale is None:
            return EVERYWHERE, False
        summed = frozenset(a.rank for a in over)
        open = frozenset(c for c in domain if not self.is_finite_beyond(scale, c))
        filled = frozenset(c for c in open if not self.domain_axes(frozenset({c})) & summed)
        return filled, bool(open - filled - self.stream_bounds(self.translator.streams))

    def _same_dtype(self, left: str, right: str) -> tuple[str, str]:
        """Both operands of a product in one floating type: the more precise of the two."""
        types = [self.facts[n].type.dtype for n in (left, right)]
        floats = [t if is_float(t) else self.real for t in types]
        wide = max(floats, key=lambda t: PRECISION[t]) if floats[0] != floats[1] else floats[0]
        if {"f16", "bf16"} == set(floats):
            wide = self.real

        def widened(name: str) -> str:
            type = self.facts[name].type
            return (
                name
                if type.dtype == wide
                else self._temporary(f"{name}.{wide}", Cast(Read(name), wide), first=type.axes)
            )

        return widened(left), widened(right)

    def accumulation(self, value: Expression, operator: str, local: str) -> Expression | None:
        """What is left of ``rest combine local`` without ``local``; None if the value is not of that form."""
        combine = REDUCTIONS[operator].combine
        terms = _terms(value, combine)
        rest = [t for t in terms if not (isinstance(t, Read) and t.tensor == local)]
        if len(rest) != len(terms) - 1 or any(isinstance(n, Read) and n.tensor == local for t in rest for n in walk(t)):
            return None
        result = rest[0]
        for term in rest[1:]:
            result = _joined(combine, result, term)
        return result


def _terms(node: Expression, combine: str) -> list[Expression]:
    from einsum_compiler.ir.expression import Call

    if isinstance(node, Binary) and node.operator == combine:
        return _terms(node.left, combine) + _terms(node.right, combine)
    if isinstance(node, Call) and node.function == combine:
        return [t for a in node.arguments for t in _terms(a, combine)]
    return [node]


def _joined(combine: str, left: Expression, right: Expression) -> Expression:
    from einsum_compiler.ir.expression import Call

    return Call(combine, (left, right)) if combine in ("max", "min") else Binary(combine, left, right)
