"""The evaluator in place of a compiled kernel: in float64 as a callable, and for one call in the types of its inputs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from einsum_compiler.ir.torch_types import dtype_name, torch_dtype
from einsum_compiler.text import read_text

if TYPE_CHECKING:
    from einsum_compiler.derivation import Derivation
    from einsum_compiler.ir.binding import Binding
    from einsum_compiler.ir.cascade import Cascade


def reference(text_or_path: str | Path, name: str | None = None) -> Any:
    """A callable that evaluates the cascade in float64 with PyTorch; takes what the compiled kernel takes."""
    from einsum_compiler.backends.reference.evaluate import reference as evaluator
    from einsum_compiler.ir.parser import parse

    text, source = read_text(text_or_path)
    return evaluator(parse(text, source), name)


def evaluated(cascade: Cascade, derivation: Derivation, binding: Binding) -> dict[str, Any]:
    """The evaluator in the precision of the inputs, results in the types the kernels would give."""
    import torch

    from einsum_compiler.backends.reference.evaluate import evaluate
    from einsum_compiler.derivation import output_dtypes

    inputs = {n: dtype_name(t.dtype) or "" for n, t in binding.tensors.items()}
    real = torch.float64 if "f64" in inputs.values() else torch.float32
    module = derivation.module
    scalars = {**binding.scalars, **binding.scalar_tensors}
    found = evaluate(cascade, binding.tensors, scalars, binding.extents, module=module, dtype=real)
    types = output_dtypes(derivation, inputs)
    return {name: value.to(torch_dtype(types[name])) for name, value in found.items()}
