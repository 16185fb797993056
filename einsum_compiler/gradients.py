"""Gradients through autograd: the forward kernel that saves what the backward kernel reads again, and the backward kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from einsum_compiler import store
from einsum_compiler.ir.binding import bind
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.torch_types import dtype_name

if TYPE_CHECKING:
    from einsum_compiler.kernel import Kernel
    from einsum_compiler.passes.differentiate import Gradient


@dataclass(frozen=True)
class GradientKernels:
    """A cascade's forward and backward kernels for one set of inputs that want gradients."""

    gradient: Gradient
    forward: Kernel
    backward: Kernel

    @cached_property
    def written(self) -> tuple[str, ...]:
        """What the forward kernel writes: the outputs, then what is saved besides."""
        return tuple(t.name for t in self.gradient.forward.outputs)

    @cached_property
    def read(self) -> tuple[str, ...]:
        """What the backward kernel reads, besides cotangents: inputs, parameters and saved tensors (``X.saved`` is ``X`` as it was written)."""
        cotangents = set(self.gradient.cotangents.values())
        return tuple(n for n in self.backward.names if n not in cotangents)

    @cached_property
    def required(self) -> tuple[str, ...]:
        """The parameters that a backward call must give."""
        return tuple(p.name for p in self.backward.cascade.parameters if p.default is None)


def gradient_kernels(kernel: Kernel, given: Mapping[str, Any]) -> GradientKernels:
    """The kernels for the tensors among the arguments that require gradients. Raises ``PlanError`` where the cascade has none."""
    from einsum_compiler.kernel import Kernel

    types = {n: dtype_name(t.dtype) or "" for n, t in given.items() if isinstance(t, torch.Tensor)}
    wanted = tuple(n for n in types if given[n].requires_grad)
    key = wanted, tuple(types.items())
    known = kernel.gradients
    if key not in known:
        gradient = _gradient(kernel, wanted, types)
        forward, backward = (
            Kernel(str(cascade), kernel.source_name, None, kernel.backend, None, kernel.target, generated=True)
            for cascade in (gradient.forward, gradient.backward)
        )
        known[key] = GradientKernels(gradient, forward, backward)
    return known[key]


def _gradient(kernel: Kernel, wanted: tuple[str, ...], types: Mapping[str, str]) -> Gradient:
    from einsum_compiler.crash import Case, reproducible, step
    from einsum_compiler.passes.differentiate import Gradient, differentiate

    accumulator = "f64" if "f64" in types.values() else "f32"
    key = store.key_of("gradient", *kernel._key, wanted, tuple(sorted(types.items())))
    found = store.load("gradients", key, Gradient)
    if found is None:
        with reproducible(Case(kernel.text, kernel.source_name, kernel.requested)), step("differentiate"):
            normalized = dict(kernel._derivation.stages)["normalize"]
            found = differentiate(normalized, wanted, accumulator, {n: types[n] for n in wanted})
        store.save("gradients", key, found)
    return found


def differentiable_call(kernel: Kernel, given: Mapping[str, Any]) -> Any:
    """The outputs of a call, with their place in autograd's graph. ``given``: the arguments by name."""
    kernels = gradient_kernels(kernel, given)
    tensors = {n: v for n, v in given.items() if isinstance(v, torch.Tensor)}
    numbers = {n: v for n, v in given.items() if n not in tensors}
    found = _Differentiable.apply(  # type: ignore[no-untyped-call]
        kernels, kernel, numbers, tuple(tensors), *tensors.values()
    )
    return found[0] if len(found) == 1 else found


def _backward_numbers(
    kernels: GradientKernels, kernel: Kernel, numbers: Mapping[str, Any], tensors: Any
) -> dict[str, Any]:
    """The numbers of a backward call: those of the forward call, and extents that no tensor of the backward cascade has."""
    found = {n: v for n, v in numbers.items() if n in kernels.read}
    missing = [n for n in kernels.required if n not in found and n not in tensors]
    if missing:
        # A tensor without axes has a value only when the kernel runs; no extent depends on it.
        known = {n: 0.0 if n in kernel.parameters else v for n, v in tensors.items()}
        names = bind(kernel.cascade, (), {**known, **numbers}).names()
        found |= {n: names[n] for n in missing}
    return found


class _Differentiable(torch.autograd.Function):
    """One call as a node of the graph; the gradients of what it saves are the backward cascade's business."""

    @staticmethod
    def forward(
        context: Any,
        kernels: GradientKernels,
        kernel: Kernel,
        numbers: dict[str, Any],
        names: tuple[str, ...],
        *given: Any,
    ) -> tuple[Any, ...]:
        tensors = dict(zip(names, given, strict=True))
        made = kernels.forward(**tensors, **numbers)
        results = dict(zip(kernels.written, made if isinstance(made, tuple) else (made,), strict=True))
        known = {**results, **tensors}
        saved = {n: known[n.removesuffix(".saved")] for n in kernels.read if n.removesuffix(".saved") in known}
        context.save_for_backward(*saved.values())
        context.names, context.saved, context.kernels, context.outputs = names, tuple(saved), kernels, kernel.outputs
        context.numbers = _backward_numbers(kernels, kernel, numbers, tensors)
        context.like = {o: (results[o].shape, results[o].dtype, results[o].device) for o in kernel.outputs}
        context.set_materialize_grads(False)
        outputs = tuple(results[o] for o in kernel.outputs)
        context.mark_non_differentiable(
            *(t for t, o in zip(outputs, kernel.outputs, strict=True) if o not in kernels.gradient.cotangents)
        )
        return outputs

    @staticmethod
    def backward(context: Any, *cotangents: Any) -> tuple[Any, ...]:
        kernels: GradientKernels = context.kernels
        gradient = kernels.gradient
        tensors = dict(zip(context.saved, context.saved_tensors, strict=True))
        for output, given in zip(context.outputs, cotangents, strict=True):
            if output in gradient.cotangents:
                if given is None:
                    shape, dtype, device = context.like[output]
                    given = torch.zeros(shape, dtype=dtype, device=device)
                tensors[gradient.cotangents[output]] = given
        with torch.no_grad():
            made = kernels.backward(**tensors, **context.numbers)
        results = dict(zip(kernels.backward.outputs, made if isinstance(made, tuple) else (made,), strict=True))
        found = [results[gradient.gradients[n]] if n in gradient.gradients else None for n in context.names]
        if torch.is_grad_enabled():  # create_graph: whoever differentiates again must hear of it
            found = _refusing_to_differentiate(kernels, tensors.values(), found)
        return (None, None, None, None, *found)


def _refusing_to_differentiate(kernels: GradientKernels, read: Any, found: list[Any]) -> list[Any]:
    """The gradients with a history that ends in an error, not in a constant."""
    reads = [t for t in read if t.requires_grad]
    present = [t for t in found if t is not None]
    if not reads or not present:
        return found
    again = iter(_OnceDifferentiable.apply(kernels.gradient.forward.name, len(present), *present, *reads))  # type: ignore[no-untyped-call]
    return [None if t is None else next(again) for t in found]


class _OnceDifferentiable(torch.autograd.Function):
    """Hands gradients on; their own derivative is a ``PlanError``."""

    @staticmethod
    def forward(context: Any, name: str, count: int, *tensors: Any) -> tuple[Any, ...]:
        context.name = name
        return tuple(t.view_as(t) for t in tensors[:count])

    @staticmethod
    def backward(context: Any, *_: Any) -> tuple[Any, ...]:
        raise PlanError(
            f"the gradient of {context.name} is differentiated again: second derivatives are not derived",
            None,
            ('backend="reference" has derivatives of every order',),
        )
