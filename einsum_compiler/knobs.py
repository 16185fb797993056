"""Every setting that the environment gives, and the only reader of it. Bad values are rejected."""

from __future__ import annotations

import os
from pathlib import Path

from einsum_compiler.ir.errors import BackendError

INSTRUCTION_SETS = ("native", "avx512", "avx2", "portable")
STAND_INS = ("wide", "widepairs")  # the code of AVX-512 without and with pair products, on AVX2: for tests


def cache_directory() -> Path:
    """``EINSUM_CACHE_DIR``: where compiled kernels are kept; the user's cache folder by default."""
    given = os.environ.get("EINSUM_CACHE_DIR")
    if given:
        return Path(given).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("einsum-compiler")


def compiler() -> str:
    """``EINSUM_CXX``: the C++ compiler of the CPU backend; ``g++`` by default."""
    return os.environ.get("EINSUM_CXX", "g++")


def instruction_set() -> str:
    """``EINSUM_ISA``: native (default), avx512, avx2 or portable; for tests also wide or widepairs."""
    value = os.environ.get("EINSUM_ISA", "native")
    if value not in (*INSTRUCTION_SETS, *STAND_INS):
        raise BackendError(f"EINSUM_ISA must be one of {', '.join(INSTRUCTION_SETS)}, got '{value}'")
    return value


def debug() -> int:
    """``EINSUM_DEBUG``: 1 prints what is compiled and how long it took, 2 the plan, 3 the cascades, 4 the generated source."""
    value = os.environ.get("EINSUM_DEBUG", "0")
    if not value.isdigit():
        raise BackendError(f"EINSUM_DEBUG must be a number from 0 to 4, got '{value}'")
    return int(value)


def worker_environment() -> dict[str, str]:
    """The environment of a process that imports the same modules as this one."""
    import sys

    return {**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)}
