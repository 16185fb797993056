"""Which tensors are stored between kernels: the ways worth a closer look, found by a rough estimate from the equations alone.

One kernel computes again what each of its tiles needs, or in one more sweep; two kernels pass it through memory. The estimate knows no tiles: operations of
every equation over its iteration space, repeated for program ranks that it lacks; bytes of inputs and outputs; a launch each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, prod

from einsum_compiler.cost.device import Device
from einsum_compiler.cost.operation_counts import BINARY, PARTS
from einsum_compiler.derivation import Derivation, kernel_cascades
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.expression import Binary, Call, Expression, Reduction, walk
from einsum_compiler.ir.plan import Accumulation
from einsum_compiler.ir.types import bytes_of, is_float
from einsum_compiler.passes.accumulate import WIDE, accumulated_ranks
from einsum_compiler.passes.kernel_cascade import KernelCascade, ranks_carried, reduced_ranks
from einsum_compiler.passes.kernel_shape import ROWS

MARGIN = 1.0  # of the usual estimate: other structures are looked at closer only below it
MOST = 2  # of other structures than the one that the laws of ``fuse`` give


def structures(
    derivation: Derivation,
    extents: Mapping[str, int],
    dtypes: Mapping[str, str],
    device: Device,
    margin: float = MARGIN,
    larger: bool = False,
) -> list[tuple[KernelCascade, ...]]:
    """The kernels by the laws of ``fuse``, and other ways that may be as good: with one tensor more or one less between kernels.

    What is stored between kernels may be as large as what the caller holds, all inputs and outputs together, but no larger; ``larger``: of any size, and
    every way to store less.
    """
    return ranked(derivation, extents, dtypes, device, larger).within(margin)


@dataclass(frozen=True)
class Ranked:
    """The kernels by the laws of ``fuse`` and their rough seconds; other ways with theirs, the best first."""

    default: tuple[KernelCascade, ...]
    seconds: float
    others: tuple[tuple[float, tuple[KernelCascade, ...]], ...]
    larger: bool

    def within(self, margin: float, most: int = MOST) -> list[tuple[KernelCascade, ...]]:
        """The default, and the others below ``margin`` of its seconds, at most so many and, if larger ones are asked for, those that store less."""
        stored = _between(self.default)
        near = [parts for seconds, parts in self.others if seconds < margin * self.seconds]
        return [
            self.default,
            *(parts for i, parts in enumerate(near) if i < most or (self.larger and _between(parts) < stored)),
        ]


def ranked(
    derivation: Derivation,
    extents: Mapping[str, int],
    dtypes: Mapping[str, str],
    device: Device,
    larger: bool = False,
    start: Sequence[KernelCascade] = (),
) -> Ranked:
    """Every way that ``structures`` chooses from; ``start``: those next to these kernels in place of the ones by the laws of ``fuse``."""
    default = tuple(start) or kernel_cascades(derivation, extents)
    normalized = derivation.normalized
    held = sum(_elements(t.ranks, extents) for t in (*normalized.inputs, *normalized.outputs))
    usual = rough_seconds(default, extents, dtypes, device)
    found: list[tuple[float, tuple[KernelCascade, ...]]] = []
    seen = {_groups(default)}
    ways: list[tuple[list[tuple[str, ...]], tuple[Accumulation, ...]]]
    ways = [(groups, ()) for groups in _neighbours(derivation, default)]
    if device.backend == "cpu":  # where programs can be made to follow one another
        ways += accumulating(default, dtypes)
    for groups, accumulated in ways:
        try:
            parts = kernel_cascades(derivation, extents, groups, accumulated)
        except PlanError:
            continue
        fits = larger or _buffers(parts, extents) <= max(held, _buffers(default, extents))
        if _groups(parts) in seen or not fits:
            continue
        seen.add(_groups(parts))
        found.append((rough_seconds(parts, extents, dtypes, device), parts))
    return Ranked(default, usual, tuple(sorted(found, key=lambda f: f[0])), larger)


def _elements(ranks: Sequence[str], extents: Mapping[str, int]) -> int:
    return prod(extents.get(r, 1) for r in ranks)


def _between(parts: Sequence[KernelCascade]) -> set[str]:
    """The tensors that some kernel writes and another reads."""
    read = {t.name for p in parts for t in p.cascade.inputs}
    return {t.name for p in parts for t in p.cascade.outputs if t.name in read}


def _buffers(parts: Sequence[KernelCascade], extents: Mapping[str, int]) -> int:
    """Elements of the tensors between kernels."""
    between = _between(parts)
    return sum(_elements(t.ranks, extents) for p in parts for t in p.cascade.outputs if t.name in between)


def _groups(parts: Sequence[KernelCascade]) -> frozenset[tuple[frozenset[str], tuple[Accumulation, ...]]]:
    return frozenset((frozenset(p.outputs), p.accumulated) for p in parts)


def accumulating(
    default: Sequence[KernelCascade], dtypes: Mapping[str, str]
) -> Iterator[tuple[list[tuple[str, ...]], tuple[Accumulation, ...]]]:
    """One kernel in place of two, where it can accumulate all that the other writes; a type narrower than sums have is rounded by a kernel of its own.

    What is accumulated in memory are real numbers: counts, of any type, are not.
    """
    real = "f64" if "f64" in dtypes.values() else "f32"
    for host in default:
        for other in default:
            own = [e for e in other.cascade.equations if e.target.tensor in other.outputs]
            sums = [(e.target.tensor, accumulated_ranks(e, host.program)) for e in own]
            if other is host or not all(ranks and is_float(dtypes.get(name, real)) for name, ranks in sums):
                continue
            narrow = {name for name, _ in sums if dtypes.get(name, real) != real}
            accumulated = tuple(Accumulation(n + WIDE if n in narrow else n, ranks) for n, ranks in sums)
            joined = (*host.outputs, *(a.tensor for a in accumulated))
            rest = [p.outputs for p in default if p is not host and p is not other]
            yield [joined, *rest, *([tuple(sorted(narrow))] if narrow else [])], accumulated


def _neighbours(derivation: Derivation, default: Sequence[KernelCascade]) -> Iterator[list[tuple[str, ...]]]:
    """What kernels write: nothing but outputs, everything else computed where it is read; one stored tensor less; one reduction more in a kernel of its own."""
    outputs = {t.name for t in derivation.normalized.outputs}
    groups = [p.outputs for p in default]
    stored = {name for group in groups for name in group}
    between = sorted(stored - outputs)
    for left_out in [set(between)] * (len(between) > 1) + [{name} for name in between]:
        rest = [tuple(n for n in group if n not in left_out) for group in groups]
        yield [group for group in rest if group]
    for part in default:
        read = {r.tensor for e in part.cascade.equations for r in e.reads}
        for e in part.cascade.equations:
            name = e.target.tensor
            if isinstance(e.value, Reduction) and name in read and name not in stored:
                yield [(name,), *groups]


def rough_seconds(
    parts: Sequence[KernelCascade], extents: Mapping[str, int], dtypes: Mapping[str, str], device: Device
) -> float:
    """Seconds of kernels one after the other, each its operations and its bytes."""
    total = 0.0
    narrow = next((d for d in ("bf16", "f16") if d in dtypes.values()), "f64" if "f64" in dtypes.values() else "f32")
    for part in parts:
        work = 0.0
        for e in part.cascade.equations:
            carried = ranks_carried(e)
            lacking = [r for r in part.program if r not in carried]
            points = prod(extents[r] for r in carried) * prod(ceil(extents[r] / ROWS) for r in lacking)
            sums = len(reduced_ranks(e)) > 0 and isinstance(e.value, Reduction) and e.value.operator == "sum"
            product = (
                sums
                and isinstance(e.value, Reduction)
                and isinstance(e.value.body, Binary)
                and e.value.body.operator == "*"
            )
            if product:
                work += 2.0 * points / device.product_rate(narrow)
            else:
                work += points * _seconds_of(e.value, device)
        tensors = (*part.cascade.inputs, *part.cascade.outputs)
        moved = sum(prod(extents.get(r, 1) for r in t.ranks) * bytes_of(dtypes.get(t.name, "f32")) for t in tensors)
        total += work + moved / device.memory.bandwidth + device.launch
    return total


def _seconds_of(node: Expression, device: Device) -> float:
    """Seconds of one point of an equation that is no product."""
    found = 1.0 / device.vector["f32"]
    for n in walk(node):
        parts = (
            PARTS.get(n.function, ("simple",))
            if isinstance(n, Call)
            else BINARY.get(n.operator, ("simple",))
            if isinstance(n, Binary)
            else ()
        )
        found += sum(1.0 / device.functions[p] if p in device.functions else 2.0 / device.vector["f32"] for p in parts)
    return found
