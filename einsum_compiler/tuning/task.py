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

    def binding(self, values: bool) -> Binding:
        """The call with new inputs; without ``values`` their memory is reserved and never touched."""
        tensors = {n: _tensor(o, self.seed + i if values else None) for i, (n, o) in enumerate(self.operands.items())}
        return Binding(tensors, dict(self.scalars), dict(self.extents))


def task_of(kernel: Kernel, binding: Binding, backend: str, folder: Path, hook: str | None = None) -> Task:
    """The task of tuning a kernel for the arguments of a call; writes the values that must be kept to ``folder``."""
    import torch

    steering = steering_inputs(kernel._derivation.stages[0][1])
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


def _tensor(operand: Operand, seed: int | None) -> Any:
    """A tensor of the operand's shape and strides; axes that it repeats (stride 0) included."""
    import torch

    reach = (
        1 + sum((n - 1) * s for n, s in zip(operand.shape, operand.stride, strict=True))
        if 0 not in operand.shape
        else 0
    )
    if seed is None or operand.values is not None:
        memory = torch.empty(reach, dtype=operand.dtype, device=operand.device)
    else:
        generator = torch.Generator().manual_seed(seed)
        memory = torch.randn(reach, generator=generator).to(operand.dtype).to(operand.device)
    found = memory.as_strided(operand.shape, operand.stride)
    if seed is not None and operand.values is not None:
        values = torch.load(operand.values, weights_only=True).to(operand.device)
        memory[:] = 0  # gaps between strides
        # Overlapping axes are written once for each place they show the same value.
        found.as_strided(operand.shape, operand.stride)
        memory.scatter_(0, _places(operand).to(operand.device), values.flatten())
    return found


def _places(operand: Operand) -> Any:
    """The place in memory of every element, in the order of ``flatten``."""
    import torch

    places = torch.zeros(operand.shape, dtype=torch.int64)
    for axis, (size, stride) in enumerate(zip(operand.shape, operand.stride, strict=True)):
        places += (torch.arange(size) * stride).reshape([-1 if a == axis else 1 for a in range(len(operand.shape))])
    return places.flatten()
