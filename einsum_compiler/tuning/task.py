"""What a worker process is told: a program and a call of it, without the memory of the call.

Floating inputs are drawn anew. Inputs whose values decide which points exist keep them: whole numbers (documents, pages), and floats that a filter reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from einsum_compiler.ir.binding import Binding
from einsum_compiler.ir.cascade import Cascade
from einsum_compiler.ir.expression import Expression, Read, Reduction, Selection, walk
from einsum_compiler.ir.scalar import Number

if TYPE_CHECKING:
    import torch

    from einsum_compiler.kernel import Kernel


@dataclass(frozen=True)
class Operand:
    """An input: ``dtype`` as PyTorch's, ``stride`` in elements, and the file with its values where they matter."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: str
    values: Path | None


@dataclass(frozen=True)
class Task:
    """A program, a call, and where the worker may keep files. ``hook``: see ``worker``; ``seed``: of the inputs that are drawn."""

    text: str
    source: str
    name: str | None
    generated: bool
    backend: str
    target: str | None
    operands: dict[str, Operand]
    scalars: dict[str, Number]
    extents: dict[str, int]
    folder: Path
    threads: int
    hook: str | None = None
    seed: int = 7919

    def binding(self, values: bool, positive: bool = False) -> Binding:
        """The call with new inputs, ``positive`` ones if so; without ``values`` their memory is reserved and never touched."""
        tensors = {
            n: _tensor(o, self.seed + i if values else None, positive) for i, (n, o) in enumerate(self.operands.items())
        }
        return Binding(tensors, dict(self.scalars), dict(self.extents))


def task_of(kernel: Kernel, binding: Binding, backend: str, folder: Path, hook: str | None = None) -> Task:
    """The task of tuning a kernel for the arguments of a call; writes the values that must be kept to ``folder``."""
    import torch

    steering = steering_inputs(kernel.derivation.stages[0][1])
    operands = {}
    for name, value in binding.tensors.items():
        path = None
        if name in steering or not value.is_floating_point():
            path = folder / f"{name}.pt"
            torch.save(value.detach().contiguous().cpu(), path)
        operands[name] = Operand(tuple(value.shape), tuple(value.stride()), value.dtype, str(value.device), path)
    return Task(
        kernel.text,
        kernel.source_name,
        kernel.requested,
        kernel.generated,
        backend,
        kernel.target,
        operands,
        dict(binding.scalars),
        dict(binding.extents),
        folder,
        torch.get_num_threads(),
        hook,
    )


def steering_inputs(cascade: Cascade) -> set[str]:
    """The tensors that a filter reads."""
    found: set[str] = set()

    def reads(root: Expression | None) -> None:
        if root is not None:
            found.update(n.tensor for n in walk(root) if isinstance(n, Read))

    for equation in cascade.equations:
        reads(equation.where)
        for node in walk(equation.value):
            if isinstance(node, Reduction | Selection):
                reads(node.where)
    return found


def _tensor(operand: Operand, seed: int | None, positive: bool) -> Any:
    """A tensor of the operand's shape and strides; axes that it repeats (stride 0) included."""
    import torch

    axes = zip(operand.shape, operand.stride, strict=True)
    reach = 0 if 0 in operand.shape else 1 + sum((extent - 1) * stride for extent, stride in axes)
    if seed is None:
        memory = torch.empty(reach, dtype=operand.dtype, device=operand.device)
    elif operand.values is None:
        generator = torch.Generator().manual_seed(seed)
        normal = torch.randn(reach, generator=generator)
        memory = (normal.abs() if positive else normal).to(operand.dtype).to(operand.device)
    else:
        # Overlapping axes are written once for each place they show the same value; gaps between strides stay 0.
        values = torch.load(operand.values, weights_only=True)
        memory = torch.zeros(reach, dtype=operand.dtype).scatter_(0, _places(operand), values.flatten())
        memory = memory.to(operand.device)
    return memory.as_strided(operand.shape, operand.stride)


def _places(operand: Operand) -> Any:
    """The place in memory of every element, in the order of ``flatten``."""
    import torch

    places = torch.zeros(operand.shape, dtype=torch.int64)
    for axis, (size, stride) in enumerate(zip(operand.shape, operand.stride, strict=True)):
        places += (torch.arange(size) * stride).reshape([-1 if a == axis else 1 for a in range(len(operand.shape))])
    return places.flatten()
