"""rematerialise: what is read at other coordinates than its own is computed again where it is read, in place of being stored.

    KN[g,n,e] = K[g,n,e] / NK[g,n]                     KN.at[h,n,e] = K[h // 4,n,e] / NK.at[h,n] where h // 4 < G
    S[h,m,n]  = Q[h,m,e] * KN[h // 4,n,e]       ->     S[h,m,n]     = Q[h,m,e] * KN.at[h,n,e]

Law: an equation holds at every point of its tensor, so a read ``T[i]`` is that equation with the indices ``i`` in place of its ranks; outside the extents of
``T`` a read is empty. What is computed per key then costs its operations once for every tile of queries, where stored it costs a write and a read: which is less
work depends on the sizes, so whether a tensor is stored is the plan's choice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from einsum_compiler.ir.build import conjunction, ranks_of
from einsum_compiler.ir.cascade import Cascade, Equation, Target
from einsum_compiler.ir.expression import (
    Comparison,
    Constant,
    Expression,
    Extent,
    Rank,
    Read,
    Reduction,
    Selection,
    Slice,
    transform,
    walk,
)
from einsum_compiler.ir.fold import is_nonnegative
from einsum_compiler.passes.domains import Domains
from einsum_compiler.passes.order import in_order, live
from einsum_compiler.passes.scope import definitions, fresh, opened, tensor_names


def rematerialise(cascade: Cascade, stored: Collection[str], extents: Mapping[str, int], longest: int) -> Cascade:
    """The normalized cascade in which reads of computed tensors at other coordinates are equations of their own, but for the tensors ``stored``.

    Left as they are: recurrences, selections, fibres that ``in`` searches, and tensors that reduce a rank longer than ``longest``.
    """
    return _Rematerialised(cascade, stored, extents, longest).cascade()


class _Rematerialised:
    def __init__(self, cascade: Cascade, stored: Collection[str], extents: Mapping[str, int], longest: int) -> None:
        self._cascade, self._stored, self._extents, self._longest = cascade, stored, extents, longest
        self._defined, self._domains = definitions(cascade), Domains(cascade)
        self._names = tensor_names(cascade)
        self._made: dict[Read, Read] = {}
        self._equations: list[Equation] = []

    def cascade(self) -> Cascade:
        self._equations += [self._changed(e) for e in self._cascade.equations]
        return live(in_order(replace(self._cascade, equations=tuple(self._equations)))) if self._made else self._cascade

    def _changed(self, equation: Equation) -> Equation:
        """The equation with its reads at other coordinates replaced."""
        if all(self._stays(r) for r in equation.reads):
            return equation
        where = None if equation.where is None else transform(equation.where, self._read)
        return replace(equation, value=transform(equation.value, self._read), where=where)

    def _stays(self, read: Read) -> bool:
        """Whether a read is of what is given or stored, or at its own coordinates."""
        equation = None if read.tensor in self._stored else self._defined.get(read.tensor)
        return equation is None or equation.target.indices == read.indices

    def _read(self, node: Expression) -> Expression:
        if not isinstance(node, Read) or node.tensor in self._stored:
            return node
        if node not in self._made:
            equation = self._defined.get(node.tensor)
            inside = None if equation is None else self._inside(node, equation)
            if equation is None or inside is None or not self._is_legal(node, equation):
                return node
            value, where = opened(equation, node)
            name = fresh(f"{node.tensor}.at", self._names)
            self._names.add(name)
            target = Target(name, tuple(map(Rank, ranks_of(*node.indices))), equation.target.dtype)
            self._made[node] = Read(name, target.indices)
            self._equations.append(self._changed(Equation((target,), value, conjunction((*inside, where)))))
        return self._made[node]

    def _is_legal(self, read: Read, equation: Equation) -> bool:
        """Whether the equation of a tensor can stand where it is read."""
        if equation.target.indices == read.indices or any(isinstance(i, Slice) for i in read.indices):
            return False
        nodes = [n for root in (equation.value, equation.where) if root is not None for n in walk(root)]
        if any(isinstance(n, Selection) for n in nodes):
            return False
        bound = {r for n in nodes if isinstance(n, Reduction) for r in n.ranks}
        return not bound & set(ranks_of(*read.indices)) and all(self._extents[r] <= self._longest for r in bound)

    def _inside(self, read: Read, equation: Equation) -> tuple[Expression, ...] | None:
        """The conditions under which the indices have values inside the extents; None where no conjunction says so."""
        found: list[Expression] = []
        for index, rank in zip(read.indices, equation.target.ranks, strict=True):
            own = self._domains.of(index)
            if own is None:
                return None
            found += own
            if not isinstance(index, (Rank, Constant)):
                found += [] if is_nonnegative(index) else [Comparison(("<=",), (Constant(0), index))]
                found.append(Comparison(("<",), (index, Extent(rank))))
        return tuple(found)
