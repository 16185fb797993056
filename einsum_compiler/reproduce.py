"""A reproducer run again: the same text, types, sizes and choices, up to the built kernels."""

from __future__ import annotations

from einsum_compiler.crash import Case, reproducible
from einsum_compiler.ir.plan_parser import parse_plan


def reproduce(case: Case) -> None:
    """Compile what a case describes, past the cache. Raises ``InternalError`` if that still fails, and any other error the case now gives."""
    with reproducible(case):
        if case.pipeline is not None:
            _passes(case)
        else:
            _kernels(case)


def _passes(case: Case) -> None:
    from einsum_compiler.ir.parser import parse
    from einsum_compiler.opt import optimise
    from einsum_compiler.passes.pipeline import parse_pipeline
    from einsum_compiler.passes.registry import PASSES

    assert case.pipeline is not None
    optimise(parse(case.text, case.source, generated=True), case.name, parse_pipeline(case.pipeline, PASSES))


def _kernels(case: Case) -> None:
    import torch

    from einsum_compiler.derivation import derive
    from einsum_compiler.inspection import generated_source
    from einsum_compiler.ir.binding import bind
    from einsum_compiler.ir.torch_types import torch_dtype

    derivation = derive(case.text, case.source, case.name, generated=True)
    if not case.backend:
        return
    tensors = {
        n: torch.empty(shape, dtype=torch_dtype(case.dtypes[n]), device="meta") for n, shape in case.shapes.items()
    }
    binding = bind(derivation.declared, (), {**tensors, **case.parameters})
    plan = parse_plan(case.plan) if case.plan else None
    backend = case.backend if case.backend in ("cpu", "triton") else "cpu"
    generated_source(derivation, binding, backend, plan)
