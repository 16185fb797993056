"""What tiles hold at points that a filter or an extent removed: what is known without a select."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite, isnan, nan

from einsum_compiler.ir.build import ranks_of
from einsum_compiler.ir.expression import Comparison, Constant, Expression, Read, children, walk
from einsum_compiler.passes.lowering.fills import FINITE, Filled, filled_value, is_finite, stays_finite
from einsum_compiler.passes.lowering.loads import Loads
from einsum_compiler.passes.lowering.translate import EVERYWHERE, Domain


class RemovedPoints(Loads):
    """Follows fills and finite values through maps."""

    def stays_finite(self, value: Expression) -> bool:
        """Whether a map is finite at points that a filter or an extent removed, if the inputs are."""
        rows = self.tiling.kept_axes
        return stays_finite(value, lambda n: self.facts[n].finite, lambda node: self.axes_of(node) <= rows)

    def lost_rows(self, value: Expression, domain: Domain) -> Domain:
        """The conjuncts that remove whole rows, at which a map with a value in ``domain`` need not be finite."""
        facts = self.facts
        found = self._of_rows(domain).union(*(facts[n.tensor].lost for n in walk(value) if isinstance(n, Read)))
        rows = ranks_of(*found)
        coordinates = ranks_of(*map(self.tiling.coordinate, rows))

        def elsewhere(node: Expression) -> bool:
            """Whether a part of the map has nothing to do with those rows: it is one value for those removed and not."""
            if isinstance(node, Read):
                return bool(facts[node.tensor].ranks) and not {*facts[node.tensor].ranks} & {*rows}
            own = children(node)
            return all(map(elsewhere, own)) if own else not {*ranks_of(node)} & {*coordinates}

        finite = not found or stays_finite(value, lambda n: facts[n].finite and not facts[n].lost, elsewhere)
        return EVERYWHERE if finite else found

    def _of_rows(self, domain: Domain) -> Domain:
        """The conjuncts about rows alone."""
        return frozenset(c for c in domain if self.domain_axes(frozenset({c})) <= self.tiling.kept_axes)

    def is_finite_beyond(self, value: Expression, conjunct: Expression) -> bool:
        """Whether a map is finite at the points that a conjunct removed."""
        domain = frozenset({conjunct})
        # A value per row is as finite as the result, unless the row was removed with all of its points.
        rows = frozenset() if self._of_rows(domain) else self.tiling.kept_axes

        def finite(name: str) -> bool:
            facts = self.facts[name]
            filled = facts.fill is not None and isfinite(facts.fill[0]) and domain <= facts.fill[1]
            return filled or domain <= facts.finite_at or (facts.finite and not facts.lost & domain)

        return stays_finite(value, finite, lambda node: bool(rows) and self.axes_of(node) <= rows)

    def empty_of(self, value: Expression) -> float | None:
        """What a map of extrema may hold where they are of no points; None if it is finite even there."""
        held = {n.tensor: self.facts[n.tensor].empty for n in walk(value) if isinstance(n, Read)}
        if all(empty is None for empty in held.values()):
            return None

        def operand(name: str) -> Filled:
            empty = held[name]
            return FINITE if empty is None else None if isnan(empty) else empty

        found = filled_value(value, operand)
        return None if is_finite(found) else found if isinstance(found, float) else nan

    def _fill_of(self, value: Expression, domain: Domain) -> tuple[float, Domain] | None:
        """What a map holds at points its operands' fills removed."""
        best: tuple[float, Domain] | None = None
        for read in dict.fromkeys(n for n in walk(value) if isinstance(n, Read)):
            fill = self._fill_at(read.tensor, domain)
            if fill is None:
                continue
            result = self._filled(value, fill[1], {read.tensor: fill[0]})
            if isinstance(result, float) and (best is None or len(fill[1]) > len(best[1])):
                best = (result, fill[1])
        return best

    def _fill_at(self, name: str, domain: Domain) -> tuple[float, Domain] | None:
        """What a tile holds where conjuncts fail: by its fill, and by a conjunct ``tile > -inf``, which fails at -inf only.

        (It fails at NaN too; there a pass may leave a NaN.)
        """
        fill = self.facts[name].fill
        implied = frozenset(c for c in domain if self._bounded_below(c) == name)
        if not implied:
            return fill
        if fill is None:
            return float("-inf"), implied
        return (fill[0], fill[1] | implied) if fill[0] == float("-inf") else fill

    def _bounded_below(self, conjunct: Expression) -> str | None:
        """The tile T of a conjunct ``T > -inf``."""
        match conjunct:
            case Comparison(operators=(">",), operands=(Read() as read, Constant(value=value))) if value == float(
                "-inf"
            ):
                found = self.translator.tile_of(read)
                return found[0].tensor if found and isinstance(found[0], Read) else None
        return None

    def _filled(self, value: Expression, domain: Domain, assume: Mapping[str, float], finite: bool = False) -> Filled:
        """What an expression is at a point that some conjunct of ``domain`` removed, if tiles hold there what ``assume`` says."""
        axes, rows = self.domain_axes(domain) - self.tiling.kept_axes, self._of_rows(domain)
        return filled_value(value, self._operand_at(domain, assume, finite), lambda rank: bool(rows) or rank in axes)

    def _operand_at(
        self, domain: Domain, assume: Mapping[str, float] | None = None, finite: bool = False
    ) -> Callable[[str], Filled]:
        """What each tile holds at a point that some conjunct of ``domain`` removed."""
        # Rows are not reduced, unless programs accumulate over them: a value per row (a statistic) is finite, whatever the filter does to the row's points,
        # but for an extremum of no points, and for what exists only under a conjunct of rows.
        axes = self.domain_axes(domain) - self.tiling.kept_axes

        def operand(name: str) -> Filled:
            if assume and name in assume:
                return assume[name]
            facts = self.facts[name]
            if facts.fill and domain <= facts.fill[1]:
                return facts.fill[0]
            varies = bool(axes & set(facts.type.ranks))
            known = finite and (facts.finite or domain <= facts.finite_at)
            return None if facts.empty is not None or facts.lost & domain or (varies and not known) else FINITE

        return operand
