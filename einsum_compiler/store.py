"""What a second process starts from: pickled results of compiling, keyed by everything they depend on.

Safe with several processes: an entry is written to a file of its own and renamed into place, and an unreadable one counts as missing.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from einsum_compiler.knobs import cache_directory


@cache
def _version() -> str:
    """A key of this installation's code: entries of another version are never read."""
    root = Path(__file__).resolve().parent
    digest = hashlib.sha256(sys.version.encode())
    for folder in (root, *(root / d for d in ("ir", "passes", "backends", "templates"))):
        for path in sorted(folder.resolve().rglob("*")):
            if path.suffix in (".py", ".hpp", ".lark", ".ein", ".tmpl") and path.is_file():
                stat = path.stat()
                digest.update(f"{path.name}:{stat.st_size}:{stat.st_mtime_ns}".encode())
    return digest.hexdigest()


def key_of(*parts: object) -> str:
    """The name of an entry that depends on ``parts`` (by their printed form) and on this version of the compiler."""
    digest = hashlib.sha256(_version().encode())
    for part in parts:
        digest.update(b"\0" + str(part).encode())
    return digest.hexdigest()[:40]


def load(kind: str, key: str) -> Any | None:
    """The entry, or None."""
    try:
        with open(cache_directory() / kind / f"{key}.pickle", "rb") as file:
            return pickle.load(file)
    except (OSError, EOFError, pickle.UnpicklingError, AttributeError, ImportError, TypeError):
        return None


def save(kind: str, key: str, value: object) -> None:
    """Keep an entry; a folder that cannot be written costs the next process its warm start, not this one its result."""
    folder = cache_directory() / kind
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, suffix=".partial")
        with os.fdopen(handle, "wb") as file:
            pickle.dump(value, file, protocol=pickle.HIGHEST_PROTOCOL)
        os.replace(name, folder / f"{key}.pickle")
    except OSError as error:
        print(f"einsum_compiler: cannot write the cache in {folder}: {error}", file=sys.stderr)
