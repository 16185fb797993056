"""``python -m tests.guard CALL...``: runs calls and says before each what it is; the process dies with the first that leaves its tensors."""

from __future__ import annotations

import faulthandler
import sys
from unittest.mock import patch

from tests.guard.calls import Call
from tests.machine import ZEN3

faulthandler.enable()
with patch("einsum_compiler.cost.cpu.cpu_device", lambda: ZEN3):
    for name in sys.argv[1:]:
        print(name, flush=True)
        Call.named(name).run(lambda text: print(f"  {text}", flush=True))
