"""The kernels in place of one whose streamed rank is split: more programs, then a merge of their states.

Whether and into how many chunks is chosen by predicted time (``cost.candidates``); the split cascade depends on the rank and the tile only, so it is
derived once and kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from einsum_compiler import store
from einsum_compiler.derivation import Derivation, scalar_dtypes
from einsum_compiler.ir.plan import RankSplit
from einsum_compiler.passes.certificate import Certificate, Transformed
from einsum_compiler.passes.chunks import ChunkedRank, chunk_length, is_refused
from einsum_compiler.passes.fuse import fuse
from einsum_compiler.passes.kernel_cascade import KernelCascade


@dataclass(frozen=True)
class SplitKernels:
    """The kernels in place of one: ``extents`` and ``dtypes`` of the ranks and buffers that the split made. No parts if it was refused."""

    parts: tuple[KernelCascade, ...]
    extents: Mapping[str, int]
    dtypes: Mapping[str, str]
    certificates: tuple[Certificate, ...]


def split_kernels(
    derivation: Derivation,
    part: KernelCascade,
    choice: RankSplit,
    extents: Mapping[str, int],
    dtypes: Mapping[str, str],
) -> SplitKernels:
    """The kernels of one part of the cascade with its streamed rank in chunks."""
    result = _split(derivation, part, choice)
    if is_refused(result):
        return SplitKernels((), {}, {}, result.certificates)
    rank = ChunkedRank(choice.rank.rank)
    length = chunk_length(extents[rank.rank], choice.chunks, choice.rank.size)
    introduced = {rank.outer: choice.chunks, rank.inner: length}
    parts = fuse(result.cascade, {**extents, **introduced}, (rank.outer,))
    return SplitKernels(parts, introduced, _buffers(derivation, part, parts, dtypes), result.certificates)


def _split(derivation: Derivation, part: KernelCascade, choice: RankSplit) -> Transformed:
    key = store.key_of("split", derivation.text, derivation.declared.name, part.cascade, choice)
    found = store.load("splits", key, Transformed)
    if found is None:
        from einsum_compiler.passes.split import Split, split

        found = split(part.cascade, Split(choice.rank.rank, choice.chunks, choice.rank.size))
        store.save("splits", key, found)
    return found


def _buffers(
    derivation: Derivation, whole: KernelCascade, parts: tuple[KernelCascade, ...], dtypes: Mapping[str, str]
) -> dict[str, str]:
    """The element type of every partial state: what it was computed in."""
    from einsum_compiler.passes.lowering.kinds import tensor_kinds

    real = "f64" if "f64" in dtypes.values() else "f32"
    types = {"real": real, "int": "i64", "bool": "bool"}
    found: dict[str, str] = {}
    for part in parts:
        kinds = tensor_kinds(part.cascade, {**dtypes, **found}, scalar_dtypes(derivation))
        found |= {name: types[kinds[name]] for name in part.outputs if name not in whole.outputs}
    return found
