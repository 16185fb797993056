"""Element types that the CPU backend has no code for, refused where the text brings them in."""

from __future__ import annotations

from collections.abc import Mapping

from einsum_compiler.backends.cpu.view import C_TYPES
from einsum_compiler.derivation import Derivation
from einsum_compiler.ir.errors import BackendError
from einsum_compiler.ir.expression import Cast, walk
from einsum_compiler.ir.hints import listed
from einsum_compiler.ir.span import Span
from einsum_compiler.ir.types import is_float


def check_cpu_types(derivation: Derivation, dtypes: Mapping[str, str]) -> None:
    """Raises ``BackendError`` at the first input, output, equation or ``cast`` with a type that the CPU backend does not compute with.

    ``dtypes``: of every tensor in a call. What has no code has 8 bits, and ``bf16`` holds all numbers of it.
    """
    for tensor in derivation.declared.inputs:
        convert = f"bf16 holds all its values: {tensor.name}.to(torch.bfloat16)"
        also = () if tensor.dtype is None else (f"declare {tensor.name}: bf16[{','.join(tensor.ranks)}]",)
        _check(f"{tensor.name} has elements", dtypes[tensor.name], tensor.span, (convert, *also))
    for tensor in derivation.declared.outputs:
        _check(f"{tensor.name} has elements", dtypes.get(tensor.name, "f32"), tensor.span)
    for equation in derivation.normalized.equations:
        target = equation.target
        _check(f"{target.tensor} has elements", target.dtype or "f32", target.span or equation.span)
        for node in (n for root in (equation.value, equation.where) if root is not None for n in walk(root)):
            if isinstance(node, Cast):
                _check("a cast gives elements", node.dtype, node.span or equation.span)


def _check(what: str, dtype: str, span: Span | None, notes: tuple[str, ...] = ()) -> None:
    if dtype not in C_TYPES:
        floats = listed(t for t in C_TYPES if is_float(t))
        raise BackendError(
            f"{what} of type {dtype}, which the CPU backend does not compute with",
            span,
            (*(notes or (f"its floating types are {floats}",)), 'backend="reference" evaluates it'),
        )
