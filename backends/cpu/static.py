"""What a compiled kernel needs, without running it."""

from __future__ import annotations

import re

from einsum_compiler.backends.cpu.launch import CpuArtifact


def scratch_bytes(artifact: CpuArtifact) -> int:
    """Bytes of tiles that each thread holds; 0 for a kernel without, and where the source beside the object is gone."""
    try:
        source = artifact.path.with_suffix(".cpp").read_text(encoding="utf-8")
    except OSError:
        return 0
    found = re.search(r"tile::scratch\((\d+)\)", source)
    return int(found[1]) if found else 0
