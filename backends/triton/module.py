"""Generated files on disk, and the Triton functions they define: compiled for a GPU, or interpreted on the CPU."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from einsum_compiler.backends.triton.emit import FUNCTION
from einsum_compiler.ir.errors import BackendError, ToolchainError

_loaded: dict[tuple[Path, bool], Any] = {}


def default_cache() -> Path:
    """Where generated files go unless the caller says otherwise."""
    return Path.home() / ".cache" / "einsum-compiler" / "triton"


def write_source(source: str, cache: Path) -> Path:
    """The file that holds the source, named by its hash; several processes may write it at once."""
    digest = hashlib.sha256(source.encode()).hexdigest()[:32]
    path = cache / f"kernel_{digest}.py"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        # A rename is atomic: a reader sees the whole file or none.
        descriptor, temporary = tempfile.mkstemp(dir=cache, suffix=".tmp")
        with os.fdopen(descriptor, "w") as file:
            file.write(source)
        os.replace(temporary, path)
    return path


def load_function(source: str, *, interpreted: bool, cache_directory: Path | None = None) -> Any:
    """The Triton function ``kernel`` of a generated file.

    ``interpreted`` decides for this file alone whether Triton's interpreter runs it; no environment variable is needed.
    Raises BackendError where Triton is missing, ToolchainError where the file does not load.
    """
    path = write_source(source, cache_directory or default_cache())
    key = (path, interpreted)
    if key not in _loaded:
        try:
            import triton
        except ImportError:
            raise BackendError("the Triton backend needs the package 'triton'", notes=("pip install triton",)) from None
        with triton.knobs.runtime.scope():
            triton.knobs.runtime.interpret = interpreted
            _loaded[key] = getattr(_execute(path, source), FUNCTION)
    return _loaded[key]


def _execute(path: Path, source: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(module)
    except Exception as error:
        raise ToolchainError(f"the generated Triton file does not load: {error}", code=source) from error
    return module
