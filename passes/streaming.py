"""One rank of a cascade cut into tiles: n = n.1 * N.0 + n.0, every equation over n filtered by n.1 * N.0 + n.0 < N.

    S[m,n] = q[m] * k[n]            ->   S.n[m,n.1,n.0] = q[m] * k[n.1*N.0 + n.0]   where n.1*N.0 + n.0 < N

The filter is what keeps a ragged tail empty: emptiness ends at a reduction, so a contraction over ``e`` would give it a visible 0 (laws.md, E4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from einsum_compiler.ir.build import conjunction
from einsum_compiler.ir.cascade import Cascade, Equation, Scalar, Target
from einsum_compiler.ir.expression import (
    Binary,
    Call,
    Comparison,
    Constant,
    Expression,
    Extent,
    Rank,
    Read,
    Selection,
    Unary,
    map_children,
)
from einsum_compiler.passes.scope import BINDERS, fresh, ranks_of_tensors


@dataclass(frozen=True, slots=True)
class TiledRank:
    """The names that a tiled rank gets."""

    rank: str

    @property
    def outer(self) -> str:
        """Which tile: ``n.1``."""
        return f"{self.rank}.1"

    @property
    def inner(self) -> str:
        """Where in the tile: ``n.0``."""
        return f"{self.rank}.0"

    @property
    def coordinate(self) -> Expression:
        """``n.1*N.0 + n.0``."""
        return Binary("+", Binary("*", Rank(self.outer), Extent(self.inner)), Rank(self.inner))

    @property
    def inside(self) -> Expression:
        """``n.1*N.0 + n.0 < N``."""
        return Comparison(("<",), (self.coordinate, Extent(self.rank)))

    @property
    def now(self) -> Expression:
        """The position of a running state before this tile."""
        return Rank(self.outer)

    @property
    def after(self) -> Expression:
        """The position of a running state after this tile."""
        return Binary("+", Rank(self.outer), Constant(1))

    def scalars(self, tile: int) -> tuple[Scalar, Scalar]:
        """``N.0 = tile`` and ``N.1 = ceil(N / N.0)``."""
        count = Call("ceil", (Binary("/", Extent(self.rank), Extent(self.inner)),))
        return (
            Scalar(self.inner.upper(), None, Constant(tile)),
            Scalar(self.outer.upper(), None, count),
        )


# How a read of a context (a late tensor without the streamed rank) is written in one version of an equation.
ContextReader = Callable[[Read], Expression]


class Tiler:
    """Writes tiled versions of equations that run along one rank, each when somebody asks for it.

    ``made`` holds them in the order of the asking, producers first.
    """

    def __init__(self, cascade: Cascade, rank: TiledRank, names: set[str]) -> None:
        self.rank = rank
        self.made: list[Equation] = []
        self._cascade = cascade
        self._axes = ranks_of_tensors(cascade)
        self._computed = {t.tensor for e in cascade.equations for t in e.targets}
        self._names = names
        self._versions: dict[tuple[str, frozenset[str]], str] = {}

    def fresh(self, stem: str) -> str:
        """A name for a new tensor."""
        self._names.add(name := fresh(stem, self._names))
        return name

    def runs(self, tensor: str) -> bool:
        """Whether a computed tensor has the rank and can be computed tile by tile.

        What a recurrence carries and what a selection chooses is read whole, at the coordinate.
        """
        if tensor not in self._computed or self.rank.rank not in self._axes.get(tensor, ()):
            return False
        equations = self._cascade.equations_of(tensor)
        return all(
            len(e.targets) == 1
            and not isinstance(e.value, Selection)
            and all(isinstance(i, Rank) for i in e.target.indices)
            for e in equations
        )

    def add(
        self, name: str, indices: tuple[Expression, ...], value: Expression, where: Expression | None = None
    ) -> Read:
        """A new equation, and the read of its target with the same indices."""
        self.made.append(Equation((Target(name, indices),), value, where))
        return Read(name, indices)

    def tiled(self, node: Expression, version: Version) -> Expression:
        """The expression over n.1 and n.0."""
        if isinstance(node, Rank):
            return self.rank.coordinate if node.name == self.rank.rank else node
        if isinstance(node, Read):
            if self.runs(node.tensor):
                at = self._axes[node.tensor].index(self.rank.rank)
                if node.indices[at] == Rank(self.rank.rank):
                    name = self._version(node.tensor, version)
                    parts = [self.tiled(i, version) for i in node.indices]
                    parts[at : at + 1] = [Rank(self.rank.outer), Rank(self.rank.inner)]
                    return replace(node, tensor=name, indices=tuple(parts))
            elif (context := version.context(node)) is not None:
                return context
        if isinstance(node, BINDERS) and self.rank.rank in node.ranks:
            return node
        return map_children(node, lambda child: self.tiled(child, version))

    def _version(self, tensor: str, version: Version) -> str:
        key = (tensor, version.contexts_of(tensor))
        if key not in self._versions:
            name = self._versions[key] = self.fresh(f"{tensor}.{self.rank.rank}")
            earlier: Expression | None = None
            for equation in self._cascade.equations_of(tensor):
                self.made.append(self._tiled_equation(equation, name, version, earlier))
                earlier = equation.where if earlier is None else _either(earlier, equation.where)
        return self._versions[key]

    def _tiled_equation(self, equation: Equation, name: str, version: Version, earlier: Expression | None) -> Equation:
        where = equation.where
        if equation.otherwise and earlier is not None:
            # ``else`` leaves no room for the filter of the tail, so it is written out.
            where = conjunction((where, Unary("not", Call("default", (earlier, Constant(False))))))
        value = self.tiled(equation.value, version)
        filtered = conjunction((None if where is None else self.tiled(where, version), self.rank.inside))
        indices = tuple(self._tiled_indices(equation.target.indices))
        return Equation((Target(name, indices, equation.target.dtype),), value, filtered)

    def _tiled_indices(self, indices: tuple[Expression, ...]) -> Iterator[Expression]:
        for index in indices:
            if index == Rank(self.rank.rank):
                yield from (Rank(self.rank.outer), Rank(self.rank.inner))
            else:
                yield index


@dataclass(frozen=True, slots=True)
class Version:
    """How equations along the rank see contexts: some running, the others finished.

    ``context`` gives what stands for a read of a running context, and None for any other read. ``contexts_of`` names the running
    contexts that a tensor depends on; versions of it that agree in these are one.
    """

    context: Callable[[Read], Expression | None]
    contexts_of: Callable[[str], frozenset[str]]


def _either(left: Expression, right: Expression | None) -> Expression:
    return left if right is None else Binary("or", left, right)
