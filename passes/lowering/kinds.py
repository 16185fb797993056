"""Whether a value is real, an integer or a boolean: all that code for tiles needs to know of its type."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from einsum_compiler.ir.cascade import Cascade
from einsum_compiler.ir.expression import (
    Binary,
    Call,
    Cast,
    Comparison,
    Conditional,
    Constant,
    Expression,
    Extent,
    Membership,
    Parameter,
    Rank,
    Read,
    Reduction,
    Unary,
)
from einsum_compiler.ir.operators import FUNCTIONS
from einsum_compiler.ir.types import is_float


def kind_of_dtype(dtype: str) -> str:
    return "bool" if dtype == "bool" else "real" if is_float(dtype) else "int"


def kind_of(node: Expression, tensor: Callable[[str], str], scalars: Mapping[str, str]) -> str:
    """real, int or bool; ``tensor`` gives the kind of what a read reads."""

    def of(n: Expression) -> str:
        return kind_of(n, tensor, scalars)

    match node:
        case Constant(value=value):
            return "bool" if isinstance(value, bool) else "real" if isinstance(value, float) else "int"
        case Rank() | Extent():
            return "int"
        case Parameter(name=name):
            return kind_of_dtype(scalars.get(name, "f64"))
        case Read(tensor=name):
            return tensor(name)
        case Cast(dtype=dtype):
            return kind_of_dtype(dtype)
        case Comparison() | Membership():
            return "bool"
        case Unary(operator=op, operand=inner):
            return "bool" if op == "not" else of(inner)
        case Binary(operator=op, left=left, right=right):
            if op in ("and", "or"):
                return "bool"
            # Arithmetic on truth values counts them; &, | and ^ keep them.
            return (
                "real"
                if op == "/"
                else _joined(_joined(of(left), of(right)), "bool" if op in ("&", "|", "^") else "int")
            )
        case Conditional(then=then, otherwise=otherwise):
            return _joined(of(then), of(otherwise))
        case Reduction(operator=op, body=body):
            if op in ("any", "all"):
                return "bool"
            return "real" if op == "mean" else _joined(of(body), "int" if op in ("sum", "prod") else "bool")
        case Call(function=function, arguments=arguments):
            if FUNCTIONS[function].kind == "same":
                kinds = [of(a) for a in arguments]
                return "real" if "real" in kinds else "int" if "int" in kinds else "bool"
            return "real"
    return "real"


def _joined(left: str, right: str) -> str:
    if "real" in (left, right):
        return "real"
    return "int" if "int" in (left, right) else "bool"


def tensor_kinds(cascade: Cascade, dtypes: Mapping[str, str], scalars: Mapping[str, str]) -> dict[str, str]:
    """The kind of every tensor; a state takes the kind of its step."""
    kinds = {t.name: kind_of_dtype(dtypes[t.name]) for t in cascade.inputs}
    for equation in cascade.equations:
        name = equation.target.tensor
        if equation.target.dtype is not None:
            kinds[name] = kind_of_dtype(equation.target.dtype)
            continue
        kind = kind_of(equation.value, lambda t, own=name: kinds.get(t, "bool") if t != own else "bool", scalars)  # type: ignore[misc]
        is_initial = any(isinstance(i, Constant) for i in equation.target.indices)
        kinds[name] = kind if not is_initial else "bool"
    return kinds
