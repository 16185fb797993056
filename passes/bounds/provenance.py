"""Which external tensors the elements inside a group of equations stand for, come from and are stored as.

A bound counts the traffic of external tensors only. An intermediate that is a copy of one, element for element, stands for it.
"""

from __future__ import annotations

from collections.abc import Sequence

from einsum_compiler.passes.bounds.spaces import Access, Space, Spaces


class Provenance:
    """The equations of a group, ``exposed`` the tensors that they make for others, and where elements come from and go to."""

    def __init__(self, spaces: Spaces, members: Sequence[Space], exposed: set[str]) -> None:
        self.spaces, self.members, self.exposed = spaces, members, exposed
        self.by_tensor = {s.tensor: s for s in members}
        self._known_origins: dict[str, frozenset[str]] = {}

    def root(self, access: Access) -> str | None:
        """The external tensor whose elements an operand stands for, one for one; None where it may be made from fewer."""
        if access.tensor not in self.by_tensor:
            return access.tensor
        space = self.by_tensor[access.tensor]
        if access.tensor in self.spaces.carried or space.reduced or not access.projection.exact:
            return None
        for inner in space.reads:
            if not inner.guards and inner.projection.exact and inner.projection.digits == space.write.projection.digits:
                root = self.root(inner)
                if root is not None:
                    return root
        return None

    def stored(self, tensor: str) -> str | None:
        """The external tensor that a result is stored as, one for one: itself, or what maps make of it."""
        if tensor in self.exposed:
            return tensor
        if tensor in self.spaces.carried:
            return None
        own = self.by_tensor[tensor].write.projection
        for space in self.members:
            same = space.write.projection.digits == own.digits and own.exact and not space.reduced
            if same and any(
                a.tensor == tensor and a.projection.digits == own.digits and a.projection.exact for a in space.reads
            ):
                found = self.stored(space.tensor)
                if found is not None:
                    return found
        return None

    def origins(self, tensor: str) -> frozenset[str]:
        """The external tensors that the elements of a tensor may come from: itself, what the group computes it from, what it is stored as."""
        if tensor not in self.by_tensor:
            return frozenset((tensor,))
        if tensor not in self._known_origins:
            self._known_origins[tensor] = frozenset((tensor,) if tensor in self.exposed else ())
            parts = (self.origins(a.tensor) for a in self.by_tensor[tensor].reads)
            self._known_origins[tensor] = self._known_origins[tensor].union(*parts)
        return self._known_origins[tensor]
