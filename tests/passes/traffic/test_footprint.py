"""The live footprint of a program, recomputed by hand."""

from __future__ import annotations

import torch

import einsum_compiler as ec
from einsum_compiler.inspection import tile_kernels
from einsum_compiler.ir.plan import parse_plan
from einsum_compiler.passes.traffic import Footprint, footprint_of

TEXT = "cascade one(Q[m,e], K[n,e], V[n,f]) -> O[m,f] { S[m,n] = Q[m,e] * K[n,e]  A[m,n] = softmax[n](S[m,n])  O[m,f] = A[m,n] * V[n,f] }"


def footprint(m: int, n: int, length: int) -> Footprint:
    kernel = ec.compile(TEXT)
    binding = kernel.binding(Q=torch.empty(length, 64), K=torch.empty(length, 64), V=torch.empty(length, 32))
    plan = parse_plan(f"plan one {{ kernel O {{ program m:{m}  stream n:{n}  resident e, f }} }}")
    (program,) = tile_kernels(kernel._derivation, binding, "cpu", plan)
    return footprint_of(program)


def test_one_pass_attention_by_hand() -> None:
    found = footprint(96, 128, 4096)
    # Carried: maximum, sum and output of 96 rows; through the loop: the tile of Q.
    assert found.state == 4 * 96 * (1 + 1 + 32)
    assert found.resident == 4 * 96 * 64
    # The most crowded moment of a step: scores and weights (96 x 128 each), the new maximum (the old one is still read) and its guarded copy.
    assert found.step == 4 * (2 * 96 * 128 + 2 * 96)
    assert found.streamed == 4 * 128 * (64 + 32)
    assert found.packed == 4 * (96 * 64 + 128 * (64 + 32))
    assert found.total == found.state + found.resident + found.step


def test_it_does_not_depend_on_the_lengths_and_grows_with_the_tiles() -> None:
    assert footprint(96, 128, 4096) == footprint(96, 128, 131072)
    assert footprint(96, 256, 4096).total > footprint(96, 128, 4096).total
