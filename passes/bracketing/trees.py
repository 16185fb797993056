"""The bracketings of a network of contractions, and the products that each is made of.

Which ranks a product sums depends on the leaves that meet in it, not on how: distributivity moves a sum inwards up to the product where its rank is used last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from math import prod

from einsum_compiler.ir.expression import Expression
from einsum_compiler.passes.networks import Network
from einsum_compiler.passes.scope import free_ranks

Tree = int | tuple["Tree", "Tree"]  # a leaf of the network by its number, or a product of two


def bracketings(network: Network) -> Iterator[Tree]:
    """Every bracketing in which each product but the last sums a rank or has one factor within the other's ranks."""
    shape = Shape(network)
    for tree in _every(tuple(range(len(network.leaves)))):
        if not shape.multiplies_out(tree):
            yield tree


def _every(leaves: tuple[int, ...]) -> Iterator[Tree]:
    if len(leaves) == 1:
        yield leaves[0]
        return
    first, *rest = leaves
    for size in range(len(rest)):
        for others in combinations(rest, size):
            right = tuple(i for i in rest if i not in others)
            for a in _every((first, *others)):
                for b in _every(right):
                    yield (a, b)


def members_of(tree: Tree) -> frozenset[int]:
    return frozenset((tree,)) if isinstance(tree, int) else members_of(tree[0]) | members_of(tree[1])


@dataclass(frozen=True)
class Product:
    """The ranks that meet in a product (or a leaf), those it sums, and the conditions that act in it."""

    ranks: frozenset[str]
    summed: frozenset[str]
    conditions: tuple[Expression, ...]

    @property
    def kept(self) -> frozenset[str]:
        return self.ranks - self.summed


class Shape:
    """What the products of a network's leaves are. It depends on which leaves meet, not on how: a rank is summed as soon as no other
    leaf, no output and no condition still to act needs it, and a condition acts where its ranks first meet."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._ranks = [frozenset(free_ranks(leaf)) for leaf in network.leaves]
        self._of_conditions = {c: frozenset(free_ranks(c)) for c in network.conditions}
        self._every = frozenset(range(len(network.leaves)))
        self._known: dict[frozenset[int], frozenset[str]] = {}

    def node(self, tree: Tree) -> Product:
        members = members_of(tree)
        kept, met = self._kept(members), self._met(members)
        if isinstance(tree, int):
            summed = met - kept
            return Product(met, summed, tuple(self._acted(members)) if summed else ())
        below = self._kept(members_of(tree[0])) | self._kept(members_of(tree[1]))
        ranks = below | (met - self._leaf_ranks(members))
        done = {c for t in tree for c in self._emitted(t)}
        return Product(ranks, ranks - kept, tuple(c for c in self._acted(members) if c not in done))

    def multiplies_out(self, tree: Tree, whole: bool = True) -> bool:
        """Whether some inner product has more ranks than either factor and sums nothing."""
        if isinstance(tree, int):
            return False
        if not whole:
            node = self.node(tree)
            if not node.summed and node.kept not in [self.node(t).kept for t in tree]:
                return True
        return any(self.multiplies_out(t, False) for t in tree)

    def leaving(self, tree: Tree, held: Mapping[int, frozenset[str]]) -> int | None:
        """Which leaf leaves a sum that holds it: one of its ranks is summed where the leaf has not been met."""
        for side in () if isinstance(tree, int) else tree:
            if (found := self.leaving(side, held)) is not None:
                return found
        return self._leaving_product(tree, held)

    def _leaving_product(self, tree: Tree, held: Mapping[int, frozenset[str]]) -> int | None:
        """Which leaf leaves the sums of the outermost product."""
        members, summed = members_of(tree), self.node(tree).summed
        return next((i for i, ranks in held.items() if i not in members and summed & ranks), None)

    def cheapest(self, extents: Mapping[str, int], held: Mapping[int, frozenset[str]] | None = None) -> Tree | None:
        """The bracketing with fewest operations in which no leaf leaves a sum that holds it, by the least of every set of leaves (dynamic programming); None if
        each has such a leaf."""
        named = self._network.renamed
        single = [i for i in self._every if self._leaving_product(i, held or {}) is None]
        best: dict[frozenset[int], tuple[float, Tree]] = {frozenset((i,)): (0.0, i) for i in single}
        for size in range(2, len(self._every) + 1):
            for members in map(frozenset, combinations(sorted(self._every), size)):
                first = min(members)
                for left in [m for m in best if first in m and m < members and members - m in best]:
                    tree = (best[left][1], best[members - left][1])
                    if self._leaving_product(tree, held or {}) is not None:
                        continue
                    points = prod(extents[named.get(r, r)] for r in self.node(tree).ranks)
                    price = best[left][0] + best[members - left][0] + points
                    if members not in best or price < best[members][0]:
                        best[members] = (price, tree)
        return best[self._every][1] if self._every in best else None

    def _leaf_ranks(self, members: frozenset[int]) -> frozenset[str]:
        return frozenset().union(*(self._ranks[i] for i in members))

    def _met(self, members: frozenset[int]) -> frozenset[str]:
        """The ranks of some leaves; of all leaves also those that no leaf names."""
        found = self._leaf_ranks(members)
        return found | self._network.summed if members == self._every else found

    def _acted(self, members: frozenset[int]) -> list[Expression]:
        met = self._met(members)
        return [c for c, ranks in self._of_conditions.items() if ranks <= met or members == self._every]

    def _emitted(self, tree: Tree) -> list[Expression]:
        """The conditions that act in a subtree; a leaf that sums nothing leaves its own to the product around."""
        members = members_of(tree)
        return [] if isinstance(tree, int) and self._kept(members) == self._met(members) else self._acted(members)

    def _kept(self, members: frozenset[int]) -> frozenset[str]:
        if members not in self._known:
            acted = self._acted(members)
            pending = [ranks for c, ranks in self._of_conditions.items() if c not in acted]
            outside = frozenset(self._network.root.target.ranks).union(
                self._leaf_ranks(self._every - members), *pending
            )
            met = self._met(members)
            self._known[members] = met - (self._network.summed - outside)
        return self._known[members]
