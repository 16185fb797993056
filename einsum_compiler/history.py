"""Calls as nodes of autograd's graph. What calls of one signature share is found once: a training step of a small model is mostly calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from einsum_compiler.gradients import GradientKernels, gradient_kernels
from einsum_compiler.ir.errors import PlanError

if TYPE_CHECKING:
    from einsum_compiler.kernel import Kernel


@dataclass(frozen=True)
class DifferentiableCall:
    """A kernel's calls with arguments of the same names, shapes, types and numbers, of which the same ones want gradients."""

    kernel: Kernel
    kernels: GradientKernels | None  # None: no output depends on those but by choices
    arguments: tuple[str, ...]
    tensors: tuple[int, ...]  # which of the arguments
    numbers: Mapping[str, Any]
    backward_numbers: Mapping[str, Any]

    def __call__(self, given: Sequence[Any]) -> Any:
        """The outputs for the arguments in their order, with their place in autograd's graph where they have one."""
        if self.kernels is None:
            with torch.no_grad():
                values = [v.detach() if isinstance(v, torch.Tensor) else v for v in given]
                return self.kernel.call_now((), dict(zip(self.arguments, values, strict=True)))
        found = _Differentiable.apply(self, *[given[i] for i in self.tensors])  # type: ignore[no-untyped-call]
        return found[0] if len(found) == 1 else found


def differentiable_call(kernel: Kernel, given: Mapping[str, Any]) -> DifferentiableCall:
    """What calls like the one with these arguments by name are. Raises ``PlanError`` where the cascade has no derivative."""
    kernels = gradient_kernels(kernel, given)
    tensors = {n: v for n, v in given.items() if isinstance(v, torch.Tensor)}
    numbers = {n: v for n, v in given.items() if n not in tensors}
    places = tuple(i for i, n in enumerate(given) if n in tensors)
    backward = {} if kernels is None else kernels.numbers_of_backward(kernel, numbers, tensors)
    return DifferentiableCall(kernel, kernels, tuple(given), places, numbers, backward)


class _Differentiable(torch.autograd.Function):
    """One call as a node of the graph; the gradients of what it saves are the backward cascade's business."""

    @staticmethod
    def forward(context: Any, call: DifferentiableCall, *given: Any) -> tuple[Any, ...]:
        kernels, outputs = call.kernels, call.kernel.outputs
        assert kernels is not None
        tensors = {call.arguments[i]: t for i, t in zip(call.tensors, given, strict=True)}
        made = kernels.forward(**tensors, **call.numbers)
        results = dict(zip(kernels.written, made if isinstance(made, tuple) else (made,), strict=True))
        known = {**results, **tensors}
        saved = {n: known[n.removesuffix(".saved")] for n in kernels.read if n.removesuffix(".saved") in known}
        context.save_for_backward(*saved.values())
        context.call, context.saved = call, tuple(saved)
        context.like = {o: (results[o].shape, results[o].dtype, results[o].device) for o in outputs}
        context.set_materialize_grads(False)
        context.mark_non_differentiable(*(results[o] for o in outputs if o not in kernels.gradient.cotangents))
        return tuple(results[o] for o in outputs)

    @staticmethod
    def backward(context: Any, *cotangents: Any) -> tuple[Any, ...]:
        call: DifferentiableCall = context.call
        kernels = call.kernels
        assert kernels is not None
        gradient = kernels.gradient
        tensors = dict(zip(context.saved, context.saved_tensors, strict=True))
        for output, given in zip(call.kernel.outputs, cotangents, strict=True):
            if output in gradient.cotangents:
                if given is None:
                    shape, dtype, device = context.like[output]
                    given = torch.zeros(shape, dtype=dtype, device=device)
                tensors[gradient.cotangents[output]] = given
        with torch.no_grad():
            made = kernels.backward(**tensors, **call.backward_numbers)
        results = dict(zip(kernels.backward.outputs, made if isinstance(made, tuple) else (made,), strict=True))
        names = [call.arguments[i] for i in call.tensors]
        found = [results[gradient.gradients[n]] if n in gradient.gradients else None for n in names]
        if torch.is_grad_enabled():  # create_graph: whoever differentiates again must hear of it
            found = _refusing_to_differentiate(kernels, tensors.values(), found)
        return (None, *found)


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
