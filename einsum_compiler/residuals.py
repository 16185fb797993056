"""What a forward pass saves for the backward pass, and what that computes again: the choice with the least predicted time.

Saving a tensor costs a store by the forward kernels, if it is no output anyway, and loads by the backward ones; computing it again costs the operations, the
passes and sometimes a kernel more. Both are in the two cascades that a choice gives, so a choice costs the predicted time of their best plans. A rough
estimate of their equations (``cost.structures``) says which choices are worth planning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, prod
from typing import TYPE_CHECKING, Any

import torch

from einsum_compiler import store
from einsum_compiler.cost.device import Device, device_for
from einsum_compiler.ir.binding import Binding, bind
from einsum_compiler.ir.errors import EinsumError, PlanError
from einsum_compiler.ir.torch_types import dtype_name, torch_dtype
from einsum_compiler.size_classes import size_class

if TYPE_CHECKING:
    from einsum_compiler.ir.cascade import Cascade
    from einsum_compiler.kernel import Kernel
    from einsum_compiler.passes.differentiate import Differentiated, Gradient

WORTH = 0.98  # of the usual choice's time, by the estimate and by the prediction: what gains less is not taken
MOST_PLANNED = 2  # other choices
MOST_ESTIMATED = 16


@dataclass(frozen=True)
class Considered:
    """A choice of what is saved, with the predicted seconds of the forward and the backward pass."""

    saved: tuple[str, ...]
    forward: float
    backward: float

    @property
    def seconds(self) -> float:
        return self.forward + self.backward


@dataclass(frozen=True)
class Residuals:
    """What is saved. ``considered``: the choices that were planned, the best first; none where the estimate left only the usual one."""

    saved: tuple[str, ...]
    considered: tuple[Considered, ...] = ()


def chosen_residuals(
    kernel: Kernel,
    made: Callable[[], Differentiated],
    wanted: Sequence[str],
    binding: Binding,
    backend: str,
    first: bool = True,
) -> Residuals:
    """What is saved for the class of the sizes of a call, whose inputs and parameters ``wanted`` require gradients. Kept on the disk.

    ``binding``: of the forward call; only the shapes and types of its tensors are read. ``made``: the derivative of the kernel, asked for if it must be chosen now.
    ``first``: what holds for these very sizes is kept too, for the next process.
    """
    device = device_for(backend, kernel.target)

    def key(at: Binding) -> str:
        types = [(n, dtype_name(t.dtype)) for n, t in at.tensors.items()]
        values = [(n, size_class(v) if type(v) is int else type(v).__name__) for n, v in at.scalars.items()]
        sizes = sorted(at.extents.items())
        return store.key_of("residuals", *kernel.key, tuple(wanted), types, sizes, values, device.digest)

    exact = key(binding)
    found = store.load("residuals", exact, Residuals) if first else None
    if found is None:
        try:
            at = _at_class(kernel, binding)
        except PlanError:
            made()  # what has no gradient says so first
            raise
        found = store.load("residuals", key(at), Residuals)
        if found is None:
            found = _chosen(kernel, made(), at, device)
            store.save("residuals", key(at), found)
        if first:
            store.save("residuals", exact, found)
    return found


def _chosen(kernel: Kernel, made: Differentiated, binding: Binding, device: Device) -> Residuals:
    if not made.exists:
        return Residuals(())
    usual, *others = _worth_planning(kernel, made, binding, device)
    if not others:
        return Residuals(usual)
    first, *rest = (priced_residuals(kernel, made, binding, device, s) for s in (usual, *others))
    best = min(rest, key=lambda c: c.seconds)
    taken = best if best.seconds < WORTH * first.seconds else first
    return Residuals(taken.saved, (taken, *(c for c in (first, *rest) if c is not taken)))


def _at_class(kernel: Kernel, binding: Binding) -> Binding:
    """A call of the sizes that stand for those of a class; the call itself where they do not fit together."""
    from einsum_compiler.cost.choice import class_of

    cascade, sizes = kernel.cascade, class_of(kernel.derivation, binding.extents)
    tensors = {t.name: binding.tensors[t.name] for t in cascade.inputs}
    stand_ins = {
        t.name: torch.empty([sizes[r] for r in t.ranks], dtype=tensors[t.name].dtype, device="meta")
        for t in cascade.inputs
    }
    names = {**binding.names(), **{r.upper(): n for r, n in sizes.items()}}
    numbers = {p.name: names[p.name] for p in cascade.parameters if p.name in names}
    try:
        found = bind(cascade, (), {**stand_ins, **numbers})
    except EinsumError:
        return binding
    classes = {n: size_class(v) if type(v) is int else v for n, v in found.scalars.items()}
    return replace(found, scalars=classes, scalar_tensors=binding.scalar_tensors)


def compared_residuals(
    kernel: Kernel, made: Differentiated, binding: Binding, backend: str, taken: Sequence[str]
) -> list[Considered]:
    """The predicted times of the choice ``taken``, and of those with one tensor more, one less, or one in place of another. Plans every one of them."""
    device = device_for(backend, kernel.target)
    legal = _legal(kernel, made, binding)
    near = [s for s in _choices(legal, tuple(taken)) if len(set(s) ^ set(taken)) <= 2][:MOST_ESTIMATED]
    found: list[Considered] = []
    for saved in near:
        try:
            found.append(priced_residuals(kernel, made, binding, device, saved))
        except PlanError:  # what no plan runs
            if saved == tuple(taken):
                raise
    return found


def priced_residuals(
    kernel: Kernel, made: Differentiated, binding: Binding, device: Device, saved: Sequence[str]
) -> Considered:
    """The predicted seconds of both passes at the sizes of a call, with these tensors saved."""
    gradient = made.gradient(saved)
    outputs = _output_types(kernel, binding)
    forward = _seconds(kernel, gradient.forward, replace(binding, scalar_tensors={}), device)
    return Considered(
        gradient.saved,
        forward,
        _seconds(kernel, gradient.backward, backward_binding(gradient, binding, outputs), device),
    )


def backward_binding(gradient: Gradient, binding: Binding, types: Mapping[str, str]) -> Binding:
    """A call of the backward cascade, without values. ``types``: of the outputs of the forward cascade, and of what it saves."""
    cascade = gradient.backward
    output = {cotangent: name for name, cotangent in gradient.cotangents.items()}
    tensors: dict[str, Any] = {}
    for declared in cascade.inputs:
        source = output.get(declared.name, declared.name.removesuffix(".saved"))
        known = binding.tensors.get(source)
        shape = [binding.extents[r] for r in declared.ranks]
        dtype = known.dtype if known is not None else torch_dtype(declared.dtype or types[source])
        tensors[declared.name] = torch.empty(shape, dtype=dtype, device="meta")
    names = {**{n: 0.0 for n in binding.scalar_tensors}, **binding.names()}
    scalars = {p.name: names[p.name] for p in cascade.parameters if p.name in names}
    return bind(cascade, (), {**tensors, **scalars})


def _output_types(kernel: Kernel, binding: Binding) -> dict[str, str]:
    from einsum_compiler.derivation import output_dtypes

    return output_dtypes(kernel.derivation, {n: dtype_name(t.dtype) or "" for n, t in binding.tensors.items()})


def _legal(kernel: Kernel, made: Differentiated, binding: Binding) -> list[tuple[str, bool]]:
    """What may be saved at these sizes, and whether that is usual.

    Besides the usual ones: what is no larger than the largest output, and loses nothing by being stored (an output may be rounded to fewer bits than sums have).
    """
    cascade, types = made.cascade, _output_types(kernel, binding)
    ranks = {e.target.tensor: e.target.ranks for e in cascade.equations}
    outputs = {t.name for t in cascade.outputs}
    elements = {n: prod(binding.extents[r] for r in found) for n, found in ranks.items()}
    most = max((elements[n] for n in outputs), default=0)
    whole = ("f32", "f64")
    return [
        (n, n in made.usual)
        for n in made.residuals
        if n in made.usual or (elements[n] <= most and (n not in outputs or types[n] in whole))
    ]


def _choices(legal: Sequence[tuple[str, bool]], taken: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The choice taken; one tensor less, one more; nothing, everything that is usual, and everything; one tensor in place of another."""
    names = [n for n, _ in legal]
    sets = [set(taken)]
    sets += [set(taken) ^ {n} for n in names]
    sets += [set(), {n for n, usual in legal if usual}, set(names)]
    sets += [set(taken) ^ {less, more} for less in names for more in names if less in taken and more not in taken]
    yield from dict.fromkeys(tuple(n for n in names if n in s) for s in sets)


