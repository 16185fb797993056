"""What a second process starts from: pickled results of compiling, keyed by everything they depend on.

Safe with several processes: an entry is written to a file of its own and renamed into place, and an unreadable one counts as missing.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import pickle
import shutil
import sys
import tempfile
import warnings
from functools import cache
from pathlib import Path
from typing import TypeVar

from einsum_compiler import knobs
from einsum_compiler.ir.errors import EinsumWarning

T = TypeVar("T")

CODE = (".py", ".hpp", ".lark", ".ein", ".tmpl")


def directory() -> Path:
    """The folder of the cache, which exists and can be written.

    Where the one that is set cannot, there is one ``EinsumWarning`` and a temporary folder for this process.
    """
    return _usable(knobs.cache_directory())


@cache
def _usable(wanted: Path) -> Path:
    try:
        wanted.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=wanted):
            return wanted
    except OSError as error:
        instead = Path(tempfile.mkdtemp(prefix="einsum-compiler-"))
        atexit.register(shutil.rmtree, instead, ignore_errors=True)
        warnings.warn(
            f"cannot write the cache in {wanted} ({error.strerror or error}): kernels are compiled anew in every process; "
            "EINSUM_CACHE_DIR names another folder",
            EinsumWarning,
            stacklevel=2,
        )
        return instead


@cache
def version() -> str:
    """A key of this installation's code: entries of another state of it are never read."""
    digest = hashlib.sha256(sys.version.encode())
    root = os.path.dirname(os.path.abspath(__file__))
    for folder in (root, *(os.path.join(root, part) for part in ("ir", "passes", "backends", "templates"))):
        for path, size, changed in sorted(_files(os.path.realpath(folder))):
            digest.update(f"{path}:{size}:{changed}".encode())
    return digest.hexdigest()


def _files(folder: str) -> list[tuple[str, int, int]]:
    """Path, size and time of every file of code below a folder; links between the folders are not followed."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if entry.name != "__pycache__":
                    found += _files(entry.path)
            elif entry.name.endswith(CODE):
                stat = entry.stat()
                found.append((entry.path, stat.st_size, stat.st_mtime_ns))
    return found


def key_of(*parts: object) -> str:
    """The name of an entry that depends on ``parts`` (by their printed form) and on this version of the compiler."""
    digest = hashlib.sha256(version().encode())
    for part in parts:
        digest.update(b"\0" + str(part).encode())
    return digest.hexdigest()[:40]


def load(kind: str, key: str, of: type[T]) -> T | None:
    """The entry, or None where there is none that can be read."""
    try:
        with open(directory() / kind / f"{key}.pickle", "rb") as file:
            found = pickle.load(file)
    except Exception:  # noqa: BLE001  a damaged pickle raises anything, and is as good as missing
        return None
    return found if isinstance(found, of) else None


def save(kind: str, key: str, value: object) -> None:
    """Keep an entry. A full disk costs the next process its warm start, not this one its result."""
    folder = directory() / kind
    partial = None
    try:
        folder.mkdir(exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=folder, suffix=".partial")
        with os.fdopen(handle, "wb") as file:
            pickle.dump(value, file, protocol=pickle.HIGHEST_PROTOCOL)
        os.replace(partial, folder / f"{key}.pickle")
    except OSError as error:
        warnings.warn(f"cannot write to the cache in {folder}: {error}", EinsumWarning, stacklevel=2)
        if partial and os.path.exists(partial):
            os.unlink(partial)
