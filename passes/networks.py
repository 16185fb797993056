"""Networks of contraction: what one sum of products is when the sums of products it reads are opened.

    S[m,n] = sum[e](Q[m,e] * K[n,e])
    O[m,f] = sum[n](S[m,n] * V[n,f])      is      O[m,f] = sum[n,e](Q[m,e] * K[n,e] * V[n,f])

Law: distributivity and associativity: a factor that lacks a summed rank may stand inside or outside of that sum. Whatever is no product of sums of
products (max, exp, a quotient, a rounding) is a leaf. A filter is a factor of zeros and ones over its ranks: each conjunct must act
before one of its ranks is summed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from einsum_compiler.ir.build import conjuncts
from einsum_compiler.ir.cascade import Cascade, Equation
from einsum_compiler.ir.expression import (
    Cast,
    Constant,
    Expression,
    Extent,
    Parameter,
    Rank,
    Read,
    Reduction,
    Selection,
    walk,
)
from einsum_compiler.passes.products import Factor, factors
from einsum_compiler.passes.scope import all_ranks, definitions, free_ranks, fresh, opened, plain, substitute

MOST_LEAVES = 8


@dataclass(frozen=True)
class Network:
    """``target = sum[summed](product of leaves and scalars)`` at the points where all ``conditions`` hold.

    ``inside``: for each leaf the ranks of the sums it stands in. ``opened``: the tensors that were opened into it; ``barriers``: for each tensor that was not, why.
    ``renamed``: ranks of opened sums that were in use outside of them, by the name they have in the network.
    """

    root: Equation
    leaves: tuple[Expression, ...]
    scalars: tuple[Factor, ...]
    summed: frozenset[str]
    conditions: tuple[Expression, ...]
    opened: tuple[str, ...]
    barriers: Mapping[str, str] = field(default_factory=dict)
    inside: tuple[frozenset[str], ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)


def network_of(cascade: Cascade, root: Equation) -> Network | None:
    """The network of a plain sum of products; None for any other equation."""
    if not plain(root) or not isinstance(root.value, Reduction) or root.value.operator != "sum" or root.target.dtype:
        return None
    if any(f.inverse and free_ranks(f.value) for f in factors(root.value.body)):
        return None
    found = _Opening(cascade, root)
    found.sum(root.value)
    if len(found.leaves) > MOST_LEAVES:
        return None
    return Network(
        root, tuple(found.leaves), tuple(found.scalars), frozenset(found.summed), tuple(dict.fromkeys(found.conditions)),
        tuple(found.opened), found.barriers, tuple(found.inside), found.renamed,
    )  # fmt: skip


class _Opening:
    def __init__(self, cascade: Cascade, root: Equation) -> None:
        self._kept = frozenset(root.target.ranks)
        self._defined = definitions(cascade)
        self._inputs = {t.name for t in cascade.inputs}
        self._taken = all_ranks(cascade)
        self.leaves: list[Expression] = []
        self.scalars: list[Factor] = []
        self.summed: set[str] = set()
        self.conditions: list[Expression] = []
        self.opened: list[str] = []
        self.barriers: dict[str, str] = {}
        self.inside: list[frozenset[str]] = []
        self.renamed: dict[str, str] = {}
        self._around: frozenset[str] = frozenset()

    def sum(self, reduction: Reduction, origins: tuple[str, ...] = ()) -> None:
        """A sum whose ranks are given names of their own where they are in use; ``origins``: what they are called in the cascade."""
        used = self._kept | self.summed
        called = dict(zip(reduction.ranks, origins or reduction.ranks, strict=True))
        renamed: dict[str, str] = {}
        for r, origin in called.items():
            if r in used or r != origin:
                renamed[r] = fresh(f"{origin}_in", self._taken | self.summed)
                self._taken.add(renamed[r])
                self.renamed[renamed[r]] = origin
        at: dict[str, Expression] = {r: Rank(name) for r, name in renamed.items()}
        self.summed |= {renamed.get(r, r) for r in reduction.ranks}
        self.conditions += [substitute(c, at) for c in conjuncts(reduction.where)]
        before = self._around
        self._around = before | {renamed.get(r, r) for r in reduction.ranks}
        self._product(substitute(reduction.body, at))
        self._around = before

    def _product(self, body: Expression) -> None:
        for factor in factors(body):
            if not free_ranks(factor.value) and all(
                isinstance(n, (Constant, Parameter, Extent)) or not isinstance(n, (Read, Reduction))
                for n in walk(factor.value)
            ):
                self.scalars.append(factor)
            elif isinstance(factor.value, Read) and not factor.inverse:
                self._read(factor.value)
            else:
                self._leaf(_inverse(factor))

    def _read(self, read: Read) -> None:
        reason = self._obstacle(read)
        if reason is not None:
            if read.tensor not in self._inputs:
                self.barriers.setdefault(read.tensor, reason)
            self._leaf(read)
            return
        equation = self._defined[read.tensor]
        value, where = opened(equation, read)
        self.opened.append(read.tensor)
        self.conditions += conjuncts(where)
        if isinstance(value, Reduction):
            assert isinstance(equation.value, Reduction)
            self.sum(value, equation.value.ranks)
        else:
            self._product(value)

    def _leaf(self, leaf: Expression) -> None:
        self.leaves.append(leaf)
        self.inside.append(self._around)

    def _obstacle(self, read: Read) -> str | None:
        """Why a read stays a leaf; None if it is opened."""
        equation = self._defined.get(read.tensor)
        if equation is None:
            return "it has cases or is a recurrence"
        if equation.target.dtype is not None:
            return f"it is rounded to {equation.target.dtype}"
        if read.tensor in self.opened:
            return "it is a factor twice"
        if not all(isinstance(i, Rank) for i in read.indices) or len(set(read.indices)) != len(read.indices):
            return "it is read at other coordinates than its own"
        value = equation.value
        if isinstance(value, Selection):
            return "it is a selection"
        if isinstance(value, Reduction):
            if value.operator != "sum":
                return f"it is a {value.operator}"
            value = value.body
        parts = factors(value)
        if any(p.inverse and free_ranks(p.value) for p in parts):
            return "it is a quotient"
        if len(parts) == 1 and not isinstance(parts[0].value, Read) and not isinstance(equation.value, Reduction):
            rounded = [n for n in walk(value) if isinstance(n, Cast)]
            return f"it is rounded to {rounded[0].dtype}" if rounded else f"it is {_kind(value)}, which is not linear"
        return None


def _inverse(factor: Factor) -> Expression:
    from einsum_compiler.passes.products import product

    return product((factor,)) if factor.inverse else factor.value


def _kind(value: Expression) -> str:
    function = getattr(value, "function", None) or getattr(value, "operator", None)
    return f"'{function}'" if function else "a map"
