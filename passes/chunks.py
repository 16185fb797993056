"""The names and the sizes of a rank cut into chunks: what planning needs to know of a split that was derived before.

Nothing here needs the algebra, so a call whose splits are kept on disk does not load it.
"""

from __future__ import annotations

from dataclasses import dataclass

from einsum_compiler.ir.cascade import Scalar
from einsum_compiler.ir.expression import Binary, Call, Constant, Expression, Extent
from einsum_compiler.passes.certificate import Transformed
from einsum_compiler.passes.streaming import TiledRank


@dataclass(frozen=True, slots=True)
class ChunkedRank(TiledRank):
    """The names of a rank cut into chunks: as those of a tiled one, which may follow inside a chunk.

    A plan gives the number of chunks, and their length is a multiple of ``tile``; or it gives the length of a chunk, which is ``tile``, and their number
    follows from the extent (``sized``): a chunk that is held whole is a constant of its kernel, and lengths must not be.
    """

    tile: int = 1
    sized: bool = False

    @property
    def outer(self) -> str:
        """Which chunk: ``n.3``."""
        return f"{self.rank}.3"

    @property
    def inner(self) -> str:
        """Where in the chunk: ``n.2``."""
        return f"{self.rank}.2"

    def scalars(self, tile: int) -> tuple[Scalar, Scalar]:
        """``N.3``, the number of chunks (here ``tile``), and ``N.2``, their length."""
        if self.sized:
            count = Call("ceil", (Binary("/", Extent(self.rank), Extent(self.inner)),))
            return (
                Scalar(self.inner.upper(), None, Constant(self.tile)),
                Scalar(self.outer.upper(), None, count),
            )
        return (
            Scalar(self.outer.upper(), None, Constant(tile)),
            Scalar(self.inner.upper(), None, _length(Extent(self.rank), Extent(self.outer), self.tile)),
        )


def chunk_length(extent: int, chunks: int, tile: int) -> int:
    """The coordinates of a chunk, a multiple of ``tile``: the value of ``N.2``. Without a number of chunks they are as long as a tile."""
    return max(1, -(-extent // (chunks * tile))) * tile if chunks else tile


def chunk_count(extent: int, chunks: int, tile: int) -> int:
    """The number of chunks: the value of ``N.3``."""
    return chunks or max(1, -(-extent // tile))


def is_refused(result: Transformed) -> bool:
    """Whether ``split`` left the cascade as it was; its certificates say why."""
    return any(c.step == "split" and c.form == "refused" for c in result.certificates)


def _length(extent: Expression, chunks: Expression, tile: int) -> Expression:
    if tile == 1:
        return Call("ceil", (Binary("/", extent, chunks),))
    tiles = Call("ceil", (Binary("/", extent, Binary("*", chunks, Constant(tile))),))
    return Binary("*", tiles, Constant(tile))
