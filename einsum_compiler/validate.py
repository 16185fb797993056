"""A kernel against the float64 reference, with an error budget instead of a tolerance.

Budget (docs/design of correctness): the error of the kernel may be twice that of the same program in plain PyTorch of the same types, plus a rounding band
of the output type. The plain program is the evaluator run in the precision of the inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from einsum_compiler.ir.binding import Binding
from einsum_compiler.ir.errors import AccuracyError

if TYPE_CHECKING:
    from einsum_compiler.ir.cascade import Cascade, Module
    from einsum_compiler.kernel import Kernel

FACTOR = 2.0


@dataclass(frozen=True)
class Accuracy:
    """The largest error of one output, what plain PyTorch has, and the budget."""

    output: str
    error: float
    plain_error: float
    budget: float

    def __str__(self) -> str:
        return f"{self.output}: error {self.error:.3g}, plain {self.plain_error:.3g}, budget {self.budget:.3g}"


@dataclass(frozen=True)
class Validation:
    """The accuracy of every output."""

    outputs: tuple[Accuracy, ...]

    def __str__(self) -> str:
        return "\n".join(map(str, self.outputs))


@dataclass(frozen=True)
class Reference:
    """What outputs should be, by name: in float64, and as the plain program of the inputs' precision gives them."""

    gold: Mapping[str, Any]
    plain: Mapping[str, Any]


def validate(kernel: Kernel, binding: Binding) -> Validation:
    """Run kernel, plain program and float64 reference on the same arguments and compare every element.

    Raises ``AccuracyError`` naming the worst element of the first output over budget. Where the reference is NaN anything is accepted; infinities must be equal.
    """
    found = kernel.run(binding)
    return compared(found, reference_of(kernel.cascade, kernel.derivation.module, binding))


def reference_of(cascade: Cascade, module: Module, binding: Binding) -> Reference:
    """Both evaluations of a cascade on the arguments of a call."""
    import torch

    from einsum_compiler.backends.reference.evaluate import evaluate

    def reference(dtype: torch.dtype, tensors: dict[str, Any]) -> dict[str, Any]:
        return evaluate(cascade, tensors, binding.scalars, binding.extents, module=module, dtype=dtype)

    gold = reference(torch.float64, binding.tensors)
    floats = [t.dtype for t in binding.tensors.values() if t.is_floating_point()]
    lowest = min(floats, key=lambda d: torch.finfo(d).bits) if floats else torch.float32
    if lowest == torch.float64:
        return Reference(gold, _plain_f64(gold, binding.tensors, reference))
    plain = reference(torch.float32, binding.tensors)
    return Reference(gold, {n: v.to(lowest) if v.is_floating_point() else v for n, v in plain.items()})


def compared(found: Mapping[str, Any], reference: Reference) -> Validation:
    """The accuracy of every output found. Raises ``AccuracyError`` for the first one over budget."""
    results = []
    for name, value in found.items():
        if not value.is_floating_point():
            _exact(name, value, reference.gold[name])
            results.append(Accuracy(name, 0.0, 0.0, 0.0))
            continue
        results.append(_compared(name, value, reference.plain[name].to(value.dtype), reference.gold[name]))
    return Validation(tuple(results))


def _plain_f64(
    gold: dict[str, Any], tensors: dict[str, Any], reference: Callable[[Any, dict[str, Any]], dict[str, Any]]
) -> dict[str, Any]:
    """What a plain float64 program would give, though the reference is one itself and has no error to compare with.

    Law: rounding errors are proportional to the unit of the type, so the error of the same program in f32 (on inputs that are f32 numbers) is scaled down.
    """
    import torch

    narrow = {n: t.to(torch.float32) if t.is_floating_point() else t for n, t in tensors.items()}
    in_f32, exact = reference(torch.float32, narrow), reference(torch.float64, narrow)
    ratio = torch.finfo(torch.float64).eps / torch.finfo(torch.float32).eps
    return {
        n: g + ((in_f32[n].double() - exact[n]) * ratio).nan_to_num(0.0) if g.is_floating_point() else g
        for n, g in gold.items()
    }


def _exact(name: str, value: Any, gold: Any) -> None:
    different = value != gold.to(value.dtype)
    if different.any():
        index = tuple(int(i) for i in different.nonzero()[0])
        raise AccuracyError(f"{name}{list(index)} is {value[index].item()}, expected {gold[index].item()}")


def _compared(name: str, value: Any, plain: Any, gold: Any) -> Accuracy:
    import torch

    known = ~gold.isnan()
    infinite = gold.isinf() & known
    wrong = infinite & (value.double() != gold)
    if wrong.any():
        index = tuple(int(i) for i in wrong.nonzero()[0])
        raise AccuracyError(f"{name}{list(index)} is {value[index].item()}, expected {gold[index].item()}")
    # A number too large for the output's type is infinite in the plain program too: no error, and no allowance for the others.
    finite = known & ~infinite & ~(plain.isinf() & (value == plain))
    if not finite.any():
        return Accuracy(name, 0.0, 0.0, 0.0)
    difference = torch.where(finite, (value.double() - gold).abs(), 0.0)
    difference = torch.where(finite & value.isnan(), torch.inf, difference)
    plain_error = float(torch.where(finite & plain.isfinite(), (plain.double() - gold).abs(), 0.0).max())
    scale = float(torch.where(finite, gold.abs(), 0.0).max())
    budget = FACTOR * plain_error + 2 * torch.finfo(value.dtype).eps * scale
    worst = float(difference.max())
    if not worst <= budget:
        index = tuple(int(i) for i in torch.unravel_index(difference.argmax(), difference.shape))
        raise AccuracyError(
            f"{name}{list(index)} is {value[index].item():.9g}, expected {gold[index].item():.9g}: error {worst:.3g}, budget {budget:.3g}",
            None,
            (f"plain PyTorch in the same types has an error of {plain_error:.3g}",),
        )
    return Accuracy(name, worst, plain_error, budget)
