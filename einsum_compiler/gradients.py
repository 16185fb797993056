"""Gradients through autograd: the forward kernel that saves what the backward kernel reads again, and the backward kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from einsum_compiler import store
from einsum_compiler.ir.binding import Binding, bind
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

    @property
    def written(self) -> tuple[str, ...]:
        """What the forward kernel writes: the outputs, then what is saved besides."""
        return tuple(t.name for t in self.gradient.forward.outputs)


def gradient_kernels(
    kernel: Kernel, binding: Binding, known: dict[object, GradientKernels] | None = None
) -> GradientKernels:
    """The kernels for the tensors of a call that require gradients. Raises ``PlanError`` where the cascade has none."""
    from einsum_compiler.kernel import Kernel

    given = {**binding.tensors, **binding.scalar_tensors}
    types = {n: dtype_name(t.dtype) or "" for n, t in given.items()}
    wanted = tuple(n for n, t in given.items() if t.requires_grad)
    key = wanted, tuple(types.items())
    known = {} if known is None else known
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


def differentiable_call(kernels: GradientKernels, outputs: tuple[str, ...], binding: Binding) -> Any:
    """The outputs of a call, with their place in autograd's graph."""
    given = {**binding.tensors, **binding.scalar_tensors}
    found = _Differentiable.apply(  # type: ignore[no-untyped-call]
        kernels, outputs, binding, tuple(given), *given.values()
    )
    return found[0] if len(found) == 1 else found


class _Differentiable(torch.autograd.Function):
    """One call as a node of the graph; the gradients of what it saves are the backward cascade's business."""

    @staticmethod
    def forward(
        context: Any,
        kernels: GradientKernels,
        outputs: tuple[str, ...],
        binding: Binding,
        names: tuple[str, ...],
        *given: Any,
    ) -> tuple[Any, ...]:
        results = kernels.forward.run(binding)
        read = [t.name for t in kernels.gradient.backward.inputs]
        cotangents = set(kernels.gradient.cotangents.values())
        tensors = dict(zip(names, given, strict=True))
        saved = {
            n: tensors[n] if n in tensors else results[n.removesuffix(".saved")] for n in read if n not in cotangents
        }
        context.save_for_backward(*saved.values())
        context.names, context.saved, context.kernels, context.outputs = names, tuple(saved), kernels, outputs
        context.scalars = {n: v for n, v in binding.scalars.items()}
        context.shapes = {o: (results[o].shape, results[o].dtype, results[o].device) for o in outputs}
        context.set_materialize_grads(False)
        made = tuple(results[o] for o in outputs)
        context.mark_non_differentiable(
            *(t for t, o in zip(made, outputs, strict=True) if o not in kernels.gradient.cotangents)
        )
        return made

    @staticmethod
    @once_differentiable
    def backward(context: Any, *cotangents: Any) -> tuple[Any, ...]:
        kernels: GradientKernels = context.kernels
        gradient = kernels.gradient
        tensors = dict(zip(context.saved, context.saved_tensors, strict=True))
        for output, given in zip(context.outputs, cotangents, strict=True):
            if output in gradient.cotangents:
                shape, dtype, device = context.shapes[output]
                tensors[gradient.cotangents[output]] = (
                    torch.zeros(shape, dtype=dtype, device=device) if given is None else given
                )
        cascade = kernels.backward.cascade
        declared = {p.name for p in cascade.parameters}
        scalars = {n: v for n, v in context.scalars.items() if n in declared}
        results = kernels.backward.run(bind(cascade, (), {**tensors, **scalars}))
        found = (results[gradient.gradients[n]] if n in gradient.gradients else None for n in context.names)
        return (None, None, None, None, *found)
