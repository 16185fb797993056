"""Crashes inside the compiler: a file that reproduces them, and an error that says where it is.

A reproducer is the user's text below a header of ``#!`` lines, so it is an ``.ein`` file like any other; ``einsumc repro`` reads both.
"""

from __future__ import annotations

import hashlib
import json
import platform
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path

from einsum_compiler.ir.errors import EinsumError, InternalError, SpecError, VerifyError

PACKAGES = ("einsum-compiler", "torch", "triton", "sympy", "islpy", "networkx", "lark")


@dataclass(frozen=True)
class Case:
    """Everything a compilation depends on: the text, and the types, sizes and choices of the call.

    Before a first call there is the text alone; ``einsumc opt`` has a ``pipeline`` of passes and no call.
    """

    text: str
    source: str = "<text>"
    name: str | None = None
    backend: str = ""
    target: str | None = None
    plan: str | None = None
    dtypes: Mapping[str, str] = field(default_factory=dict)
    shapes: Mapping[str, list[int]] = field(default_factory=dict)
    parameters: Mapping[str, float] = field(default_factory=dict)
    pipeline: str | None = None


@contextmanager
def step(name: str) -> Iterator[None]:
    """Note on an exception the step of the compiler it came from; the innermost one stays."""
    try:
        yield
    except Exception as error:
        if not hasattr(error, "compiler_step"):
            error.compiler_step = name  # type: ignore[attr-defined]
        raise


@contextmanager
def reproducible(case: Case) -> Iterator[None]:
    """Turn any exception that is no message to the user into an ``InternalError``, after writing a reproducer."""
    try:
        yield
    except (InternalError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, EinsumError) and not isinstance(error, VerifyError):
            raise
        where = getattr(error, "compiler_step", "driver")
        what = error.message if isinstance(error, VerifyError) else f"{type(error).__name__}: {error}"
        path = _write(case, where, what)
        notes = (
            "this is a defect of the compiler, not of the program",
            f"what reproduces it is in {path}",
            f"einsumc repro {path}",
        )
        raise InternalError(f"the compiler failed in '{where}': {what}", None, notes) from error


def _write(case: Case, where: str, what: str) -> Path:
    from einsum_compiler import store

    header = {
        "step": where,
        "error": what,
        **{key: value for key, value in asdict(case).items() if key != "text"},
        "versions": _versions(),
    }
    lines = [f"#! {key}: {json.dumps(value)}" for key, value in header.items()]
    lines += [f"# {line}" for line in traceback.format_exc().rstrip().splitlines()]
    body = "\n".join([*lines, "", case.text])
    digest = hashlib.sha256(f"{case}{where}{what}".encode()).hexdigest()[:12]
    path = store.directory() / f"repro-{digest}.ein"
    path.write_text(body, encoding="utf-8")
    return path


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def read_case(path: Path) -> Case:
    """The case of a reproducer. Raises ``SpecError`` for a file that is none."""
    from einsum_compiler.text import read_text

    text, _ = read_text(path)
    lines = text.splitlines(keepends=True)
    header = {}
    for line in lines:
        if line.startswith("#! "):
            key, _, value = line[3:].partition(": ")
            try:
                header[key] = json.loads(value)
            except ValueError:
                raise SpecError(f"{path}: '{line.strip()}' is not a line of a reproducer") from None
    if "step" not in header:
        raise SpecError(f"{path} is not a reproducer: it has no line '#! step: ...'")
    known = {key: header[key] for key in header if key in Case.__dataclass_fields__}
    first = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return Case("".join(lines[first + 1 :]), **known)
