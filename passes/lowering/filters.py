"""Filters over tiles: the selects that give a reduction its identity where points were removed."""

from __future__ import annotations

from dataclasses import replace
from math import isfinite, prod

from einsum_compiler.ir.build import conjunction, conjuncts, multiply
from einsum_compiler.ir.expression import (
    Binary,
    Comparison,
    Conditional,
    Constant,
    Expression,
    Read,
    transform,
    walk,
)
from einsum_compiler.ir.operators import REDUCTIONS
from einsum_compiler.ir.tile import Axis, Map, Reduce, Select, TileType
from einsum_compiler.passes.lowering.removed_points import RemovedPoints
from einsum_compiler.passes.lowering.tile_facts import TileFacts
from einsum_compiler.passes.lowering.translate import EVERYWHERE, Domain


class Filters(RemovedPoints):
    """Writes selects where no fill made before gives the identity."""

    def _temporary(
        self, stem: str, value: Expression, domain: Domain = EVERYWHERE, first: tuple[Axis, ...] = ()
    ) -> str:
        """The name of a tile with the value of an expression."""
        value = self._without_filled(value)
        if isinstance(value, Read):
            return value.tensor
        name = self._name(stem)
        type = TileType(self.dtype_of(value), self._ordered(self.axes_of(value), first))
        self.scope.statements.append(Map(name, type, value))
        inside = self.scope.loop is not None
        fill, finite, empty = self._fill_of(value, domain), self.stays_finite(value), self.empty_of(value)
        lost = self.lost_rows(value, domain)
        self.facts[name] = TileFacts(
            type, domain=domain, fill=fill, inside=inside, finite=finite, lost=lost, empty=empty, value=value
        )
        return name

    def _without_filled(self, value: Expression) -> Expression:
        """An expression without conditions that choose between a tile and what it holds anyway where they fail: ``default(X[n - i], 0)`` of a load filled with 0."""

        def change(node: Expression) -> Expression:
            match node:
                case Conditional(condition=condition, then=Read(tensor=name) as tile, otherwise=Constant(value=other)):
                    fill = self.facts[name].fill
                    filled = fill is not None and fill[0] == other
                    if fill and filled and {*conjuncts(condition)} <= {*map(self.translator.place, fill[1])}:
                        return tile
            return node

        return transform(value, change)

    def _neutral(
        self, operator: str, body: Expression, domain: Domain, over: tuple[Axis, ...], product: bool = False
    ) -> Expression:
        """The body of a reduction with the identity wherever ``domain`` removed the point.

        Nothing is written if fills already made give the identity there; else one operand is filled, else the body itself.
        """
        identity = float(REDUCTIONS[operator].identity)
        if product:
            for name in [n.tensor for n in walk(body) if isinstance(n, Read)]:
                body = _replace_read(body, name, self._finite(name, domain))
        reads = list(dict.fromkeys(n.tensor for n in walk(body) if isinstance(n, Read)))
        covered: set[Expression] = set()
        for name in reads:
            fill = self._fill_at(name, domain)
            if fill and self._filled(body, fill[1], {name: fill[0]}, product) == identity:
                covered |= fill[1]
        missing = frozenset(domain - covered)
        if not missing:
            return body
        axes = self.domain_axes(missing)
        choices = sorted(reads, key=lambda n: -prod(a.size for a in self.facts[n].type.axes))
        for name in choices:
            ranks = set(self.facts[name].type.ranks)
            if not axes <= ranks or self.kind(Read(name)) != "real":
                continue
            own = frozenset(c for c in domain if self.domain_axes(frozenset({c})) <= ranks)
            for value in dict.fromkeys((identity, float("-inf"), 0.0, float("inf"))):
                if self._filled(body, own, {name: value}, product) == identity:
                    return _replace_read(body, name, self._select(name, own, value))
        everything = conjunction(sorted(domain, key=str))
        if product:
            # Fill the operand that has most of the axes, computed with all of them.
            assert isinstance(body, Binary) and isinstance(body.left, Read)
            first = self._temporary(
                f"{body.left.tensor}.all",
                Conditional(self.translator.place(everything), body.left, Constant(0.0)),
            )
            return multiply(Read(first), body.right)
        return Conditional(self.translator.place(everything), body, self.identity(operator, self.kind(body)))

    def _finite(self, name: str, domain: Domain) -> str:
        """An operand of a product with 0 where ``domain`` removed points along its own axes, unless it is finite there anyway: ``0 * v``."""
        facts = self.facts[name]
        held = facts.fill[1] if facts.fill and isfinite(facts.fill[0]) else EVERYWHERE
        own = frozenset(
            c
            for c in domain - held - facts.finite_at
            if c in facts.lost
            or ((axes := self.domain_axes(frozenset({c}))) and axes <= set(facts.type.ranks) and not facts.finite)
        )
        if not own:
            return name
        filled = self._select(name, own, 0.0)
        self.facts[filled] = replace(self.facts[filled], finite_at=facts.finite_at | domain)
        return filled

    def identity(self, operator: str, kind: str) -> Constant:
        """The identity of a reduction of such values: integers have a smallest and a largest one."""
        return self.typed(Constant(REDUCTIONS[operator].identity), kind)

    def _with_typed_limits(self, value: Expression) -> Expression:
        """``M == -inf``, the guard of a running maximum, for a tile of integers."""

        def change(node: Expression) -> Expression:
            if (
                isinstance(node, Comparison)
                and node.operators in (("==",), ("!=",))
                and "int" in (kinds := list(map(self.kind, node.operands)))
            ):
                typed = tuple(
                    self.typed(o, "int") if isinstance(o, Constant) and "real" in kinds else o for o in node.operands
                )
                return replace(node, operands=typed)
            return node

        return transform(value, change)

    def typed(self, constant: Constant, kind: str) -> Constant:
        """A constant among values of a kind: an infinity among integers is the last of them on its side."""
        if kind == "int" and constant.value in (float("inf"), float("-inf")):
            return Constant(2**63 - 1 if constant.value > 0 else -(2**63))
        return Constant(bool(constant.value > 0)) if kind == "bool" and isinstance(constant.value, float) else constant

    def _select(self, name: str, domain: Domain, value: float) -> str:
        """A copy of a tile that holds ``value`` where ``domain`` removed the point; later readers of its other points get it too.

        Conjuncts that whole tiles are known to satisfy get a select of their own, which whole tiles do not run.
        """
        facts = self.facts[name]
        known = domain & self.scope.predicate if self.scope.loop is not None else EVERYWHERE
        if known and known != domain:
            name = self._select(name, domain - known, value)
        result = self._name(f"{name}.fill")
        partial = bool(known)
        tested = known or domain
        condition = self.translator.place(conjunction(sorted(tested, key=str)))
        self.scope.statements.append(Select(result, facts.type, condition, Read(name), Constant(value), partial))
        inside = self.scope.loop is not None
        lost = facts.lost - domain if isfinite(value) else facts.lost
        self.facts[result] = replace(facts, fill=(value, domain), loaded=False, inside=inside, lost=lost)
        self.scope.filled.setdefault(name, []).append(result)
        return result

    def _unseen(self, operand: str, other: str, domain: Domain) -> str:
        """An operand of a product with 0 at coordinates that no point of the tile sees, so that a NaN there cannot leak.

        ``0 * v`` is 0 only for finite v. What the operand's load does not mask already is tested here: conjuncts on its own axes as they are, the
        others by the weights in ``other``, which are 0 where one of them fails. A coordinate whose weights are all 0 adds nothing, whatever made them 0.
        """
        facts, weights = self.facts[operand], self.facts[other].fill
        own_axes = frozenset(facts.type.ranks)
        if weights is None or weights[0] != 0.0:
            return operand
        held = facts.fill[1] if facts.fill and facts.fill[0] == 0.0 else EVERYWHERE
        about = {
            c: self.domain_axes(frozenset({c}))
            for c in sorted(domain - held, key=str)
            if not any(isinstance(n, Read) and n.tensor not in self.translator.inputs for n in walk(c))
        }
        own = [c for c, axes in about.items() if axes and axes <= own_axes and c not in self.scope.predicate]
        cross = [c for c, axes in about.items() if axes & own_axes and not axes <= own_axes and c in weights[1]]
        if not own and not cross:
            return operand
        tested = frozenset([*own, *cross])
        condition = conjunction([*map(self.translator.place, own), self._seen(operand, other) if cross else None])
        assert condition is not None
        result = self._name(f"{operand}.visible")
        inside = self.scope.loop is not None
        partial = inside and tested <= self.scope.predicate
        self.scope.statements.append(Select(result, facts.type, condition, Read(operand), Constant(0.0), partial))
        self.facts[result] = TileFacts(facts.type, facts.ranks, facts.domain, (0.0, tested | held), inside=inside)
        return result

    def _seen(self, operand: str, other: str) -> Expression:
        """Whether some weight in the tile ``other`` at a coordinate of the operand is not 0; rows beyond their extents have no say."""
        axes = frozenset(self.facts[operand].type.ranks)
        beyond = tuple(a for a in self.facts[other].type.axes if a.rank not in axes)
        type = TileType("bool", tuple(a for a in self.facts[operand].type.axes if a in self.facts[other].type.axes))
        seen = self._name(f"{operand}.seen")
        some = Comparison(("!=",), (Read(other), Constant(0.0)))
        bounded = conjunction([*self.tiling.row_bounds(beyond), some])
        assert bounded is not None
        self.scope.statements.append(Reduce(seen, type, "any", beyond, bounded))
        self.facts[seen] = TileFacts(type, inside=self.scope.loop is not None)
        return Read(seen)

    def filled_with_zero(self, value: Expression, domain: Domain) -> Expression:
        zero = Constant(0.0) if self.kind(value) == "real" else Constant(False if self.kind(value) == "bool" else 0)
        return Conditional(self.translator.place(conjunction(sorted(domain, key=str))), value, zero)


def _replace_read(node: Expression, name: str, new: str) -> Expression:
    from einsum_compiler.ir.expression import transform

    return transform(node, lambda n: Read(new) if isinstance(n, Read) and n.tensor == name else n)
