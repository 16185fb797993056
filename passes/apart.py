"""apart: a chain of its own for each of two reductions that need the points of one tensor in different ranks.

    R[y,x]  = sum[v,u](S[y,x,v,u])         R[y,x]        = sum[v_u](S.v_u[y,x,v_u])
    C[v,u]  = sum[y,x](S[y,x,v,u])   ->    C[v,u]        = sum[y_x](S.y_x[v,u,y_x])
    S[y,x,v,u] = q[y,x] * K[v,u]           S.v_u[y,x,v_u] = q[y,x] * K[v_u // U, v_u % U]      ; V_U = V * U
                                           S.y_x[v,u,y_x] = q[y_x // X, y_x % X] * K[v,u]      ; Y_X = Y * X

Law: that of ``flatten``. There, ranks stay apart where some reduction keeps them; here that reduction reads a copy of what it needs, so that each streams its own
ranks as one, in boxes, and is spread over programs along the others. What is copied has the ranks of both: it is computed tile by tile, so the price is its
operations. Whether they are worth it is a question of sizes: the backward pass of attention between grids computes the scores twice, and visits
only the tiles that its windows leave.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from einsum_compiler.ir.build import reads_of
from einsum_compiler.ir.cascade import Cascade, Equation, Scalar, Target
from einsum_compiler.ir.expression import Binary, Expression, Extent, Rank, Read, Reduction, map_children
from einsum_compiler.ir.extents import declared_equal
from einsum_compiler.ir.printer import print_expression
from einsum_compiler.passes.certificate import Certificate, Transformed
from einsum_compiler.passes.flatten import by_extents, row_major
from einsum_compiler.passes.kernel_cascade import reduced_ranks
from einsum_compiler.passes.order import in_order, live
from einsum_compiler.passes.scope import all_ranks, definitions, fresh, plain, tensor_names

STEP = "apart"


@dataclass(frozen=True)
class _Chain:
    """What the reductions over ``group`` read that has its ranks and those that reductions which keep the group are over."""

    group: tuple[str, ...]
    readers: tuple[str, ...]
    tensors: frozenset[str]


def has_chains(cascade: Cascade) -> bool:
    """Whether some ranks of a normalized cascade that are reduced together are kept by another reduction over the same points."""
    return bool(_chains(cascade))


def apart(cascade: Cascade) -> Transformed:
    """The normalized cascade where such reductions have chains of their own, over one rank in place of several."""
    certificates: list[Certificate] = []
    for chain in _chains(cascade):
        copied = _Copied(cascade, chain)
        cascade = copied.cascade()
        certificates += (Certificate(STEP, t, chain.group, "apart", copied.identity(t)) for t in chain.readers)
    return Transformed(in_order(live(cascade)), tuple(certificates))


def _chains(cascade: Cascade) -> list[_Chain]:
    """One chain for every group of ranks that some sums keep and others reduce."""
    found = []
    for group in dict.fromkeys(r for e in cascade.equations if len(r := reduced_ranks(e)) > 1):
        chain = _chain(cascade, group) if _is_box(cascade, group) else None
        if chain is not None:
            found.append(chain)
    return found


def _is_box(cascade: Cascade, group: tuple[str, ...]) -> bool:
    """Whether the same tensors in memory have all ranks of a group: axes of one grid, not batches and lengths."""
    tensors = (*cascade.inputs, *cascade.outputs)
    return len({frozenset(t.name for t in tensors if rank in t.ranks) for rank in group}) == 1


def _chain(cascade: Cascade, group: tuple[str, ...]) -> _Chain | None:
    """What the reductions over a group read that has ranks which they keep, and which others, that keep the group, reduce."""
    ranks = set(group)
    having = {n: e for n, e in definitions(cascade).items() if plain(e) and ranks <= set(e.target.ranks)}
    transposed = [(e, _behind(e, having)) for e in having.values() if ranks.isdisjoint(reduced_ranks(e))]
    readers: list[str] = []
    copied: set[str] = set()
    for reader in cascade.equations:
        if set(reduced_ranks(reader)) != ranks or not plain(reader):
            continue
        behind = _behind(reader, having)
        kept = set(reader.target.ranks)
        others = {
            r
            for e, own in transposed
            for n in own & behind
            for r in {*reduced_ranks(e)} & {*having[n].target.ranks} & kept
        }
        tensors = {n for n in behind if others <= set(having[n].target.ranks)}
        if others and tensors:
            readers.append(reader.target.tensor)
            copied |= tensors
    return _Chain(group, tuple(readers), frozenset(copied)) if readers else None


def _behind(reader: Equation, having: Mapping[str, Equation]) -> set[str]:
    """The tensors with the ranks of a group that an equation depends on at its own coordinates; those that it reads at others come from memory."""
    found: set[str] = set()
    work = [reader]
    while work:
        equation = work.pop()
        for read in reads_of(equation.value, equation.where):
            source = having.get(read.tensor)
            if source is not None and read.tensor not in found and read.indices == source.target.indices:
                found.add(read.tensor)
                work.append(source)
    return found


class _Copied:
    """The cascade where the readers of a chain read a copy of it that has one rank in place of the group's."""

    def __init__(self, cascade: Cascade, chain: _Chain) -> None:
        self._cascade, self._chain = cascade, chain
        self._merged = fresh("_".join(chain.group), all_ranks(cascade) | {p.name.lower() for p in cascade.parameters})
        self._coordinates = row_major(self._merged, chain.group)
        names = tensor_names(cascade)
        self._names = {t: fresh(f"{t}.{self._merged}", names) for t in chain.tensors}
        own = definitions(cascade)
        self._copies = {Read(t, own[t].target.indices): self._names[t] for t in chain.tensors}

    def cascade(self) -> Cascade:
        extent: Expression = Extent(self._chain.group[0])
        for rank in self._chain.group[1:]:
            extent = Binary("*", extent, Extent(rank))
        equations: list[Equation] = []
        for equation in self._cascade.equations:
            name = equation.target.tensor
            if name in self._chain.tensors:
                target = Target(self._names[name], self._indices(equation.target.indices), equation.target.dtype)
                equations += [equation, self._changed(replace(equation, targets=(target,)))]
            else:
                equations.append(self._changed(equation) if name in self._chain.readers else equation)
        parameters = (*self._cascade.parameters, Scalar(self._merged.upper(), None, extent))
        made = replace(self._cascade, parameters=parameters, equations=tuple(equations))
        return by_extents(made, {r: declared_equal(self._cascade, r) or r for r in self._chain.group})

    def identity(self, reader: str) -> str:
        """What the copies rest on: the two sums that are equal."""
        (equation,) = self._cascade.equations_of(reader)
        return f"{print_expression(equation.value)} == {print_expression(self._changed(equation).value)}"

    def _changed(self, equation: Equation) -> Equation:
        where = None if equation.where is None else self._expression(equation.where)
        return replace(equation, value=self._expression(equation.value), where=where)

    def _indices(self, indices: tuple[Expression, ...]) -> tuple[Expression, ...]:
        """The merged rank last; the group's leave."""
        kept = (i for i in indices if not (isinstance(i, Rank) and i.name in self._chain.group))
        return (*kept, Rank(self._merged))

    def _expression(self, node: Expression) -> Expression:
        if isinstance(node, Read) and (copy := self._copies.get(Read(node.tensor, node.indices))):
            return replace(node, tensor=copy, indices=self._indices(node.indices))
        if isinstance(node, Rank):
            return self._coordinates.get(node.name, node)
        changed = map_children(node, self._expression)
        if isinstance(changed, Reduction) and set(changed.ranks) == set(self._chain.group):
            return replace(changed, ranks=(self._merged,))
        return changed
