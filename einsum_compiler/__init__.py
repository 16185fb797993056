"""Attention variants as cascades of extended Einsums, compiled to fused kernels.

``compile`` makes a callable from the text of a cascade, ``reference`` the float64 evaluator of the same text. Importing this package
loads nothing heavy: every name is found when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from einsum_compiler.evaluation import reference
    from einsum_compiler.ir.errors import (
        AccuracyError,
        BackendError,
        EinsumError,
        EinsumWarning,
        InternalError,
        PlanError,
        ShapeError,
        SpecError,
        ToolchainError,
        VerifyError,
    )
    from einsum_compiler.ir.plan import Plan
    from einsum_compiler.ir.plan_parser import parse_plan
    from einsum_compiler.kernel import Kernel, compile

__version__ = "0.1.0"

__all__ = [
    "AccuracyError",
    "BackendError",
    "EinsumError",
    "EinsumWarning",
    "InternalError",
    "Kernel",
    "Plan",
    "PlanError",
    "ShapeError",
    "SpecError",
    "ToolchainError",
    "VerifyError",
    "compile",
    "parse_plan",
    "reference",
]

_ERRORS = ("Accuracy", "Backend", "Einsum", "Internal", "Plan", "Shape", "Spec", "Toolchain", "Verify")
_PLACES = {
    "Kernel": "einsum_compiler.kernel",
    "compile": "einsum_compiler.kernel",
    "reference": "einsum_compiler.evaluation",
    "Plan": "einsum_compiler.ir.plan",
    "parse_plan": "einsum_compiler.ir.plan_parser",
    "EinsumWarning": "einsum_compiler.ir.errors",
    **{f"{name}Error": "einsum_compiler.ir.errors" for name in _ERRORS},
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'einsum_compiler' has no attribute '{name}'")
    module = importlib.import_module(_PLACES[name])
    value = getattr(module, name)
    globals()[name] = value
    return value
