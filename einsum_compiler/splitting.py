"""The kernels in place of one whose streamed rank, or a rank that it would hold whole, is split: more programs, then a merge of their states.

Whether and into how many chunks is chosen by predicted time (``cost.options``); the split cascade depends on the rank and the tile only, so it is
derived once and kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from einsum_compiler import store
from einsum_compiler.derivation import Derivation, scalar_dtypes
from einsum_compiler.ir.cascade import Cascade
from einsum_compiler.ir.plan import RankSplit
from einsum_compiler.passes.certificate import Certificate, Transformed
from einsum_compiler.passes.chunks import ChunkedRank, chunk_count, chunk_length, is_refused
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
    choices: Sequence[RankSplit],
    extents: Mapping[str, int],
    dtypes: Mapping[str, str],
) -> SplitKernels:
    """The kernels of one part of the cascade with its ranks in chunks, one after the other."""
    cascade = part.cascade
    certificates: list[Certificate] = []
    for choice in choices:
        result = _split(derivation, cascade, choice)
        certificates += result.certificates
        if is_refused(result):
            return SplitKernels((), {}, {}, tuple(certificates))
        cascade = result.cascade
    introduced = chunk_extents(choices, extents)
    fixed = [ChunkedRank(c.rank.rank).outer for c in choices if c.chunks]
    held = [ChunkedRank(c.rank.rank) for c in choices if not c.chunks]
    parts = fuse(cascade, {**extents, **introduced}, fixed, counted={r.outer: r.inner for r in held})
    return SplitKernels(parts, introduced, _buffers(derivation, part, parts, dtypes), tuple(certificates))


def chunk_extents(choices: Sequence[RankSplit], extents: Mapping[str, int]) -> dict[str, int]:
    """The extents of the ranks that splits make: how many chunks, and how long."""
    found: dict[str, int] = {}
    for choice in choices:
        rank = ChunkedRank(choice.rank.rank)
        size = extents[rank.rank], choice.chunks, choice.rank.size
        found |= {rank.outer: chunk_count(*size), rank.inner: chunk_length(*size)}
    return found


def _split(derivation: Derivation, cascade: Cascade, choice: RankSplit) -> Transformed:
    key = store.key_of("split", derivation.text, derivation.declared.name, cascade, choice)
    found = store.load("splits", key, Transformed)
    if found is None:
        from einsum_compiler.passes.split import Split, split

        found = split(cascade, Split(choice.rank.rank, choice.chunks, choice.rank.size))
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
