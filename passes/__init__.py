"""IR to IR. ``PASSES`` lists every pass by the name that pipelines use (``passes.registry``, imported when asked for: it needs SymPy)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from einsum_compiler.passes.registry import PASSES as PASSES


if __name__ != "einsum_compiler.passes":
    raise ImportError(f"import einsum_compiler.passes, not {__name__}: this folder is a part of that package")


def __getattr__(name: str) -> Any:
    if name == "PASSES":
        from einsum_compiler.passes.registry import PASSES

        return PASSES
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
