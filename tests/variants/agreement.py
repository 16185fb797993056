"""Tile programs run in PyTorch against the evaluator in float64: the same law-abiding values, whatever the sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import einsum_compiler as ec
from einsum_compiler.backends.reference.evaluate import evaluate
from einsum_compiler.backends.reference.tile_interpreter import run_kernel
from einsum_compiler.executable import Executable
from einsum_compiler.ir.binding import Binding
from einsum_compiler.ir.tile import TileKernel
from einsum_compiler.kernel import Kernel
from einsum_compiler.specialise import lower_planned, plan_of, request

Make = Callable[[torch.Generator, list[int]], Tensor]


@dataclass(frozen=True)
class Variant:
    """A program someone may write, how to make its inputs, and (for some) the same thing in plain PyTorch.

    ``make`` draws the inputs that are not normal; ``sizes`` fixes extents, by rank; ``plain`` takes the tensors and scalars by name.
    """

    name: str
    text: str
    make: Mapping[str, Make] = field(default_factory=dict)
    scalars: Mapping[str, Any] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    plain: Callable[..., Tensor | tuple[Tensor, ...]] | None = None

    def __str__(self) -> str:
        return self.name


def integers(low: int, high: int) -> Make:
    """Integers from ``low`` up to ``high``, without it."""
    return lambda g, shape: torch.randint(low, high, shape, generator=g)


def booleans(share: float = 0.5) -> Make:
    return lambda g, shape: torch.rand(shape, generator=g) < share


def ascending(count: int) -> Make:
    """Sorted integers below ``count`` along the last axis."""
    return lambda g, shape: torch.randint(0, count, shape, generator=g).sort(-1).values


def positive(g: torch.Generator, shape: list[int]) -> Tensor:
    return torch.rand(shape, generator=g, dtype=torch.float64) + 0.1


def inputs(
    variant: Variant, kernel: Kernel, sizes: Mapping[str, int], dtype: torch.dtype = torch.float64, seed: int = 0
) -> dict[str, Tensor]:
    """Inputs by name, normal unless the variant says otherwise; axes are not contiguous in every second tensor."""
    generator = torch.Generator().manual_seed(seed)
    extents = {"b": 2, "h": 2, "g": 1, "e": 8, "f": 5, **sizes, **variant.sizes}
    found: dict[str, Tensor] = {}
    for position, declared in enumerate(kernel.cascade.inputs):
        shape = [extents[r] for r in declared.ranks]
        if declared.name in variant.make:
            tensor = variant.make[declared.name](generator, shape)
        else:
            tensor = torch.randn(shape, generator=generator, dtype=torch.float64)
        if tensor.is_floating_point():
            tensor = tensor.to(dtype)
        if position % 2 and tensor.dim() > 1:
            tensor = tensor.transpose(0, -1).contiguous().transpose(0, -1)
        found[declared.name] = tensor
    return found


def interpreted(kernel: Kernel, binding: Binding, backend: str = "cpu") -> dict[str, Tensor]:
    """The outputs of the tile programs that a backend would be given."""

    def runner(program: TileKernel) -> tuple[TileKernel, Any]:
        def run(tensors: Mapping[str, Any], scalars: Mapping[str, Any], extents: Mapping[str, int]) -> None:
            added = {a.tensor for a in program.accumulated}
            for operand in program.outputs:  # poison: a kernel writes all of its outputs, but for those it adds to
                if operand.name in added:
                    continue
                tensor = tensors[operand.name]
                tensor.fill_(torch.nan if tensor.is_floating_point() else torch.iinfo(torch.int8).max)
            run_kernel(program, tensors, scalars, extents)

        return program, run

    wanted = request(kernel.derivation, binding, backend)
    planned = plan_of(kernel.derivation, wanted, kernel.plan)
    programs = tuple(runner(lower_planned(p, wanted)) for p in planned)
    outputs = tuple(t.name for t in kernel.cascade.outputs)
    executable = Executable(programs, outputs, tuple(p.extents for p in planned))
    return executable.run(binding.tensors, binding.scalars, binding.extents)


def evaluated(kernel: Kernel, binding: Binding) -> dict[str, Tensor]:
    """What the language says, in float64."""
    module = kernel.derivation.module
    return evaluate(
        kernel.cascade, binding.tensors, binding.scalars, binding.extents, module=module, dtype=torch.float64
    )


def assert_close(found: Mapping[str, Tensor], gold: Mapping[str, Tensor], tolerance: float = 1e-9) -> None:
    """Equal shapes; integers and infinities equal; the rest to a tolerance of the largest value. Where gold is NaN anything will do."""
    for name, expected in gold.items():
        actual = found[name]
        assert actual.shape == expected.shape, f"{name}: shape {tuple(actual.shape)}, expected {tuple(expected.shape)}"
        known = ~expected.isnan()
        exact = known & (expected.isinf() if expected.is_floating_point() else torch.ones_like(known))
        _assert_none(name, exact & (actual.double() != expected.double()), actual, expected)
        finite = known & ~exact
        if not finite.any():
            continue
        scale = max(1.0, float(torch.where(finite, expected.abs(), 0).max()))
        error = (actual.double() - expected.double()).abs()
        _assert_none(name, finite & ~(error <= tolerance * scale), actual, expected)


def _assert_none(name: str, wrong: Tensor, actual: Tensor, expected: Tensor) -> None:
    if wrong.any():
        index = tuple(int(i) for i in wrong.nonzero()[0])
        raise AssertionError(
            f"{name}{list(index)}: got {actual[index].item()!r}, expected {expected[index].item()!r} ({int(wrong.sum())} of {wrong.numel()} wrong)"
        )


def check(variant: Variant, sizes: Mapping[str, int], backend: str = "cpu", seed: int = 0) -> None:
    """The tile programs of a backend agree with the evaluator, and the evaluator with the plain program."""
    kernel = ec.compile(variant.text)
    tensors = inputs(variant, kernel, sizes, seed=seed)
    binding = kernel.binding(**tensors, **variant.scalars)
    gold = evaluated(kernel, binding)
    if variant.plain is not None:
        result = variant.plain(**tensors, **variant.scalars)
        values = result if isinstance(result, tuple) else (result,)
        assert_close(gold, dict(zip(gold, values, strict=True)))
    assert_close(interpreted(kernel, binding, backend), gold)