def _worth_planning(kernel: Kernel, made: Differentiated, binding: Binding, device: Device) -> list[tuple[str, ...]]:
    """The usual choice, and others that the estimate puts clearly below it, the best first."""
    legal = _legal(kernel, made, binding)
    usual = tuple(n for n, is_usual in legal if is_usual)
    choices = list(_choices(legal, usual))[:MOST_ESTIMATED]
    types = _output_types(kernel, binding)
    estimates = [(_estimate(made.gradient(s), binding, types, device), s) for s in choices]
    limit = WORTH * estimates[0][0]
    return [usual, *(s for e, s in sorted(estimates[1:]) if e < limit)][: 1 + MOST_PLANNED]


def _estimate(gradient: Gradient, binding: Binding, types: Mapping[str, str], device: Device) -> float:
    """Rough seconds of both passes; infinite for cascades that no set of kernels computes."""
    from einsum_compiler.cost.structures import rough_seconds
    from einsum_compiler.passes.fuse import fuse

    backward = backward_binding(gradient, binding, types)
    total = 0.0
    for cascade, bound in ((gradient.forward, binding), (gradient.backward, backward)):
        held = {n: dtype_name(t.dtype) or "" for n, t in bound.tensors.items()}
        held |= {t.name: types.get(t.name, "f32") for t in cascade.outputs}
        extents = {**binding.extents, **bound.extents}
        try:
            total += rough_seconds(fuse(cascade, extents), extents, held, device)
        except PlanError:
            return inf
    return total


def _seconds(kernel: Kernel, cascade: Cascade, binding: Binding, device: Device) -> float:
    """The predicted seconds of the best plan of a cascade."""
    from einsum_compiler.kernel import Kernel
    from einsum_compiler.planning import choices
    from einsum_compiler.specialise import request

    made = Kernel(str(cascade), kernel.source_name, None, kernel.backend, None, kernel.target, generated=True)
    wanted = request(made.derivation, binding, device.backend)
    found, _ = choices(made.derivation, wanted.extents, device.backend, wanted.dtypes, wanted.numbers, device, False)[0]
    return found.considered[0][1].seconds
