"""What names mean at one place of a cascade, and which points of the iteration space matter there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from einsum_compiler.backends.reference.named import Named, both, projected
from einsum_compiler.backends.reference.values import Stored, Value
from einsum_compiler.ir.cascade import Cascade
from einsum_compiler.ir.expression import Expression


@dataclass
class Growing:
    """A tensor of a recurrence while it is computed: slices by position on the iterative axis.

    ``size`` positions exist in the end; those not in ``positions`` yet are later ones. ``shape`` is that of one slice.
    """

    axis: int
    size: int
    shape: tuple[int, ...]
    device: torch.device
    positions: dict[int, Stored] = field(default_factory=dict)

    def zeros(self) -> Tensor:
        """A slice of integer zeros, which any type absorbs."""
        return torch.zeros(self.shape, dtype=torch.int64, device=self.device)

    def empty(self) -> Stored:
        """A slice of empty points."""
        return Stored(self.zeros(), torch.zeros(self.shape, dtype=torch.bool, device=self.device))


@dataclass(frozen=True)
class Scope:
    """Tensors, scalars and extents by name; ranks that a recurrence holds fixed; the domain.

    ``domain`` is where results are looked at (None: everywhere): filters and the conditions of ``if`` around. Functions
    are kept harmless outside of it.
    """

    tensors: dict[str, Stored | Growing]
    scalars: Mapping[str, Tensor]
    extents: Mapping[str, int]
    cascades: Mapping[str, Cascade]
    real: torch.dtype
    device: torch.device
    fixed: Mapping[str, int] = field(default_factory=dict)
    domain: Named | None = None

    def value(self, node: Expression) -> Value:
        """The value of an expression at every point of the ranks it depends on."""
        # The expressions module imports the modules that call this.
        from einsum_compiler.backends.reference.expressions import visit

        return visit(node, self)

    def within(self, mask: Named | None) -> Scope:
        """The same place with a smaller domain."""
        return self if mask is None else replace(self, domain=both(self.domain, mask))

    def binding(self, ranks: Collection[str]) -> Scope:
        """Inside parentheses that bind ``ranks``: outer ranks of those names are hidden."""
        domain = self.domain
        if domain is not None:
            domain = projected(domain, [r for r in domain.ranks if r not in ranks])
        return replace(self, domain=domain, fixed={r: i for r, i in self.fixed.items() if r not in ranks})

    def at(self, rank: str, position: int) -> Scope:
        """One step of a recurrence."""
        return replace(self, fixed={**self.fixed, rank: position})

    def coordinate(self, rank: str) -> Named:
        """A rank as a number."""
        if rank in self.fixed:
            return Named((), torch.tensor(self.fixed[rank], device=self.device))
        return Named((rank,), torch.arange(self.extents[rank], device=self.device))

    def sizes(self, ranks: Collection[str]) -> list[int]:
        return [self.extents[r] for r in ranks]
