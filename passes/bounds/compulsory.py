"""Compulsory traffic: every external element that a result depends on is moved once, whatever the schedule.

The elements are counted, not assumed: an index expression touches its image, a filter what is left of it, and a tensor that several equations
read counts once. What depends on the values of tensors is assumed to reach everything, and says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

import sympy

from einsum_compiler.ir.build import ranks_of
from einsum_compiler.ir.expression import Read, Slice, walk
from einsum_compiler.ir.printer import print_expression
from einsum_compiler.passes.bounds.integer_points import IslSet, count
from einsum_compiler.passes.bounds.result import Bound, Touched
from einsum_compiler.passes.bounds.spaces import Access, Space, Spaces
from einsum_compiler.passes.bounds.symbols import Symbolic, extent

SOURCE = "every input element used is loaded once and every output element stored once"
EVERY = "every schedule"


class Elements:
    """Counts of distinct elements of tensors, kept: groups of a cascade ask for the same ones again and again."""

    def __init__(self, spaces: Spaces) -> None:
        self._spaces = spaces
        self._known: dict[Any, tuple[int, Symbolic, tuple[str, ...]]] = {}

    def read(self, tensor: str, readers: Sequence[Space]) -> Touched:
        """The elements of a tensor that these equations read."""
        accesses = [(s, a) for s in readers for a in s.reads if a.tensor == tensor]
        key = (tensor, tuple((s.tensor, a.indices, a.guards) for s, a in accesses))
        if key not in self._known:
            self._known[key] = self._touched(tensor, accesses)
        counted, formula, assumptions = self._known[key]
        return Touched(tensor, "read", counted, prod(self._spaces.axes(tensor)), formula, assumptions)

    def written(self, tensor: str) -> Touched:
        """The elements of a computed tensor: all of an output, which is defined everywhere, and the points demanded of any other."""
        size = prod(self._spaces.axes(tensor))
        space = self._spaces.by_tensor[tensor]
        if tensor in self._spaces.outputs or tensor in self._spaces.carried or space.opaque:
            return Touched(tensor, "written", size, size, self._box(tensor))
        counted = self._spaces.count_points(space, space.write_ranks)
        if counted is None or counted >= size:
            return Touched(tensor, "written", size, size, self._box(tensor))
        return Touched(tensor, "written", counted, size, self._spaces.points_formula(space, space.write_ranks))

    def _touched(self, tensor: str, accesses: list[tuple[Space, Access]]) -> tuple[int, Symbolic, tuple[str, ...]]:
        size = prod(self._spaces.axes(tensor))
        whole: IslSet | None = None
        gathered, notes = 0, dict[str, None]()
        for space, access in accesses:
            for condition in (*(() if access.in_filter else space.opaque), *access.guards):
                if read := next((n for n in walk(condition) if isinstance(n, Read)), None):
                    notes[f"what the values of {read.tensor} leave reaches all that {tensor} can be read at"] = None
            found = self._spaces.elements(space, access)
            if found is None:
                number, note = self._gathered(space, access)
                gathered = max(gathered, min(number, size))
                notes.update(dict.fromkeys(note))
            else:
                whole = found if whole is None else whole if found.is_subset(whole) else whole.union(found)
        counted = gathered if whole is None else max(count(whole) or 0, gathered)
        return counted, self._formula(tensor, counted, size, accesses), tuple(notes)

    def _gathered(self, space: Space, access: Access) -> tuple[int, list[str]]:
        """Elements reached through values: as many as there are entries, if those are distinct; else what the other indices tell."""
        axes = self._spaces.axes(access.tensor)
        through = [i for i in access.indices if any(isinstance(n, Read) for n in walk(i))]
        distinct = all(self._may_differ(i, n) for i, n in zip(access.indices, axes, strict=False) if i in through)
        telling = [i for i in access.indices if i not in through or distinct]
        ranks = set(ranks_of(*(i for i in telling if not isinstance(i, Slice))))
        linear = access.projection.exact or access.projection.gathered or not access.projection.rows
        number = (self._spaces.count_points(space, sorted(ranks)) or 1) if linear and _bare(telling) else 1
        number *= prod(n for i, n in zip(access.indices, axes, strict=False) if isinstance(i, Slice))
        if not through:
            return number, []
        text = ", ".join(print_expression(i) for i in through)
        return number, [f"the entries {text} are distinct" if distinct else f"{text} may be the same everywhere"]

    def _may_differ(self, index: Any, extent: int) -> bool:
        """Whether entries of an integer tensor, ``page[b, n // T]``, can be assumed distinct: there must be room for all of them."""
        return isinstance(index, Read) and prod(self._spaces.axes(index.tensor)) <= extent

    def _formula(self, tensor: str, counted: int, size: int, accesses: Iterable[tuple[Space, Access]]) -> Symbolic:
        if counted == size:
            return self._box(tensor)
        for space, access in accesses:
            ranks = ranks_of(*access.indices)
            formula = self._spaces.points_formula(space, ranks)
            if formula is not None and formula.free_symbols and self._spaces.value(formula) == counted:
                return formula
        return sympy.Integer(counted)

    def _box(self, tensor: str) -> Symbolic:
        declared = self._spaces.inputs.get(tensor) or self._spaces.outputs.get(tensor)
        ranks = declared.ranks if declared is not None else self._spaces.by_tensor[tensor].write_ranks
        axes = self._spaces.axes(tensor)
        formula = sympy.Mul(
            *(extent(r) + (n - self._spaces.extents[r]) for r, n in zip(ranks, axes, strict=False))
        )  # T + 1 along a recurrence
        size = prod(axes)
        return formula if self._spaces.value(formula) == size else sympy.Integer(size)


def _bare(indices: Sequence[Any]) -> bool:
    """Whether the ranks that occur can be told from the indices: each index is a rank, a digit of one, or an entry."""
    return all(isinstance(i, (Read, Slice)) or len(ranks_of(i)) <= 1 for i in indices)


def touched(spaces: Spaces, elements: Elements) -> tuple[Touched, ...]:
    """The external tensors of a whole cascade, inputs that are read first."""
    used = {a.tensor for s in spaces.spaces for a in s.reads}
    read = [elements.read(name, spaces.spaces) for name in spaces.inputs if name in used]
    return (*read, *(elements.written(name) for name in spaces.outputs))


def compulsory(parts: Sequence[Touched]) -> Bound:
    """The sum over external tensors."""
    assumptions = dict.fromkeys(a for p in parts for a in p.assumptions)
    return Bound(
        "compulsory",
        float(sum(p.count for p in parts)),
        sympy.Add(*(p.formula for p in parts)),
        EVERY,
        tuple(assumptions),
        SOURCE,
    )
