"""The kernels of a derivative: the forward kernel that saves what the backward kernel reads again, and the backward kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from einsum_compiler import store
from einsum_compiler.ir.binding import bind
from einsum_compiler.ir.torch_types import dtype_name
from einsum_compiler.size_classes import size_class

if TYPE_CHECKING:
    from einsum_compiler.ir.binding import Binding
    from einsum_compiler.kernel import Kernel
    from einsum_compiler.passes.differentiate import Differentiated, Gradient

REMEMBERED = 2048  # sizes of one kernel
LENGTH, PARAMETER = 1024, 16  # of an axis that a traced graph knows no size of; of a whole number given as a tensor


@dataclass(frozen=True)
class GradientKernels:
    """A cascade's forward and backward kernels for one set of inputs that want gradients."""

    gradient: Gradient
    forward: Kernel
    backward: Kernel
    saved: tuple[str, ...]

    @cached_property
    def written(self) -> tuple[str, ...]:
        """What the forward kernel writes: the outputs, then what is saved besides."""
        return tuple(t.name for t in self.gradient.forward.outputs)

    @cached_property
    def read(self) -> tuple[str, ...]:
        """What the backward kernel reads, besides cotangents and extents: inputs, parameters and saved tensors (``X.saved`` is ``X`` as it was written)."""
        others = {*self.gradient.cotangents.values(), *(set(self.backward.parameters) - set(self.forward.parameters))}
        return tuple(n for n in self.backward.names if n not in others)

    @cached_property
    def required(self) -> tuple[str, ...]:
        """The parameters that a backward call must give."""
        return tuple(p.name for p in self.backward.cascade.parameters if p.default is None)

    def numbers_of_backward(
        self, kernel: Kernel, numbers: Mapping[str, Any], tensors: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The numbers of a backward call: those of the call of ``kernel``, and extents that no tensor of the backward cascade has."""
        found = {n: v for n, v in numbers.items() if n in self.read}
        missing = [n for n in self.required if n not in found and (n not in tensors or n not in kernel.parameters)]
        if missing:
            # A tensor without axes has a value only when the kernel runs; no extent depends on it.
            known = {n: 0.0 if n in kernel.parameters else v for n, v in tensors.items()}
            names = bind(kernel.cascade, (), {**known, **numbers}).names()
            found |= {n: names[n] for n in missing}
        return found


def gradient_kernels(kernel: Kernel, given: Mapping[str, Any]) -> GradientKernels | None:
    """The kernels for the tensors among the arguments that require gradients, and for the sizes of all; None where no output depends on those but by choices.

    Raises ``PlanError`` where the cascade has none, or cannot save what the plan says.
    """
    types = {n: dtype_name(t.dtype) or "" for n, t in given.items() if isinstance(t, torch.Tensor)}
    wanted = tuple(n for n in types if given[n].requires_grad)
    key = wanted, tuple(types.items()), () if kernel.saves is not None else _sizes(given)
    if key in kernel.gradients:
        return kernel.gradients[key]
    derived = _Derived(kernel, wanted, types)
    saved = kernel.saves if kernel.saves is not None else _chosen(derived, given)
    known = (k for (w, t, _), k in kernel.gradients.items() if (w, t) == key[:2] and k is not None and k.saved == saved)
    found = next(known, None) or derived.kernels(saved)
    if len(kernel.gradients) >= REMEMBERED:
        kernel.gradients.clear()
    kernel.gradients[key] = found
    return found


def residuals_of(kernel: Kernel, binding: Binding) -> tuple[Differentiated, tuple[str, ...]]:
    """The derivative of a kernel for a call, and what is saved for it: as the plan says, else as chosen."""
    given = {**binding.tensors, **binding.scalar_tensors}
    types = {n: dtype_name(t.dtype) or "" for n, t in given.items()}
    derived = _Derived(kernel, tuple(n for n in given if given[n].requires_grad), types)
    numbers = {n: v for n, v in binding.names().items() if n in kernel.parameters}
    saved = kernel.saves if kernel.saves is not None else _chosen(derived, {**given, **numbers})
    return derived.differentiated(), derived.differentiated().gradient(saved).saved


@dataclass(frozen=True)
class _Derived:
    """The derivative of a kernel along the arguments ``wanted``, for arguments of these types; made when it is first asked for."""

    kernel: Kernel
    wanted: tuple[str, ...]
    types: Mapping[str, str]

    @cached_property
    def _made(self) -> Differentiated:
        from einsum_compiler.crash import Case, reproducible, step
        from einsum_compiler.passes.differentiate import differentiated

        kernel, types = self.kernel, self.types
        accumulator = "f64" if "f64" in types.values() else "f32"
        with reproducible(Case(kernel.text, kernel.source_name, kernel.requested)), step("differentiate"):
            normalized = dict(kernel.derivation.stages)["normalize"]
            return differentiated(normalized, self.wanted, accumulator, {n: types[n] for n in self.wanted})

    def differentiated(self) -> Differentiated:
        return self._made

    def kernels(self, saved: tuple[str, ...]) -> GradientKernels | None:
        """The forward and the backward kernel; None where there is nothing to go back to."""
        from einsum_compiler.kernel import Kernel
        from einsum_compiler.passes.differentiate import Gradient

        kernel = self.kernel
        key = store.key_of("gradient", *kernel.key, self.wanted, tuple(sorted(self.types.items())), saved)
        gradient = store.load("gradients", key, Gradient)
        if gradient is None:
            gradient = self._made.gradient(saved)
            store.save("gradients", key, gradient)
        if not gradient.gradients:
            return None
        forward, backward = (
            Kernel(
                str(cascade),
                kernel.source_name,
                None,
                kernel.backend,
                None,
                kernel.target,
                generated=True,
                origin=kernel.identity,
            )
            for cascade in (gradient.forward, gradient.backward)
        )
        return GradientKernels(gradient, forward, backward, saved)


def _chosen(derived: _Derived, given: Mapping[str, Any]) -> tuple[str, ...]:
    """What is saved for arguments of these sizes, with the least predicted time."""
    from torch.utils._python_dispatch import _disable_current_modes

    from einsum_compiler.residuals import chosen_residuals

    with _disable_current_modes():  # of a graph that is being traced: stand-ins are no part of it
        kernel = derived.kernel
        stand_ins = {n: _number(v) if n in kernel.parameters else _without_values(v) for n, v in given.items()}
        binding = bind(kernel.cascade, (), stand_ins)
        backend = kernel.compiling_backend({n: v for n, v in given.items() if isinstance(v, torch.Tensor)})
        first = not kernel.gradients
        return chosen_residuals(kernel, derived.differentiated, derived.wanted, binding, backend, first).saved


def _without_values(tensor: Any) -> Any:
    return torch.empty([_number(n) for n in tensor.shape], dtype=tensor.dtype, device="meta")


def _number(value: Any) -> Any:
    """A number, or the one that a symbol stands for where a graph was traced, which this does not fix; for a tensor without axes one of its type: its value is not waited for."""
    if isinstance(value, torch.Tensor):
        return 1.0 if value.is_floating_point() else value.dtype == torch.bool or PARAMETER
    if isinstance(value, torch.SymInt):
        from torch.fx.experimental.symbolic_shapes import optimization_hint

        return optimization_hint(value, fallback=LENGTH)
    if isinstance(value, (torch.SymFloat, torch.SymBool)):
        return value.node.hint
    return value


def _sizes(given: Mapping[str, Any]) -> tuple[object, ...]:
    """What the choice of residuals depends on, besides types."""
    found: list[object] = []
    for value in given.values():
        if isinstance(value, torch.Tensor):
            found.append(tuple(map(_number, value.shape)))
        else:
            number = _number(value)
            found.append(size_class(number) if type(number) is int else type(number))
    return tuple(found)
