"""A kernel against the float64 reference, with an error budget instead of a tolerance.

Budget (docs/design of correctness): the error of the kernel may be twice that of the same program in plain PyTorch of the same types, plus a rounding band
of the output type. The plain program is the evaluator run in the precision of the inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from einsum_compiler.ir.binding import Binding
from einsum_compiler.ir.errors import AccuracyError

if TYPE_CHECKING:
    import torch

    from einsum_compiler.ir.cascade import Cascade, Module
    from einsum_compiler.kernel import Kernel

FACTOR = 2.0
DRAWS = 3  # other runs of the plain program in f32


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
    """What outputs should be, by name: in float64, and as the plain program of the inputs' precision gives them.

    ``as_good``: other runs that are as good as the plain one, made where its own error is too small a sample.
    """

    gold: Mapping[str, Any]
    plain: Mapping[str, Any]
    as_good: Callable[[], Iterable[Mapping[str, Any]]] = tuple


def validate(kernel: Kernel, binding: Binding) -> Validation:
    """Run kernel, plain program and float64 reference on the same arguments and compare every element.

    Raises ``AccuracyError`` naming the worst element of the first output over budget. Where the reference is NaN anything is accepted; infinities must be equal.
    """
    return compared(kernel.run(binding), reference_for(kernel, binding))


def reference_for(kernel: Kernel, binding: Binding) -> Reference:
    """The reference of a call, with other runs of the plain program for inputs that happen to hurt it less than its kin.

    Those runs are in f32: in float64 there are none.
    """
    import torch

    reference = reference_of(kernel.cascade, kernel.derivation.module, binding)
    if _lowest(binding) == torch.float64:
        return reference
    return replace(reference, as_good=lambda: (*_moved(kernel, binding), *_rounded(kernel, binding)))


def reference_of(cascade: Cascade, module: Module, binding: Binding) -> Reference:
    """Both evaluations of a cascade on the arguments of a call."""
    import torch

    def reference(dtype: torch.dtype, tensors: Mapping[str, Any]) -> dict[str, Any]:
        return _evaluated(cascade, module, binding, dtype, tensors)

    gold = reference(torch.float64, binding.tensors)
    if _lowest(binding) == torch.float64:
        return Reference(gold, _plain_f64(gold, binding.tensors, reference))
    return Reference(gold, _narrowed(reference(torch.float32, binding.tensors), binding))


def _evaluated(
    cascade: Cascade, module: Module | None, binding: Binding, dtype: torch.dtype, tensors: Mapping[str, Any]
) -> dict[str, Any]:
    from einsum_compiler.backends.reference.evaluate import evaluate

    return evaluate(cascade, tensors, binding.scalars, binding.extents, module=module, dtype=dtype)


def _lowest(binding: Binding) -> torch.dtype:
    """The floating type of least precision among the inputs."""
    import torch

    floats = [t.dtype for t in binding.tensors.values() if t.is_floating_point()]
    return min(floats, key=lambda d: torch.finfo(d).bits) if floats else torch.float32


def _narrowed(values: Mapping[str, Any], binding: Binding) -> dict[str, Any]:
    """Results computed in f32, in the type of the inputs."""
    lowest = _lowest(binding)
    return {n: v.to(lowest) if v.is_floating_point() else v for n, v in values.items()}


def _moved(kernel: Kernel, binding: Binding) -> Iterator[dict[str, Any]]:
    """The plain program on inputs moved by up to one unit in the last place, as if each had been rounded before.

    Law: what an algorithm without a fault may lose is what such inputs lose (backward error; Higham, Accuracy and Stability, 1.5). One run is
    one draw of it, and small where errors happen to cancel.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    unit = torch.finfo(torch.float32).eps
    for _ in range(DRAWS):
        tensors = dict(binding.tensors)
        for name, tensor in tensors.items():
            if tensor.is_floating_point() and tensor.dtype != torch.float64:
                step = torch.rand(tensor.shape, generator=generator, dtype=torch.float64).to(tensor.device) * 2 - 1
                tensors[name] = (tensor.double() * (1 + unit * step)).float()
        found = _evaluated(kernel.cascade, kernel.derivation.module, binding, torch.float32, tensors)
        yield _narrowed(found, binding)


