"""What every check of the verifier looks up: declared names, axes of tensors, the cascades a text can call."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from einsum_compiler.ir.cascade import ELLIPSIS, Cascade, Definition, Module
from einsum_compiler.ir.expression import CascadeCall, Rank, Read, Reduction, Selection
from einsum_compiler.ir.extents import axis_ranks, expressions, with_whole


@dataclass(frozen=True)
class Facts:
    """A cascade with the module around it."""

    cascade: Cascade
    module: Module

    @cached_property
    def inputs(self) -> frozenset[str]:
        return frozenset(t.name for t in self.cascade.inputs)

    @cached_property
    def computed(self) -> frozenset[str]:
        return frozenset(t.tensor for e in self.cascade.equations for t in e.targets)

    @cached_property
    def tensors(self) -> tuple[str, ...]:
        """Every tensor, inputs first."""
        names = [t.name for t in self.cascade.inputs]
        names += [t.tensor for e in self.cascade.equations for t in e.targets]
        return tuple(dict.fromkeys([*names, *(t.name for t in self.cascade.outputs)]))

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        return tuple(p.name for p in self.cascade.parameters)

    @cached_property
    def axes(self) -> dict[str, tuple[str | None, ...]]:
        """The rank of each axis of each tensor."""
        return axis_ranks(self.cascade)

    @cached_property
    def ranks(self) -> frozenset[str]:
        """The ranks that something gives a meaning. An upper-case parameter is the extent of a rank, also where passes left no axis of it."""
        return with_whole(self.carried | {p.name.lower() for p in self.cascade.parameters if p.name != p.name.lower()})

    @cached_property
    def carried(self) -> frozenset[str]:
        """The ranks of a declaration, a left side, a reduction, or a bare index."""
        found = {*self.cascade.ranks}
        for tensor in (*self.cascade.inputs, *self.cascade.outputs):
            found.update(tensor.ranks)
        for equation in self.cascade.equations:
            found.update(r for t in equation.targets for r in t.ranks)
            for node in expressions(equation):
                if isinstance(node, Read):
                    found.update(i.name for i in node.indices if isinstance(i, Rank))
                elif isinstance(node, Reduction | Selection | CascadeCall):
                    found.update(node.ranks)
        return frozenset(found)

    @cached_property
    def is_library(self) -> bool:
        """Whether the cascade can only be called: it has ranks in brackets, or ``...``."""
        return bool(self.cascade.ranks) or any(ELLIPSIS in t.ranks for t in self.cascade.inputs)

    @cached_property
    def definitions(self) -> dict[str, Definition]:
        return {d.name: d for d in self.module.definitions}

    @cached_property
    def cascades(self) -> dict[str, Cascade]:
        """What a call may name: the cascades of the text, then those of the library."""
        from einsum_compiler.ir.library import library

        return {c.name: c for c in (*library().cascades, *self.module.cascades)}
