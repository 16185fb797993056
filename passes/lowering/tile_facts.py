"""Every tile written so far: its type, where it has a value, what it holds elsewhere; kinds and axes of expressions over tiles."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from math import inf

from einsum_compiler.ir.build import add, less, ranks_of
from einsum_compiler.ir.cascade import Cascade
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.expression import (
    Cast,
    Constant,
    Expression,
    Membership,
    Rank,
    Read,
    walk,
)
from einsum_compiler.ir.tile import Axis, TileType
from einsum_compiler.ir.types import is_float
from einsum_compiler.passes.lowering.kinds import kind_of, tensor_kinds
from einsum_compiler.passes.lowering.scope import Scope
from einsum_compiler.passes.lowering.tiling import Tiling
from einsum_compiler.passes.lowering.translate import EVERYWHERE, Domain, Translator


@dataclass(frozen=True)
class TileFacts:
    """What is known of a tile: its ranks in the cascade, where it has a value, and what it holds elsewhere."""

    type: TileType
    ranks: tuple[str, ...] = ()
    domain: Domain = EVERYWHERE
    fill: tuple[float, Domain] | None = None  # the value wherever one of these conjuncts is false
    loaded: bool = False
    inside: bool = False  # defined in a loop body
    finite: bool = True  # for finite inputs, also where a filter or an extent removed the point
    finite_at: Domain = EVERYWHERE  # finite where these conjuncts removed the point, if nowhere else
    # Conjuncts of rows alone under which it exists: where one fails the whole row was removed, and it may be anything (``1 / L[m]`` where ``L[m] > 0``).
    lost: Domain = EVERYWHERE
    # What an extremum, or a function of one, may hold where it is of no points: an infinity, or NaN for anything; None where it is finite.
    empty: float | None = None
    value: Expression | None = None  # what a map computes, over other tiles


class Tiles(ABC):
    """Knows every tile written so far; ``scope`` is where statements go."""

    def __init__(
        self,
        cascade: Cascade,
        tiling: Tiling,
        dtypes: Mapping[str, str],
        scalars: Mapping[str, str],
        parameters: Mapping[str, int | bool],
        tile_of: Callable[[Read], tuple[Expression, Domain] | None],
    ) -> None:
        self.tiling, self.dtypes, self.scalars = tiling, dtypes, scalars
        self.real = "f64" if any(dtypes[t.name] == "f64" for t in cascade.inputs) else "f32"
        self.scope = Scope()
        self.facts: dict[str, TileFacts] = {}
        self.outputs = frozenset(t.name for t in cascade.outputs)
        self.loaded: dict[str, None] = {}
        self.kinds = tensor_kinds(cascade, dtypes, scalars)
        self.next_indices = [add(Rank(loop), Constant(1)) for loop in tiling.loops]
        self.translator = Translator(cascade, tiling, parameters, tile_of, self.load, self.member)
        filters = [e.where for e in cascade.equations if e.where is not None]
        # A filter that asks whether a value is infinite means that a point may be.
        self.may_be_infinite = any(n in (Constant(inf), Constant(-inf)) for where in filters for n in walk(where))
        self._projecting = False
        self.assumed: Domain = EVERYWHERE  # the filter of the equation being written

    @abstractmethod
    def load(self, read: Read, checks: Domain) -> Expression:
        """The tile of an input at a prepared read; ``checks`` are what keeps its indices in range."""

    @abstractmethod
    def member(self, node: Membership) -> Expression:
        """Whether an item is in a fibre."""

    # -- what is known ------------------------------------------------------------------------------------------------------

    def snapshot(self) -> tuple[dict[str, TileFacts], dict[str, None]]:
        return dict(self.facts), dict(self.loaded)

    def restore(self, saved: tuple[dict[str, TileFacts], dict[str, None]]) -> None:
        self.facts, self.loaded = dict(saved[0]), dict(saved[1])

    def declare(self, name: str, type: TileType, initial: Expression) -> None:
        """A carried tile."""
        empty = initial.value if isinstance(initial, Constant) and initial.value in (inf, -inf) else None
        self.facts[name] = TileFacts(type, inside=self.scope.loop is not None, empty=empty)

    def alias(self, name: str, other: str, domain: Domain) -> None:
        """``name`` is the tile ``other`` where ``domain`` holds."""
        self.facts[name] = replace(self.facts[other], domain=self.facts[other].domain | domain)
        self.scope.current[name] = other

    def tile(self, name: str, read: Read) -> tuple[Expression, Domain]:
        """The tile that holds a computed tensor, read at its own coordinates."""
        facts = self.facts.get(name)
        if facts is None:
            raise PlanError(f"'{read.tensor}' is read before this kernel computes it", read.span)
        plain = tuple(i for i in read.indices if isinstance(i, Rank) and i.name not in self.tiling.loops)
        if facts.ranks and {i.name for i in plain} != set(facts.ranks).difference(self.tiling.loops):
            raise PlanError(
                f"'{read.tensor}' is read at other coordinates than it is computed at: it must be stored by a kernel of its own",
                read.span,
            )
        return self.held(name)

    def held(self, name: str) -> tuple[Expression, Domain]:
        """The tile of that name and where it has a value.

        A filled copy stands in for it if the reader wants no point that the fill took away: the fill's conjuncts are among those
        under which the name has a value, or among those of the equation that reads it (``assumed``).
        """
        domain = self.facts[name].domain
        tile = self.scope.named(name)
        for copy in self.scope.copies(tile):
            fill = self.facts[copy].fill
            if fill and fill[1] <= domain | self.assumed:
                tile = copy
        return Read(tile), domain

    def kind(self, node: Expression) -> str:
        """real, int or bool: what a tile expression computes."""
        return kind_of(node, lambda tile: self._kind_of_tile(tile), self.scalars)

    def _kind_of_tile(self, name: str) -> str:
        dtype = self.facts[name].type.dtype
        return "bool" if dtype == "bool" else "real" if is_float(dtype) else "int"

    def dtype_of(self, node: Expression) -> str:
        """The element type of the tile that holds ``node``."""
        if isinstance(node, Cast):
            return node.dtype
        if isinstance(node, Read):
            return self.facts[node.tensor].type.dtype
        return {"real": self.real, "int": "i64", "bool": "bool"}[self.kind(node)]

    def state_dtype(self, name: str) -> str:
        return {"real": self.real, "int": "i64", "bool": "bool"}[self.kinds.get(name, "real")]

    def axes_of(self, node: Expression) -> frozenset[str]:
        """The axes an expression over tiles has."""
        sizes = self.tiling.axis_sizes
        found: set[str] = set()
        for n in walk(node):
            if isinstance(n, Read):
                found.update(self.facts[n.tensor].type.ranks)
            elif isinstance(n, Rank) and n.name in sizes:
                found.add(n.name)
        return frozenset(found)

    def domain_axes(self, domain: Domain) -> frozenset[str]:
        """The axes that the conjuncts of a domain have."""
        return frozenset(name for rank in ranks_of(*domain) if (name := self.tiling.axis_name(rank)))

    def is_about_tiles(self, conjunct: Expression) -> bool:
        """Whether whole tiles can be judged by a conjunct: it has no axis that is held whole, and reads integer inputs only."""
        ranks = ranks_of(conjunct)
        if not all(r in self.streamed or self.tiling.is_program(r) for r in ranks):
            return False
        reads = [n for n in walk(conjunct) if isinstance(n, Read)]
        return all(r.tensor in self.translator.inputs and not is_float(self.dtypes[r.tensor]) for r in reads)

    @property
    def streamed(self) -> tuple[str, ...]:
        """The rank of the loop that is being written; none outside loops."""
        stream = self.tiling.stream(self.scope.loop) if self.scope.loop else None
        return (stream.rank,) if stream else ()

    def stream_bounds(self, ranks: Iterable[str]) -> frozenset[Expression]:
        """``n < N`` for every streamed rank among ``ranks`` that has a ragged end, as the cascade states it."""
        ragged = {r for r in self.translator.streams if not self.tiling.is_boxed(r)}
        return frozenset(less(Rank(r), self.tiling.extent(r)) for r in ranks if r in ragged)

    def store_axes(self, ranks: tuple[str, ...]) -> tuple[Axis, ...]:
        return self.tiling.axes(tuple(f"{r}.0" if r in self.translator.streams else r for r in ranks))

    def _ordered(self, axes: frozenset[str], first: tuple[Axis, ...]) -> tuple[Axis, ...]:
        """Axes as a tuple: those of ``first`` in its order, then the others."""
        sizes = self.tiling.axis_sizes
        head = tuple(a for a in first if a.rank in axes)
        rest = sorted(axes - {a.rank for a in head})
        return (*head, *(Axis(r, sizes[r]) for r in rest))

    def _name(self, stem: str) -> str:
        name, number = stem, 1
        while name in self.facts:
            number += 1
            name = f"{stem}{number}"
        return name
