"""A backward cascade against autograd through the evaluator, in float64."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from einsum_compiler.backends.reference.evaluate import evaluate
from einsum_compiler.ir.binding import bind
from einsum_compiler.ir.cascade import Cascade
from einsum_compiler.ir.parser import parse
from einsum_compiler.ir.verify import verify
from einsum_compiler.passes.differentiate import Gradient, differentiate


def compared(
    cascade: Cascade, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any], extents: Mapping[str, int]
) -> tuple[Gradient, bool]:
    """The gradient along every floating-point input, after it agreed with autograd; and whether any of it is not 0.

    ``cascade`` is normalized. Outputs that are infinite or no numbers do not enter the loss; where autograd itself gives a NaN nothing is asked.
    """
    wanted = [n for n, t in tensors.items() if t.is_floating_point()]
    gradient = differentiate(cascade, wanted, "f64")
    for made in (gradient.forward, gradient.backward) if gradient.gradients else (gradient.forward,):
        verify(made)
        assert parse(str(made), generated=True).cascade() == made
    leaves = {n: t.detach().requires_grad_(n in wanted) for n, t in tensors.items()}
    forward = evaluate(gradient.forward, leaves, scalars, extents, dtype=torch.float64)
    loss = torch.zeros((), dtype=torch.float64)
    given = {n: t.detach() for n, t in {**leaves, **forward}.items()}
    for output, cotangent in gradient.cotangents.items():
        finite = torch.isfinite(forward[output])
        random = torch.randn(forward[output].shape, dtype=torch.float64)
        given[cotangent] = torch.where(finite, random, 0)
        loss = loss + (torch.where(finite, forward[output], 0) * given[cotangent]).sum()
    if not loss.requires_grad:
        return gradient, False
    expected = torch.autograd.grad(loss, [leaves[n] for n in wanted], allow_unused=True)
    inputs = {t.name: given[t.name.removesuffix(".saved")] for t in gradient.backward.inputs}
    declared = {p.name for p in gradient.backward.parameters}
    bound = bind(gradient.backward, (), {**inputs, **{n: v for n, v in scalars.items() if n in declared}})
    found = evaluate(gradient.backward, inputs, bound.scalars, bound.extents, dtype=torch.float64)
    for name, reference in zip(wanted, expected, strict=True):
        if name not in gradient.gradients:
            assert reference is None or not reference.any(), name
            continue
        assert reference is not None, name
        actual = torch.where(reference.isnan(), reference, found[gradient.gradients[name]])
        scale = max(1.0, float(reference.nan_to_num().abs().max()) if reference.numel() else 1.0)
        equal = torch.isclose(actual / scale, reference / scale, rtol=1e-9, atol=1e-10, equal_nan=True)
        assert equal.all(), f"{name}: {actual[~equal][:4]} is not {reference[~equal][:4]}"
    return gradient, any(g is not None and bool(g.any()) for g in expected)
