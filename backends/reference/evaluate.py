"""The reference evaluator: the meaning of the language, in PyTorch, on any device, differentiable by autograd.

It is the oracle of every test, so it computes in float64 unless told otherwise, and prefers plain steps to fast ones.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, overload

import torch
from torch import Tensor

from einsum_compiler.backends.reference.cascades import evaluate_cascade, output
from einsum_compiler.backends.reference.scope import Scope
from einsum_compiler.backends.reference.values import Stored, scalar_tensor
from einsum_compiler.ir.binding import bind
from einsum_compiler.ir.cascade import Cascade, Module
from einsum_compiler.ir.definitions import expand_cascade
from einsum_compiler.ir.library import library
from einsum_compiler.ir.scalar import evaluate_scalar

Number = bool | int | float


@overload
def evaluate(
    cascade: Cascade,
    tensors: Mapping[str, Tensor],
    scalars: Mapping[str, Number | Tensor] | None = ...,
    extents: Mapping[str, int] | None = ...,
    *,
    module: Module | None = ...,
    dtype: torch.dtype = ...,
    every: Literal[False] = ...,
) -> dict[str, Tensor]: ...


@overload
def evaluate(
    cascade: Cascade,
    tensors: Mapping[str, Tensor],
    scalars: Mapping[str, Number | Tensor] | None = ...,
    extents: Mapping[str, int] | None = ...,
    *,
    module: Module | None = ...,
    dtype: torch.dtype = ...,
    every: Literal[True],
) -> dict[str, Stored]: ...


def evaluate(
    cascade: Cascade,
    tensors: Mapping[str, Tensor],
    scalars: Mapping[str, Number | Tensor] | None = None,
    extents: Mapping[str, int] | None = None,
    *,
    module: Module | None = None,
    dtype: torch.dtype = torch.float64,
    every: bool = False,
) -> dict[str, Tensor] | dict[str, Stored]:
    """The outputs of a cascade by name.

    Args:
        cascade: any cascade, as written or as a pass left it.
        tensors: the inputs, shaped as declared. Floats are converted to ``dtype``; integers keep their values.
        scalars: the parameters; those that are missing take their defaults. A floating 0-d tensor gets a gradient.
        extents: of every rank; found from the inputs if not given.
        module: the definitions and cascades that the text may call, besides those of the library.
        dtype: the type all floats are computed in. Types in the text round within it.
        every: all tensors that were computed, each with the mask of its points that are not empty.

    Raises ``SpecError`` for what only values show (cases that overlap, a carried tensor with holes) and ``ShapeError``.
    """
    scalars = dict(scalars or {})
    if extents is None:
        binding = bind(cascade, (), {**tensors, **scalars})
        extents = binding.extents
        scalars = {**binding.scalars, **binding.scalar_tensors}
    else:
        scalars = _with_defaults(cascade, scalars, extents)
    if module is not None:
        cascade = expand_cascade(cascade, module)
    callable_cascades = {c.name: c for c in library().cascades}
    if module is not None:
        callable_cascades |= {c.name: expand_cascade(c, module) for c in module.cascades}
    device = next((t.device for t in tensors.values()), torch.device("cpu"))
    inputs = {name: Stored(t.to(dtype) if t.dtype.is_floating_point else t) for name, t in tensors.items()}
    numbers = {name: scalar_tensor(value, dtype, device) for name, value in scalars.items()}
    around = Scope({}, numbers, extents, callable_cascades, dtype, device)
    wanted = {t.tensor for e in cascade.equations for t in e.targets} if every else None
    computed = evaluate_cascade(cascade, inputs, numbers, extents, around, wanted)
    if every:
        return computed
    return {t.name: output(t.name, computed).output() for t in cascade.outputs}


def _with_defaults(
    cascade: Cascade, scalars: Mapping[str, Number | Tensor], extents: Mapping[str, int]
) -> dict[str, Number | Tensor]:
    """The parameters with the defaults of those that are missing; parameters that give extents are left out."""
    found = dict(scalars)
    for parameter in cascade.parameters:
        is_extent = parameter.name != parameter.name.lower() and parameter.name.lower() in extents
        if parameter.name not in found and parameter.default is not None and not is_extent:
            names = {**found, **{rank.upper(): extent for rank, extent in extents.items()}}
            found[parameter.name] = evaluate_scalar(parameter.default, names)
    return found


class Reference:
    """A cascade as a function of tensors; see ``reference``."""

    def __init__(self, module: Module, name: str | None, dtype: torch.dtype) -> None:
        self.module = module
        self.cascade = module.cascade(name)
        self.dtype = dtype

    def __call__(self, *arguments: Any, **keywords: Any) -> Tensor | tuple[Tensor, ...]:
        """One tensor, or a tuple in the order of the outputs."""
        binding = bind(self.cascade, arguments, keywords)
        scalars = {**binding.scalars, **binding.scalar_tensors}
        found = evaluate(self.cascade, binding.tensors, scalars, binding.extents, module=self.module, dtype=self.dtype)
        results = tuple(found[t.name] for t in self.cascade.outputs)
        return results[0] if len(results) == 1 else results


def reference(
    source: str | os.PathLike[str] | Module, name: str | None = None, *, dtype: torch.dtype = torch.float64
) -> Reference:
    """The cascade of a text, a path to one, or a module, as a callable: inputs in order, then parameters, or by keyword.

    ``name`` picks a cascade; the last one otherwise. Raises ``SpecError`` if the text is no legal program.
    """
    from einsum_compiler.ir.parser import parse
    from einsum_compiler.ir.verify import verify

    if isinstance(source, Module):
        module = source
    elif isinstance(source, os.PathLike) or ("{" not in source and source.endswith(".ein")):
        module = parse(Path(source).read_text(encoding="utf-8"), str(source))
    else:
        module = parse(source)
    verify(module.cascade(name), module)
    return Reference(module, name, dtype)
