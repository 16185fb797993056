"""Loads: the tiles of inputs, with masks that keep reads in range and hidden keys unread."""

from __future__ import annotations

from einsum_compiler.ir.build import conjunction, ranks_of
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.expression import (
    Comparison,
    Constant,
    Expression,
    Membership,
    Rank,
    Read,
    Slice,
    Unary,
    walk,
)
from einsum_compiler.ir.tile import Axis, Load, Reduce, TileType
from einsum_compiler.ir.types import is_float
from einsum_compiler.passes.analysis.affine import reopened
from einsum_compiler.passes.lowering.tile_facts import TileFacts, Tiles
from einsum_compiler.passes.lowering.translate import Domain

LANES = 16  # of the widest vectors


class Loads(Tiles):
    """Writes loads; a load met again is the same tile."""

    def load(self, read: Read, checks: Domain) -> Expression:
        """The tile of an input at a prepared read; ``checks`` are what keeps its indices in range."""
        translator, sizes = self.translator, self.tiling.axis_sizes
        key = (read.tensor, read.indices)
        known = self.scope.find_load(key)
        if known:
            return Read(known)
        indices = tuple(translator.place(i) for i in read.indices)
        order: dict[str, None] = {}
        for index in indices:
            for n in walk(index):
                names = (
                    [n.name] if isinstance(n, Rank) else self.facts[n.tensor].type.ranks if isinstance(n, Read) else ()
                )
                order.update(dict.fromkeys(name for name in names if name in sizes))
        axes = _longest_neighbours_last(tuple(Axis(r, sizes[r]) for r in order), indices)
        inside = self._is_inside(indices)
        scope = self.scope
        while scope.loop and not inside and scope.outer:
            scope = scope.outer
        conditions = set(checks)
        own = frozenset(a.rank for a in axes)
        # An index that is one for the whole tile (``n // 32``) is in range if the tile's first coordinate is.
        conditions |= {
            c for c in self.stream_bounds(ranks_of(*read.indices)) if self.domain_axes(frozenset({c})) <= own
        }
        if inside and not self._projecting and not any(self._mixes(i) for i in indices):
            conditions |= self._projection(own, read.tensor)
        partial = [c for c in sorted(conditions, key=str) if c in scope.predicate]
        always = [c for c in sorted(conditions, key=str) if c not in scope.predicate]
        self._projecting = True
        saved, self.scope = self.scope, scope
        where = conjunction([*self.tiling.row_bounds(axes), *map(translator.place, always)])
        partial_where = conjunction(map(translator.place, partial))
        self.scope, self._projecting = saved, False
        dtype = self.dtypes[read.tensor]
        name = self._name(f"{read.tensor}.tile")
        fill = Constant(False) if dtype == "bool" else Constant(0.0 if is_float(dtype) else 0)
        scope.statements.append(Load(name, TileType(dtype, axes), read.tensor, indices, where, partial_where, fill))
        filled = (0.0, frozenset(conditions)) if is_float(dtype) and conditions else None
        self.facts[name] = TileFacts(TileType(dtype, axes), fill=filled, loaded=True, inside=inside)
        self.loaded[read.tensor] = None
        scope.loads[key] = name
        return Read(name)

    def member(self, node: Membership) -> Expression:
        """``item in T[i, :]``: whether any entry of the fibre equals the item. A coordinate outside T has no members."""
        key = (node.item, node.collection)
        known = self.scope.find_load(key)
        if known is None:
            collection, declared = node.collection, self.translator.inputs.get(node.collection.tensor)
            if declared is None:
                raise PlanError(
                    f"'{collection.tensor}' is computed: a kernel tests 'in' on inputs only, so pass it as an input",
                    node.span,
                )
            along = tuple(
                self.tiling.whole(r)
                for r, i in zip(declared.ranks, collection.indices, strict=True)
                if isinstance(i, Slice)
            )
            over, held = self.tiling.axes(along), iter(along)
            indices = tuple(Rank(next(held)) if isinstance(i, Slice) else i for i in collection.indices)
            read = Read(collection.tensor, indices)
            checks = self.translator.checks(read)
            entries = self.load(read, frozenset(checks))
            equal = Comparison(("==",), (self.translator.place(node.item), entries))
            value = conjunction([*map(self.translator.place, checks), equal])
            assert value is not None
            known = self._name(f"{collection.tensor}.member")
            type = TileType("bool", self._ordered(self.axes_of(value) - {a.rank for a in over}, ()))
            self.scope.statements.append(Reduce(known, type, "any", over, value))
            self.facts[known] = TileFacts(type, inside=self.scope.loop is not None)
            self.scope.loads[key] = known
        return Unary("not", Read(known)) if node.negated else Read(known)

    def _is_inside(self, nodes: tuple[Expression, ...]) -> bool:
        stream = {index for r in self.translator.streams for index in (f"{r}.1", f"{r}.0")}
        return any(
            (isinstance(n, Rank) and n.name in stream) or (isinstance(n, Read) and self.facts[n.tensor].inside)
            for node in nodes
            for n in walk(node)
        )

    def _mixes(self, index: Expression) -> bool:
        """Whether an index depends on rows and on the streamed coordinate, as that of a table of offsets: any entry of it may be read."""
        axes = self.axes_of(index)
        return bool(axes & self.tiling.row_axes) and bool(axes - self.tiling.row_axes)

    def _projection(self, axes: frozenset[str], tensor: str) -> set[Expression]:
        """The conjuncts of the loop's filter that concern only the axes of a load: a tile reads a key only if it may be seen."""
        return {
            c
            for c in self.scope.predicate
            if set(self.streamed) & set(ranks_of(c))
            and self.domain_axes(frozenset({c})) <= axes
            and not any(isinstance(n, Read) and n.tensor == tensor for n in walk(c))
        }


def _longest_neighbours_last(axes: tuple[Axis, ...], indices: tuple[Expression, ...]) -> tuple[Axis, ...]:
    """The axes with the one last along which vectors run: of those that step from neighbour to neighbour in memory (``x`` and ``j`` in ``X[x + j]``, ``X[x - j]``) the last one
    written, unless it has fewer coordinates than a vector has lanes and another has more."""
    if not axes or axes[-1].size >= LANES:
        return axes
    steps = {t.name: c for t, c in reopened(indices[-1]).terms if isinstance(t, Rank)}
    longer = [a for a in axes if steps.get(a.rank) == 1 and a.size >= LANES]
    if not longer:
        return axes
    last = max(longer, key=lambda a: a.size)
    return (*(a for a in axes if a != last), last)
