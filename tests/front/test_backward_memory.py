"""Training memory is linear in the length: nothing over pairs of positions is stored, neither for the backward pass nor in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# Prints the growth of the peak resident memory in a step at 16k, in MiB.
SCRIPT = """
import resource, sys, torch
sys.path.insert(0, {root!r})
import einsum_compiler as ec

kernel = ec.compile('''cascade attention(Q[h,m,e], K[h,n,e], V[h,n,f]; scale = 1/sqrt(E)) -> O[h,m,f] {{
  S[h,m,n] = Q[h,m,e] * K[h,n,e] * scale   where n <= m
  A[h,m,n] = softmax[n](S[h,m,n])
  O[h,m,f] = A[h,m,n] * V[h,n,f]
}}''', backend="cpu")

def step(length):
    q, k, v = (torch.randn({heads}, length, 16, requires_grad=True) for _ in range(3))
    kernel(q, k, v).sum().backward()
    assert all(t.grad.isfinite().all() for t in (q, k, v))

step(64)  # what compiling needs
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
step(16384)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


# Two heads may share one kernel that accumulates; one head has two kernels.
@pytest.mark.parametrize("heads", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_training_step_at_16k_stores_no_pairs(heads: int) -> None:
    script = SCRIPT.format(root=str(Path(__file__).resolve().parents[2]), heads=heads)
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    tensor = heads * 16384 * 16 * 4 / 2**20  # Q, and each of the others
    pairs = heads * 16384**2 * 4 / 2**20
    assert float(run.stdout) < 20 * tensor + 48 < pairs / 8, f"{run.stdout} MiB"