def _rounded(kernel: Kernel, binding: Binding) -> Iterator[dict[str, Any]]:
    """The plain program with operands of products in the narrow type of the input they meet, as the language says, in the order the plan multiplies."""
    import torch

    from einsum_compiler.inspection import plan_orders
    from einsum_compiler.ir.extents import all_extents
    from einsum_compiler.ordering import in_orders
    from einsum_compiler.passes.precision import precision
    from einsum_compiler.specialise import request

    backend = kernel.compiling_backend(binding.tensors)
    wanted = request(kernel.derivation, binding, backend)
    orders = plan_orders(kernel.derivation, binding, backend, kernel.plan)
    cascade = in_orders(kernel.derivation, orders, wanted.dtypes).derivation.normalized
    rounded = precision(cascade, {t.name: wanted.dtypes[t.name] for t in cascade.inputs})
    if rounded != kernel.derivation.normalized:
        sized = replace(binding, extents=all_extents(rounded, binding.extents))
        yield _narrowed(_evaluated(rounded, None, sized, torch.float32, binding.tensors), binding)


def compared(found: Mapping[str, Any], reference: Reference) -> Validation:
    """The accuracy of every output found. Raises ``AccuracyError`` for the first one over budget."""
    results, others = [], list[Mapping[str, Any]]()

    def runs() -> Iterator[Mapping[str, Any]]:
        """The plain run, then, made once for all outputs, those that are as good."""
        yield reference.plain
        if not others:
            others.extend(reference.as_good())
        yield from others

    for name, value in found.items():
        if not value.is_floating_point():
            _exact(name, value, reference.gold[name])
            results.append(Accuracy(name, 0.0, 0.0, 0.0))
            continue
        plain = (run[name].to(value.dtype) for run in runs())
        results.append(_compared(name, value, plain, reference.gold[name]))
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


def _compared(name: str, value: Any, runs: Iterable[Any], gold: Any) -> Accuracy:
    """The accuracy of one output, against as many plain runs as it takes to be within the budget."""
    import torch

    known = ~gold.isnan()
    infinite = gold.isinf() & known
    wrong = infinite & (value.double() != gold)
    if wrong.any():
        index = tuple(int(i) for i in wrong.nonzero()[0])
        raise AccuracyError(f"{name}{list(index)} is {value[index].item()}, expected {gold[index].item()}")
    plain_error = 0.0
    for plain in runs:
        # A number too large for the output's type is infinite in the plain program too: no error, and no allowance for the others.
        finite = known & ~infinite & ~(plain.isinf() & (value == plain))
        if not finite.any():
            return Accuracy(name, 0.0, 0.0, 0.0)
        difference = torch.where(finite, (value.double() - gold).abs(), 0.0)
        difference = torch.where(finite & value.isnan(), torch.inf, difference)
        error = float(torch.where(finite & plain.isfinite(), (plain.double() - gold).abs(), 0.0).max())
        plain_error = max(plain_error, error)
        scale = float(torch.where(finite, gold.abs(), 0.0).max())
        budget = FACTOR * plain_error + 2 * torch.finfo(value.dtype).eps * scale
        worst = float(difference.max())
        if worst <= budget:
            return Accuracy(name, worst, plain_error, budget)
    index = tuple(int(i) for i in torch.unravel_index(difference.argmax(), difference.shape))
    raise AccuracyError(
        f"{name}{list(index)} is {value[index].item():.9g}, expected {gold[index].item():.9g}: error {worst:.3g}, budget {budget:.3g}",
        None,
        (f"plain PyTorch in the same types has an error of {plain_error:.3g}",),
    )
