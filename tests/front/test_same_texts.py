"""Two processes write the same tile programs, however Python hashes names: what one compiled is there for the next."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
import einsum_compiler as ec

for name in sys.argv[1:]:
    print(ec.compile(f"examples/{name}.ein", name, backend="cpu").ir("tile"))
"""
NAMES = ["block_max", "relu_n", "transnext"]  # several conditions on one point


def test_texts_do_not_depend_on_the_order_of_sets(tmp_path: Path) -> None:
    texts = []
    for seed in ("1", "2"):
        environment = {
            **os.environ,
            "PYTHONHASHSEED": seed,
            "EINSUM_CACHE_DIR": str(tmp_path / seed),
            "PYTHONPATH": os.getcwd(),
        }
        run = subprocess.run(
            [sys.executable, "-c", PROGRAM, *NAMES], env=environment, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stderr
        texts.append(run.stdout)
    assert "kernel block_max" in texts[0] and texts[0] == texts[1]
